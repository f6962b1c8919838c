"""Commands that measure anomaly maps."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from decodiff.cli.options import (
    RUNS,
    STAGES,
    Autoencoder,
    ConfigFile,
    Dataset,
    Latents,
    LogFile,
    Prepared,
    Scope,
    Threads,
    app,
    begin,
)
from decodiff.config import load
from decodiff.errors import InputError


@app.command(rich_help_panel=RUNS)
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
    begin(log)
    from decodiff.data.maps import foreign_maps, own_maps
    from decodiff.protocols import PROTOCOLS
    from decodiff.settings import Evaluation
    from decodiff.stages.evaluate import evaluate_maps as stage
    from decodiff.stages.evaluate import write_unmeasured
    from decodiff.stages.method import failure_of

    if (results is None) == (maps is None) or (results is None) != (prepared is None) or (maps is None) != (masks is None):
        raise InputError("give --results and --prepared, or --maps and --masks")
    if protocol not in PROTOCOLS:
        raise InputError(f"--protocol: no protocol {protocol!r}; choose one of {', '.join(PROTOCOLS)}")
    evaluation = load(config).evaluation if config else Evaluation.model_validate({"protocol": protocol})
    identity = {"dataset": dataset, "scope": scope, "seed": "" if seed is None else str(seed), "crop": "as given"}
    if maps is not None and masks is not None:
        opened = foreign_maps(maps, masks, dataset, evaluation.protocol)
    elif config is None or results is None or prepared is None:
        raise InputError("--config: missing; the maps of --results are measured as the configuration says")
    else:
        image = load(config).image
        identity["crop"] = f"central {image.crop} of {image.resize}"
        if reason := failure_of(results):
            write_unmeasured(f"failed: {reason}", evaluation, identity, output)
            return
        opened = own_maps(results, prepared, image.crop, evaluation.protocol)
    stage(opened, evaluation, identity, output)


@app.command(rich_help_panel=RUNS)
def compare(
    first: Annotated[Path, typer.Argument(help="Folder that `decodiff evaluate` wrote to.")],
    second: Annotated[Path, typer.Argument(help="The same for another method on the same images.")],
    output: Annotated[Path, typer.Option(help="The CSV to write.")],
    log: LogFile = None,
) -> None:
    """Write the differences of all metrics between two methods, with their intervals."""
    begin(log)
    from decodiff.stages.compare import compare as stage

    stage(first, second, output)


@app.command("over-compute", rich_help_panel=STAGES)
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
    begin(log, threads)
    from decodiff.stages.over_compute import over_compute as stage

    stage(dataset, scope, unet, latents, prepared, autoencoder, output=output, **load(config).sections("over-compute"))


@app.command(rich_help_panel=STAGES)
def curves(
    config: ConfigFile,
    results: Annotated[Path, typer.Option(help="Folder with images.csv and anomaly_maps.npy.")],
    prepared: Prepared,
    output: Annotated[Path, typer.Option(help="Folder to write to.")],
    log: LogFile = None,
) -> None:
    """Compute pixel precision over recall and region overlap over the false-positive rate, by category."""
    begin(log)
    from decodiff.data.maps import own_maps
    from decodiff.stages.curves import write_curves

    sections = load(config).sections("curves")
    write_curves(own_maps(results, prepared, sections["crop"], sections["protocol"]), output)
