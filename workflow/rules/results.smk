# Correction, anomaly maps, metrics: one folder per scope, seed and data set.

PART = f"{RESULTS}/{{scope}}/seed-{{seed}}/{{dataset}}"
PART_LOG = f"{LOGS}/{{scope}}-{{seed}}-{{dataset}}"
CORRECTION_VARIANTS = f"{RESULTS}/sweeps/{PLACES.pattern('model', 'correction')}"
SCORING_VARIANTS = f"{RESULTS}/sweeps/{PLACES.pattern('model', 'correction', 'scoring')}"


rule correct:
    input:
        unet=lambda wildcards: PLACES.network(wildcards),
        latents=f"{MODELS}/latents/{{dataset}}/test_mean.npy",
        images=f"data/{{dataset}}/{PREPARED}/test.csv",
    output:
        f"{PART}/corrected.npy",
        f"{PART}/corrected.csv",
        f"{PART}/inference.json",
    log:
        f"{PART_LOG}-correct.log",
    benchmark:
        f"{PART_LOG}-correct.tsv"
    threads: NETWORK_THREADS
    resources:
        device=1,
        mem_mb=growing(4000),
        runtime=growing(120),
    params:
        code=code_hash("decodiff.stages.correct"),
        settings=PLACES.settings("correct"),
        variant="{}",
        unet=lambda wildcards, input: folder(input.unet[0]),
        latents=lambda wildcards, input: folder(input.latents),
        prepared=lambda wildcards, input: folder(input.images),
        output=lambda wildcards, output: folder(output[0]),
    shell:
        "decodiff correct --config {CONFIG_FILE:q} --dataset {wildcards.dataset:q} --unet {params.unet:q} "
        "--latents {params.latents:q} --prepared {params.prepared:q} --output {params.output:q} --variant {params.variant:q} "
        "--threads {threads} --log {log:q}"


use rule correct as correct_variant with:
    output:
        f"{CORRECTION_VARIANTS}/{{scope}}/seed-{{seed}}/{{dataset}}/corrected.npy",
        f"{CORRECTION_VARIANTS}/{{scope}}/seed-{{seed}}/{{dataset}}/corrected.csv",
        f"{CORRECTION_VARIANTS}/{{scope}}/seed-{{seed}}/{{dataset}}/inference.json",
    log:
        f"{LOGS}/{{model}}-{{correction}}-{{scope}}-{{seed}}-{{dataset}}-correct.log",
    benchmark:
        f"{LOGS}/{{model}}-{{correction}}-{{scope}}-{{seed}}-{{dataset}}-correct.tsv"
    params:
        settings=lambda wildcards: PLACES.settings("correct", changed=PLACES.changes(wildcards)),
        variant=lambda wildcards: PLACES.changes(wildcards),


rule score:
    input:
        corrected=lambda wildcards: [f"{PLACES.part_folder(wildcards, 2)}/corrected.{suffix}" for suffix in ("npy", "csv")],
        latents=f"{MODELS}/latents/{{dataset}}/test_mean.npy",
        autoencoder=rules.autoencoder.output,
    output:
        f"{PART}/anomaly_maps.npy",
        f"{PART}/corrections.npy",
        f"{PART}/images.csv",
    log:
        f"{PART_LOG}-score.log",
    benchmark:
        f"{PART_LOG}-score.tsv"
    threads: NETWORK_THREADS
    resources:
        device=1,
        mem_mb=growing(4000),
        runtime=growing(120),
    params:
        code=code_hash("decodiff.stages.score"),
        settings=PLACES.settings("score"),
        variant="{}",
        corrected=lambda wildcards, input: folder(input.corrected[0]),
        latents=lambda wildcards, input: folder(input.latents),
        autoencoder=lambda wildcards, input: folder(input.autoencoder[0]),
        output=lambda wildcards, output: folder(output[0]),
    shell:
        "decodiff score --config {CONFIG_FILE:q} --corrected {params.corrected:q} --latents {params.latents:q} "
        "--autoencoder {params.autoencoder:q} --output {params.output:q} --variant {params.variant:q} --threads {threads} "
        "--log {log:q}"


use rule score as score_variant with:
    output:
        [
            f"{SCORING_VARIANTS}/{{scope}}/seed-{{seed}}/{{dataset}}/{name}"
            for name in ("anomaly_maps.npy", "corrections.npy", "images.csv")
        ],
    log:
        f"{LOGS}/{{model}}-{{correction}}-{{scoring}}-{{scope}}-{{seed}}-{{dataset}}-score.log",
    benchmark:
        f"{LOGS}/{{model}}-{{correction}}-{{scoring}}-{{scope}}-{{seed}}-{{dataset}}-score.tsv"
    params:
        settings=lambda wildcards: PLACES.settings("score", changed=PLACES.changes(wildcards)),
        variant=lambda wildcards: PLACES.changes(wildcards),


