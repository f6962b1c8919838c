# From a data set's name to arrays.


rule fetch:
    output:
        "data/{dataset}/manifest.csv",
    params:
        settings=lambda wildcards: settings("fetch", wildcards.dataset),
    log:
        "logs/data/{dataset}-fetch.log",
    benchmark:
        "logs/data/{dataset}-fetch.tsv"
    resources:
        mem_mb=2000,
        runtime=240,
    shell:
        "decodiff fetch --config {CONFIG_FILE:q} --dataset {wildcards.dataset:q} --output {output:q} --log {log:q}"


rule prepare:
    input:
        manifest="data/{dataset}/manifest.csv",
    output:
        *prepared_files("{dataset}"),
    params:
        settings=settings("prepare"),
        output=lambda wildcards, output: folder(output[0]),
    log:
        f"logs/data/{{dataset}}-{PREPARED}.log",
    benchmark:
        f"logs/data/{{dataset}}-{PREPARED}.tsv"
    resources:
        mem_mb=2000,
        runtime=120,
    shell:
        "decodiff prepare --config {CONFIG_FILE:q} --manifest {input.manifest:q} --output {params.output:q} --log {log:q}"
