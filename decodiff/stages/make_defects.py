"""`make-defects`: a data set of another's training images, in some of which defects are made, to compare settings on."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

import decodiff
from decodiff.data.images import read_rgb
from decodiff.data.layouts import Entry
from decodiff.data.made_defects import HELD_OUT_SHARE, KINDS, SEED, held_out, made_defect
from decodiff.data.manifest import PROBLEMS_FILE, RECORD, check_entries, count_images, refuse
from decodiff.data.parallel import in_order
from decodiff.data.rows import Row, read_rows, write_rows
from decodiff.errors import InputError
from decodiff.files import alone, read_json, replacing, write_json
from decodiff.seeds import numpy_generator

log = logging.getLogger(__name__)


def _split(rows: list[Row], category: str, name: str, source: Path) -> tuple[list[Row], list[Row]]:
    """A category's training images without those held out and copies of them, and those held out."""
    number = held_out(len(rows))
    if not number:
        raise InputError(
            f"{source}: {len(rows)} training images of category {category!r}; at least {round(1 / HELD_OUT_SHARE)} are needed "
            "to hold one out for made defects"
        )
    order = numpy_generator(SEED, f"{name} held out {category}").permutation(len(rows))
    kept_out = [rows[position] for position in sorted(order[:number])]
    copies = {row.sha256 for row in kept_out}
    return [row for row in rows if row.sha256 not in copies], kept_out


def _mask_of(path: Path) -> Path:
    return path.with_stem(f"{path.stem}_mask")


def _write_defects(
    kept_out: list[Row], trained: list[Row], base: Path, name: str, folder: Path, threads: int | None
) -> dict[str, list[str]]:
    """Make a defect of every kind in each held-out image of a category, as ``<kind>/<number>.png`` with its mask beside it.

    Args:
        kept_out, trained: rows of the category.
        base: folder that the rows' paths begin at.
        name: of the data set.
        folder: where to write.
        threads: images to work on at a time.

    Returns:
        of every kind the images' paths from ``folder``.
    """

    def read(row: Row) -> np.ndarray:
        return np.asarray(read_rgb(base / row.image, row.sha256))

    def another(random: np.random.Generator) -> np.ndarray:
        return read(trained[random.integers(len(trained))])

    def write(item: tuple[int, Row]) -> list[str]:
        (number, row), kinds = item, []
        image = read(row)
        for kind in KINDS:
            made = made_defect(kind, image, another, numpy_generator(SEED, f"{name} {kind} {row.category} {number}"))
            if made is not None:
                path = folder / kind / f"{number:03d}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(made[0]).save(path)
                Image.fromarray(np.where(made[1], 255, 0).astype(np.uint8)).save(_mask_of(path))
                kinds.append(kind)
        return kinds

    paths: dict[str, list[str]] = {kind: [] for kind in KINDS}
    done = in_order(write, enumerate(kept_out), threads)
    for number, kinds in enumerate(tqdm(done, desc="make defects", unit="image", total=len(kept_out))):
        for kind in kinds:
            paths[kind].append(f"{kind}/{number:03d}.png")
    return paths


def make_defects(source: Path, name: str, manifest: Path, threads: int | None = None) -> None:
    """Make a data set of the training images of another, whose test images are neither opened nor listed.

    Of each category a seeded part is held out (`decodiff.data.made_defects.held_out`). The other images are the training set,
    and validation images remain what they are. The test set are those held out, as they are, and each of them with a defect of
    every kind of `decodiff.data.made_defects.KINDS`, which is its ``defect`` in the manifest. What is made lies in ``images``
    beside the manifest, as PNG of the images' own sizes.

    Args:
        source: manifest of the other data set, with ``origin.json`` beside it.
        name: of the data set; another holds out others and makes other defects.
        manifest: the CSV to write.
        threads: images to work on at a time; by default as many as there are cores.

    Raises:
        InputError: a training image is missing, damaged or not the one of its manifest, or a category has too few of them.
    """
    folder, base = manifest.parent, source.parent
    of = read_json(base / RECORD, ("licence", "citation", "homepage"))
    by_category: dict[str, list[Row]] = {}
    validation: dict[str, list[Row]] = {}
    for row in read_rows(source):
        if row.split != "test":
            found = by_category if row.split == "train" else validation
            found.setdefault(row.category, []).append(row)
    if not by_category:
        raise InputError(f"{source}: no training image to make defects in; fetch that data set again")
    entries: list[Entry] = []
    with alone(manifest), replacing(folder / "images") as temporary:
        for number, (category, rows) in enumerate(by_category.items()):
            trained, kept_out = _split(rows, category, name, source)
            for split, part in (("train", trained), ("validation", validation.get(category, [])), ("test", kept_out)):
                entries += [Entry(base / row.image, category, split, 0, "good", None) for row in part]
            # by its number, as a category may be called what no folder can be
            place = f"{number:03d}"
            for kind, paths in _write_defects(kept_out, trained, base, name, temporary / place, threads).items():
                images = [folder / "images" / place / path for path in paths]
                entries += [Entry(path, category, "test", 1, kind, _mask_of(path)) for path in images]
                if left := len(kept_out) - len(images):
                    log.warning(
                        "%s: no visible %s could be made in %d of %d images of %s", name, kind, left, len(kept_out), category
                    )
    content, problems = check_entries(entries, (), folder, folder, threads)
    refuse(problems, folder / PROBLEMS_FILE)
    counts = count_images(content.rows)
    write_json(
        folder / RECORD,
        {"kind": "made", "of": os.path.relpath(source, folder)}
        | {key: of[key] for key in ("licence", "citation", "homepage")}
        | {"counts": vars(counts), "content_sha256": content.sha256, "decodiff": decodiff.__version__},
    )
    write_rows(manifest, content.rows)
    log.info(
        "%s: %d training images, %d images as they are and %d with a made defect in %d categories",
        *(name, counts.train, counts.test_normal, counts.test_anomalous, len({row.category for row in content.rows})),
    )
