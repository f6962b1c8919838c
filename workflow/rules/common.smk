# What all rules share: the checked configuration and the places of files.

import json
import os
import shlex
import sys
from pathlib import Path

from pandas import DataFrame
from snakemake.exceptions import WorkflowError
from snakemake.utils import Paramspace

from decodiff import records
from decodiff.config import FLOOR, check_file, validate, write_config
from decodiff.errors import InputError
from decodiff.fingerprint import code_hash
from decodiff.planning import plan
from decodiff.reporting import trainings
from decodiff.reporting.names import (
    ACCURACY_FIGURE,
    CHANGES_FIGURE,
    COMPARISON_FIGURE,
    COMPUTE_FIGURE,
    DEFECTS_FIGURE,
    FIGURES,
    METHOD_FIGURE,
    SCORES_FIGURE,
    STEPS_FIGURE,
    SWEEP_TABLES,
    TABLES,
    TRAINING_CURVE,
    TRAINING_TABLE,
    run_tables,
)
from decodiff.variants import BASE, LEVELS, combinations, sweep_variants

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

MODELS = f"models/{CONFIG.run}"
RESULTS = f"results/{CONFIG.run}"
LOGS = f"logs/{CONFIG.run}"
PREPARED = f"prepared-{CONFIG.image.resize}"
CONFIG_FILE = f"{RESULTS}/config.yaml"

if CONFIG.diffusion.objective != "deviation":
    # it draws masks and deviations, which standard diffusion has not
    FIGURES = {name: caption for name, caption in FIGURES.items() if name != METHOD_FIGURE}

# the data sets under each scope's model, as <scope>/<data set>
PARTS = [f"{scope}/{dataset}" for scope in CONFIG.scopes for dataset in CONFIG.members(scope)]


def swept(table):
    """The parts that a sweep's table has lines for."""
    return [f"{scope}/{dataset}" for scope, dataset in CONFIG.swept(table)]


# data sets with defects that are made here, in training images of another
MADE_SETS = [dataset for dataset in CONFIG.data if CONFIG.data[dataset].of]

# figures of data sets under models, and of the models that were trained here
FIGURE_FILES = [f"{RESULTS}/figures/{part}/{figure}" for part in PARTS for figure in FIGURES]
if CONFIG.model.source == "train":
    FIGURE_FILES += [f"{RESULTS}/figures/{scope}/{TRAINING_CURVE}" for scope in CONFIG.scopes]

# Variants of the run that its sweeps need: by table, and each distinct combination of names with the settings it changes.
SWEEPS = sweep_variants(CONFIG.sweeps)
COMBINATIONS = combinations(SWEEPS)
SPACE = DataFrame(list(COMBINATIONS), columns=list(LEVELS), dtype=str)
MODEL_VARIANTS = f"{MODELS}/sweeps/{Paramspace(SPACE[['model']]).wildcard_pattern}"
CORRECTION_VARIANTS = f"{RESULTS}/sweeps/{Paramspace(SPACE[['model', 'correction']]).wildcard_pattern}"
SCORING_VARIANTS = f"{RESULTS}/sweeps/{Paramspace(SPACE).wildcard_pattern}"
HAS_BOTH_TRAININGS = bool(trainings.compared({scope: CONFIG.members(scope) for scope in CONFIG.scopes}))
ALL_TABLES = [*run_tables(len({part.split("/")[1] for part in PARTS}), HAS_BOTH_TRAININGS), *SWEEPS]

# epochs after which the trainings of the run itself keep their networks
KEPT_EPOCHS = CONFIG.training.kept_epochs if CONFIG.model.source == "train" else ()
if KEPT_EPOCHS:
    FIGURE_FILES.append(f"{RESULTS}/figures/{COMPUTE_FIGURE}")

if "T2" in SWEEPS:
    FIGURE_FILES += [f"{RESULTS}/figures/{part}/{COMPARISON_FIGURE}" for part in swept("T2")]
if "T4" in SWEEPS:
    FIGURE_FILES.append(f"{RESULTS}/figures/{ACCURACY_FIGURE}")
if SWEEPS:
    FIGURE_FILES.append(f"{RESULTS}/figures/{CHANGES_FIGURE}")

# tasks that compute with networks use all cores there are and hold the one device slot (see the profile)
NETWORK_THREADS = 64


def growing(amount):
    """Memory or wall time of a job: the amount at the first attempt, twice of it at the second, and so on."""
    return lambda wildcards, attempt: amount * attempt


