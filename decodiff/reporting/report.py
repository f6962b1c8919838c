"""`report`: one self-contained page with the run's tables, figures, images and settings."""

from __future__ import annotations

import base64
import io
import logging
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from matplotlib import colormaps
from PIL import Image

from decodiff.errors import InputError
from decodiff.files import read_csv, read_text, write_text
from decodiff.provenance import environment
from decodiff.reporting.drawing import MAP_COLOURS, outlined
from decodiff.reporting.names import COMPUTE_FIGURES, FIGURES, NETWORK_FIGURES, SWEEP_FIGURES
from decodiff.reporting.sources import Part
from decodiff.reporting.tables import CAPTIONS, FURTHER_COLUMNS, HEADINGS, footnotes, printed
from decodiff.reporting.workflow_graph import graph_svg, run_times

log = logging.getLogger(__name__)

# by whether an image is anomalous, and whether it is called so
OUTCOMES = {(True, True): "found", (True, False): "missed", (False, True): "false alarm", (False, False): "passed"}
THUMBNAIL_SIDE = 96
# the best of these at which all strips together stay below the limit, estimated from some of them
JPEG_QUALITIES = (80, 65, 50, 35, 20)
STRIP_BYTES, SAMPLED_STRIPS = 18_000_000, 40


def _data_uri(content: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def _table(path: Path) -> dict[str, Any]:
    """A table's CSV as the template prints it: headings, lines of cells (text, what stands beside it, what sorts it), notes."""
    name = path.stem
    rows = read_csv(path, ("kind", "note"))
    shared = [column for column in ("dataset", "scope") if len({row.get(column) for row in rows}) == 1 and column in rows[0]]
    columns = [
        column
        for column in (rows[0] if rows else {})
        if not column.startswith(FURTHER_COLUMNS) and column not in (*shared, "note")
    ]
    numbers, notes = footnotes([row["note"] for row in rows])
    lines = []
    for row, note in zip(rows, numbers):
        cells = []
        for column in columns:
            if column in HEADINGS:
                text, _, beside = printed(row, column, row["kind"]).partition(" ")
                cells.append({"text": text, "beside": beside, "sort": row[column] or "-2", "number": True})
            else:
                number = row[column].replace(".", "").isdigit()
                cells.append({"text": row[column], "beside": "", "sort": row[column], "number": number})
        cells += [{"text": note, "beside": "", "sort": note, "number": False}] if any(numbers) else []
        lines.append({"cells": cells, "kind": row["kind"]})
    return {
        "name": name,
        "caption": CAPTIONS[name],
        # what all lines share would only make the table wider
        "about": ", ".join(("scope " if column == "scope" else "") + rows[0][column] for column in shared),
        "columns": [
            *({"text": HEADINGS.get(column, column), "number": column in HEADINGS} for column in columns),
            *([{"text": "note", "number": False}] if any(numbers) else []),
        ],
        "lines": lines,
        "notes": notes,
    }


def _strip(part: Part, position: int, quality: int) -> bytes:
    """Input, correction, ground truth and map of one image side by side, as a JPEG."""
    heat = part.maps[position] / part.map_limit
    colours = (colormaps[MAP_COLOURS](heat.clip(0, 1))[..., :3] * 255).astype(np.uint8)
    truth = outlined(part.inputs[position], part.masks[position])
    panels = (part.inputs[position], part.corrections[position], truth, colours)
    pictures = [Image.fromarray(panel).resize((THUMBNAIL_SIDE, THUMBNAIL_SIDE)) for panel in panels]
    strip = Image.new("RGB", (4 * THUMBNAIL_SIDE + 6, THUMBNAIL_SIDE), "white")
    for number, picture in enumerate(pictures):
        strip.paste(picture, (number * (THUMBNAIL_SIDE + 2), 0))
    buffer = io.BytesIO()
    strip.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def _quality(parts: list[Part]) -> int:
    places = [(part, position) for part in parts for position in range(len(part.rows))]
    sample = places[:: max(1, len(places) // SAMPLED_STRIPS)]
    for quality in JPEG_QUALITIES:
        size = sum(len(_strip(part, position, quality)) for part, position in sample) / max(1, len(sample))
        if size * len(places) <= STRIP_BYTES:
            return quality
    return JPEG_QUALITIES[-1]


def _gallery(part: Part, quality: int) -> list[dict[str, str]]:
    """All test images of a part, the highest image score first; the outcome is empty where there is no threshold."""
    alarms = part.alarms
    return [
        {
            "strip": _data_uri(_strip(part, position, quality), "jpeg"),
            "name": Path(row.image).name,
            "dataset": part.title,
            "category": row.category,
            "defect": row.defect,
            "score": f"{part.scores[position]:.3f}",
            "outcome": OUTCOMES.get((bool(part.labels[position]), alarms[position]), ""),
        }
        for position in np.argsort(-part.scores, kind="stable").tolist()
        for row in [part.rows[position]]
    ]


def write_report(
    run: str,
    config: Path,
    tables: list[Path],
    figures: list[Path],
    parts: list[Part],
    graph: Path,
    logs: list[Path],
    output: Path,
) -> None:
    """Write the page.

    Args:
        run: name of the run, for the heading.
        config: the resolved configuration, shown as it is.
        tables: CSVs of tables.
        figures: PNGs of figures, ``…/figures/<scope>/<data set>/<figure>.png``, without what a figure is not about.
        parts: data sets whose test images the gallery shows.
        graph: Snakemake's graph of rules, DOT.
        logs: folders with the benchmarks of the run's jobs.
        output: the page to write.
    """
    try:
        pictures = [
            {
                "name": path.stem,
                "where": " / ".join(path.parts[path.parts.index("figures") + 1 : -1]) or "all",
                "caption": (FIGURES | NETWORK_FIGURES | SWEEP_FIGURES | COMPUTE_FIGURES)[path.stem],
                "image": _data_uri(path.read_bytes(), "png"),
            }
            for path in figures
        ]
    except OSError as error:
        raise InputError(f"{error.filename}: cannot read the figure ({error.strerror}); make it again") from error
    quality = _quality(parts)
    gallery = [entry for part in parts for entry in _gallery(part, quality)]
    template = Environment(
        loader=PackageLoader("decodiff.reporting", "."), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    ).get_template("report.html")
    page = template.render(
        run=run,
        config=config.read_text(encoding="utf-8"),
        tables=[_table(path) for path in tables],
        figures=pictures,
        gallery=gallery,
        categories=list(dict.fromkeys(entry["category"] for entry in gallery)),
        defects=list(dict.fromkeys(entry["defect"] for entry in gallery)),
        outcomes=[name for name in OUTCOMES.values() if any(entry["outcome"] == name for entry in gallery)],
        graph=graph_svg(read_text(graph)),
        jobs=[job for folder in logs for job in run_times(folder)],
        environment=environment(),
        thumbnail=THUMBNAIL_SIDE,
    )
    write_text(output, page)
    log.info(
        "report with %d tables, %d figures and %d images, %.1f MB", len(tables), len(figures), len(gallery), len(page) / 1e6
    )
