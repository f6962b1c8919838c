# Correction, anomaly maps, metrics: one folder per scope, seed and data set.

PART = f"{RESULTS}/{{scope}}/seed-{{seed}}/{{dataset}}"
PART_LOG = f"{LOGS}/{{scope}}-{{seed}}-{{dataset}}"


rule correct:
    input:
        unet=[*network_files(f"{MODELS}/{{scope}}/seed-{{seed}}"), f"{MODELS}/{{scope}}/seed-{{seed}}/training.json"],
        latents=f"{MODELS}/latents/{{dataset}}/test_mean.npy",
        images=f"data/{{dataset}}/{PREPARED}/test.csv",
    output:
        f"{PART}/corrected.npy",
        f"{PART}/images.csv",
    params:
        settings=settings("correct"),
        unet=lambda wildcards, input: folder(input.unet[0]),
        latents=lambda wildcards, input: folder(input.latents),
        prepared=lambda wildcards, input: folder(input.images),
        output=lambda wildcards, output: folder(output[0]),
    log:
        f"{PART_LOG}-correct.log",
    benchmark:
        f"{PART_LOG}-correct.tsv"
    threads: NETWORK_THREADS
    resources:
        device=1,
        mem_mb=4000,
        runtime=120,
    shell:
        "decodiff correct --config {CONFIG_FILE:q} --dataset {wildcards.dataset:q} --unet {params.unet:q} "
        "--latents {params.latents:q} --prepared {params.prepared:q} --output {params.output:q} --threads {threads} --log {log:q}"


rule score:
    input:
        corrected=rules.correct.output,
        latents=f"{MODELS}/latents/{{dataset}}/test_mean.npy",
        autoencoder=rules.autoencoder.output,
    output:
        f"{PART}/anomaly_maps.npy",
        f"{PART}/corrections.npy",
    params:
        settings=settings("score"),
        corrected=lambda wildcards, input: folder(input.corrected[0]),
        latents=lambda wildcards, input: folder(input.latents),
        autoencoder=lambda wildcards, input: folder(input.autoencoder[0]),
        output=lambda wildcards, output: folder(output[0]),
    log:
        f"{PART_LOG}-score.log",
    benchmark:
        f"{PART_LOG}-score.tsv"
    threads: NETWORK_THREADS
    resources:
        device=1,
        mem_mb=4000,
        runtime=120,
    shell:
        "decodiff score --config {CONFIG_FILE:q} --corrected {params.corrected:q} --latents {params.latents:q} "
        "--autoencoder {params.autoencoder:q} --output {params.output:q} --threads {threads} --log {log:q}"


rule evaluate:
    input:
        maps=f"{PART}/anomaly_maps.npy",
        images=f"{PART}/images.csv",
        masks=f"data/{{dataset}}/{PREPARED}/test_masks_{CONFIG.evaluation.protocol}.npy",
    output:
        [f"{PART}/{name}.csv" for name in ("metrics", "defects", "intervals", "thresholds", "scores")],
        f"{PART}/resamples.npz",
    params:
        settings=settings("evaluate"),
        results=lambda wildcards, input: folder(input.maps),
        prepared=lambda wildcards, input: folder(input.masks),
        output=lambda wildcards, output: folder(output[0]),
    log:
        f"{PART_LOG}-evaluate.log",
    benchmark:
        f"{PART_LOG}-evaluate.tsv"
    resources:
        mem_mb=8000,
        runtime=120,
    shell:
        "decodiff evaluate --config {CONFIG_FILE:q} --dataset {wildcards.dataset:q} --scope {wildcards.scope:q} "
        "--seed {wildcards.seed} --results {params.results:q} --prepared {params.prepared:q} --output {params.output:q} --log {log:q}"
