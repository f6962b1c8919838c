# Autoencoder, latents, and the deviation network.

MODEL_VARIANTS = f"{MODELS}/sweeps/{PLACES.pattern('model')}"


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
    log:
        f"{LOGS}/autoencoder.log",
    benchmark:
        f"{LOGS}/autoencoder.tsv"
    threads: NETWORK_THREADS
    resources:
        device=1,
        mem_mb=growing(4000),
        runtime=growing(240),
    params:
        code=code_hash("decodiff.stages.autoencoder"),
        settings=PLACES.settings("autoencoder"),
        prepared=lambda wildcards, input: [f"--prepared={folder(path)}" for path in input.images],
        output=lambda wildcards, output: folder(output[0]),
    shell:
        "decodiff autoencoder --config {CONFIG_FILE:q} {params.prepared:q} --output {params.output:q} "
        "--threads {threads} --log {log:q}"


rule encode:
    input:
        images=PLACES.prepared_files("{dataset}"),
        autoencoder=rules.autoencoder.output,
    output:
        f"{MODELS}/latents/{{dataset}}/train_mean.npy",
        f"{MODELS}/latents/{{dataset}}/train_std.npy",
        f"{MODELS}/latents/{{dataset}}/views.json",
    log:
        f"{LOGS}/{{dataset}}-encode.log",
    benchmark:
        f"{LOGS}/{{dataset}}-encode.tsv"
    threads: NETWORK_THREADS
    resources:
        device=1,
        mem_mb=growing(6000),
        runtime=growing(480),
    params:
        code=code_hash("decodiff.stages.encode"),
        settings=lambda wildcards: PLACES.settings("encode", wildcards.dataset),
        prepared=lambda wildcards, input: folder(input.images[0]),
        autoencoder=lambda wildcards, input: folder(input.autoencoder[0]),
        output=lambda wildcards, output: folder(output[0]),
    shell:
        "decodiff encode --config {CONFIG_FILE:q} --dataset {wildcards.dataset:q} --prepared {params.prepared:q} "
        "--autoencoder {params.autoencoder:q} --output {params.output:q} --threads {threads} --log {log:q}"


rule encode_test:
    input:
        images=PLACES.prepared_files("{dataset}"),
        autoencoder=rules.autoencoder.output,
    output:
        f"{MODELS}/latents/{{dataset}}/test_mean.npy",
    log:
        f"{LOGS}/{{dataset}}-encode-test.log",
    benchmark:
        f"{LOGS}/{{dataset}}-encode-test.tsv"
    threads: NETWORK_THREADS
    resources:
        device=1,
        mem_mb=growing(6000),
        runtime=growing(240),
    params:
        code=code_hash("decodiff.stages.encode"),
        settings=PLACES.settings("encode-test"),
        prepared=lambda wildcards, input: folder(input.images[0]),
        autoencoder=lambda wildcards, input: folder(input.autoencoder[0]),
        output=lambda wildcards, output: folder(output[0]),
    shell:
        "decodiff encode-test --config {CONFIG_FILE:q} --prepared {params.prepared:q} --autoencoder {params.autoencoder:q} "
        "--output {params.output:q} --threads {threads} --log {log:q}"


if CONFIG.model.source == "reference":

    rule import_reference:
        input:
            lambda wildcards: CONFIG.model.path.replace("{scope}", wildcards.scope),
        output:
            *network_files(f"{MODELS}/{{scope}}/seed-{{seed}}"),
            f"{MODELS}/{{scope}}/seed-{{seed}}/training.json",
        log:
            f"{LOGS}/{{scope}}-{{seed}}-import.log",
        benchmark:
            f"{LOGS}/{{scope}}-{{seed}}-import.tsv"
        resources:
            mem_mb=growing(8000),
            runtime=growing(30),
        params:
            code=code_hash("decodiff.stages.import_reference"),
            settings=PLACES.settings("import-reference"),
            members=lambda wildcards: json.dumps(CONFIG.members(wildcards.scope)),
            output=lambda wildcards, output: folder(output[0]),
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
                rules.autoencoder.output
                if PLACES.encodes_while_training(wildcards.scope) or CONFIG.training.look_every
                else []
            ),
        output:
            *network_files(f"{MODELS}/{{scope}}/seed-{{seed}}"),
            f"{MODELS}/{{scope}}/seed-{{seed}}/training.json",
            f"{MODELS}/{{scope}}/seed-{{seed}}/log.csv",
            f"{MODELS}/{{scope}}/seed-{{seed}}/speed.tsv",
            *PLACES.kept_files(f"{MODELS}/{{scope}}/seed-{{seed}}"),
        log:
            f"{LOGS}/{{scope}}-{{seed}}-train.log",
        benchmark:
            f"{LOGS}/{{scope}}-{{seed}}-train.tsv"
        # the longest jobs first, so that all else is done beside them
        priority: 1
        threads: NETWORK_THREADS
        resources:
            device=1,
            mem_mb=growing(16000 if CONFIG.training.unet in ("UNet_M", "UNet_L") else 4000),
            runtime=growing(2880),
        params:
            # it corrects images only to show them
            code=code_hash("decodiff.stages.train", apart=("decodiff.correction",)),
            settings=PLACES.settings("train"),
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
        log:
            f"{LOGS}/{{model}}-{{scope}}-{{seed}}-train.log",
        benchmark:
            f"{LOGS}/{{model}}-{{scope}}-{{seed}}-train.tsv"
        priority: 0
        params:
            settings=lambda wildcards: PLACES.settings("train", changed=PLACES.changes(wildcards)),
            variant=lambda wildcards: PLACES.changes(wildcards),
            tensorboard=lambda wildcards: f"{LOGS}/tensorboard/{wildcards.model}-{wildcards.scope}-{wildcards.seed}",