MEASURED_FILES = [*(f"{name}.csv" for name in ("metrics", "defects", "intervals", "thresholds", "scores")), "resamples.npz"]


rule evaluate:
    input:
        maps=lambda wildcards: f"{PLACES.part_folder(wildcards, 3)}/anomaly_maps.npy",
        images=lambda wildcards: f"{PLACES.part_folder(wildcards, 3)}/images.csv",
        masks=f"data/{{dataset}}/{PREPARED}/test_masks_{CONFIG.evaluation.protocol}.npy",
    output:
        [f"{PART}/{name}" for name in MEASURED_FILES],
    log:
        f"{PART_LOG}-evaluate.log",
    benchmark:
        f"{PART_LOG}-evaluate.tsv"
    resources:
        mem_mb=growing(8000),
        runtime=growing(120),
    params:
        code=code_hash("decodiff.stages.evaluate"),
        settings=PLACES.settings("evaluate"),
        results=lambda wildcards, input: folder(input.maps),
        prepared=lambda wildcards, input: folder(input.masks),
        output=lambda wildcards, output: folder(output[0]),
    shell:
        "decodiff evaluate --config {CONFIG_FILE:q} --dataset {wildcards.dataset:q} --scope {wildcards.scope:q} "
        "--seed {wildcards.seed} --results {params.results:q} --prepared {params.prepared:q} --output {params.output:q} --log {log:q}"


use rule evaluate as evaluate_variant with:
    output:
        [f"{SCORING_VARIANTS}/{{scope}}/seed-{{seed}}/{{dataset}}/{name}" for name in MEASURED_FILES],
    log:
        f"{LOGS}/{{model}}-{{correction}}-{{scoring}}-{{scope}}-{{seed}}-{{dataset}}-evaluate.log",
    benchmark:
        f"{LOGS}/{{model}}-{{correction}}-{{scoring}}-{{scope}}-{{seed}}-{{dataset}}-evaluate.tsv"


# of a data set, whatever the scopes
FLOOR_PART = f"{RESULTS}/{FLOOR}/{{dataset}}"
FLOOR_LOG = f"{LOGS}/{FLOOR}-{{dataset}}"


rule floor:
    input:
        train=[f"data/{{dataset}}/{PREPARED}/{name}" for name in ("train_images.npy", "train.csv")],
        test=[f"data/{{dataset}}/{PREPARED}/{name}" for name in ("test_images.npy", "test.csv")],
    output:
        maps=f"{FLOOR_PART}/anomaly_maps.npy",
        images=f"{FLOOR_PART}/images.csv",
        record=f"{FLOOR_PART}/floor.json",
    log:
        f"{FLOOR_LOG}.log",
    benchmark:
        f"{FLOOR_LOG}.tsv"
    resources:
        mem_mb=growing(2000),
        runtime=growing(60),
    params:
        code=code_hash("decodiff.stages.floor"),
        settings=PLACES.settings("floor"),
        prepared=lambda wildcards, input: folder(input.train[0]),
        output=lambda wildcards, output: folder(output[0]),
    shell:
        "decodiff floor --config {CONFIG_FILE:q} --prepared {params.prepared:q} --output {params.output:q} --log {log:q}"


# `evaluate` by another name of its scope: it has no wildcard for it, nor for a seed
rule evaluate_floor:
    input:
        maps=rules.floor.output.maps,
        images=rules.floor.output.images,
        masks=rules.evaluate.input.masks,
    output:
        [f"{FLOOR_PART}/{name}" for name in MEASURED_FILES],
    log:
        f"{FLOOR_LOG}-evaluate.log",
    benchmark:
        f"{FLOOR_LOG}-evaluate.tsv"
    resources:
        mem_mb=growing(8000),
        runtime=growing(120),
    params:
        code=code_hash("decodiff.stages.evaluate"),
        settings=PLACES.settings("evaluate"),
        results=lambda wildcards, input: folder(input.maps),
        prepared=lambda wildcards, input: folder(input.masks),
        output=lambda wildcards, output: folder(output[0]),
    shell:
        "decodiff evaluate --config {CONFIG_FILE:q} --dataset {wildcards.dataset:q} --scope {FLOOR} --seed 0 "
        "--results {params.results:q} --prepared {params.prepared:q} --output {params.output:q} --log {log:q}"


