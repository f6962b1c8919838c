# Tables and figures over all data sets of the run, and the page that shows them. Figures show the first seed.

SHOWN = f"{RESULTS}/{{scope}}/seed-{CONFIG.seeds[0]}/{{dataset}}"
TABLE_SUFFIXES = ("csv", "md", "tex", "json")

# what draws each figure, and what they all look like
FIGURE_MODULES = {
    **dict.fromkeys(FIGURES, "decodiff.reporting.figures"),
    **dict.fromkeys((SCORES_FIGURE, DEFECTS_FIGURE), "decodiff.reporting.score_figures"),
    METHOD_FIGURE: "decodiff.reporting.method_figure",
    STEPS_FIGURE: "decodiff.reporting.course",
    COMPARISON_FIGURE: "decodiff.reporting.course",
    **dict.fromkeys((ACCURACY_FIGURE, CHANGES_FIGURE), "decodiff.reporting.sweep_figures"),
    COMPUTE_FIGURE: "decodiff.reporting.compute_figure",
    TRAINING_CURVE: "decodiff.reporting.training_curve",
}
STYLE = ("reporting/paper.mplstyle",)
SHOWN_NETWORK = f"{MODELS}/{{scope}}/seed-{CONFIG.seeds[0]}"


def split(parts):
    """Scope and data set of each part."""
    return [part.split("/") for part in parts]


# folders of the results that the report and most figures show
SHOWN_PARTS = [SHOWN.format(scope=scope, dataset=dataset) for scope, dataset in split(PARTS)]


def table_files(name):
    """A table's files; the CSV also stands in Snakemake's own report."""
    table, *others = (f"{RESULTS}/tables/{name}.{suffix}" for suffix in TABLE_SUFFIXES)
    return [report(table, category="Tables", labels={"table": name}), *others]


def figure_files(name):
    """A figure's files; the PNG also stands in Snakemake's own report."""
    return [report(f"{RESULTS}/figures/{name}.png", category="Figures", labels={"figure": name}), f"{RESULTS}/figures/{name}.pdf"]


def measured_files(name):
    """Files of that name of every result of the run itself."""
    return [
        f"{RESULTS}/{scope}/seed-{seed}/{dataset}/{name}"
        for scope, dataset in split(PARTS)
        for seed in CONFIG.seeds
    ]


def floor_files(parts, name):
    """Files of that name of the floors of the data sets of some parts."""
    return [f"{RESULTS}/{FLOOR}/{dataset}/{name}" for dataset in dict.fromkeys(dataset for _, dataset in split(parts))]


def table_floors(wildcards, name):
    """Files of that name of the floors in a table; one table compares two ways of training, so it has none."""
    return [] if wildcards.table == TRAINING_TABLE else floor_files(PARTS, name)


rule table:
    input:
        metrics=lambda wildcards: [*measured_files("metrics.csv"), *table_floors(wildcards, "metrics.csv")],
        # beside the metrics
        resamples=lambda wildcards: [*measured_files("resamples.npz"), *table_floors(wildcards, "resamples.npz")],
        floors=lambda wildcards: table_floors(wildcards, "floor.json"),
    output:
        table_files("{table}"),
    params:
        code=code_hash("decodiff.reporting.main_tables", "decodiff.data.registry", files=("reporting/published",)),
        metrics=lambda wildcards, input: [f"--metrics={path}" for path in input.metrics],
    log:
        f"{LOGS}/{{table}}.log",
    benchmark:
        f"{LOGS}/{{table}}.tsv"
    resources:
        mem_mb=growing(1000),
        runtime=growing(10),
    shell:
        "decodiff table --name {wildcards.table} {params.metrics:q} --output {output[0]:q} --log {log:q}"


rule summary:
    input:
        [*measured_files("metrics.csv"), *floor_files(PARTS, "metrics.csv")],
    output:
        f"{RESULTS}/metrics.json",
    params:
        code=code_hash("decodiff.reporting.measured"),
        metrics=lambda wildcards, input: [f"--metrics={path}" for path in input],
    log:
        f"{LOGS}/summary.log",
    benchmark:
        f"{LOGS}/summary.tsv"
    resources:
        mem_mb=growing(1000),
        runtime=growing(10),
    shell:
        "decodiff summary {params.metrics:q} --output {output:q} --log {log:q}"


def sweep_sources(wildcards):
    """Of each line of a sweep's table, for every scope, data set and seed: label, folder of results, folder of the correction."""
    return [
        (variant.label, *(f"{variant_folder(variant.names, levels)}{scope}/seed-{seed}/{dataset}" for levels in (3, 2)))
        for variant in SWEEPS.get(wildcards.sweep_table, [])
        for scope, dataset in CONFIG.swept(wildcards.sweep_table)
        for seed in CONFIG.seeds
    ]


