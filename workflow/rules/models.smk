# Autoencoder, latents, and the deviation network.


rule autoencoder:
    input:
        # a pretrained one sees no image
        images=(
            [f"data/{dataset}/{PREPARED}/train_images.npy" for dataset in CONFIG.arrays]
            if CONFIG.autoencoder.source != "pretrained"
            else []
        ),
    output:
        *network_files(f"{MODELS}/autoencoder"),
    params:
        code=code_hash("decodiff.stages.autoencoder"),
        settings=settings("autoencoder"),
        prepared=lambda wildcards, input: [f"--prepared={folder(path)}" for path in input.images],
        output=lambda wildcards, output: folder(output[0]),
    log:
        f"{LOGS}/autoencoder.log",
    benchmark:
        f"{LOGS}/autoencoder.tsv"
    threads: NETWORK_THREADS
    resources:
        device=1,
        mem_mb=growing(4000),
        runtime=growing(240),
    shell:
        "decodiff autoencoder --config {CONFIG_FILE:q} {params.prepared:q} --output {params.output:q} "
        "--threads {threads} --log {log:q}"


rule encode:
    input:
        images=prepared_files("{dataset}"),
        autoencoder=rules.autoencoder.output,
    output:
        f"{MODELS}/latents/{{dataset}}/train_mean.npy",
        f"{MODELS}/latents/{{dataset}}/train_std.npy",
        f"{MODELS}/latents/{{dataset}}/views.json",
    params:
        code=code_hash("decodiff.stages.encode"),
        settings=lambda wildcards: settings("encode", wildcards.dataset),
        prepared=lambda wildcards, input: folder(input.images[0]),
        autoencoder=lambda wildcards, input: folder(input.autoencoder[0]),
        output=lambda wildcards, output: folder(output[0]),
    log:
        f"{LOGS}/{{dataset}}-encode.log",
    benchmark:
        f"{LOGS}/{{dataset}}-encode.tsv"
    threads: NETWORK_THREADS
    resources:
        device=1,
        mem_mb=growing(6000),
        runtime=growing(480),
    shell:
        "decodiff encode --config {CONFIG_FILE:q} --dataset {wildcards.dataset:q} --prepared {params.prepared:q} "
        "--autoencoder {params.autoencoder:q} --output {params.output:q} --threads {threads} --log {log:q}"


rule encode_test:
    input:
        images=prepared_files("{dataset}"),
        autoencoder=rules.autoencoder.output,
    output:
        f"{MODELS}/latents/{{dataset}}/test_mean.npy",
    params:
        code=code_hash("decodiff.stages.encode"),
        settings=settings("encode-test"),
        prepared=lambda wildcards, input: folder(input.images[0]),
        autoencoder=lambda wildcards, input: folder(input.autoencoder[0]),
        output=lambda wildcards, output: folder(output[0]),
    log:
        f"{LOGS}/{{dataset}}-encode-test.log",
    benchmark:
        f"{LOGS}/{{dataset}}-encode-test.tsv"
    threads: NETWORK_THREADS
    resources:
        device=1,
        mem_mb=growing(6000),
        runtime=growing(240),
    shell:
        "decodiff encode-test --config {CONFIG_FILE:q} --prepared {params.prepared:q} --autoencoder {params.autoencoder:q} "
        "--output {params.output:q} --threads {threads} --log {log:q}"


def encodes_while_training(scope):
    """Whether images are corrupted before they are encoded, or some augmentation is one that no finite set of views holds."""
    return CONFIG.masking.corruption == "content" or any(not CONFIG.data[name].augmentation.is_finite for name in CONFIG.members(scope))


if CONFIG.model.source == "reference":

    rule import_reference:
        input:
            lambda wildcards: CONFIG.model.path.replace("{scope}", wildcards.scope),
        output:
            *network_files(f"{MODELS}/{{scope}}/seed-{{seed}}"),
            f"{MODELS}/{{scope}}/seed-{{seed}}/training.json",
        params:
            code=code_hash("decodiff.stages.import_reference"),
            settings=settings("import-reference"),
            members=lambda wildcards: json.dumps(CONFIG.members(wildcards.scope)),
            output=lambda wildcards, output: folder(output[0]),
        log:
            f"{LOGS}/{{scope}}-{{seed}}-import.log",
        benchmark:
            f"{LOGS}/{{scope}}-{{seed}}-import.tsv"
        resources:
            mem_mb=growing(8000),
            runtime=growing(30),
        shell:
            "decodiff import-reference {input:q} --config {CONFIG_FILE:q} --scope {wildcards.scope:q} --output {params.output:q} "
            "--log {log:q}"