METHOD_PART = f"{RESULTS}/methods/{{method}}/{{scope}}/seed-{{seed}}/{{dataset}}"
METHOD_LOG = f"{LOGS}/{{method}}-{{scope}}-{{seed}}-{{dataset}}"

if CONFIG.methods:

    rule method:
        input:
            train=[f"data/{{dataset}}/{PREPARED}/{name}" for name in ("train_images.npy", "train.csv")],
            test=[f"data/{{dataset}}/{PREPARED}/{name}" for name in ("test_images.npy", "test.csv")],
        output:
            maps=f"{METHOD_PART}/anomaly_maps.npy",
            images=f"{METHOD_PART}/images.csv",
            record=f"{METHOD_PART}/{METHOD_FILE}",
        log:
            f"{METHOD_LOG}-method.log",
        benchmark:
            f"{METHOD_LOG}-method.tsv"
        threads: NETWORK_THREADS
        resources:
            device=1,
            mem_mb=growing(8000),
            runtime=lambda wildcards: int(CONFIG.methods[wildcards.method].limit_minutes) + 60,
        params:
            code=code_hash("decodiff.stages.method"),
            settings=lambda wildcards: PLACES.method_settings(wildcards.method),
            prepared=lambda wildcards, input: folder(input.train[0]),
            output=lambda wildcards, output: folder(output[0]),
        shell:
            "decodiff method --name {wildcards.method} --config {CONFIG_FILE:q} --dataset {wildcards.dataset:q} "
            "--scope {wildcards.scope:q} --seed {wildcards.seed} --prepared {params.prepared:q} --output {params.output:q} "
            "--threads {threads} --log {log:q}"

    # `evaluate`, which passes on why there are no maps
    use rule evaluate as evaluate_method with:
        input:
            maps=rules.method.output.maps,
            images=rules.method.output.images,
            record=rules.method.output.record,
            masks=rules.evaluate.input.masks,
        output:
            [f"{METHOD_PART}/{name}" for name in MEASURED_FILES],
        log:
            f"{METHOD_LOG}-evaluate.log",
        benchmark:
            f"{METHOD_LOG}-evaluate.tsv"


COMPUTE_FILE = "accuracy_over_compute.tsv"


rule over_compute:
    input:
        kept=PLACES.kept_files(f"{MODELS}/{{scope}}/seed-{{seed}}"),
        latents=f"{MODELS}/latents/{{dataset}}/test_mean.npy",
        images=f"data/{{dataset}}/{PREPARED}/test.csv",
        masks=rules.evaluate.input.masks,
        autoencoder=rules.autoencoder.output,
    output:
        f"{PART}/{COMPUTE_FILE}",
    log:
        f"{PART_LOG}-over-compute.log",
    benchmark:
        f"{PART_LOG}-over-compute.tsv"
    threads: NETWORK_THREADS
    resources:
        device=1,
        mem_mb=growing(8000),
        runtime=growing(480),
    params:
        code=code_hash("decodiff.stages.over_compute"),
        settings=PLACES.settings("over-compute"),
        unets=lambda wildcards, input: [f"--unet={path}" for path in dict.fromkeys(map(folder, input.kept))],
        latents=lambda wildcards, input: folder(input.latents),
        prepared=lambda wildcards, input: folder(input.images),
        autoencoder=lambda wildcards, input: folder(input.autoencoder[0]),
    shell:
        "decodiff over-compute --config {CONFIG_FILE:q} --dataset {wildcards.dataset:q} --scope {wildcards.scope:q} "
        "{params.unets:q} --latents {params.latents:q} --prepared {params.prepared:q} --autoencoder {params.autoencoder:q} "
        "--output {output:q} --threads {threads} --log {log:q}"


CURVE_FILES = ("precision_recall.csv", "region_overlap.csv")


rule curves:
    input:
        maps=f"{PART}/anomaly_maps.npy",
        images=f"{PART}/images.csv",
        masks=f"data/{{dataset}}/{PREPARED}/test_masks_{CONFIG.evaluation.protocol}.npy",
    output:
        [f"{PART}/{name}" for name in CURVE_FILES],
    log:
        f"{PART_LOG}-curves.log",
    benchmark:
        f"{PART_LOG}-curves.tsv"
    resources:
        mem_mb=growing(4000),
        runtime=growing(60),
    params:
        code=code_hash("decodiff.stages.curves"),
        settings=PLACES.settings("curves"),
        results=lambda wildcards, input: folder(input.maps),
        prepared=lambda wildcards, input: folder(input.masks),
        output=lambda wildcards, output: folder(output[0]),
    shell:
        "decodiff curves --config {CONFIG_FILE:q} --results {params.results:q} --prepared {params.prepared:q} "
        "--output {params.output:q} --log {log:q}"
