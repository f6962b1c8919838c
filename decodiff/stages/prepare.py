"""`prepare`: decode and resize every image and mask once, into one memory-mapped array per split."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from decodiff.data.images import read_mask, read_rgb
from decodiff.data.manifest import Row, read_rows, write_rows
from decodiff.files import writing_array

log = logging.getLogger(__name__)


def resized_mask(mask: Image.Image, side: int, protocol: str) -> np.ndarray:
    """A mask at ``side`` pixels square, uint8 in {0, 1}.

    ``standard`` takes the nearest pixel; ``reference`` interpolates bicubically and calls anything above 0 anomalous, as the
    authors' code does, which grows small defects.
    """
    method = Image.Resampling.NEAREST if protocol == "standard" else Image.Resampling.BICUBIC
    return (np.asarray(mask.resize((side, side), method)) > 0).astype(np.uint8)


def _masks(rows: list[Row], root: Path, side: int, protocol: str, path: Path) -> None:
    with writing_array(path, (len(rows), side, side), np.uint8) as array:
        for position, row in enumerate(rows):
            if row.mask:
                array[position] = resized_mask(read_mask(root / row.mask), side, protocol)


def prepare(manifest: Path, resize: int, output: Path) -> None:
    """Write the arrays of a data set.

    ``<split>_images.npy`` uint8 ``[N,S,S,3]`` and ``<split>.csv`` (rows of the manifest in the array's order) for both splits,
    and ``test_masks_<protocol>.npy`` uint8 ``[N,S,S]`` for both protocols; S is ``resize``.

    Raises:
        InputError: a file of the manifest cannot be read any more.
    """
    rows = read_rows(manifest)
    for split in ("train", "test"):
        chosen = [row for row in rows if row.split == split]
        with writing_array(output / f"{split}_images.npy", (len(chosen), resize, resize, 3), np.uint8) as array:
            for position, row in enumerate(tqdm(chosen, desc=f"resize {split}", unit="image")):
                array[position] = np.asarray(
                    read_rgb(manifest.parent / row.image).resize((resize, resize), Image.Resampling.BILINEAR)
                )
        if split == "test":
            for protocol in ("standard", "reference"):
                _masks(chosen, manifest.parent, resize, protocol, output / f"test_masks_{protocol}.npy")
        write_rows(output / f"{split}.csv", chosen)
        log.info("%s: %d images of %d×%d pixels", split, len(chosen), resize, resize)