else:

    rule train:
        input:
            latents=lambda wildcards: [f"{MODELS}/latents/{name}/train_mean.npy" for name in CONFIG.members(wildcards.scope)],
            images=lambda wildcards: [f"data/{name}/{PREPARED}/train.csv" for name in CONFIG.members(wildcards.scope)],
            looked_at=lambda wildcards: [
                f"{MODELS}/latents/{name}/test_mean.npy"
                for name in CONFIG.members(wildcards.scope)
                if CONFIG.training.look_every
            ],
            autoencoder=lambda wildcards: (
                rules.autoencoder.output if encodes_while_training(wildcards.scope) or CONFIG.training.look_every else []
            ),
        output:
            *network_files(f"{MODELS}/{{scope}}/seed-{{seed}}"),
            f"{MODELS}/{{scope}}/seed-{{seed}}/training.json",
            f"{MODELS}/{{scope}}/seed-{{seed}}/log.csv",
            f"{MODELS}/{{scope}}/seed-{{seed}}/speed.tsv",
            *kept_files(f"{MODELS}/{{scope}}/seed-{{seed}}"),
        params:
            # it corrects images only to show them
            code=code_hash("decodiff.stages.train", apart=("decodiff.correction",)),
            settings=settings("train"),
            variant="{}",
            members=lambda wildcards: json.dumps(
                {
                    name: [categories, CONFIG.data[name].augmentation.model_dump()]
                    for name, categories in CONFIG.members(wildcards.scope).items()
                }
            ),
            latents=lambda wildcards, input: [f"--latents={folder(path)}" for path in input.latents],
            prepared=lambda wildcards, input: [f"--prepared={folder(path)}" for path in input.images],
            autoencoder=lambda wildcards, input: [f"--autoencoder={folder(path)}" for path in input.autoencoder[:1]],
            output=lambda wildcards, output: folder(output[0]),
            tensorboard=lambda wildcards: f"{LOGS}/tensorboard/{wildcards.scope}-{wildcards.seed}",
        log:
            f"{LOGS}/{{scope}}-{{seed}}-train.log",
        benchmark:
            f"{LOGS}/{{scope}}-{{seed}}-train.tsv"
        threads: NETWORK_THREADS
        resources:
            device=1,
            mem_mb=growing(16000 if CONFIG.training.unet in ("UNet_M", "UNet_L") else 4000),
            runtime=growing(2880),
        shell:
            "{LAUNCHER} decodiff train --config {CONFIG_FILE:q} --scope {wildcards.scope:q} --seed {wildcards.seed} "
            "{params.latents:q} {params.prepared:q} {params.autoencoder:q} --output {params.output:q} "
            "--tensorboard {params.tensorboard:q} --variant {params.variant:q} --threads {threads} --log {log:q}"

    use rule train as train_variant with:
        output:
            *network_files(f"{MODEL_VARIANTS}/{{scope}}/seed-{{seed}}"),
            f"{MODEL_VARIANTS}/{{scope}}/seed-{{seed}}/training.json",
            f"{MODEL_VARIANTS}/{{scope}}/seed-{{seed}}/log.csv",
            f"{MODEL_VARIANTS}/{{scope}}/seed-{{seed}}/speed.tsv",
        params:
            settings=lambda wildcards: settings("train", changed=changes(wildcards)),
            variant=lambda wildcards: changes(wildcards),
            tensorboard=lambda wildcards: f"{LOGS}/tensorboard/{wildcards.model}-{wildcards.scope}-{wildcards.seed}",
        log:
            f"{LOGS}/{{model}}-{{scope}}-{{seed}}-train.log",
        benchmark:
            f"{LOGS}/{{model}}-{{scope}}-{{seed}}-train.tsv"
