# From a data set's name to arrays.


rule fetch:
    output:
        manifest="data/{dataset}/manifest.csv",
        origin="data/{dataset}/origin.json",
        # stands for the images: the two above may have been pulled without them
        images=touch("data/{dataset}/fetched"),
    log:
        "logs/data/{dataset}-fetch.log",
    benchmark:
        "logs/data/{dataset}-fetch.tsv"
    wildcard_constraints:
        dataset="|".join(dataset for dataset in CONFIG.data if dataset not in PLACES.made_sets),
    threads: 8
    resources:
        mem_mb=growing(4000),
        runtime=growing(240),
    params:
        code=code_hash("decodiff.stages.fetch"),
        settings=lambda wildcards: PLACES.settings("fetch", wildcards.dataset),
    shell:
        "decodiff fetch {wildcards.dataset:q} --config {CONFIG_FILE:q} --output {output.manifest:q} "
        "--threads {threads} --log {log:q}"


if PLACES.made_sets:

    rule make_defects:
        input:
            lambda wildcards: [
                f"data/{CONFIG.data[wildcards.dataset].of}/{name}" for name in ("manifest.csv", "origin.json", "fetched")
            ],
        output:
            manifest="data/{dataset}/manifest.csv",
            origin="data/{dataset}/origin.json",
            images=touch("data/{dataset}/fetched"),
        log:
            "logs/data/{dataset}-make-defects.log",
        benchmark:
            "logs/data/{dataset}-make-defects.tsv"
        wildcard_constraints:
            dataset="|".join(PLACES.made_sets),
        threads: 8
        resources:
            mem_mb=growing(4000),
            runtime=growing(240),
        params:
            code=code_hash("decodiff.stages.make_defects"),
        shell:
            "decodiff make-defects {input[0]:q} --dataset {wildcards.dataset:q} --output {output.manifest:q} "
            "--threads {threads} --log {log:q}"


rule prepare:
    input:
        manifest="data/{dataset}/manifest.csv",
        images="data/{dataset}/fetched",
    output:
        *PLACES.prepared_files("{dataset}"),
    log:
        f"logs/data/{{dataset}}-{PREPARED}.log",
    benchmark:
        f"logs/data/{{dataset}}-{PREPARED}.tsv"
    threads: 8
    resources:
        mem_mb=growing(4000),
        runtime=growing(120),
    params:
        code=code_hash("decodiff.stages.prepare"),
        resize=CONFIG.image.resize,
        filter=CONFIG.image.filter,
        pose=lambda wildcards: CONFIG.data[wildcards.dataset].pose,
        output=lambda wildcards, output: folder(output[0]),
    shell:
        "decodiff prepare {input.manifest:q} --resize {params.resize} --filter {params.filter} --pose {params.pose} --output {params.output:q} "
        "--threads {threads} --log {log:q}"