rule sweep_table:
    input:
        metrics=lambda wildcards: [f"{results}/metrics.csv" for _, results, _ in sweep_sources(wildcards)],
        intervals=lambda wildcards: [f"{results}/intervals.csv" for _, results, _ in sweep_sources(wildcards)],
        resamples=lambda wildcards: [f"{results}/resamples.npz" for _, results, _ in sweep_sources(wildcards)],
        inference=lambda wildcards: [f"{corrected}/inference.json" for _, _, corrected in sweep_sources(wildcards)],
        floors=lambda wildcards: floor_files(swept(wildcards.sweep_table), "floor.json"),
        of_floors=lambda wildcards: [
            path for name in ("metrics.csv", "resamples.npz") for path in floor_files(swept(wildcards.sweep_table), name)
        ],
    output:
        table_files("{sweep_table}"),
    params:
        code=code_hash("decodiff.reporting.sweep_tables", "decodiff.data.registry", files=("reporting/published",)),
        sources=lambda wildcards: [
            option
            for label, results, corrected in sweep_sources(wildcards)
            for option in (f"--label={label}", f"--results={results}", f"--inference={corrected}/inference.json")
        ],
        floors=lambda wildcards, input: [f"--floor={folder(path)}" for path in input.floors],
        # the method as the run has it, if that is a line
        baseline=lambda wildcards: next(
            (variant.label for variant in SWEEPS[wildcards.sweep_table] if not variant.changes),
            SWEEPS[wildcards.sweep_table][0].label,
        ),
    log:
        f"{LOGS}/{{sweep_table}}.log",
    benchmark:
        f"{LOGS}/{{sweep_table}}.tsv"
    resources:
        mem_mb=growing(1000),
        runtime=growing(10),
    shell:
        "decodiff sweep-table --name {wildcards.sweep_table} {params.sources:q} --baseline {params.baseline:q} {params.floors:q} "
        "--output {output[0]:q} --log {log:q}"


def all_results():
    """Every result of the run and of its variants: folder of results, of the network, of the correction, and the manifest."""
    wanted = [(dict.fromkeys(LEVELS, BASE), part) for part in PARTS]
    wanted += [(variant.names, part) for table, lines in SWEEPS.items() for variant in lines for part in swept(table)]
    return [
        (
            f"{variant_folder(variant, 3)}{scope}/seed-{seed}/{dataset}",
            f"{network_folder(variant['model'])}/{scope}/seed-{seed}",
            f"{variant_folder(variant, 2)}{scope}/seed-{seed}/{dataset}/inference.json",
            f"data/{dataset}/manifest.csv",
        )
        for variant, part in {(*variant.values(), part): (variant, part) for variant, part in wanted}.values()
        for scope, dataset in split([part])
        for seed in CONFIG.seeds
    ]


rule provenance:
    input:
        tables=[f"{RESULTS}/tables/{table}.{suffix}" for table in ALL_TABLES for suffix in ("csv", "json")],
        metrics=[f"{results}/metrics.csv" for results, _, _, _ in all_results()] + floor_files(PARTS, "metrics.csv"),
        floors=floor_files(PARTS, "floor.json"),
        networks=[f"{network}/training.json" for _, network, _, _ in all_results()],
        inference=[inference for _, _, inference, _ in all_results()],
        manifests=[manifest for _, _, _, manifest in all_results()],
        origins=[f"{folder(manifest)}/origin.json" for _, _, _, manifest in all_results()],
        autoencoder=rules.autoencoder.output,
    output:
        f"{RESULTS}/provenance.json",
    params:
        code=code_hash("decodiff.reporting.origin"),
        # its hash is in it
        settings=json.dumps(CONFIG.model_dump(mode="json")),
        autoencoder=lambda wildcards, input: folder(input.autoencoder[0]),
        results=[
            f"--{name}={path}"
            for result in all_results()
            for name, path in zip(("results", "unet", "inference", "manifest"), result)
        ],
        floors=lambda wildcards, input: [
            option
            for path in map(Path, input.floors)
            for option in (f"--floor={path.parent}", f"--floor-manifest=data/{path.parent.name}/manifest.csv")
        ],
        tables=lambda wildcards, input: [f"--tables={path}" for path in input.tables if path.endswith(".csv")],
    log:
        f"{LOGS}/provenance.log",
    benchmark:
        f"{LOGS}/provenance.tsv"
    resources:
        mem_mb=growing(2000),
        runtime=growing(30),
    shell:
        "decodiff provenance --config {CONFIG_FILE:q} --autoencoder {params.autoencoder:q} {params.results:q} {params.floors:q} {params.tables:q} "
        "--output {output:q} --log {log:q}"


