# From a data set's name to arrays.


rule fetch:
    output:
        manifest="data/{dataset}/manifest.csv",
        origin="data/{dataset}/origin.json",
        # stands for the images: the two above may have been pulled without them
        images=touch("data/{dataset}/fetched"),
    params:
        code=code_hash("decodiff.stages.fetch"),
        settings=lambda wildcards: settings("fetch", wildcards.dataset),
    log:
        "logs/data/{dataset}-fetch.log",
    benchmark:
        "logs/data/{dataset}-fetch.tsv"
    threads: 8
    resources:
        mem_mb=growing(4000),
        runtime=growing(240),
    shell:
        "decodiff fetch {wildcards.dataset:q} --config {CONFIG_FILE:q} --output {output.manifest:q} "
        "--threads {threads} --log {log:q}"


rule prepare:
    input:
        manifest=rules.fetch.output.manifest,
        images=rules.fetch.output.images,
    output:
        *prepared_files("{dataset}"),
    params:
        code=code_hash("decodiff.stages.prepare"),
        resize=CONFIG.image.resize,
        filter=CONFIG.image.filter,
        output=lambda wildcards, output: folder(output[0]),
    log:
        f"logs/data/{{dataset}}-{PREPARED}.log",
    benchmark:
        f"logs/data/{{dataset}}-{PREPARED}.tsv"
    threads: 8
    resources:
        mem_mb=growing(4000),
        runtime=growing(120),
    shell:
        "decodiff prepare {input.manifest:q} --resize {params.resize} --filter {params.filter} --output {params.output:q} "
        "--threads {threads} --log {log:q}"
