"""Commands about a whole run: its cost, its pieces, its numbers, its copies."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from decodiff.cli.options import RUNS, STAGES, app, begin


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True}, rich_help_panel=RUNS)
def plan(
    context: typer.Context,
    operations: Annotated[
        float | None, typer.Option(min=1, help="Operations per second of networks where nothing was measured; by default 1e14.")
    ] = None,
) -> None:
    """Say what a run will cost: jobs, GPU hours, the critical path, disk, memory. Takes the options of `snakemake` besides."""
    from decodiff.planning.plan import STATED_OPERATIONS, planned
    from decodiff.planning.show import show

    rate = operations or STATED_OPERATIONS["cuda"]
    show(*planned(context.args, rate), rate)


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True}, rich_help_panel=RUNS)
def run(context: typer.Context) -> None:
    """Run `snakemake` with one line that says what is done, how far and how long still. Takes its options."""
    from decodiff.progress import run as run_with_line

    sys.exit(run_with_line(context.args))


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True}, rich_help_panel=RUNS)
def piece(
    context: typer.Context,
    minutes: Annotated[float, typer.Option(min=0.1, help="How long it may take.")] = 9.0,
) -> None:
    """Run `snakemake` for some minutes; the next piece goes on. Takes its options besides; status 75: more is to do."""
    begin(None)
    from decodiff.pieces import piece as run_piece

    sys.exit(run_piece(context.args, minutes))


@app.command(rich_help_panel=RUNS)
def explain(
    table: Annotated[Path, typer.Argument(help="CSV of a table, in results/<run>/tables.")],
    row: Annotated[str, typer.Option(help="Number of the row from 1, or a text that only it holds.")],
    column: Annotated[str, typer.Option(help="Name of the column.")],
) -> None:
    """Say what one number of a table was made of."""
    begin(None)
    import rich

    from decodiff.reporting.origin import explain as explained

    rich.print_json(data=explained(table, row, column))


@app.command(rich_help_panel=STAGES)
def records(run: Annotated[str, typer.Argument(help="Name of a run whose files are here.")]) -> None:
    """Write down in records/ how each file of a run was made, so that copies of the files elsewhere need not be made again."""
    begin(None)
    from decodiff.records import export

    export(run)


@app.command(rich_help_panel=RUNS)
def track(
    config: Annotated[Path, typer.Argument(help="Configuration of a run (YAML), in this repository.")],
    output: Annotated[Path | None, typer.Option(help="The file to write; by default records/<run>/dvc.yaml.")] = None,
) -> None:
    """Have DVC version a run: write the stages that `dvc repro`, `dvc push` and `dvc pull` work on."""
    begin(None)
    from decodiff.tracking import track as write

    path = write(config, output)
    typer.echo(f"{path}: now `dvc repro {path}` makes the run, and `dvc push` stores it")


@app.command(rich_help_panel=RUNS)
def pull() -> None:
    """Bring what DVC's remote has of all runs: as `dvc pull`, with an error of one line."""
    begin(None)
    from decodiff.tracking import pull as bring

    bring()
