"""`report`: one self-contained page with the run's tables, figures, images and settings."""

from __future__ import annotations

import base64
import io
import logging
from pathlib import Path

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from matplotlib import colormaps
from PIL import Image

from decodiff.errors import InputError
from decodiff.files import read_csv, write_text
from decodiff.provenance import environment
from decodiff.reporting.drawing import MAP_COLOURS, outlined
from decodiff.reporting.names import FIGURES, NETWORK_FIGURES, SWEEP_FIGURES
from decodiff.reporting.sources import Part
from decodiff.reporting.tables import CAPTIONS, DEVIATION, DIFFERENCE, EMPTY, FURTHER_COLUMNS, HEADINGS, MEASURED

log = logging.getLogger(__name__)

THUMBNAIL_SIDE = 96
JPEG_QUALITY = 80


def _data_uri(content: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def _table(path: Path) -> dict:
    """A table's CSV as the template prints it: heading cells, and lines of (text, number to sort by) cells."""
    name = path.stem
    rows = read_csv(path, ("note",))
    columns = [column for column in (rows[0] if rows else {}) if not column.startswith(FURTHER_COLUMNS) and column != "note"]
    lines = []
    for row in rows:
        cells = []
        for column in columns:
            text = row[column]
            if column in HEADINGS:
                difference = row.get(DIFFERENCE + column, "")
                deviation = row.get(DEVIATION + column, "")
                suffix = f" ± {100 * float(deviation):.1f}" if deviation else ""
                suffix += f" ({100 * float(difference):+.1f})" if difference else ""
                cells.append(
                    {"text": f"{100 * float(text):.1f}{suffix}" if text else EMPTY, "sort": text or "-1", "number": True}
                )
            else:
                cells.append({"text": text, "sort": text, "number": text.isdigit()})
        lines.append({"cells": cells, "note": row["note"], "measured": row.get("kind", MEASURED) == MEASURED})
    return {
        "name": name,
        "caption": CAPTIONS[name],
        "columns": [HEADINGS.get(column, column) for column in columns],
        "lines": lines,
    }


def _strip(part: Part, position: int) -> str:
    """Input, correction, ground truth and map of one image side by side, as a JPEG in a data URI."""
    heat = part.maps[position] / part.map_limit
    colours = (colormaps[MAP_COLOURS](heat.clip(0, 1))[..., :3] * 255).astype(np.uint8)
    truth = outlined(part.inputs[position], part.masks[position])
    panels = (part.inputs[position], part.corrections[position], truth, colours)
    pictures = [Image.fromarray(panel).resize((THUMBNAIL_SIDE, THUMBNAIL_SIDE)) for panel in panels]
    strip = Image.new("RGB", (4 * THUMBNAIL_SIDE + 6, THUMBNAIL_SIDE), "white")
    for number, picture in enumerate(pictures):
        strip.paste(picture, (number * (THUMBNAIL_SIDE + 2), 0))
    buffer = io.BytesIO()
    strip.save(buffer, "JPEG", quality=JPEG_QUALITY)
    return _data_uri(buffer.getvalue(), "jpeg")


def _gallery(part: Part) -> list[dict]:
    """All test images of a part, the highest image score first."""
    return [
        {
            "strip": _strip(part, position),
            "name": Path(row.image).name,
            "dataset": part.title,
            "category": row.category,
            "defect": row.defect,
            "score": f"{part.scores[position]:.3f}",
        }
        for position in np.argsort(-part.scores, kind="stable").tolist()
        for row in [part.rows[position]]
    ]


def write_report(run: str, config: Path, tables: list[Path], figures: list[Path], parts: list[Part], output: Path) -> None:
    """Write the page.

    Args:
        run: name of the run, for the heading.
        config: the resolved configuration, shown as it is.
        tables: CSVs of tables.
        figures: PNGs of figures, ``…/figures/<scope>/<data set>/<figure>.png``, without what a figure is not about.
        parts: data sets whose test images the gallery shows.
        output: the page to write.
    """
    try:
        pictures = [
            {
                "name": path.stem,
                "where": " / ".join(path.parts[path.parts.index("figures") + 1 : -1]) or "all",
                "caption": (FIGURES | NETWORK_FIGURES | SWEEP_FIGURES)[path.stem],
                "image": _data_uri(path.read_bytes(), "png"),
            }
            for path in figures
        ]
    except OSError as error:
        raise InputError(f"{error.filename}: cannot read the figure ({error.strerror}); make it again") from error
    gallery = [entry for part in parts for entry in _gallery(part)]
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
        environment=environment(),
        thumbnail=THUMBNAIL_SIDE,
    )
    write_text(output, page)
    log.info(
        "report with %d tables, %d figures and %d images, %.1f MB", len(tables), len(figures), len(gallery), len(page) / 1e6
    )