rule figure:
    input:
        maps=f"{SHOWN}/anomaly_maps.npy",
        others=[f"{SHOWN}/{name}" for name in ("images.csv", "scores.csv", "thresholds.csv", "corrections.npy")],
        curves=lambda wildcards: [
            f"{SHOWN}/{name}".format(**wildcards) for name in CURVE_FILES if wildcards.figure == SCORES_FIGURE
        ],
        images=prepared_files("{dataset}"),
        latents=[f"{MODELS}/latents/{{dataset}}/{name}.npy" for name in ("train_mean", "test_mean")],
        unet=[*network_files(SHOWN_NETWORK), f"{SHOWN_NETWORK}/training.json"],
        autoencoder=rules.autoencoder.output,
    output:
        figure_files("{scope}/{dataset}/{figure}"),
    params:
        code=lambda wildcards: code_hash(FIGURE_MODULES[wildcards.figure], files=STYLE),
        settings=settings("figure"),
        folders=lambda wildcards, input: [
            f"--{name}={folder(path)}"
            for name, path in (
                ("results", input.maps),
                ("prepared", input.images[0]),
                ("latents", input.latents[0]),
                ("unet", input.unet[0]),
                ("autoencoder", input.autoencoder[0]),
            )
        ],
    log:
        f"{LOGS}/{{scope}}-{{dataset}}-{{figure}}.log",
    benchmark:
        f"{LOGS}/{{scope}}-{{dataset}}-{{figure}}.tsv"
    resources:
        mem_mb=growing(8000),
        runtime=growing(30),
    shell:
        "decodiff figure --config {CONFIG_FILE:q} --name {wildcards.figure} --dataset {wildcards.dataset:q} {params.folders:q} "
        "--output {output[0]:q} --log {log:q}"


def compared(scope, dataset):
    """Lines of F1: label, folder of results, folder of the network, and the changes as JSON."""
    place = f"{scope}/seed-{CONFIG.seeds[0]}"
    return [
        (
            variant.label,
            f"{variant_folder(variant.names, 3)}{place}/{dataset}",
            f"{network_folder(variant.names['model'])}/{place}",
            json.dumps(variant.changes),
        )
        for variant in SWEEPS.get("T2", [])
    ]


def shown_results():
    """Folders of the results that figures and the report show."""
    lines = [results for part in split(swept("T2")) for _, results, _, _ in compared(*part)]
    return [*SHOWN_PARTS, *lines]


rule compare_steps:
    input:
        results=lambda wildcards: [
            f"{results}/{name}"
            for _, results, _, _ in compared(**wildcards)
            for name in ("anomaly_maps.npy", "images.csv", "scores.csv")
        ],
        networks=lambda wildcards: [
            path for _, _, unet, _ in compared(**wildcards) for path in (*network_files(unet), f"{unet}/training.json")
        ],
        images=prepared_files("{dataset}"),
        latents=f"{MODELS}/latents/{{dataset}}/test_mean.npy",
        autoencoder=rules.autoencoder.output,
    output:
        figure_files(f"{{scope}}/{{dataset}}/{COMPARISON_FIGURE}"),
    params:
        code=code_hash(FIGURE_MODULES[COMPARISON_FIGURE], files=STYLE),
        settings=settings("figure"),
        prepared=lambda wildcards, input: folder(input.images[0]),
        latents=lambda wildcards, input: folder(input.latents),
        autoencoder=lambda wildcards, input: folder(input.autoencoder[0]),
        lines=lambda wildcards: [
            f"--{name}={value}"
            for line in compared(**wildcards)
            for name, value in zip(("label", "results", "unet", "variant"), line)
        ],
    log:
        f"{LOGS}/{{scope}}-{{dataset}}-{COMPARISON_FIGURE}.log",
    benchmark:
        f"{LOGS}/{{scope}}-{{dataset}}-{COMPARISON_FIGURE}.tsv"
    resources:
        mem_mb=growing(8000),
        runtime=growing(30),
    shell:
        "decodiff compare-steps --config {CONFIG_FILE:q} --dataset {wildcards.dataset:q} --prepared {params.prepared:q} "
        "--latents {params.latents:q} --autoencoder {params.autoencoder:q} {params.lines:q} --output {output[0]:q} --log {log:q}"


rule accuracy_figure:
    input:
        f"{RESULTS}/tables/T4.csv",
    output:
        figure_files(ACCURACY_FIGURE),
    params:
        code=code_hash(FIGURE_MODULES[ACCURACY_FIGURE], files=STYLE),
    log:
        f"{LOGS}/{ACCURACY_FIGURE}.log",
    benchmark:
        f"{LOGS}/{ACCURACY_FIGURE}.tsv"
    resources:
        mem_mb=growing(1000),
        runtime=growing(10),
    shell:
        "decodiff accuracy-figure {input:q} --output {output[0]:q} --log {log:q}"


