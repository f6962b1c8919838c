# The whole benchmark: download → prepare → autoencoder → encode → train → correct → score → evaluate → tables, figures, report.


if not workflow.configfiles:

    configfile: "config/config.yaml"


include: "workflow/rules/common.smk"
include: "workflow/rules/data.smk"
include: "workflow/rules/models.smk"
include: "workflow/rules/results.smk"
include: "workflow/rules/reporting.smk"
include: "workflow/rules/targets.smk"


rule all:
    default_target: True
    input:
        f"{RESULTS}/report.html",
        f"{RESULTS}/provenance.json",
        f"{RESULTS}/metrics.json",
        [f"{RESULTS}/tables/{table}.{suffix}" for table in PLACES.tables for suffix in TABLE_SUFFIXES],
        [f"{figure}.{suffix}" for figure in PLACES.figures for suffix in ("png", "pdf")],
