"""The command line: one command per rule of the workflow. It parses, loads the settings a stage may read, and calls it."""

from __future__ import annotations

import json
import logging
import os
import sys
from enum import StrEnum
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from decodiff.config import Config, load
from decodiff.errors import InputError
from decodiff.files import writing
from decodiff.orphans import end_with_snakemake
from decodiff.settings import ResizeFilter

app = typer.Typer(
    name="decodiff",
    help="DeCo-Diff's benchmark, stage by stage. The workflow calls these commands; each can be typed by hand.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

ConfigFile = Annotated[Path, typer.Option("--config", help="Configuration of the run (YAML).")]
Dataset = Annotated[str, typer.Option(help="Name of the data set, as under `data` in the configuration.")]
Scope = Annotated[str, typer.Option(help="Name of the scope, as under `scopes` in the configuration.")]
Seed = Annotated[int, typer.Option(help="Seed of the model.")]
Prepared = Annotated[Path, typer.Option(help="Folder of the prepared data set.")]
Latents = Annotated[Path, typer.Option(help="Folder of the data set's latents.")]
Autoencoder = Annotated[Path, typer.Option(help="Folder of the autoencoder.")]
Output = Annotated[Path, typer.Option(help="Where to write.")]
LogFile = Annotated[Path | None, typer.Option("--log", help="Also write messages to this file.")]
Threads = Annotated[int | None, typer.Option(help="Processor threads to compute with; by default all.")]


Variant = Annotated[
    str, typer.Option(help="Settings in which a variant differs from the configuration, as JSON: '{\"correction.steps\": 4}'.")
]


def _varied(config: Path, variant: str) -> Config:
    try:
        changes = json.loads(variant)
    except ValueError as error:
        raise InputError(f"--variant: not JSON ({error}); expected settings by dotted key") from error
    if not isinstance(changes, dict):
        raise InputError(f"--variant: {variant}; expected settings by dotted key")
    return load(config).varied(changes)


def _begin(log: Path | None, threads: int | None = None) -> None:
    """Messages go to the screen and to the log file; networks compute with the given number of threads.

    Of several processes that torchrun started, the first one speaks, and they share the threads.
    """
    is_first = os.environ.get("RANK", "0") == "0"
    # progress bars: lively on a terminal, a line now and then in a log
    os.environ.setdefault("TQDM_MININTERVAL", "0.2" if sys.stderr.isatty() else "10")
    handlers: list[logging.Handler] = [logging.StreamHandler()]
    if log is not None and is_first:
        with writing(log):
            log.parent.mkdir(parents=True, exist_ok=True)
            handlers.append(logging.FileHandler(log, mode="w", encoding="utf-8"))
        # a log that a full disk does not take is no reason to say more than that
        logging.raiseExceptions = False
    logging.basicConfig(level=logging.WARNING, format="%(message)s", handlers=handlers)
    logging.getLogger("decodiff").setLevel(logging.INFO if is_first else logging.WARNING)
    if threads is not None:
        import torch

        torch.set_num_threads(max(1, threads // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))))


@app.command()
def new(
    folder: Annotated[Path, typer.Argument(help="Folder to write to, which will hold all of the run; it does not exist yet.")],
    images: Annotated[Path, typer.Argument(help="Folder of images of your own; it is left as it is.")],
) -> None:
    """Begin a run on images of your own: write its configuration, say what it will cost and what to type next."""
    from decodiff.new import new as begin

    for line in begin(folder, images):
        typer.echo(line)


@app.command()
def fetch(
    dataset: Annotated[str, typer.Argument(help="Name of the data set; `decodiff datasets` lists those that are known.")],
    config: Annotated[
        Path | None, typer.Option("--config", help="Configuration of the run (YAML), for the data set's settings.")
    ] = None,
    source: Annotated[
        str | None, typer.Option(help="Folder or archive that is here already, in place of the configuration's.")
    ] = None,
    output: Annotated[Path | None, typer.Option(help="Manifest to write; by default data/<name>/manifest.csv.")] = None,
    log: LogFile = None,
    threads: Threads = None,
) -> None:
    """Get a data set, check every file of it and write its manifest."""
    _begin(log)
    from decodiff.stages.fetch import fetch as stage

    unconfigured = {"source": None, "kind": None, "split": "all"}
    settings = load(config).sections("fetch", dataset) if config else unconfigured
    if source is not None:
        settings["source"] = source
    stage(dataset, manifest=output or Path("data", dataset, "manifest.csv"), threads=threads, **settings)


@app.command()
def make_defects(
    source: Annotated[Path, typer.Argument(help="Manifest of the data set in whose training images defects are made.")],
    dataset: Dataset,
    output: Annotated[Path | None, typer.Option(help="Manifest to write; by default data/<name>/manifest.csv.")] = None,
    log: LogFile = None,
    threads: Threads = None,
) -> None:
    """Make a data set of another's training images and defects made in them, to compare settings on."""
    _begin(log)
    from decodiff.stages.make_defects import make_defects as stage

    stage(source, dataset, output or Path("data", dataset, "manifest.csv"), threads)


@app.command()
def prepare(
    manifest: Annotated[Path, typer.Argument(help="Manifest of the data set.")],
    resize: Annotated[int, typer.Option(min=1, help="Side of the prepared images in pixels.")],
    filter_name: Annotated[ResizeFilter, typer.Option("--filter", help="Pillow's filter to resize images with.")] = "bicubic",
    output: Annotated[Path | None, typer.Option(help="Folder; by default prepared-<side> beside the manifest.")] = None,
    log: LogFile = None,
    threads: Threads = None,
) -> None:
    """Decode and resize all images and masks of a data set once."""
    _begin(log)
    from decodiff.stages.prepare import prepare as stage

    stage(manifest, resize, output or manifest.parent / f"prepared-{resize}", threads, filter_name)


@app.command()
def datasets(
    output: Annotated[Path | None, typer.Option(help="Write the catalogue here, as docs/datasets.md is.")] = None,
    prepared: Annotated[
        list[Path] | None, typer.Option(help="Folder of a prepared data set to draw a contact sheet of; may be repeated.")
    ] = None,
) -> None:
    """List the data sets that are known by name, or write their catalogue."""
    _begin(None)
    from decodiff.reporting import catalogue

    if output is None:
        catalogue.show_list()
    else:
        catalogue.write(output, prepared or [])


@app.command()
def autoencoder(
    config: ConfigFile,
    output: Output,
    prepared: Annotated[
        list[Path] | None, typer.Option(help="Folder of a prepared data set to train on; may be repeated.")
    ] = None,
    log: LogFile = None,
    threads: Threads = None,
) -> None:
    """Get the pretrained autoencoder, or train a small one."""
    _begin(log, threads)
    from decodiff.stages.autoencoder import autoencoder as stage

    sections = load(config).sections("autoencoder")
    stage(sections["autoencoder"], sections["image"], sections["seed"], prepared or [], output)


@app.command()
def encode(
    config: ConfigFile,
    dataset: Dataset,
    prepared: Prepared,
    autoencoder: Autoencoder,
    output: Output,
    log: LogFile = None,
    threads: Threads = None,
) -> None:
    """Encode a data set's training images once, in every view its augmentation can show."""
    _begin(log, threads)
    from decodiff.stages.encode import encode as stage

    stage(prepared, autoencoder, output=output, **load(config).sections("encode", dataset))


@app.command("encode-test")
def encode_test(
    config: ConfigFile,
    prepared: Prepared,
    autoencoder: Autoencoder,
    output: Output,
    log: LogFile = None,
    threads: Threads = None,
) -> None:
    """Encode a data set's test and validation images."""
    _begin(log, threads)
    from decodiff.stages.encode import encode_test as stage

    stage(prepared, autoencoder, output=output, **load(config).sections("encode-test"))


@app.command()
def train(
    config: ConfigFile,
    scope: Scope,
    seed: Seed,
    latents: Annotated[list[Path], typer.Option(help="Latents of each data set of the scope, in its order.")],
    prepared: Annotated[list[Path], typer.Option(help="Prepared folder of each data set of the scope, in its order.")],
    output: Output,
    autoencoder: Annotated[
        Path | None, typer.Option(help="Folder of the autoencoder, where images are encoded while training or looked at.")
    ] = None,
    tensorboard: Annotated[Path | None, typer.Option(help="Folder for TensorBoard's files.")] = None,
    variant: Variant = "{}",
    log: LogFile = None,
    threads: Threads = None,
) -> None:
    """Train the network of one scope; under torchrun, by several processes together."""
    _begin(log, threads)
    from decodiff.stages.train import train as stage
    from decodiff.training.data import TrainingSet

    settings = _varied(config, variant)
    sections = settings.sections("train")
    members = settings.members(scope)
    if not len(members) == len(latents) == len(prepared):
        raise InputError(f"scope {scope} has {len(members)} data sets; give --latents and --prepared once for each")
    sets = [
        TrainingSet(name, latents[i], prepared[i], settings.data[name].augmentation, categories)
        for i, (name, categories) in enumerate(members.items())
    ]
    if sections["model"].source != "train":
        raise InputError("model.source: the network is not trained but imported; see decodiff import-reference")
    stage(sets, seed=seed, output=output, autoencoder=autoencoder, tensorboard=tensorboard, **sections)


@app.command("import-reference")
def import_reference(
    weights: Annotated[Path, typer.Argument(help="The authors' checkpoint.")],
    scope: Scope,
    output: Output,
    config: ConfigFile = Path("config/config.yaml"),
    log: LogFile = None,
) -> None:
    """Bring the authors' released weights to a folder in diffusers' format, executing nothing of the file."""
    _begin(log)
    from decodiff.stages.import_reference import import_reference as stage

    settings = load(config)
    stage(weights, settings.members(scope), settings.diffusion, settings.training, output)


@app.command()
def correct(
    config: ConfigFile,
    dataset: Dataset,
    unet: Annotated[Path, typer.Option(help="Folder of the trained network.")],
    latents: Latents,
    prepared: Prepared,
    output: Output,
    variant: Variant = "{}",
    log: LogFile = None,
    threads: Threads = None,
) -> None:
    """Correct the latents of a data set's test images."""
    _begin(log, threads)
    from decodiff.stages.correct import correct as stage

    stage(dataset, unet, latents, prepared, output=output, **_varied(config, variant).sections("correct"))


@app.command()
def score(
    config: ConfigFile,
    corrected: Annotated[Path, typer.Option(help="Folder of the corrected latents.")],
    latents: Latents,
    autoencoder: Autoencoder,
    output: Output,
    variant: Variant = "{}",
    log: LogFile = None,
    threads: Threads = None,
) -> None:
    """Make anomaly maps and image scores."""
    _begin(log, threads)
    from decodiff.stages.score import score as stage

    stage(corrected, latents, autoencoder, output=output, **_varied(config, variant).sections("score"))


@app.command()
def floor(
    config: ConfigFile,
    prepared: Prepared,
    output: Output,
    log: LogFile = None,
) -> None:
    """Make anomaly maps by a method without a network, which others are compared with."""
    _begin(log)
    from decodiff.stages.floor import floor as stage

    stage(prepared, output=output, **load(config).sections("floor"))


@app.command()
def evaluate(
    dataset: Dataset,
    scope: Annotated[str, typer.Option(help="Name of the scope, or of the method whose maps are given.")],
    output: Annotated[Path, typer.Option(help="Folder to write to.")],
    config: Annotated[Path | None, typer.Option("--config", help="Configuration of the run (YAML).")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of the model.")] = None,
    results: Annotated[Path | None, typer.Option(help="Folder with images.csv and anomaly_maps.npy of this project.")] = None,
    prepared: Annotated[Path | None, typer.Option(help="With --results: folder of the prepared data set.")] = None,
    maps: Annotated[
        Path | None, typer.Option(help="Maps of any method: a folder of .npy, .tiff or .png, or a saved batch of anomalib's.")
    ] = None,
    masks: Annotated[
        Path | None, typer.Option(help="With --maps: folder of their masks, or of a prepared data set of the same images.")
    ] = None,
    protocol: Annotated[str, typer.Option(help="With --maps and without --config: standard or reference.")] = "standard",
    log: LogFile = None,
) -> None:
    """Compute all metrics of every category, of this project's maps or of any other method's."""
    _begin(log)
    from decodiff.data.maps import foreign_maps, own_maps
    from decodiff.protocols import PROTOCOLS
    from decodiff.settings import Evaluation
    from decodiff.stages.evaluate import evaluate_maps as stage

    if (results is None) == (maps is None) or (results is None) != (prepared is None) or (maps is None) != (masks is None):
        raise InputError("give --results and --prepared, or --maps and --masks")
    if protocol not in PROTOCOLS:
        raise InputError(f"--protocol: no protocol {protocol!r}; choose one of {', '.join(PROTOCOLS)}")
    evaluation = load(config).evaluation if config else Evaluation(protocol=protocol)
    identity = {"dataset": dataset, "scope": scope, "seed": "" if seed is None else str(seed), "crop": "as given"}
    if maps is not None:
        opened = foreign_maps(maps, masks, dataset, evaluation.protocol)
    elif config is None:
        raise InputError("--config: missing; the maps of --results are measured as the configuration says")
    else:
        image = load(config).image
        identity["crop"] = f"central {image.crop} of {image.resize}"
        opened = own_maps(results, prepared, image.crop, evaluation.protocol)
    stage(opened, evaluation, identity, output)


@app.command("over-compute")
def over_compute(
    config: ConfigFile,
    dataset: Dataset,
    scope: Scope,
    unet: Annotated[list[Path], typer.Option(help="Folder of a network that a training kept; may be repeated.")],
    latents: Latents,
    prepared: Prepared,
    autoencoder: Autoencoder,
    output: Annotated[Path, typer.Option(help="The file to write, its columns separated by tabs.")],
    log: LogFile = None,
    threads: Threads = None,
) -> None:
    """Measure the networks that a training kept on its way: metrics over epochs, steps and seconds."""
    _begin(log, threads)
    from decodiff.stages.over_compute import over_compute as stage

    stage(dataset, scope, unet, latents, prepared, autoencoder, output=output, **load(config).sections("over-compute"))


@app.command()
def curves(
    config: ConfigFile,
    results: Annotated[Path, typer.Option(help="Folder with images.csv and anomaly_maps.npy.")],
    prepared: Prepared,
    output: Annotated[Path, typer.Option(help="Folder to write to.")],
    log: LogFile = None,
) -> None:
    """Compute pixel precision over recall and region overlap over the false-positive rate, by category."""
    _begin(log)
    from decodiff.data.maps import own_maps
    from decodiff.stages.curves import write_curves

    sections = load(config).sections("curves")
    write_curves(own_maps(results, prepared, sections["crop"], sections["protocol"]), output)


@app.command()
def compare(
    first: Annotated[Path, typer.Argument(help="Folder that `decodiff evaluate` wrote to.")],
    second: Annotated[Path, typer.Argument(help="The same for another method on the same images.")],
    output: Annotated[Path, typer.Option(help="The CSV to write.")],
    log: LogFile = None,
) -> None:
    """Write the differences of all metrics between two methods, with their intervals."""
    _begin(log)
    from decodiff.stages.compare import compare as stage

    stage(first, second, output)


@app.command()
def table(
    name: Annotated[str, typer.Option(help="Which table.")],
    metrics: Annotated[list[Path], typer.Option(help="Metrics of one data set under one model; may be repeated.")],
    output: Annotated[Path, typer.Option(help="The CSV to write; Markdown and LaTeX go beside it.")],
    log: LogFile = None,
) -> None:
    """Make a table as CSV, Markdown and LaTeX."""
    _begin(log)
    from decodiff.reporting.main_tables import write_table

    write_table(name, metrics, output)


@app.command()
def summary(
    metrics: Annotated[list[Path], typer.Option(help="Metrics of one data set under one model; may be repeated.")],
    output: Annotated[Path, typer.Option(help="The JSON to write.")],
    log: LogFile = None,
) -> None:
    """Write the means of all data sets as one JSON."""
    _begin(log)
    from decodiff.reporting.measured import write_summary

    write_summary(metrics, output)


@app.command("sweep-table")
def sweep_table(
    name: Annotated[str, typer.Option(help="Which table.")],
    label: Annotated[list[str], typer.Option(help="What a line is called; once for each --results.")],
    results: Annotated[list[Path], typer.Option(help="Folder of a variant's results; may be repeated.")],
    inference: Annotated[list[Path], typer.Option(help="inference.json of its correction; once for each --results.")],
    baseline: Annotated[str, typer.Option(help="The label that all others are compared with.")],
    floor: Annotated[list[Path], typer.Option(help="Folder of a data set's results without a network; may be repeated.")],
    output: Annotated[Path, typer.Option(help="The CSV to write; Markdown and LaTeX go beside it.")],
    log: LogFile = None,
) -> None:
    """Make a table that compares settings as CSV, Markdown and LaTeX."""
    _begin(log)
    from decodiff.reporting.sweep_tables import Source, write_sweep_table

    sources = [Source(*parts) for parts in zip(label, results, inference, strict=True)]
    write_sweep_table(name, sources, baseline, floor, output)


@app.command()
def provenance(
    config: ConfigFile,
    autoencoder: Autoencoder,
    results: Annotated[list[Path], typer.Option(help="Folder of a data set's results under a network; may be repeated.")],
    unet: Annotated[list[Path], typer.Option(help="Folder of that network; once for each --results.")],
    inference: Annotated[list[Path], typer.Option(help="inference.json of its correction; once for each --results.")],
    manifest: Annotated[list[Path], typer.Option(help="Manifest of the data set; once for each --results.")],
    floor: Annotated[list[Path], typer.Option(help="Folder of a data set's results without a network; may be repeated.")],
    floor_manifest: Annotated[list[Path], typer.Option(help="Manifest of that data set; once for each --floor.")],
    tables: Annotated[list[Path], typer.Option(help="CSV of a table; may be repeated.")],
    output: Annotated[Path, typer.Option(help="The JSON to write.")],
    log: LogFile = None,
) -> None:
    """Record what every number of a run was made of."""
    _begin(log)
    from decodiff.reporting.origin import FloorResult, Result, write_provenance

    sources = [Result(*parts) for parts in zip(results, unet, inference, manifest, strict=True)]
    floors = [FloorResult(*parts) for parts in zip(floor, floor_manifest, strict=True)]
    write_provenance(config, autoencoder, [*sources, *floors], tables, output)


@app.command()
def records(run: Annotated[str, typer.Argument(help="Name of a run whose files are here.")]) -> None:
    """Write down in records/ how each file of a run was made, so that copies of the files elsewhere need not be made again."""
    _begin(None)
    from decodiff.records import export

    export(run)


@app.command()
def track(
    config: Annotated[Path, typer.Argument(help="Configuration of a run (YAML), in this repository.")],
    output: Annotated[Path | None, typer.Option(help="The file to write; by default records/<run>/dvc.yaml.")] = None,
) -> None:
    """Have DVC version a run: write the stages that `dvc repro`, `dvc push` and `dvc pull` work on."""
    _begin(None)
    from decodiff.tracking import track as write

    path = write(config, output)
    typer.echo(f"{path}: now `dvc repro {path}` makes the run, and `dvc push` stores it")


@app.command()
def pull() -> None:
    """Bring what DVC's remote has of all runs: as `dvc pull`, with an error of one line."""
    _begin(None)
    from decodiff.tracking import pull as bring

    bring()


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def plan(
    context: typer.Context,
    operations: Annotated[
        float | None, typer.Option(min=1, help="Operations per second of networks where nothing was measured; by default 1e14.")
    ] = None,
) -> None:
    """Say what a run will cost: jobs, GPU hours, the critical path. Takes the options of `snakemake` besides."""
    from decodiff.planning.plan import STATED_OPERATIONS, planned
    from decodiff.planning.show import show

    rate = operations or STATED_OPERATIONS["cuda"]
    show(*planned(context.args, rate), rate)


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def piece(
    context: typer.Context,
    minutes: Annotated[float, typer.Option(min=0.1, help="How long it may take.")] = 9.0,
) -> None:
    """Run `snakemake` for some minutes; the next piece goes on. Takes its options besides; status 75: more is to do."""
    _begin(None)
    from decodiff.pieces import piece as run_piece

    sys.exit(run_piece(context.args, minutes))


@app.command()
def explain(
    table: Annotated[Path, typer.Argument(help="CSV of a table, in results/<run>/tables.")],
    row: Annotated[str, typer.Option(help="Number of the row from 1, or a text that only it holds.")],
    column: Annotated[str, typer.Option(help="Name of the column.")],
) -> None:
    """Say what one number of a table was made of."""
    _begin(None)
    import rich

    from decodiff.reporting.origin import explain as explained

    rich.print_json(data=explained(table, row, column))


@app.command()
def figure(
    config: ConfigFile,
    name: Annotated[str, typer.Option(help="Which figure.")],
    dataset: Dataset,
    results: Annotated[Path, typer.Option(help="Folder of the data set's results.")],
    prepared: Prepared,
    latents: Latents,
    unet: Annotated[Path, typer.Option(help="Folder of the trained network.")],
    autoencoder: Autoencoder,
    output: Annotated[Path, typer.Option(help="The PNG to write; the PDF goes beside it.")],
    log: LogFile = None,
) -> None:
    """Draw a figure as PNG and PDF."""
    _begin(log)
    from decodiff.reporting.names import DEFECTS_FIGURE, METHOD_FIGURE, SCORES_FIGURE, STEPS_FIGURE
    from decodiff.reporting.sources import Part

    sections = load(config).sections("figure")
    part = Part(dataset, results, prepared, sections["image"].crop, sections["evaluation"].protocol)
    if name in (SCORES_FIGURE, DEFECTS_FIGURE):
        from decodiff.reporting.score_figures import scores_and_curves, scores_by_defect

        (scores_and_curves if name == SCORES_FIGURE else scores_by_defect)(part, output)
    elif name in (METHOD_FIGURE, STEPS_FIGURE):
        from decodiff.reporting.course import Course, step_by_step
        from decodiff.reporting.method_figure import method

        course = Course(part, latents, unet, autoencoder, sections["diffusion"], sections["correction"])
        if name == METHOD_FIGURE:
            method(course, sections["masking"], sections["image"].contrast, sections["seed"], output)
        else:
            step_by_step(course, output)
    else:
        from decodiff.reporting.figures import draw

        draw(name, part, output)


@app.command("compare-steps")
def compare_steps(
    config: ConfigFile,
    dataset: Dataset,
    prepared: Prepared,
    latents: Latents,
    autoencoder: Autoencoder,
    label: Annotated[list[str], typer.Option(help="What a line is called; may be repeated.")],
    results: Annotated[list[Path], typer.Option(help="Folder of the data set's results; once for each --label.")],
    unet: Annotated[list[Path], typer.Option(help="Folder of the network behind them; once for each --label.")],
    variant: Annotated[list[str], typer.Option(help="Settings that differ, as JSON; once for each --label.")],
    output: Annotated[Path, typer.Option(help="The PNG to write; the PDF goes beside it.")],
    log: LogFile = None,
) -> None:
    """Draw one image's correction under several networks, step by step, as PNG and PDF."""
    _begin(log)
    from decodiff.reporting.course import Course, side_by_side
    from decodiff.reporting.sources import Part

    courses = {}
    for name, folder, network, changes in zip(label, results, unet, variant, strict=True):
        sections = _varied(config, changes).sections("figure")
        part = Part(dataset, folder, prepared, sections["image"].crop, sections["evaluation"].protocol)
        courses[name] = Course(part, latents, network, autoencoder, sections["diffusion"], sections["correction"])
    side_by_side(courses, output)


@app.command("accuracy-figure")
def accuracy_figure(
    table: Annotated[Path, typer.Argument(help="CSV of the table of correction steps.")],
    output: Annotated[Path, typer.Option(help="The PNG to write; the PDF goes beside it.")],
    log: LogFile = None,
) -> None:
    """Draw accuracy over the number of correction steps and over speed."""
    _begin(log)
    from decodiff.reporting.sweep_figures import accuracy_by_steps

    accuracy_by_steps(table, output)


@app.command("changes-figure")
def changes_figure(
    tables: Annotated[list[Path], typer.Argument(help="CSV of a table of settings, once for each sweep.")],
    output: Annotated[Path, typer.Option(help="The PNG to write; the PDF goes beside it.")],
    log: LogFile = None,
) -> None:
    """Draw what the settings of each sweep change."""
    _begin(log)
    from decodiff.reporting.sweep_figures import what_settings_change

    what_settings_change(tables, output)


@app.command("compute-figure")
def compute_figure(
    measured: Annotated[list[Path], typer.Argument(help="What over-compute wrote, once for each data set and scope.")],
    output: Annotated[Path, typer.Option(help="The PNG to write; the PDF goes beside it.")],
    log: LogFile = None,
) -> None:
    """Draw accuracy over the minutes of training."""
    _begin(log)
    from decodiff.reporting.compute_figure import accuracy_by_minutes

    accuracy_by_minutes(measured, output)


@app.command("training-curve")
def training_curve(
    logs: Annotated[list[Path], typer.Argument(help="log.csv of a trained network, once for each seed.")],
    output: Annotated[Path, typer.Option(help="The PNG to write; the PDF goes beside it.")],
    log: LogFile = None,
) -> None:
    """Draw the course of a training."""
    _begin(log)
    from decodiff.reporting.training_curve import training_curve as draw

    draw(logs, output)


@app.command()
def report(
    config: ConfigFile,
    tables: Annotated[list[Path], typer.Option(help="CSV of a table; may be repeated.")],
    figures: Annotated[list[Path], typer.Option(help="PNG of a figure; may be repeated.")],
    dataset: Annotated[list[str], typer.Option(help="Data set whose test images are shown; may be repeated.")],
    results: Annotated[list[Path], typer.Option(help="Folder of that data set's results; once for each.")],
    prepared: Annotated[list[Path], typer.Option(help="Folder of that data set's prepared images; once for each.")],
    graph: Annotated[Path, typer.Option(help="What `snakemake --rulegraph` printed.")],
    logs: Annotated[list[Path], typer.Option(help="Folder with benchmarks of jobs; may be repeated.")],
    output: Annotated[Path, typer.Option(help="The page to write.")],
    log: LogFile = None,
) -> None:
    """Put everything on one self-contained page."""
    _begin(log)
    from decodiff.reporting.report import write_report
    from decodiff.reporting.sources import Part

    settings = load(config)
    parts = [
        Part(name, *folders, settings.image.crop, settings.evaluation.protocol)
        for name, *folders in zip(dataset, results, prepared, strict=True)
    ]
    write_report(settings.run, config, tables, figures, parts, graph, logs, output)


@app.command()
def publish(
    run: Annotated[str, typer.Argument(help="Name of a finished run, whose results/<run> and models/<run> are here.")],
    output: Output,
    scope: Annotated[str | None, typer.Option(help="Which of the run's models; may be left out where there is one.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of the model; by default the run's first.")] = None,
    push: Annotated[str | None, typer.Option(help="Also upload it to the hub under this id, <owner>/<name>.")] = None,
) -> None:
    """Write a finished run's model as a folder for `predict` and for diffusers, with a model card."""
    _begin(None)
    from decodiff.stages.publish import publish as write
    from decodiff.stages.publish import upload

    write(Path("results") / run, Path("models") / run, output, scope, seed)
    typer.echo(f"{output}: now `decodiff predict {output} IMAGES --output DIR` scores images")
    if push:
        typer.echo(f"uploaded: {upload(output, push)}")


class RowFormat(StrEnum):
    csv = "csv"
    jsonl = "jsonl"


class MapFormat(StrEnum):
    npy = "npy"
    png = "png"
    tiff = "tiff"


@app.command()
def predict(
    model: Annotated[str, typer.Argument(help="Folder that `publish` wrote, or its id on the hub.")],
    images: Annotated[list[str], typer.Argument(help="Images, folders of them, or patterns.")],
    output: Output,
    category: Annotated[
        str | None, typer.Option(help="Of all images; by default the most plausible is chosen for each.")
    ] = None,
    threshold: Annotated[
        float | None, typer.Option(help="Score above which an image is anomalous; by default the model's.")
    ] = None,
    rows: Annotated[RowFormat, typer.Option("--format", help="Of the rows: CSV or JSON Lines.")] = RowFormat.csv,
    maps: Annotated[MapFormat, typer.Option(help="Of the anomaly maps: float32, or 16 bits.")] = MapFormat.npy,
    batch_size: Annotated[int | None, typer.Option(min=1, help="Images at a time; by default the benchmark's.")] = None,
    threads: Threads = None,
    log: LogFile = None,
) -> None:
    """Say of images whether they are anomalous and where: a row, a map and two pictures each. Status 3: some had an error."""
    _begin(log, threads)
    from decodiff.stages.predict import predict as write

    failed = write(model, images, output, category, threshold, rows.value, maps.value, batch_size)
    typer.echo(f"{output}: predictions.{rows.value}, maps, overlays and corrections")
    if failed:
        logging.getLogger("decodiff").error("%d images could not be looked at; the column error says why", failed)
        sys.exit(3)


class GraphFormat(StrEnum):
    onnx = "onnx"
    torchscript = "torchscript"
    openvino = "openvino"


@app.command()
def export(
    model: Annotated[str, typer.Argument(help="Folder that `publish` wrote, or its id on the hub.")],
    output: Output,
    kind: Annotated[GraphFormat, typer.Option("--format", help="Of the graph.")] = GraphFormat.onnx,
) -> None:
    """Write a model as one graph for other runtimes: images in, maps, scores and corrections out."""
    _begin(None)
    from decodiff.stages.export import export as write

    typer.echo(f"{write(model, kind.value, output)}: a graph; model.json beside it says what goes in and comes out")


@app.command("app")
def page(
    model: Annotated[str, typer.Argument(help="Folder that `publish` wrote, or its id on the hub.")],
    predictions: Annotated[
        Path | None, typer.Option(help="Folder that `predict` wrote, to be shown, highest score first.")
    ] = None,
    host: Annotated[
        str, typer.Option(help="Address to listen at; another than this machine's own lets others in.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535)] = 8080,
) -> None:
    """Serve a page on which a dropped image is corrected, step by step. Needs the extra `app`."""
    _begin(None)
    if find_spec("nicegui") is None:
        raise InputError("decodiff app: needs nicegui; install it with `pip install -e '.[app]'`")
    from decodiff.app import serve

    serve(model, predictions, host, port)


def run() -> None:
    """Entry point: a user's mistake is one line and status 1."""
    # diffusers sets its own level when it is imported; it would warn of keys in a configuration that are ours
    os.environ.setdefault("DIFFUSERS_VERBOSITY", "error")
    end_with_snakemake()
    try:
        app()
    except InputError as error:
        logging.getLogger("decodiff").error("error: %s", error)
        sys.exit(1)
