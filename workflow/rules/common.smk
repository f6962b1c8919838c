# What all rules share: the checked configuration and the places of files.

import json
import os
import shlex
import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError
from snakemake.logging import logger

from decodiff import records
from decodiff.config import FLOOR, METHOD_FILE, check_file, validate, write_config
from decodiff.errors import InputError
from decodiff.fingerprint import code_hash
from decodiff.planning import plan
from decodiff.planning.room import room_of
from decodiff.reporting.names import (
    ACCURACY_FIGURE,
    CHANGES_FIGURE,
    COMPARISON_FIGURE,
    COMPUTE_FIGURE,
    DEFECTS_FIGURE,
    METHOD_FIGURE,
    SCORES_FIGURE,
    STEPS_FIGURE,
    SWEEP_TABLES,
    TABLES,
    TRAINING_CURVE,
)
from decodiff.rules import surprises
from decodiff.rules.places import Places, folder, network_files, split

# networks that were brought here without their data are trained again
RECOMPUTE = config.pop("recompute", "no") == "yes"

try:
    for path in workflow.configfiles:
        check_file(Path(path))
    CONFIG = validate(config)
except InputError as error:
    raise WorkflowError(str(error))

# the environment's own commands, also when it is not activated; they end when this Snakemake does, however it does
shell.prefix(f"export PATH={shlex.quote(os.path.dirname(sys.executable))}:$PATH DECODIFF_STARTED_BY=$PPID; ")

PLACES = Places(CONFIG)
MODELS, RESULTS, LOGS, PREPARED = PLACES.models, PLACES.results, PLACES.logs, PLACES.prepared
CONFIG_FILE = PLACES.config_file

# tasks that compute with networks use all cores there are and hold the one device slot (see the profile)
NETWORK_THREADS = 64


def growing(amount):
    """Memory or wall time of a job: the amount at the first attempt, twice of it at the second, and so on."""
    return lambda wildcards, attempt: amount * attempt


TABLE_SUFFIXES = ("csv", "md", "tex", "json")


def table_files(name):
    """A table's files by their suffix; the CSV also stands in Snakemake's own report."""
    files = {suffix: f"{RESULTS}/tables/{name}.{suffix}" for suffix in TABLE_SUFFIXES}
    return files | {"csv": report(files["csv"], category="Tables", labels={"table": name})}


def figure_files(name):
    """A figure's files by their suffix; the PNG also stands in Snakemake's own report."""
    base = f"{RESULTS}/figures/{name}"
    return {"png": report(f"{base}.png", category="Figures", labels={"figure": name}), "pdf": f"{base}.pdf"}


# what starts a training: several processes by torchrun, on GPUs if there are some
LAUNCHER = f"torchrun --standalone --nproc-per-node {CONFIG.processes} --no-python --" if CONFIG.processes > 1 else ""


wildcard_constraints:
    dataset="|".join(CONFIG.data),
    scope="|".join(CONFIG.scopes),
    seed=r"\d+",
    table="|".join(TABLES),
    sweep_table="|".join(SWEEP_TABLES),
    method="|".join(CONFIG.methods) or "none",
    model="[^/]+",
    correction="[^/]+",
    scoring="[^/]+",


def show_plan():
    """Say what is about to start; on a cluster jobs are taken to have a GPU, here they have what there is."""
    from decodiff.devices import device
    from decodiff.planning.show import summary

    kind = "cpu" if workflow.local_exec and device().type == "cpu" else "cuda"
    planned, _ = plan.plan_of(plan.jobs_of(workflow.dag), CONFIG, plan.STATED_OPERATIONS[kind])
    plan.expected = {estimate.job.name: estimate.seconds for estimate in planned.estimates}
    print(summary(planned, "CPU" if kind == "cpu" else "GPU"), file=sys.stderr)


# What every command is given as --config. It is no rule's output: Snakemake does not look at the settings of a job whose input
# is about to be made again, not even when that input is `ancient`. Each rule watches its own settings instead.
def begin():
    try:
        if not RECOMPUTE:
            surprises.check(workflow, CONFIG.run)
        show_plan()
        write_config(CONFIG, CONFIG_FILE)
    except InputError as error:
        raise WorkflowError(str(error))


onstart:
    begin()


# Where another workflow uses this one as a module, Snakemake leaves out the hook, and looks for what commands name in that one.
if not workflow.modifier.is_main_snakefile():
    workflow._onstart = lambda log: begin()
    workflow.modifier_stack[0].globals.update(CONFIG_FILE=CONFIG_FILE, LAUNCHER=LAUNCHER, FLOOR=FLOOR)


def plan_jobs(build=workflow._build_dag):
    """Have Snakemake plan, and refuse what does not fit. A dry run, which has no hook, says so and goes on: it starts nothing."""
    build()
    # not where a graph or a report is asked for
    if not workflow.executor_plugin or not workflow.is_main_process or workflow.touch:
        return
    # a dry run knows of a cluster by its number of jobs alone
    is_here = workflow.resource_settings.nodes is None if workflow.dryrun else workflow.local_exec
    try:
        problems = room_of(plan.jobs_of(workflow.dag), CONFIG).problems(is_here)
    except InputError as error:
        raise WorkflowError(str(error))
    if problems and not workflow.dryrun:
        raise WorkflowError("; ".join(problems))
    for problem in problems:
        logger.warning(f"This run would not start here: {problem}")


workflow._build_dag = plan_jobs

# for `decodiff plan`
plan.workflow, plan.config = workflow, CONFIG


# A job's own process reads the Snakefile too; the records are of use to the one that plans.
if workflow.is_main_process:
    records.restore([CONFIG.run])
