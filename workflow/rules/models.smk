# Autoencoder, latents, and the deviation network.


rule autoencoder:
    input:
        # a pretrained one sees no image
        images=(
            [f"data/{dataset}/{PREPARED}/train_images.npy" for dataset in CONFIG.data]
            if CONFIG.autoencoder.source == "train"
            else []
        ),
    output:
        *network_files(f"{MODELS}/autoencoder"),
    params:
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
        mem_mb=4000,
        runtime=240,
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
        f"{MODELS}/latents/{{dataset}}/test_mean.npy",
        f"{MODELS}/latents/{{dataset}}/views.json",
    params:
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
        mem_mb=6000,
        runtime=480,
    shell:
        "decodiff encode --config {CONFIG_FILE:q} --dataset {wildcards.dataset:q} --prepared {params.prepared:q} "
        "--autoencoder {params.autoencoder:q} --output {params.output:q} --threads {threads} --log {log:q}"


rule train:
    input:
        latents=lambda wildcards: [f"{MODELS}/latents/{name}/train_mean.npy" for name in CONFIG.members(wildcards.scope)],
        images=lambda wildcards: [f"data/{name}/{PREPARED}/train.csv" for name in CONFIG.members(wildcards.scope)],
    output:
        *network_files(f"{MODELS}/{{scope}}/seed-{{seed}}"),
        f"{MODELS}/{{scope}}/seed-{{seed}}/training.json",
        f"{MODELS}/{{scope}}/seed-{{seed}}/log.csv",
    params:
        settings=settings("train"),
        members=lambda wildcards: json.dumps(
            {name: [categories, CONFIG.data[name].augmentation.model_dump()] for name, categories in CONFIG.members(wildcards.scope).items()}
        ),
        latents=lambda wildcards, input: [f"--latents={folder(path)}" for path in input.latents],
        prepared=lambda wildcards, input: [f"--prepared={folder(path)}" for path in input.images],
        output=lambda wildcards, output: folder(output[0]),
    log:
        f"{LOGS}/{{scope}}-{{seed}}-train.log",
    benchmark:
        f"{LOGS}/{{scope}}-{{seed}}-train.tsv"
    threads: NETWORK_THREADS
    resources:
        device=1,
        mem_mb=16000 if CONFIG.training.unet in ("UNet_M", "UNet_L") else 4000,
        runtime=2880,
    shell:
        "decodiff train --config {CONFIG_FILE:q} --scope {wildcards.scope:q} --seed {wildcards.seed} {params.latents:q} "
        "{params.prepared:q} --output {params.output:q} --threads {threads} --log {log:q}"
