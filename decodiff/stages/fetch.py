"""`fetch`: bring a data set here, by generation, download or from where the user has it, and write its manifest."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from decodiff.data import demo
from decodiff.data.download import download, unpack
from decodiff.data.layouts import read_layout
from decodiff.data.manifest import make_manifest
from decodiff.data.registry import REGISTRY
from decodiff.errors import InputError
from decodiff.files import replacing

log = logging.getLogger(__name__)


def write_demo(folder: Path) -> None:
    """Generate the embedded data set in MVTec's layout; the folder appears once it is complete."""
    with replacing(folder) as temporary:
        for category, split, defect, count in tqdm(demo.folders(), desc="generate", unit="folder"):
            images = temporary / category / split / defect
            images.mkdir(parents=True)
            masks = temporary / category / "ground_truth" / defect
            if defect != "good":
                masks.mkdir(parents=True)
            for index in range(count):
                sample = demo.render(category, split, defect, index)
                Image.fromarray(sample.image).save(images / f"{index:03d}.png")
                if defect != "good":
                    mask = np.where(sample.mask, 255, 0).astype(np.uint8)
                    Image.fromarray(mask).save(masks / f"{index:03d}_mask.png")


def _obtain(name: str, source: str | None, folder: Path) -> Path:
    """The folder of the data set's images, made or found."""
    dataset = REGISTRY[name]
    if source is not None:
        if Path(source).is_file():
            unpack(Path(source), folder / "images")
            return folder / "images" / dataset.root
        if not Path(source).is_dir():
            raise InputError(f"data.{name}.source: no folder or archive {source}; get it from {dataset.homepage}")
        return Path(source)
    if dataset.origin == "manual":
        raise InputError(
            f"data.{name}.source: not set, and {dataset.title} cannot be downloaded; get it from {dataset.homepage} "
            "and give the path of its folder"
        )
    if dataset.origin == "generated":
        write_demo(folder / "images")
    else:
        log.info("%s: licence %s; %s", dataset.title, dataset.licence, dataset.citation)
        unpack(download(name, dataset, folder / "archive"), folder / "images")
    return folder / "images" / dataset.root


def fetch(name: str, source: str | None, manifest: Path) -> None:
    """Bring data set ``name`` here and make its manifest.

    Args:
        name: key of the registry.
        source: a folder or archive the user already has; a folder is read where it is.
        manifest: the CSV to write; what is generated, downloaded or unpacked goes beside it.

    Raises:
        InputError: the data set cannot be had, or its files are not as they must be.
    """
    dataset = REGISTRY[name]
    root = _obtain(name, source, manifest.parent)
    rows = make_manifest(read_layout(dataset.layout, root, dataset.categories), dataset.categories, root, manifest)
    train = sum(row.split == "train" for row in rows)
    anomalous = sum(row.label for row in rows)
    log.info(
        "%s: %d training images, %d normal and %d anomalous test images in %d categories",
        *(dataset.title, train, len(rows) - train - anomalous, anomalous, len({row.category for row in rows})),
    )