rule changes_figure:
    input:
        [f"{RESULTS}/tables/{table}.csv" for table in SWEEPS],
    output:
        figure_files(CHANGES_FIGURE),
    params:
        code=code_hash(FIGURE_MODULES[CHANGES_FIGURE], files=STYLE),
    log:
        f"{LOGS}/{CHANGES_FIGURE}.log",
    benchmark:
        f"{LOGS}/{CHANGES_FIGURE}.tsv"
    resources:
        mem_mb=growing(1000),
        runtime=growing(10),
    shell:
        "decodiff changes-figure {input:q} --output {output[0]:q} --log {log:q}"


rule compute_figure:
    input:
        [f"{results}/{COMPUTE_FILE}" for results in SHOWN_PARTS],
    output:
        figure_files(COMPUTE_FIGURE),
    params:
        code=code_hash(FIGURE_MODULES[COMPUTE_FIGURE], files=STYLE),
    log:
        f"{LOGS}/{COMPUTE_FIGURE}.log",
    benchmark:
        f"{LOGS}/{COMPUTE_FIGURE}.tsv"
    resources:
        mem_mb=growing(1000),
        runtime=growing(10),
    shell:
        "decodiff compute-figure {input:q} --output {output[0]:q} --log {log:q}"


rule training_curve:
    input:
        [f"{MODELS}/{{scope}}/seed-{seed}/log.csv" for seed in CONFIG.seeds],
    output:
        figure_files(f"{{scope}}/{TRAINING_CURVE}"),
    params:
        code=code_hash(FIGURE_MODULES[TRAINING_CURVE], files=STYLE),
    log:
        f"{LOGS}/{{scope}}-{TRAINING_CURVE}.log",
    benchmark:
        f"{LOGS}/{{scope}}-{TRAINING_CURVE}.tsv"
    resources:
        mem_mb=growing(2000),
        runtime=growing(10),
    shell:
        "decodiff training-curve {input:q} --output {output[0]:q} --log {log:q}"


# Printing it takes no lock, so it can be done while the workflow runs.
# it starts Snakemake itself, where that already runs
localrules:
    rule_graph,


rule rule_graph:
    output:
        f"{RESULTS}/rulegraph.dot",
    params:
        settings=json.dumps(CONFIG.model_dump(mode="json")),
    log:
        f"{LOGS}/rulegraph.log",
    benchmark:
        f"{LOGS}/rulegraph.tsv"
    resources:
        mem_mb=growing(1000),
        runtime=growing(10),
    shell:
        "snakemake --snakefile {workflow.main_snakefile:q} --configfile {CONFIG_FILE:q} --rulegraph > {output:q} 2> {log:q}"


rule report:
    input:
        graph=rules.rule_graph.output,
        provenance=rules.provenance.output,
        tables=[f"{RESULTS}/tables/{table}.csv" for table in sorted(ALL_TABLES, key=lambda name: int(name[1:]))],
        figures=[f"{figure}.png" for figure in FIGURE_FILES],
        maps=[f"{results}/anomaly_maps.npy" for results in SHOWN_PARTS],
        others=[f"{results}/{name}" for results in SHOWN_PARTS for name in ("images.csv", "scores.csv", "corrections.npy")],
        images=[f"data/{dataset}/{PREPARED}/test_images.npy" for _, dataset in split(PARTS)],
        masks=[f"data/{dataset}/{PREPARED}/test_masks_{CONFIG.evaluation.protocol}.npy" for _, dataset in split(PARTS)],
    output:
        f"{RESULTS}/report.html",
    params:
        code=code_hash("decodiff.reporting.report", files=("reporting/report.html", *STYLE)),
        # the page shows all of them
        settings=json.dumps(CONFIG.model_dump(mode="json")),
        contents=lambda wildcards, input: [
            *(f"--tables={path}" for path in input.tables),
            *(f"--figures={path}" for path in input.figures),
            *(f"--dataset={dataset}" for _, dataset in split(PARTS)),
            *(f"--results={folder(path)}" for path in input.maps),
            *(f"--prepared={folder(path)}" for path in input.images),
            f"--graph={input.graph}",
            *(f"--logs={path}" for path in ("logs/data", LOGS)),
        ],
    log:
        f"{LOGS}/report.log",
    benchmark:
        f"{LOGS}/report.tsv"
    resources:
        mem_mb=growing(8000),
        runtime=growing(30),
    shell:
        "decodiff report --config {CONFIG_FILE:q} {params.contents:q} --output {output:q} --log {log:q}"
