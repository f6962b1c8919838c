"""`fetch`: bring a data set here, by generation, download or from where the user has it, and write its manifest."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

import decodiff
from decodiff.data import demo
from decodiff.data.archives import is_unpacked, unpack
from decodiff.data.download import download
from decodiff.data.layouts import find_root, installed_folder, left_out, read_layout
from decodiff.data.manifest import PROBLEMS_FILE, RECORD, Content, check_entries, count_images, refuse, shared_images
from decodiff.data.parallel import in_order
from decodiff.data.registry import REGISTRY, Counts, DataSet
from decodiff.data.rows import write_rows
from decodiff.errors import InputError
from decodiff.files import alone, read_json, replacing, sha256, write_json

log = logging.getLogger(__name__)


def write_demo(name: str, folder: Path, threads: int | None = None) -> None:
    """Generate an embedded data set in MVTec's layout, ``threads`` images at a time; the folder appears once it is complete."""

    def write(image: tuple[Path, str, str, str, int]) -> None:
        base, category, split, defect, index = image
        sample = demo.render(category, split, defect, index)
        # without loss, and a third smaller than PNG, which cannot use that the noise is grey
        Image.fromarray(sample.image).save(base / split / defect / f"{index:03d}.webp", lossless=True)
        if defect != "good":
            mask = np.where(sample.mask, 255, 0).astype(np.uint8)
            Image.fromarray(mask).save(base / "ground_truth" / defect / f"{index:03d}_mask.png")

    with replacing(folder) as temporary:
        images = []
        for category, split, defect, count in demo.folders(name):
            base = temporary / category
            (base / split / defect).mkdir(parents=True)
            if defect != "good":
                (base / "ground_truth" / defect).mkdir(parents=True)
            images += [(base, category, split, defect, index) for index in range(count)]
        for _ in tqdm(in_order(write, images, threads), total=len(images), desc="generate", unit="image"):
            pass


def _given(name: str, dataset: DataSet, source: Path, folder: Path) -> Path:
    """What the user has: a folder, read where it is, a list, or an archive, unpacked beside the manifest."""
    if source.is_dir() or (source.is_file() and dataset.layout == "csv"):
        return source
    if not source.is_file():
        raise InputError(f"data.{name}.source: no folder or archive {source}; get it from {dataset.homepage}")
    if dataset.sha256 and _is_published(name) and sha256(source) != dataset.sha256:
        raise InputError(
            f"{source}: not the published archive of {dataset.title} (sha256 differs); get it again from {dataset.homepage}, "
            "or unpack it and give the folder"
        )
    unpack(source, folder / "images")
    return folder / "images"


def _obtain(name: str, kind: str, dataset: DataSet, source: str | None, folder: Path, threads: int | None) -> Path:
    """The folder that holds the data set's images, made or found."""
    images = folder / "images"
    if dataset.origin == "made":
        raise InputError(f"{name}: made of the images of another data set; use `decodiff make-defects` in place of `fetch`")
    if source is not None:
        return _given(name, dataset, Path(source), folder)
    if dataset.origin == "generated":
        write_demo(kind, images, threads)
        return images
    if dataset.origin == "downloaded":
        if not is_unpacked(images, dataset.sha256):
            unpack(download(name, dataset, folder / "archive"), images)
        return images
    if dataset.package is not None:
        found = installed_folder(*dataset.package)
        if found is None:
            extra = next(key for key, value in REGISTRY.items() if value is dataset)
            raise InputError(f"{name}: {dataset.obtain} is not installed; pip install --editable '.[{extra}]'")
        return found
    what = f"{dataset.title} cannot be downloaded by itself; get {dataset.obtain} ({dataset.homepage})"
    if dataset.origin == "own":
        what = f"the images are yours; {dataset.homepage} shows the layout"
    raise InputError(
        f"data.{name}.source: not set: {what}, put it where you like and give the path of the folder or archive, "
        f"as data.{name}.source in the configuration or as --source"
    )


