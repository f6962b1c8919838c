"""Reading images and masks as a person would see them."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from decodiff.errors import InputError
from decodiff.files import bytes_sha256

# a picture of more pixels than this is refused as a decompression bomb, before it is decoded; in place of Pillow's own limit,
# which only warns
MAX_PIXELS = 200_000_000
Image.MAX_IMAGE_PIXELS = None
SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".ppm", ".pgm", ".gif", ".jp2"}
# Pillow's readers of these suffixes; others are not asked, as that of EPS runs a program
FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "WEBP", "PPM", "GIF", "JPEG2000")
SIXTEEN_BITS = 65535

# the pictures of one image's mask by their file, in the mode that each is stored in
Mask = dict[Path, Image.Image]


def read_bytes(path: Path) -> bytes:
    """A file's content. Raises `InputError` when it cannot be read."""
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such image; restore it or remove it from the data set") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); check the file") from error
    except ValueError as error:  # a name that no file can have
        raise InputError(f"{path}: cannot be read ({error}); correct the name") from error


def decode(content: bytes, path: Path) -> Image.Image:
    """Decode a whole image file, turned as its EXIF data says; mode as stored. ``path`` is named in messages.

    Raises:
        InputError: truncated, not an image, or too large.
    """
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                raise InputError(
                    f"{path}: {image.width}×{image.height} pixels, more than the {MAX_PIXELS:,} allowed; resize it"
                )
            image.load()
            return ImageOps.exif_transpose(image)
    except (InputError, MemoryError):
        raise
    except Exception as error:  # whatever a damaged or malicious file makes of the reader
        reason = "no picture that can be decoded" if isinstance(error, UnidentifiedImageError) else error
        raise InputError(f"{path}: not a whole image ({reason}); replace the file") from error


def _sixteen_bits(image: Image.Image, path: Path) -> np.ndarray:
    """Values of an image of integers, int64 ``[H,W]`` in [0, 65535]."""
    values = np.asarray(image).astype(np.int64)
    if values.min(initial=0) < 0 or values.max(initial=0) > SIXTEEN_BITS:
        raise InputError(f"{path}: values outside 0 to {SIXTEEN_BITS}; save it with 8 or 16 bits a channel")
    return values


def as_rgb(image: Image.Image, path: Path) -> Image.Image:
    """RGB with 8 bits a channel: 16-bit grey is scaled, not cut; transparent parts are seen on white.

    Raises:
        InputError: the image has floating-point values or another mode that has no agreed look.
    """
    if image.mode.startswith("I"):
        return Image.fromarray(np.round(_sixteen_bits(image, path) / 257).astype(np.uint8)).convert("RGB")
    if image.mode in ("F", "LAB"):
        raise InputError(f"{path}: an image of mode {image.mode}; save it with 8 or 16 bits a channel")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image.convert("RGB")


def squared(image: Image.Image, side: int, filter_name: str) -> np.ndarray:
    """An RGB image of any size at ``side`` pixels square, uint8 ``[S,S,3]``, by the filter of Pillow's that has this name."""
    return np.asarray(image.resize((side, side), Image.Resampling[filter_name.upper()]))


def read_rgb(path: Path, sha256: str | None = None) -> Image.Image:
    """An image file in RGB, see `as_rgb`.

    Raises:
        InputError: it cannot be read, or ``sha256`` is given and the file has another.
    """
    content = read_bytes(path)
    if sha256 is not None and bytes_sha256(content) != sha256:
        raise InputError(f"{path}: changed since its manifest was written; fetch the data set again")
    return as_rgb(decode(content, path), path)


def _picture_area(image: Image.Image, path: Path) -> np.ndarray:
    """Where one picture of a mask marks an anomaly, bool ``[H,W]``; see `mask_area`."""
    if image.mode.startswith("I"):
        values = _sixteen_bits(image, path)
        full = SIXTEEN_BITS if values.max(initial=0) > 255 else 255
    else:
        values, full = np.asarray(image.convert("RGB")).max(axis=2), 255
    # colours of a palette stand for classes
    is_picture = image.mode != "P" and values.max(initial=0) == full
    return values > (full // 2 if is_picture else 0)


def picture_files(folder: Path) -> list[Path]:
    """Image files of a folder, in order, without hidden ones, as macOS puts them beside each image of an archive."""
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES and not path.name.startswith("."))


def mask_files(path: Path) -> list[Path]:
    """The pictures of a mask: the file itself, or those in its folder. Raises `InputError` when the folder holds none."""
    if not path.is_dir():
        return [path]
    parts = picture_files(path)
    if not parts:
        raise InputError(f"{path}: a folder of masks without a mask; add it, or remove the image")
    return parts


def decode_mask(parts: dict[Path, bytes]) -> Mask:
    """The pictures of one image's mask, by their file, as stored.

    Raises:
        InputError: a picture cannot be decoded, or they differ in size.
    """
    mask = {path: decode(content, path) for path, content in parts.items()}
    if len({picture.size for picture in mask.values()}) != 1:
        sizes = ", ".join(f"{path.name} {picture.width}×{picture.height}" for path, picture in mask.items())
        raise InputError(f"{next(iter(mask)).parent}: masks of one image with different sizes ({sizes}); make them the same")
    return mask


def read_mask(path: Path) -> Mask:
    """As `decode_mask`; ``path`` is a picture, or a folder of them."""
    return decode_mask({part: read_bytes(part) for part in mask_files(path)})


def mask_area(mask: Mask) -> np.ndarray:
    """Where a mask marks an anomaly, in any of its pictures: bool ``[H,W]``.

    A picture that reaches full white may have smoothed or compressed edges: the area is what lies above half. One that does
    not, or has a palette, holds class numbers: the area is what lies above 0.

    Raises:
        InputError: a picture holds values that are no 8 or 16 bits.
    """
    return np.logical_or.reduce([_picture_area(picture, path) for path, picture in mask.items()])
