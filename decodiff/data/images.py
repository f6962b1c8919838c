"""Reading images and masks as a person would see them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from decodiff.errors import InputError

# a picture of more pixels than this is refused as a decompression bomb, before it is decoded; in place of Pillow's own limit,
# which only warns
MAX_PIXELS = 200_000_000
Image.MAX_IMAGE_PIXELS = None
SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"}


def open_image(path: Path) -> Image.Image:
    """Decode a whole image file, turned as its EXIF data says; mode as stored.

    Raises:
        InputError: the file is missing, truncated, not an image, or too large.
    """
    try:
        with Image.open(path) as image:
            if image.width * image.height > MAX_PIXELS:
                raise InputError(
                    f"{path}: {image.width}×{image.height} pixels, more than the {MAX_PIXELS:,} allowed; resize it"
                )
            image.load()
            return ImageOps.exif_transpose(image)
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such image; restore it or remove it from the data set") from error
    except (OSError, SyntaxError, ValueError) as error:
        raise InputError(f"{path}: not a whole image ({error}); replace the file") from error


def read_rgb(path: Path) -> Image.Image:
    """An image in RGB, 8 bits a channel; 16-bit grey is scaled, not cut. Raises `InputError` as `open_image`."""
    image = open_image(path)
    if image.mode.startswith("I"):
        values = np.asarray(image, dtype=np.float64)
        image = Image.fromarray(np.round(values / (65535 if values.max() > 255 else 255) * 255).clip(0, 255).astype(np.uint8))
    return image.convert("RGB")


def read_mask(path: Path) -> Image.Image:
    """A mask in mode L: 255 on the anomalous area, else 0. Raises `InputError` as `open_image`.

    A mask that reaches 255 is a picture of the area, at times with smoothed or compressed edges: the area is what lies above
    half. One that does not holds class numbers: the area is what lies above 0.
    """
    values = np.asarray(open_image(path).convert("L"))
    threshold = 127 if values.max(initial=0) == 255 else 0
    return Image.fromarray(np.where(values > threshold, 255, 0).astype(np.uint8))