# what starts a training: several processes by torchrun, on GPUs if there are some
LAUNCHER = f"torchrun --standalone --nproc-per-node {CONFIG.processes} --no-python --" if CONFIG.processes > 1 else ""


wildcard_constraints:
    dataset="|".join(CONFIG.data),
    scope="|".join(CONFIG.scopes),
    seed=r"\d+",
    table="|".join(TABLES),
    sweep_table="|".join(SWEEP_TABLES),
    model="[^/]+",
    correction="[^/]+",
    scoring="[^/]+",
    figure="|".join(FIGURES),


def changes(wildcards):
    """What a variant changes of the run's settings, as JSON; of those that share a name at a level any will do."""
    named = {level: wildcards.get(level) for level in LEVELS if wildcards.get(level) is not None}
    if set(named.values()) == {BASE}:
        return "{}"
    return json.dumps(
        next(
            changed
            for names, changed in COMBINATIONS.items()
            if all(dict(zip(LEVELS, names))[level] == name for level, name in named.items())
        )
    )


def settings(stage, dataset=None, changed="{}"):
    """The settings that a stage may read, as Snakemake watches them."""
    sections = CONFIG.varied(json.loads(changed)).sections(stage, dataset)
    plain = {name: value.model_dump(mode="json") if hasattr(value, "model_dump") else value for name, value in sections.items()}
    return json.dumps(plain, sort_keys=True)


def folder(path):
    return os.path.dirname(path)


def prepared_files(dataset):
    """All arrays of a prepared data set."""
    names = ("train_images.npy", "train.csv", "test_images.npy", "test.csv", "test_masks_standard.npy", "test_masks_reference.npy")
    return [f"data/{dataset}/{PREPARED}/{name}" for name in names]


def network_files(base):
    """A network in diffusers' format."""
    return [f"{base}/config.json", f"{base}/diffusion_pytorch_model.safetensors"]


def kept_files(base):
    """The networks that a training keeps on its way, each with its record."""
    folders = [f"{base}/kept/epoch-{epoch:05d}" for epoch in KEPT_EPOCHS]
    return [path for place in folders for path in (*network_files(place), f"{place}/training.json")]


TRAINING_RULES = ("autoencoder", "train", "train_variant")


def is_intended(job):
    """Whether a job is planned because of what the user changed or asked for, not for want of files."""
    reason, memory = workflow.dag.reason(job), workflow.persistence
    changed = [*memory.code_changed(job), *memory.input_changed(job), *reason.updated_input - reason.updated_input_run]
    return reason.forced or bool(memory.params_changed(job)) or bool(changed)


def refuse_surprises():
    """Stop where files were brought here and training would run again only because others were not."""
    known = records.recorded([CONFIG.run])
    if RECOMPUTE or not records.brought(known):
        return
    planned = set(workflow.dag.needrun_jobs())

    def upstream(job):
        return {job}.union(*(upstream(other) for other in workflow.dag.dependencies[job] if other in planned))

    surprising = [
        path
        for job in planned
        if job.rule.name in TRAINING_RULES and not any(map(is_intended, upstream(job)))
        for path in job.output
        if path in known
    ]
    if surprising:
        raise WorkflowError(
            f"{min(surprising)} would be trained again, as files that it was made of are not here. Bring them (`dvc pull`); or "
            "make them again, `snakemake prepared` and then `snakemake encoded`; or train: --config recompute=yes"
        )


def show_plan():
    """Say what is about to start; on a cluster jobs are taken to have a GPU, here they have what there is."""
    from decodiff.devices import device
    from decodiff.planning.show import summary

    kind = "cpu" if workflow.local_exec and device().type == "cpu" else "cuda"
    expected, _ = plan.plan_of(workflow.dag, CONFIG, plan.STATED_OPERATIONS[kind])
    print(summary(expected, "CPU" if kind == "cpu" else "GPU"), file=sys.stderr)


# What every command is given as --config. It is no rule's output: Snakemake does not look at the settings of a job whose input
# is about to be made again, not even when that input is `ancient`. Each rule watches its own settings instead.
onstart:
    refuse_surprises()
    show_plan()
    try:
        write_config(CONFIG, CONFIG_FILE)
    except InputError as error:
        raise WorkflowError(str(error))


# for `decodiff plan`
plan.workflow = workflow


# A job's own process reads the Snakefile too; the records are of use to the one that plans.
if workflow.is_main_process:
    records.restore([CONFIG.run])
