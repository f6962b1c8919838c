"""Commands that make tables, figures and the report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from decodiff.cli.options import STAGES, Autoencoder, ConfigFile, Dataset, Latents, LogFile, Prepared, app, begin, varied
from decodiff.config import METHOD_FILE, load


@app.command(rich_help_panel=STAGES)
def table(
    name: Annotated[str, typer.Option(help="Which table.")],
    metrics: Annotated[list[Path], typer.Option(help="Metrics of one data set under one model; may be repeated.")],
    output: Annotated[Path, typer.Option(help="The CSV to write; Markdown and LaTeX go beside it.")],
    log: LogFile = None,
) -> None:
    """Make a table as CSV, Markdown and LaTeX."""
    begin(log)
    from decodiff.reporting.main_tables import write_table

    write_table(name, metrics, output)


@app.command(rich_help_panel=STAGES)
def summary(
    metrics: Annotated[list[Path], typer.Option(help="Metrics of one data set under one model; may be repeated.")],
    output: Annotated[Path, typer.Option(help="The JSON to write.")],
    log: LogFile = None,
) -> None:
    """Write the means of all data sets as one JSON."""
    begin(log)
    from decodiff.reporting.measured import write_summary

    write_summary(metrics, output)


@app.command("sweep-table", rich_help_panel=STAGES)
def sweep_table(
    name: Annotated[str, typer.Option(help="Which table.")],
    label: Annotated[list[str], typer.Option(help="What a line is called; once for each --results.")],
    results: Annotated[list[Path], typer.Option(help="Folder of a variant's results; may be repeated.")],
    inference: Annotated[list[Path], typer.Option(help="inference.json of its correction; once for each --results.")],
    training: Annotated[list[Path], typer.Option(help="speed.tsv of its network's training; once for each --results.")],
    baseline: Annotated[str, typer.Option(help="The label that all others are compared with.")],
    floor: Annotated[list[Path], typer.Option(help="Folder of a data set's results without a network; may be repeated.")],
    output: Annotated[Path, typer.Option(help="The CSV to write; Markdown and LaTeX go beside it.")],
    method: Annotated[list[str] | None, typer.Option(help="Name of another method; may be repeated.")] = None,
    method_results: Annotated[list[Path] | None, typer.Option(help="Folder of its results; once for each --method.")] = None,
    log: LogFile = None,
) -> None:
    """Make a table that compares settings, or methods, as CSV, Markdown and LaTeX."""
    begin(log)
    from decodiff.reporting.sweep_tables import Source, write_sweep_table

    sources = [Source(*parts) for parts in zip(label, results, inference, training, strict=True)]
    for other, folder in zip(method or [], method_results or [], strict=True):
        sources.append(Source(other, folder, folder / METHOD_FILE, folder / METHOD_FILE))
    write_sweep_table(name, sources, baseline, floor, output)


@app.command(rich_help_panel=STAGES)
def provenance(
    config: ConfigFile,
    autoencoder: Autoencoder,
    results: Annotated[list[Path], typer.Option(help="Folder of a data set's results under a network; may be repeated.")],
    unet: Annotated[list[Path], typer.Option(help="Folder of that network; once for each --results.")],
    inference: Annotated[list[Path], typer.Option(help="inference.json of its correction; once for each --results.")],
    manifest: Annotated[list[Path], typer.Option(help="Manifest of the data set; once for each --results.")],
    other: Annotated[list[Path], typer.Option(help="Folder of results of the floor or of another method; may be repeated.")],
    other_manifest: Annotated[list[Path], typer.Option(help="Manifest of that data set; once for each --other.")],
    tables: Annotated[list[Path], typer.Option(help="CSV of a table; may be repeated.")],
    output: Annotated[Path, typer.Option(help="The JSON to write.")],
    log: LogFile = None,
) -> None:
    """Record what every number of a run was made of."""
    begin(log)
    from decodiff.reporting.origin import OtherResult, Result, write_provenance

    sources = [Result(*parts) for parts in zip(results, unet, inference, manifest, strict=True)]
    others = [OtherResult(*parts) for parts in zip(other, other_manifest, strict=True)]
    write_provenance(config, autoencoder, [*sources, *others], tables, output)


@app.command(rich_help_panel=STAGES)
def figures(
    config: ConfigFile,
    name: Annotated[list[str], typer.Option(help="Which figure; may be repeated.")],
    dataset: Dataset,
    results: Annotated[Path, typer.Option(help="Folder of the data set's results.")],
    prepared: Prepared,
    latents: Latents,
    unet: Annotated[Path, typer.Option(help="Folder of the trained network.")],
    autoencoder: Autoencoder,
    output: Annotated[Path, typer.Option(help="Folder of what is written: of each figure a PNG and a PDF.")],
    log: LogFile = None,
) -> None:
    """Draw the figures of one data set as PNG and PDF."""
    begin(log)
    from decodiff.reporting.course import Course, step_by_step
    from decodiff.reporting.figures import draw
    from decodiff.reporting.method_figure import method
    from decodiff.reporting.names import DEFECTS_FIGURE, METHOD_FIGURE, SCORES_FIGURE, STEPS_FIGURE
    from decodiff.reporting.score_figures import scores_and_curves, scores_by_defect
    from decodiff.reporting.sources import Part

    sections = load(config).sections("figures")
    part = Part(dataset, results, prepared, sections["image"].crop, sections["evaluation"].protocol)
    course = Course(part, latents, unet, autoencoder, sections["diffusion"], sections["correction"])
    for of in name:
        path = output / f"{of}.png"
        if of == SCORES_FIGURE:
            scores_and_curves(part, path)
        elif of == DEFECTS_FIGURE:
            scores_by_defect(part, path)
        elif of == METHOD_FIGURE:
            method(course, sections["masking"], sections["image"].contrast, sections["seed"], path)
        elif of == STEPS_FIGURE:
            step_by_step(course, path)
        else:
            draw(of, part, path)


@app.command("compare-steps", rich_help_panel=STAGES)
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
    begin(log)
    from decodiff.reporting.course import Course, side_by_side
    from decodiff.reporting.sources import Part

    courses = {}
    for name, folder, network, changes in zip(label, results, unet, variant, strict=True):
        sections = varied(config, changes).sections("figures")
        part = Part(dataset, folder, prepared, sections["image"].crop, sections["evaluation"].protocol)
        courses[name] = Course(part, latents, network, autoencoder, sections["diffusion"], sections["correction"])
    side_by_side(courses, output)


@app.command("accuracy-figure", rich_help_panel=STAGES)
def accuracy_figure(
    table: Annotated[Path, typer.Argument(help="CSV of the table of correction steps.")],
    output: Annotated[Path, typer.Option(help="The PNG to write; the PDF goes beside it.")],
    log: LogFile = None,
) -> None:
    """Draw accuracy over the number of correction steps and over speed."""
    begin(log)
    from decodiff.reporting.sweep_figures import accuracy_by_steps

    accuracy_by_steps(table, output)


@app.command("changes-figure", rich_help_panel=STAGES)
def changes_figure(
    tables: Annotated[list[Path], typer.Argument(help="CSV of a table of settings, once for each sweep.")],
    output: Annotated[Path, typer.Option(help="The PNG to write; the PDF goes beside it.")],
    log: LogFile = None,
) -> None:
    """Draw what the settings of each sweep change."""
    begin(log)
    from decodiff.reporting.sweep_figures import what_settings_change

    what_settings_change(tables, output)


@app.command("compute-figure", rich_help_panel=STAGES)
def compute_figure(
    measured: Annotated[list[Path], typer.Argument(help="What over-compute wrote, once for each data set and scope.")],
    output: Annotated[Path, typer.Option(help="The PNG to write; the PDF goes beside it.")],
    log: LogFile = None,
) -> None:
    """Draw accuracy over the minutes of training."""
    begin(log)
    from decodiff.reporting.compute_figure import accuracy_by_minutes

    accuracy_by_minutes(measured, output)


@app.command("training-curve", rich_help_panel=STAGES)
def training_curve(
    logs: Annotated[list[Path], typer.Argument(help="log.csv of a trained network, once for each seed.")],
    output: Annotated[Path, typer.Option(help="The PNG to write; the PDF goes beside it.")],
    log: LogFile = None,
) -> None:
    """Draw the course of a training."""
    begin(log)
    from decodiff.reporting.training_curve import training_curve as draw

    draw(logs, output)


@app.command(rich_help_panel=STAGES)
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
    begin(log)
    from decodiff.reporting.report import write_report
    from decodiff.reporting.sources import Part

    settings = load(config)
    parts = [
        Part(name, measured, images, settings.image.crop, settings.evaluation.protocol)
        for name, measured, images in zip(dataset, results, prepared, strict=True)
    ]
    write_report(settings.run, config, tables, figures, parts, graph, logs, output)
