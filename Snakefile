# The entry by the name that Snakemake looks for first; the workflow itself is where other workflows look for it.
include: "workflow/Snakefile"


# which an included file cannot set
workflow.default_target = "all"
