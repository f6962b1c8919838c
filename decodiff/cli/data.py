"""Commands that get data sets ready."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from decodiff.cli.options import RUNS, STAGES, Dataset, LogFile, Threads, app, begin
from decodiff.config import load
from decodiff.settings import Pose, ResizeFilter


@app.command(rich_help_panel=RUNS)
def datasets(
    output: Annotated[Path | None, typer.Option(help="Write the catalogue here, as docs/datasets.md is.")] = None,
    prepared: Annotated[
        list[Path] | None, typer.Option(help="Folder of a prepared data set to draw a contact sheet of; may be repeated.")
    ] = None,
) -> None:
    """List the data sets that are known by name, or write their catalogue."""
    begin(None)
    from decodiff.reporting import catalogue

    if output is None:
        catalogue.show_list()
    else:
        catalogue.write(output, prepared or [])


@app.command(rich_help_panel=RUNS)
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
    begin(log)
    from decodiff.stages.fetch import fetch as stage

    unconfigured = {"source": None, "kind": None, "split": "all"}
    settings = load(config).sections("fetch", dataset) if config else unconfigured
    if source is not None:
        settings["source"] = source
    stage(dataset, manifest=output or Path("data", dataset, "manifest.csv"), threads=threads, **settings)


@app.command(rich_help_panel=STAGES)
def make_defects(
    source: Annotated[Path, typer.Argument(help="Manifest of the data set in whose training images defects are made.")],
    dataset: Dataset,
    output: Annotated[Path | None, typer.Option(help="Manifest to write; by default data/<name>/manifest.csv.")] = None,
    log: LogFile = None,
    threads: Threads = None,
) -> None:
    """Make a data set of another's training images and defects made in them, to compare settings on."""
    begin(log)
    from decodiff.stages.make_defects import make_defects as stage

    stage(source, dataset, output or Path("data", dataset, "manifest.csv"), threads)


@app.command(rich_help_panel=STAGES)
def prepare(
    manifest: Annotated[Path, typer.Argument(help="Manifest of the data set.")],
    resize: Annotated[int, typer.Option(min=1, help="Side of the prepared images in pixels.")],
    filter_name: Annotated[ResizeFilter, typer.Option("--filter", help="Pillow's filter to resize images with.")] = "bicubic",
    pose: Annotated[Pose, typer.Option(help="That images are turned to; `long_axis` is for loose parts.")] = "as_is",
    output: Annotated[Path | None, typer.Option(help="Folder; by default prepared-<side> beside the manifest.")] = None,
    log: LogFile = None,
    threads: Threads = None,
) -> None:
    """Decode and resize all images and masks of a data set once."""
    begin(log)
    from decodiff.stages.prepare import prepare as stage

    stage(manifest, resize, output or manifest.parent / f"prepared-{resize}", threads, filter_name, pose)
