"""`prepare`: decode and resize every image and mask once, into one memory-mapped array per split."""

from __future__ import annotations

import hashlib
import logging
import os
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from decodiff.data.images import Mask, mask_area, mask_files, read_mask, read_rgb, squared
from decodiff.data.parallel import in_order
from decodiff.data.pose import Placement, placement, turned, turned_mask
from decodiff.data.rows import Row, read_rows, write_rows
from decodiff.errors import InputError
from decodiff.files import GrowingArray, alone, read_array, read_json, remove, write_json, writing
from decodiff.protocols import PROTOCOLS
from decodiff.settings import Pose, ResizeFilter

log = logging.getLogger(__name__)

# changes whenever the arrays of the same files would
FORMAT = 3
KEY_FILE = "key.json"
# what is trained on, and what is not: test and validation images
PREPARED_SPLITS = ("train", "test")


def resized_mask(mask: Mask, side: int, protocol: str) -> np.ndarray:
    """A mask at ``side`` pixels square, uint8 ``[S,S]`` in {0, 1}.

    ``standard`` takes the marked area's nearest pixel. ``reference`` does as the authors' code: it interpolates the grey values
    as they are stored, class numbers too, bicubically and calls anything above 0 anomalous. That grows small defects of
    black and white masks, and hardly those of low class numbers, which are rounded to 0 in between.
    """
    method, size = Image.Resampling[PROTOCOLS[protocol].masks.upper()], (side, side)
    if protocol == "reference":
        areas = [np.asarray(picture.convert("L").resize(size, method)) > 0 for picture in mask.values()]
        return np.logical_or.reduce(areas).astype(np.uint8)
    return np.asarray(Image.fromarray(mask_area(mask)).resize(size, method)).astype(np.uint8)


def _mask(row: Row, root: Path, to: Placement | None) -> Mask:
    """What is marked in an image, turned as the image is; nothing of one without a mask."""
    if not row.mask:
        return {Path(row.image): Image.new("L", (row.width, row.height))}
    mask = read_mask(root / row.mask)
    return mask if to is None else {path: turned_mask(picture, to) for path, picture in mask.items()}


def _stamp(path: Path | str) -> list[int]:
    """Size and time of a file's last change. Raises `InputError` when it is gone."""
    try:
        status = os.stat(path)
    except OSError as error:
        raise InputError(f"{path}: no such image; restore it, or fetch the data set again") from error
    return [status.st_size, status.st_mtime_ns]


def _key(rows: list[Row], root: Path, resize: int, filter_name: str, pose: Pose) -> dict[str, int | str]:
    """What the arrays depend on: the rows, size and time of their files, the side, and how images are turned and resized."""
    digest = hashlib.sha256()
    for row in rows:
        masks = mask_files(root / row.mask) if row.mask else []
        # joined as text: this is all that a second start does, and paths as objects would be a third of its time
        files: list[Path | str] = [os.path.join(root, row.image), *masks]
        stamps = [_stamp(path) for path in files]
        digest.update(f"{row} {stamps}\n".encode())
    return {"format": FORMAT, "resize": resize, "filter": filter_name, "pose": pose, "files": digest.hexdigest()}


def _shapes(split: str, count: int, side: int) -> dict[str, tuple[int, ...]]:
    """Arrays of a split by name, with their shapes; images first."""
    masks = {f"test_masks_{protocol}": (count, side, side) for protocol in PROTOCOLS} if split == "test" else {}
    return {f"{split}_images": (count, side, side, 3), **masks}


def _is_complete(output: Path, key: dict[str, int | str], by_split: dict[str, list[Row]], resize: int) -> bool:
    if not (output / KEY_FILE).is_file() or read_json(output / KEY_FILE) != key:
        return False
    try:
        for split, rows in by_split.items():
            for name, shape in _shapes(split, len(rows), resize).items():
                read_array(output / f"{name}.npy", shape)
    except InputError:
        return False
    return all((output / f"{split}.csv").is_file() for split in by_split)


def _fill(
    split: str, rows: list[Row], root: Path, resize: int, filter_name: str, pose: Pose, folder: Path, threads: int | None
) -> None:
    """Write a split's arrays, going on after the images that are there already."""
    with ExitStack() as stack:
        shapes = _shapes(split, len(rows), resize)
        arrays = [GrowingArray(folder / f"{name}.npy", shape, np.uint8) for name, shape in shapes.items()]
        for array in arrays:
            stack.callback(array.close)
        done = min(array.length for array in arrays)
        for array in arrays:
            array.cut(done)

        def items(row: Row) -> list[np.ndarray]:
            image = read_rgb(root / row.image, row.sha256)
            to = None if pose == "as_is" else placement(image)
            parts = [squared(image if to is None else turned(image, to), resize, filter_name)]
            if split == "test":
                mask = _mask(row, root, to)
                parts += [resized_mask(mask, resize, protocol) for protocol in PROTOCOLS]
            return parts

        results = in_order(items, rows[done:], threads)
        for parts in tqdm(results, desc=f"resize {split}", unit="image", total=len(rows), initial=done):
            for array, part in zip(arrays, parts):
                array.append(part)


def prepare(
    manifest: Path,
    resize: int,
    output: Path,
    threads: int | None = None,
    filter_name: ResizeFilter = "bicubic",
    pose: Pose = "as_is",
) -> None:
    """Write the arrays of a data set, unless they are there already.

    ``<split>_images.npy`` uint8 ``[N,S,S,3]`` and ``<split>.csv`` (rows of the manifest in the array's order) for ``train``
    and for ``test``, which holds all that is not trained on (test and validation images); ``test_masks_<protocol>.npy`` uint8
    ``[N,S,S]`` in {0, 1} for both protocols; S is ``resize``. ``key.json`` says what they depend on. The folder appears once it
    is complete; an interrupted run goes on where it stopped.

    Args:
        manifest: of the data set.
        resize: side of the arrays' images in pixels.
        output: folder for the arrays.
        threads: images to decode at a time; by default as many as there are cores.
        filter_name: Pillow's filter that images are resized with; masks are resized as the protocols say.
        pose: that images and masks are turned to before, see `decodiff.settings.Data`.

    Raises:
        InputError: a file of the manifest is missing, damaged, or not the one the manifest was written for.
    """
    rows, root = read_rows(manifest), manifest.parent
    key = _key(rows, root, resize, filter_name, pose)
    trained = [row for row in rows if row.split == "train"]
    by_split = dict(zip(PREPARED_SPLITS, (trained, [row for row in rows if row.split != "train"])))
    partial = output.with_name(f".{output.name}.part")
    with alone(output), writing(output):
        if _is_complete(output, key, by_split, resize):
            log.info("%s: there already", output)
            return
        if not (partial / KEY_FILE).is_file() or read_json(partial / KEY_FILE) != key:
            remove(partial)
            write_json(partial / KEY_FILE, key)
        for split, chosen in by_split.items():
            _fill(split, chosen, root, resize, filter_name, pose, partial, threads)
            write_rows(partial / f"{split}.csv", chosen)
            log.info("%s: %d images of %d×%d pixels, %s", split, len(chosen), resize, resize, filter_name)
        remove(output)
        partial.rename(output)