def _is_published(name: str) -> bool:
    """Whether the name promises what its authors published; own images, and data sets under a name of one's own, do not."""
    return name in REGISTRY and REGISTRY[name].origin != "own"


def _all_trained(counts: Counts, held_out: float) -> Counts:
    """What the counts would be had nothing been held out."""
    if not held_out:
        return counts
    return Counts(counts.train + counts.validation, counts.test_normal, counts.test_anomalous)


def _published_problems(name: str, dataset: DataSet, content: Content, held_out: float, record: Path) -> list[str]:
    """Whether the files are those that a published data set's name promises."""
    way_out = f"restore the files, or use them under a name of your own (data.<name>.kind: {name})"
    counts = _all_trained(count_images(content.rows), held_out)
    if dataset.counts and counts != dataset.counts:
        return [f"{name}: {counts} instead of {dataset.counts} as published; {way_out}"]
    if dataset.content_sha256 and content.sha256 != dataset.content_sha256:
        return [f"{name}: the files are not those published (checksum of their contents differs); {way_out}"]
    if record.is_file() and (before := read_json(record).get("content_sha256", content.sha256)) != content.sha256:
        return [f"{name}: the files are not those first used here ({before[:12]} in {record}); remove {record} to accept them"]
    return []


def fetch(
    name: str,
    source: str | None,
    kind: str | None,
    split: str,
    manifest: Path,
    hold_out: float = 0.0,
    threads: int | None = None,
) -> None:
    """Bring data set ``name`` here and make its manifest.

    Args:
        name: of the data set: a key of the registry, or any name with a ``kind``.
        source: a folder or archive (of own images also a CSV) the user already has; a folder is read where it is.
        kind: key of the registry; ``None`` stands for ``name``.
        split: ``all``, or ``released`` to leave out the part of the training images that the authors held out.
        manifest: the CSV to write; what is generated, downloaded or unpacked goes beside it.
        hold_out: part of each category's training images to turn into validation images.
        threads: files to generate or check at a time; by default as many as there are cores.

    Raises:
        InputError: the data set cannot be had, or its files are not as they must be; nothing is written then but the list of
            problems.
    """
    kind = kind or name
    if kind not in REGISTRY:
        known = ", ".join(REGISTRY)
        raise InputError(f"{name}: no such data set; choose one of {known}, or give it a kind in the configuration")
    dataset, folder = REGISTRY[kind], manifest.parent
    record = folder / RECORD
    if not record.is_file() and dataset.origin != "own":
        log.info("%s: licence %s; cite %s", dataset.title, dataset.licence, dataset.citation)
    with alone(manifest):
        root = find_root(dataset.layout, _obtain(name, kind, dataset, source, folder, threads))
    entries = read_layout(dataset.layout, root, dataset.categories)
    held_out = dataset.held_out if split == "released" else hold_out
    if held_out:
        entries = left_out(entries, held_out, f"{kind} {split if split == 'released' else 'hold_out'}")
    home = root.parent if root.is_file() else root
    content, problems = check_entries(entries, dataset.categories, home, folder, threads)
    shared = shared_images(content.rows)
    if not _is_published(name):
        problems += [f"{test}: in the test set, and as {train} in the training set; remove one" for test, train in shared]
    elif not problems:
        problems = _published_problems(name, dataset, content, held_out, record)
    refuse(problems, folder / PROBLEMS_FILE)
    if shared:
        log.warning("%s: %d test images are also training images, as published; first %s and %s", name, len(shared), *shared[0])
    counts = count_images(content.rows)
    write_json(
        record,
        {"kind": kind, "licence": dataset.licence, "citation": dataset.citation, "homepage": dataset.homepage}
        | {"source": source, "split": split, "hold_out": hold_out, "counts": vars(counts), "content_sha256": content.sha256}
        | {"decodiff": decodiff.__version__},
    )
    write_rows(manifest, content.rows)
    log.info(
        "%s: %d training images, %d normal and %d anomalous test images in %d categories",
        *(name, counts.train, counts.test_normal, counts.test_anomalous, len({row.category for row in content.rows})),
    )
