"""Anomaly maps with their masks, read from disk a batch at a time: this project's, or those of any other method."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from decodiff.data.images import decode, mask_area, read_bytes, read_mask
from decodiff.data.layouts import NORMAL_FOLDERS
from decodiff.data.rows import Row, read_positions, read_rows
from decodiff.data.views import cropped
from decodiff.errors import InputError
from decodiff.files import check_stored, read_array
from decodiff.metrics import BATCH_PIXELS, image_scores

NORMAL_DEFECTS = (*NORMAL_FOLDERS, "normal")
# folders that stand between a category and its defects, and say nothing about them
SPLIT_FOLDERS = ("test", "ground_truth")
MASK_SUFFIX = "_mask"
ARRAY_SUFFIXES = (".npy",)
PICTURE_SUFFIXES = (".tif", ".tiff", ".png")
# what anomalib and AUPIMO call the maps and the image files in a saved batch of predictions
BATCH_MAPS = ("anomaly_map", "anomaly_maps", "asmaps")
BATCH_PATHS = ("image_path", "image_paths", "paths")

Read = Callable[[np.ndarray], np.ndarray]
# category, defect and name
Key = tuple[str, str, str]


@dataclass(frozen=True)
class MappedImage:
    """An image that has a map.

    Attributes:
        name: to show, and to tell it from others: its file.
        category, split, defect, label: as of `decodiff.data.rows.Row`.
        has_mask: whether it is known where it is anomalous; true for normal images.
    """

    name: str
    category: str
    split: str
    defect: str
    label: int
    has_mask: bool

    @property
    def key(self) -> Key:
        """The same for maps of different methods: category, defect and the file's name without its suffix."""
        return self.category, self.defect, Path(self.name).stem


@dataclass(frozen=True)
class Maps:
    """Maps and masks of images.

    Attributes:
        images: one for each map.
        where: file or folder of the maps, for messages.
        pixels: of a map.
        maps, masks: give those of some positions, float and bool ``[n,H,W]``.
    """

    images: list[MappedImage]
    where: Path
    pixels: int
    maps: Read
    masks: Read

    def batches(self, positions: np.ndarray) -> Part:
        return Part(self, positions)

    def scores(self, positions: np.ndarray, top_pixels: int) -> np.ndarray:
        """`decodiff.metrics.image_scores`. Raises `InputError` where that refuses a map or mask."""
        scores = np.empty(len(positions))
        start = 0
        for maps, masks in self.batches(positions):
            try:
                scores[start : start + len(maps)] = image_scores([(maps, masks)], top_pixels)
            except ValueError as error:
                first = self.images[positions[start]].name
                raise InputError(
                    f"{self.where}: {error} (counted from {first}); make the maps and masks of one size, without gaps"
                ) from error
            start += len(maps)
        return scores


