"""Commands for images of one's own: begin a run on them, use what was trained."""

from __future__ import annotations

import logging
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from decodiff.cli.options import OWN_IMAGES, LogFile, Output, Threads, app, begin
from decodiff.errors import InputError
from decodiff.settings import GraphFormat, MapFormat, RowFormat, Runtime


@app.command(rich_help_panel=OWN_IMAGES)
def new(
    folder: Annotated[Path, typer.Argument(help="Folder to write to, which will hold all of the run; it does not exist yet.")],
    images: Annotated[Path, typer.Argument(help="Folder of images of your own; it is left as it is.")],
) -> None:
    """Begin a run on images of your own: write its configuration, say what it will cost and what to type next."""
    from decodiff.new import new as write

    for line in write(folder, images):
        typer.echo(line)


@app.command(rich_help_panel=OWN_IMAGES)
def publish(
    run: Annotated[str, typer.Argument(help="Name of a finished run, whose results/<run> and models/<run> are here.")],
    output: Output,
    scope: Annotated[str | None, typer.Option(help="Which of the run's models; may be left out where there is one.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of the model; by default the run's first.")] = None,
    push: Annotated[str | None, typer.Option(help="Also upload it to the hub under this id, <owner>/<name>.")] = None,
) -> None:
    """Write a finished run's model as a folder for `predict` and for diffusers, with a model card."""
    begin(None)
    from decodiff.stages.publish import publish as write
    from decodiff.stages.publish import upload

    write(Path("results") / run, Path("models") / run, output, scope, seed)
    typer.echo(f"{output}: now `decodiff predict {output} IMAGES --output DIR` scores images")
    if push:
        typer.echo(f"uploaded: {upload(output, push)}")


@app.command(rich_help_panel=OWN_IMAGES)
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
    rows: Annotated[RowFormat, typer.Option("--format", help="Of the rows: CSV or JSON Lines.")] = "csv",
    maps: Annotated[MapFormat, typer.Option(help="Of the anomaly maps: float32, or 16 bits.")] = "npy",
    batch_size: Annotated[int | None, typer.Option(min=1, help="Images at a time; by default the benchmark's.")] = None,
    runtime: Annotated[
        Runtime, typer.Option(help="That computes; torchscript takes seconds to begin and is then the faster.")
    ] = "torch",
    threads: Threads = None,
    log: LogFile = None,
) -> None:
    """Say of images whether they are anomalous and where: a row, a map and two pictures each. Status 3: some had an error."""
    begin(log, threads)
    from decodiff.stages.predict import predict as write

    failed = write(model, images, output, category, threshold, rows, maps, batch_size, runtime)
    typer.echo(f"{output}: predictions.{rows}, maps, overlays and corrections")
    if failed:
        logging.getLogger("decodiff").error("%d images could not be looked at; the column error says why", failed)
        sys.exit(3)


@app.command(rich_help_panel=OWN_IMAGES)
def export(
    model: Annotated[str, typer.Argument(help="Folder that `publish` wrote, or its id on the hub.")],
    output: Output,
    kind: Annotated[GraphFormat, typer.Option("--format", help="Of the graph.")] = "onnx",
) -> None:
    """Write a model as one graph for other runtimes: images in, maps, scores and corrections out."""
    begin(None)
    from decodiff.stages.export import export as write

    typer.echo(f"{write(model, kind, output)}: a graph; model.json beside it says what goes in and comes out")


@app.command("app", rich_help_panel=OWN_IMAGES)
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
    begin(None)
    if find_spec("nicegui") is None:
        raise InputError("decodiff app: needs nicegui; install it with `pip install -e '.[app]'`")
    from decodiff.app import serve

    serve(model, predictions, host, port)
