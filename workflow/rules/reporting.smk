# Tables and figures over all data sets of the run, and the page that shows them. Figures show the first seed.

SHOWN = f"{RESULTS}/{{scope}}/seed-{CONFIG.seeds[0]}/{{dataset}}"

# what draws each figure, and what they all look like
FIGURE_MODULES = {
    **dict.fromkeys(PLACES.part_figures, "decodiff.reporting.figures"),
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


rule table:
    input:
        metrics=lambda wildcards: PLACES.tabled(wildcards.table, "metrics.csv"),
        # beside the metrics
        resamples=lambda wildcards: PLACES.tabled(wildcards.table, "resamples.npz"),
        records=lambda wildcards: [
            *PLACES.table_floors(wildcards.table, "floor.json"),
            *PLACES.table_methods(wildcards.table, METHOD_FILE),
        ],
    output:
        **table_files("{table}"),
    log:
        f"{LOGS}/{{table}}.log",
    benchmark:
        f"{LOGS}/{{table}}.tsv"
    resources:
        mem_mb=growing(1000),
        runtime=growing(10),
    params:
        code=code_hash("decodiff.reporting.main_tables", "decodiff.data.registry", files=("reporting/published",)),
        metrics=lambda wildcards, input: [f"--metrics={path}" for path in input.metrics],
    shell:
        "decodiff table --name {wildcards.table} {params.metrics:q} --output {output.csv:q} --log {log:q}"


rule summary:
    input:
        metrics=PLACES.tabled("", "metrics.csv"),
        records=PLACES.methods(METHOD_FILE),
    output:
        f"{RESULTS}/metrics.json",
    log:
        f"{LOGS}/summary.log",
    benchmark:
        f"{LOGS}/summary.tsv"
    resources:
        mem_mb=growing(1000),
        runtime=growing(10),
    params:
        code=code_hash("decodiff.reporting.measured"),
        metrics=lambda wildcards, input: [f"--metrics={path}" for path in input.metrics],
    shell:
        "decodiff summary {params.metrics:q} --output {output:q} --log {log:q}"


rule sweep_table:
    input:
        metrics=lambda wildcards: [f"{line.results}/metrics.csv" for _, line in PLACES.lines(wildcards.sweep_table)],
        intervals=lambda wildcards: [f"{line.results}/intervals.csv" for _, line in PLACES.lines(wildcards.sweep_table)],
        resamples=lambda wildcards: [f"{line.results}/resamples.npz" for _, line in PLACES.lines(wildcards.sweep_table)],
        inference=lambda wildcards: [line.inference for _, line in PLACES.lines(wildcards.sweep_table)],
        # released weights come without
        training=lambda wildcards: [
            f"{line.unet}/speed.tsv" for _, line in PLACES.lines(wildcards.sweep_table) if CONFIG.model.source == "train"
        ],
        floors=lambda wildcards: PLACES.floors(PLACES.swept(wildcards.sweep_table), "floor.json"),
        of_floors=lambda wildcards: [
            path
            for name in ("metrics.csv", "resamples.npz")
            for path in PLACES.floors(PLACES.swept(wildcards.sweep_table), name)
        ],
        of_methods=lambda wildcards: [
            f"{results}/{name}"
            for _, results in PLACES.method_lines(wildcards.sweep_table)
            for name in ("metrics.csv", "intervals.csv", "resamples.npz", METHOD_FILE)
        ],
    output:
        **table_files("{sweep_table}"),
    log:
        f"{LOGS}/{{sweep_table}}.log",
    benchmark:
        f"{LOGS}/{{sweep_table}}.tsv"
    resources:
        mem_mb=growing(1000),
        runtime=growing(10),
    params:
        code=code_hash("decodiff.reporting.sweep_tables", "decodiff.data.registry", files=("reporting/published",)),
        sources=lambda wildcards: [
            option
            for label, line in PLACES.lines(wildcards.sweep_table)
            for option in (
                f"--label={label}",
                f"--results={line.results}",
                f"--inference={line.inference}",
                f"--training={line.unet}/speed.tsv",
            )
        ],
        methods=lambda wildcards: [
            option
            for label, results in PLACES.method_lines(wildcards.sweep_table)
            for option in (f"--method={label}", f"--method-results={results}")
        ],
        floors=lambda wildcards, input: [f"--floor={folder(path)}" for path in input.floors],
        baseline=lambda wildcards: PLACES.baseline(wildcards.sweep_table),
    shell:
        "decodiff sweep-table --name {wildcards.sweep_table} {params.sources:q} --baseline {params.baseline:q} {params.floors:q} "
        "{params.methods:q} "
        "--output {output.csv:q} --log {log:q}"


rule provenance:
    input:
        tables=[f"{RESULTS}/tables/{table}.{suffix}" for table in PLACES.tables for suffix in ("csv", "json")],
        metrics=[f"{result.results}/metrics.csv" for result in PLACES.all_results()]
        + PLACES.floors(PLACES.parts, "metrics.csv")
        + PLACES.methods("metrics.csv"),
        others=PLACES.floors(PLACES.parts, "floor.json") + PLACES.methods(METHOD_FILE),
        networks=[f"{result.unet}/training.json" for result in PLACES.all_results()],
        inference=[result.inference for result in PLACES.all_results()],
        manifests=[result.manifest for result in PLACES.all_results()],
        origins=[f"{folder(result.manifest)}/origin.json" for result in PLACES.all_results()],
        autoencoder=rules.autoencoder.output,
    output:
        f"{RESULTS}/provenance.json",
    log:
        f"{LOGS}/provenance.log",
    benchmark:
        f"{LOGS}/provenance.tsv"
    resources:
        mem_mb=growing(2000),
        runtime=growing(30),
    params:
        code=code_hash("decodiff.reporting.origin"),
        # its hash is in it
        settings=lambda wildcards: json.dumps(CONFIG.model_dump(mode="json")),
        autoencoder=lambda wildcards, input: folder(input.autoencoder[0]),
        results=[f"--{name}={path}" for result in PLACES.all_results() for name, path in result._asdict().items()],
        others=lambda wildcards, input: [
            option
            for path in map(Path, input.others)
            for option in (f"--other={path.parent}", f"--other-manifest=data/{path.parent.name}/manifest.csv")
        ],
        tables=lambda wildcards, input: [f"--tables={path}" for path in input.tables if path.endswith(".csv")],
    shell:
        "decodiff provenance --config {CONFIG_FILE:q} --autoencoder {params.autoencoder:q} {params.results:q} {params.others:q} {params.tables:q} "
        "--output {output:q} --log {log:q}"


# all of a data set under one model, in one job: loading the libraries takes longer than drawing
rule figures:
    input:
        maps=f"{SHOWN}/anomaly_maps.npy",
        others=[f"{SHOWN}/{name}" for name in ("images.csv", "scores.csv", "thresholds.csv", "corrections.npy", *CURVE_FILES)],
        images=PLACES.prepared_files("{dataset}"),
        latents=[f"{MODELS}/latents/{{dataset}}/{name}.npy" for name in ("train_mean", "test_mean")],
        unet=[*network_files(SHOWN_NETWORK), f"{SHOWN_NETWORK}/training.json"],
        autoencoder=rules.autoencoder.output,
    output:
        [path for name in PLACES.part_figures for path in figure_files(f"{{scope}}/{{dataset}}/{name}").values()],
    log:
        f"{LOGS}/{{scope}}-{{dataset}}-figures.log",
    benchmark:
        f"{LOGS}/{{scope}}-{{dataset}}-figures.tsv"
    resources:
        mem_mb=growing(8000),
        runtime=growing(30),
    params:
        code=code_hash(*sorted({FIGURE_MODULES[name] for name in PLACES.part_figures}), files=STYLE),
        settings=PLACES.settings("figures"),
        names=[f"--name={name}" for name in PLACES.part_figures],
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
        output=lambda wildcards, output: folder(output[0]),
    shell:
        "decodiff figures --config {CONFIG_FILE:q} {params.names:q} --dataset {wildcards.dataset:q} {params.folders:q} "
        "--output {params.output:q} --log {log:q}"


rule compare_steps:
    input:
        results=lambda wildcards: [
            f"{line.results}/{name}"
            for line in PLACES.compared(**wildcards)
            for name in ("anomaly_maps.npy", "images.csv", "scores.csv")
        ],
        networks=lambda wildcards: [
            path for line in PLACES.compared(**wildcards) for path in (*network_files(line.unet), f"{line.unet}/training.json")
        ],
        images=PLACES.prepared_files("{dataset}"),
        latents=f"{MODELS}/latents/{{dataset}}/test_mean.npy",
        autoencoder=rules.autoencoder.output,
    output:
        **figure_files(f"{{scope}}/{{dataset}}/{COMPARISON_FIGURE}"),
    log:
        f"{LOGS}/{{scope}}-{{dataset}}-{COMPARISON_FIGURE}.log",
    benchmark:
        f"{LOGS}/{{scope}}-{{dataset}}-{COMPARISON_FIGURE}.tsv"
    resources:
        mem_mb=growing(8000),
        runtime=growing(30),
    params:
        code=code_hash(FIGURE_MODULES[COMPARISON_FIGURE], files=STYLE),
        settings=PLACES.settings("figures"),
        prepared=lambda wildcards, input: folder(input.images[0]),
        latents=lambda wildcards, input: folder(input.latents),
        autoencoder=lambda wildcards, input: folder(input.autoencoder[0]),
        lines=lambda wildcards: [
            f"--{name}={value}" for line in PLACES.compared(**wildcards) for name, value in line._asdict().items()
        ],
    shell:
        "decodiff compare-steps --config {CONFIG_FILE:q} --dataset {wildcards.dataset:q} --prepared {params.prepared:q} "
        "--latents {params.latents:q} --autoencoder {params.autoencoder:q} {params.lines:q} --output {output.png:q} --log {log:q}"


rule accuracy_figure:
    input:
        f"{RESULTS}/tables/T4.csv",
    output:
        **figure_files(ACCURACY_FIGURE),
    log:
        f"{LOGS}/{ACCURACY_FIGURE}.log",
    benchmark:
        f"{LOGS}/{ACCURACY_FIGURE}.tsv"
    resources:
        mem_mb=growing(1000),
        runtime=growing(10),
    params:
        code=code_hash(FIGURE_MODULES[ACCURACY_FIGURE], files=STYLE),
    shell:
        "decodiff accuracy-figure {input:q} --output {output.png:q} --log {log:q}"


rule changes_figure:
    input:
        [f"{RESULTS}/tables/{table}.csv" for table in PLACES.sweeps],
    output:
        **figure_files(CHANGES_FIGURE),
    log:
        f"{LOGS}/{CHANGES_FIGURE}.log",
    benchmark:
        f"{LOGS}/{CHANGES_FIGURE}.tsv"
    resources:
        mem_mb=growing(1000),
        runtime=growing(10),
    params:
        code=code_hash(FIGURE_MODULES[CHANGES_FIGURE], files=STYLE),
    shell:
        "decodiff changes-figure {input:q} --output {output.png:q} --log {log:q}"


rule compute_figure:
    input:
        [f"{results}/{COMPUTE_FILE}" for results in PLACES.shown],
    output:
        **figure_files(COMPUTE_FIGURE),
    log:
        f"{LOGS}/{COMPUTE_FIGURE}.log",
    benchmark:
        f"{LOGS}/{COMPUTE_FIGURE}.tsv"
    resources:
        mem_mb=growing(1000),
        runtime=growing(10),
    params:
        code=code_hash(FIGURE_MODULES[COMPUTE_FIGURE], files=STYLE),
    shell:
        "decodiff compute-figure {input:q} --output {output.png:q} --log {log:q}"


rule training_curve:
    input:
        [f"{MODELS}/{{scope}}/seed-{seed}/log.csv" for seed in CONFIG.seeds],
    output:
        **figure_files(f"{{scope}}/{TRAINING_CURVE}"),
    log:
        f"{LOGS}/{{scope}}-{TRAINING_CURVE}.log",
    benchmark:
        f"{LOGS}/{{scope}}-{TRAINING_CURVE}.tsv"
    resources:
        mem_mb=growing(2000),
        runtime=growing(10),
    params:
        code=code_hash(FIGURE_MODULES[TRAINING_CURVE], files=STYLE),
    shell:
        "decodiff training-curve {input:q} --output {output.png:q} --log {log:q}"


# Printing it takes no lock, so it can be done while the workflow runs.
# it starts Snakemake itself, where that already runs
localrules:
    rule_graph,


rule rule_graph:
    output:
        f"{RESULTS}/rulegraph.dot",
    log:
        f"{LOGS}/rulegraph.log",
    benchmark:
        f"{LOGS}/rulegraph.tsv"
    resources:
        mem_mb=growing(1000),
        runtime=growing(10),
    params:
        settings=lambda wildcards: json.dumps(CONFIG.model_dump(mode="json")),
    shell:
        "snakemake --snakefile {workflow.main_snakefile:q} --configfile {CONFIG_FILE:q} --rulegraph > {output:q} 2> {log:q}"


rule report:
    input:
        graph=rules.rule_graph.output,
        provenance=rules.provenance.output,
        tables=[f"{RESULTS}/tables/{table}.csv" for table in sorted(PLACES.tables, key=lambda name: int(name[1:]))],
        figures=[f"{figure}.png" for figure in PLACES.figures],
        maps=[f"{results}/anomaly_maps.npy" for results in PLACES.shown],
        others=[f"{results}/{name}" for results in PLACES.shown for name in ("images.csv", "scores.csv", "corrections.npy")],
        images=[f"data/{dataset}/{PREPARED}/test_images.npy" for _, dataset in split(PLACES.parts)],
        masks=[f"data/{dataset}/{PREPARED}/test_masks_{CONFIG.evaluation.protocol}.npy" for _, dataset in split(PLACES.parts)],
    output:
        f"{RESULTS}/report.html",
    log:
        f"{LOGS}/report.log",
    benchmark:
        f"{LOGS}/report.tsv"
    resources:
        mem_mb=growing(8000),
        runtime=growing(30),
    params:
        code=code_hash("decodiff.reporting.report", files=("reporting/report.html", *STYLE)),
        # the page shows all of them
        settings=lambda wildcards: json.dumps(CONFIG.model_dump(mode="json")),
        contents=lambda wildcards, input: [
            *(f"--tables={path}" for path in input.tables),
            *(f"--figures={path}" for path in input.figures),
            *(f"--dataset={dataset}" for _, dataset in split(PLACES.parts)),
            *(f"--results={folder(path)}" for path in input.maps),
            *(f"--prepared={folder(path)}" for path in input.images),
            f"--graph={input.graph}",
            *(f"--logs={path}" for path in ("logs/data", LOGS)),
        ],
    shell:
        "decodiff report --config {CONFIG_FILE:q} {params.contents:q} --output {output:q} --log {log:q}"