@dataclass(frozen=True)
class Part:
    """Some images' maps and masks as `decodiff.metrics.Batches`: read anew each time they are gone through."""

    of: Maps
    positions: np.ndarray

    def __iter__(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        length = max(1, BATCH_PIXELS // self.of.pixels)
        for start in range(0, len(self.positions), length):
            part = self.positions[start : start + length]
            yield self.of.maps(part), self.of.masks(part)


def _of_row(row: Row) -> MappedImage:
    return MappedImage(row.image, row.category, row.split, row.defect, row.label, bool(row.mask) or not row.label)


def _prepared_masks(prepared: Path, protocol: str, side: int, places: np.ndarray) -> Read:
    """Masks of a prepared data set, its central ``side`` pixels; ``places`` are positions in its arrays."""
    path = prepared / f"test_masks_{protocol}.npy"
    whole = read_array(path, (None, None, None)).shape[1]
    if side > whole:
        raise InputError(f"{path}: masks of {whole} pixels a side for maps of {side}; prepare the data set at {side} or more")
    # opened for each batch, so that what was read does not stay mapped
    return lambda positions: cropped(read_array(path, (None, whole, whole))[places[positions]], side).astype(bool)


def own_maps(results: Path, prepared: Path, crop: int, protocol: str) -> Maps:
    """The maps that `score` wrote.

    Args:
        results: folder with ``images.csv`` and ``anomaly_maps.npy``.
        prepared: folder of the prepared data set.
        crop: side of the maps in pixels.
        protocol: which masks.

    Raises:
        InputError: files are missing or damaged, or do not belong together.
    """
    places, rows = read_positions(results / "images.csv")
    path, shape = results / "anomaly_maps.npy", (len(rows), crop, crop)
    read_array(path, shape)
    masks = _prepared_masks(prepared, protocol, crop, places)
    return Maps([_of_row(row) for row in rows], path, crop**2, lambda part: read_array(path, shape)[part], masks)


def _key_of(path: Path, dataset: str) -> Key:
    """Category, defect and name of an image from the path of its map or mask; what the path does not say is the data set's."""
    folders = [part for part in path.parts[:-1] if part not in SPLIT_FOLDERS]
    category, defect = [dataset, *folders][-2:] if folders else (dataset, "")
    return category, defect, path.stem.removesuffix(MASK_SUFFIX)


def _files(folder: Path, dataset: str) -> dict[Key, Path]:
    """Arrays and pictures below a folder by their `_key_of`. Raises `InputError` for none, or for two of one key."""
    found: dict[Key, Path] = {}
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in ARRAY_SUFFIXES + PICTURE_SUFFIXES and path.is_file():
            key = _key_of(path.relative_to(folder), dataset)
            if key in found:
                raise InputError(f"{path}: of the same category, defect and name as {found[key]}; keep one of them")
            found[key] = path
    if not found:
        raise InputError(f"{folder}: no map or mask; expected files of {', '.join(ARRAY_SUFFIXES + PICTURE_SUFFIXES)}")
    return found


def read_map(path: Path) -> np.ndarray:
    """One map, float ``[H,W]``; of pictures the values as they are. Raises `InputError` when it is not one."""
    if path.suffix.lower() in ARRAY_SUFFIXES:
        array = np.array(read_array(path, (None, None)))
    else:
        array = np.asarray(decode(read_bytes(path), path))
    if array.ndim != 2 or array.dtype.kind not in "fiu":
        raise InputError(f"{path}: {array.dtype} of shape {array.shape}; expected a map of numbers [H,W]")
    return array if array.dtype.kind == "f" else array.astype(np.float32)


def _read_own_mask(path: Path) -> np.ndarray:
    """One mask, bool ``[H,W]``. Raises `InputError` for values besides 0 and 1 (or 0 and 255), or an empty array."""
    if path.suffix.lower() not in ARRAY_SUFFIXES:
        return mask_area(read_mask(path))
    array = read_array(path, (None, None))
    if array.size == 0 or not np.isin(np.unique(array), (0, 1, 255)).all():
        raise InputError(f"{path}: expected a mask of 0 and 1 [H,W], found {array.dtype} of shape {array.shape}")
    return array > 0


def _saved_batch(path: Path, dataset: str) -> tuple[list[Key], list[str], np.ndarray]:
    """Keys, image files and maps ``[N,H,W]`` of a batch saved by ``torch.save``. Nothing of the file is executed."""
    import torch  # here, so that other maps need not wait for it

    try:
        check_stored(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever a damaged or malicious file makes of the reader
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise InputError(f"{path}: cannot be read safely ({reason}); save plain tensors and lists of text") from error
    content = content if isinstance(content, dict) else {}
    maps = next((content[key] for key in BATCH_MAPS if isinstance(content.get(key), torch.Tensor)), None)
    paths = next((content[key] for key in BATCH_PATHS if isinstance(content.get(key), list | tuple)), None)
    if maps is None or paths is None:
        raise InputError(f"{path}: expected a dictionary with {' or '.join(BATCH_MAPS)} and {' or '.join(BATCH_PATHS)}")
    maps = maps[:, 0] if maps.ndim == 4 and maps.shape[1] == 1 else maps
    if maps.ndim != 3 or len(maps) != len(paths):
        raise InputError(f"{path}: maps of shape {tuple(maps.shape)} for {len(paths)} image files; expected [N,H,W], one each")
    names = [str(name) for name in paths]
    try:
        if maps.is_complex() or maps.untyped_storage().nbytes() < maps.numel() * maps.element_size():
            raise ValueError("complex, or one number seen often")
        values = maps.detach().float().numpy()
    except Exception as error:  # sparse, quantised and whatever else a tensor can be
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"{path}: maps that are no plain numbers ({reason}); save them with .float()") from error
    return [_key_of(Path(name), dataset) for name in names], names, values


def _source(maps: Path, dataset: str) -> tuple[list[Key], list[str], tuple[int, ...], Read]:
    """Keys, files and common shape of a folder's or a saved batch's maps, and what reads them."""
    if not maps.is_dir():
        keys, names, arrays = _saved_batch(maps, dataset)
        return keys, names, arrays.shape[1:], lambda part: arrays[part]
    files = _files(maps, dataset)
    paths = list(files.values())
    shape = read_map(paths[0]).shape

    def read(part: np.ndarray) -> np.ndarray:
        return np.stack([_sized(read_map(paths[position]), shape, paths[position]) for position in part])

    return list(files), [str(path) for path in paths], shape, read


def _sized(array: np.ndarray, shape: tuple[int, ...], path: Path) -> np.ndarray:
    if array.shape != shape:
        sizes = ["×".join(map(str, size)) for size in (array.shape, shape)]
        raise InputError(f"{path}: {sizes[0]} pixels, the first map has {sizes[1]}; make all maps and masks the same size")
    return array


def _against_prepared(keys: list[Key], where: Path, prepared: Path) -> tuple[list[MappedImage], np.ndarray]:
    """The prepared test images that maps belong to, and their positions in its arrays."""
    categories = {category for category, *_ in keys}
    images = [_of_row(row) for row in read_rows(prepared / "test.csv")]
    places: dict[Key, int] = {}
    for place, image in enumerate(images):
        other = images[places[image.key]] if image.key in places else None
        if other and other.split == image.split:
            raise InputError(f"{prepared}: two test images of one name, {image.name}; maps cannot be told apart by it")
        # an image held out may be called as a test image is
        if not other or image.split == "test":
            places[image.key] = place
    unknown = [key for key in keys if key not in places]
    if unknown:
        raise InputError(f"{where}: a map of {'/'.join(unknown[0])}, which is no test image of {prepared}; remove it")
    given = set(keys)
    expected = [image for image in images if image.split == "test" and image.category in categories]
    missing = [image.name for image in expected if image.key not in given]
    if missing:
        raise InputError(f"{where}: {len(keys)} maps, but none of {missing[0]}; give one for each test image")
    chosen = np.array([places[key] for key in keys])
    return [images[place] for place in chosen], chosen


def _against_folder(
    keys: list[Key], names: list[str], shape: tuple[int, ...], masks: Path, dataset: str
) -> tuple[list[MappedImage], Read]:
    """The images that maps speak of, labelled by their masks, and what reads the masks."""
    known = _files(masks, dataset)
    unmasked = [key for key in keys if key not in known]
    without = [key for key in unmasked if key[1] not in NORMAL_DEFECTS]
    if without or len(known) + len(unmasked) != len(keys):
        which = f"; no mask of {'/'.join(filter(None, without[0]))}" if without else ""
        needed = len(keys) - len(unmasked) + len(without)
        raise InputError(f"{masks}: {len(known)} masks for {needed} maps{which}; give one for each")

    def read(part: np.ndarray) -> np.ndarray:
        chosen = [known.get(keys[position]) for position in part]
        return np.stack([_sized(_read_own_mask(path), shape, path) if path else np.zeros(shape, bool) for path in chosen])

    labels = [int(read(np.array([position])).any()) for position in range(len(keys))]
    if not any(labels):
        raise InputError(f"{masks}: no mask has an anomalous pixel, so there is nothing to measure; check the masks")
    images = [
        MappedImage(name, category, "test", defect or ("anomalous" if label else NORMAL_DEFECTS[0]), label, True)
        for name, (category, defect, _), label in zip(names, keys, labels)
    ]
    return images, read


def foreign_maps(maps: Path, masks: Path, dataset: str, protocol: str) -> Maps:
    """Maps of any other method.

    Args:
        maps: a folder of ``[<category>/][test/]<defect>/<name>`` with ``.npy``, ``.tiff`` or ``.png`` maps ``[H,W]``, or a
            file of ``torch.save`` with tensors and image files as anomalib's predictions have them.
        masks: a folder of masks of the same names (``_mask`` may follow), which images in a folder ``good`` need not have; or
            the folder of a prepared data set, whose masks were resized under the protocol and are cropped to the maps.
        dataset: category of what lies in no category's folder.
        protocol: which masks of a prepared data set.

    Raises:
        InputError: maps and masks do not belong together, differ in size, or cannot be read.
    """
    for path in (maps, masks):
        if not path.exists():
            raise InputError(f"{path}: no such file or folder; check the path")
    keys, names, shape, read_maps = _source(maps, dataset)
    if not (masks / "test.csv").is_file():
        images, read_masks = _against_folder(keys, names, shape, masks, dataset)
    elif shape[0] != shape[1]:
        raise InputError(f"{maps}: maps of {shape[0]}×{shape[1]} pixels; those of a prepared data set are square")
    else:
        images, places = _against_prepared(keys, maps, masks)
        read_masks = _prepared_masks(masks, protocol, shape[0], places)
    return Maps(images, maps, int(np.prod(shape)), read_maps, read_masks)
