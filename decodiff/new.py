"""A run on images of one's own: from a folder to a configuration of it, and what to type next."""

from __future__ import annotations

import os
import re
import shlex
import unicodedata
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from decodiff.config import SOURCE, validate
from decodiff.data.images import read_rgb
from decodiff.data.layouts import Entry
from decodiff.data.manifest import PROBLEMS_SHOWN, check_entries, shared_images
from decodiff.data.own_images import OwnImages, only_normal, read_own
from decodiff.data.pose import lie_in_any_direction, placement
from decodiff.data.registry import REGISTRY
from decodiff.data.rows import Row
from decodiff.devices import device
from decodiff.errors import InputError, printable
from decodiff.files import read_text, write_csv, write_text
from decodiff.planning.plan import STATED_OPERATIONS, planned
from decodiff.planning.show import summary

# where the workflow looks for its configuration, from the folder that it works in
CONFIG = Path("config", "config.yaml")
LIST = "images.csv"
LIST_COLUMNS = ("image", "split", "category", "label", "mask", "defect")
SNAKEFILE = SOURCE / "workflow" / "Snakefile"
PROFILE = SOURCE / "profiles" / "default"
GPU = SOURCE / "config" / "gpu.yaml"
# images an epoch of that configuration has, so that its number of epochs means as many steps here
GPU_EPOCH_IMAGES = 2048
# of each category's normal images that train, to choose the threshold on
HOLD_OUT = 0.1
# normal images of a category: of fewer none would be held out
FEWEST = 10
# sides; images are resized to squares
ELONGATED = 2
# normal images that are looked at for how parts lie in them
POSES_SEEN = 40


def _check_folder(folder: Path, images: Path) -> None:
    """Refuse a folder that holds something, or lies among the images."""
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder}: a file; give the name of a new folder")
    if folder.is_dir() and any(folder.iterdir()):
        raise InputError(f"{folder}: not empty; give the name of a new folder")
    if folder.resolve().is_relative_to(images.resolve()):
        raise InputError(f"{folder}: lies in {images}, whose images it is for; give a folder outside")


def _name(folder: Path) -> str:
    """What a run and its data set can be called after a folder."""
    plain = unicodedata.normalize("NFKD", folder.resolve().name).encode("ascii", "ignore").decode()
    name = re.sub(r"[^A-Za-z0-9_-]+", "-", plain).strip("-_") or "own"
    return f"{name}-own" if name in REGISTRY else name


def _checked(images: Path, own: OwnImages) -> list[Row]:
    """Open all images and masks. Raises `InputError`, one line, for what `fetch` would refuse and for too few images."""
    content, problems = check_entries(own.entries, (), images, images)
    shared = shared_images(content.rows)
    problems += [f"{images / test}: the same image as {images / train}; remove one" for test, train in shared]
    normal = Counter(row.category for row in content.rows if not row.label)
    problems += [
        f"{images}: category {category!r} has {normal[category]} normal images; at least {FEWEST} are needed"
        for category in sorted({entry.category for entry in own.entries})
        if normal[category] < FEWEST
    ]
    if problems:
        more = f"; and {len(problems) - PROBLEMS_SHOWN} more" if len(problems) > PROBLEMS_SHOWN else ""
        raise InputError("; ".join(problems[:PROBLEMS_SHOWN]) + more)
    return content.rows


def _recipe(kind: str) -> dict[str, Any]:
    """Settings that fit a kind of device, ``cpu`` or ``cuda``."""
    if kind == "cpu":
        return {"recipe": "small"}
    settings = yaml.safe_load(read_text(GPU))
    chosen = {key: value for key, value in settings.items() if key not in ("run", "data", "scopes", "sweeps")}
    chosen["training"]["epoch_images"] = GPU_EPOCH_IMAGES
    return chosen


def _are_loose(entries: Sequence[Entry]) -> bool:
    """Whether normal images show loose parts that lie in any direction."""
    normal = [entry.image for entry in entries if not entry.label]
    seen = normal[:: max(1, len(normal) // POSES_SEEN)][:POSES_SEEN]
    return lie_in_any_direction([placement(read_rgb(path)) for path in seen])


def _settings(name: str, source: str, own: OwnImages, rows: list[Row], are_loose: bool) -> dict[str, Any]:
    """What a configuration says of the images, with defects made in held-out ones where there are no real ones to test on."""
    data: dict[str, Any] = {"kind": "folder" if own.layout == "mvtec" else own.layout, "source": source}
    if not any(row.split == "validation" for row in rows):
        data["hold_out"] = HOLD_OUT
    if are_loose:
        # what lies one way is not to be mirrored or turned round again
        data |= {"pose": "long_axis", "augmentation": {}}
    if any(row.label for row in rows):
        return {"run": name, "data": {name: data}, "scopes": {"all": [name]}}
    made = f"{name}-made"
    return {"run": name, "data": {name: data, made: {"kind": "made", "of": name}}, "scopes": {"all": [made]}}


def _found(rows: list[Row]) -> list[str]:
    """What there is, a line for each category and one for what to look out for."""
    lines = []
    for category in dict.fromkeys(row.category for row in rows):
        part = [row for row in rows if row.category == category]
        defects = Counter(row.defect for row in part if row.label)
        kinds = f" ({', '.join(f'{defect} {count}' for defect, count in defects.items())})" if defects else ""
        masks = f" with {sum(bool(row.mask) for row in part) or 'no'} masks" if defects else ""
        sizes = sorted({(row.width, row.height) for row in part}, key=lambda size: size[0] * size[1])
        size = " to ".join(f"{width}×{height}" for width, height in dict.fromkeys((sizes[0], sizes[-1])))
        normal = len(part) - defects.total()
        lines.append(f"  {category}: {normal} normal, {defects.total()} anomalous{kinds}{masks}; {size} pixels")
    elongated = sum(max(row.width, row.height) > ELONGATED * min(row.width, row.height) for row in rows)
    if elongated:
        lines.append(f"  more than {ELONGATED} times as long as wide, and distorted into squares: {elongated}")
    return lines


def _listed(entry: Entry) -> dict[str, Any]:
    """A line of the list."""
    paths = {"image": entry.image.absolute(), "mask": entry.mask.absolute() if entry.mask else ""}
    return {column: getattr(entry, column) for column in LIST_COLUMNS} | paths


def _options(folder: Path) -> list[str]:
    """Snakemake's options for a run in the folder."""
    elsewhere = ["--snakefile", str(SNAKEFILE), "--workflow-profile", str(PROFILE)]
    return [*([] if SOURCE.samefile(os.curdir) else elsewhere), "--directory", str(folder)]


def new(folder: Path, images: Path) -> list[str]:
    """Write a configuration for a folder of images, which is left as it is, into a new folder.

    That one then holds all that the run makes. Images that do not lie in MVTec's layout are listed, with their split, in
    ``images.csv`` there.

    Args:
        folder: where to write; it does not exist yet or is empty.
        images: see `decodiff.data.own_images.read_own`.

    Returns:
        lines for the user: what was found, what it will cost, and what to type next.

    Raises:
        InputError: one line, when the images or the folder cannot be used; nothing is written then.
    """
    _check_folder(folder, images)
    own = read_own(images)
    if is_normal := not any(entry.label for entry in own.entries):
        own = OwnImages("csv", own.how, only_normal(own.entries))
    rows = _checked(images, own)
    source = LIST if own.layout == "csv" else str(images.absolute())
    kind = "cpu" if device().type == "cpu" else "cuda"
    are_loose = _are_loose(own.entries)
    settings = _settings(_name(folder), source, own, rows, are_loose) | _recipe(kind)
    validate(settings, str(folder / CONFIG))
    if own.layout == "csv":
        write_csv(folder / LIST, LIST_COLUMNS, map(_listed, own.entries))
    heading = (
        f"# Images of {printable(str(images.absolute()))}; `snakemake --directory <folder above config>` runs it.\n"
        "# config/README.md says what the keys mean, docs/datasets.md how images can lie.\n"
    )
    write_text(folder / CONFIG, heading + yaml.safe_dump(settings, sort_keys=False, allow_unicode=True))
    command = _options(folder)
    plan, _, room = planned(command, STATED_OPERATIONS[kind])
    lines = [f"{images}: {len(rows)} images, {own.how}", *_found(rows)]
    if is_normal:
        lines.append("  none is anomalous: the report will show whether defects made in images held out are found")
    if are_loose:
        lines.append("  loose parts in any direction: they will be turned to one, `pose: long_axis`")
    lines += [
        f"{folder / CONFIG}: {'recipe `small`, as there is no GPU' if kind == 'cpu' else 'settings of config/gpu.yaml'}",
        f"  an estimate: {summary(plan, 'CPU' if kind == 'cpu' else 'GPU')}",
        *(f"  it does not fit here: {problem}" for problem in room.problems(is_here=True)),
        f"next: {shlex.join(['snakemake', *command])}",
        f"then open {folder / 'results' / settings['run'] / 'report.html'}",
    ]
    return [printable(line) for line in lines]
