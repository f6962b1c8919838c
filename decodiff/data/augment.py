"""Random changes of training images that no finite set of views holds: rotation, mirror image, brightness, contrast."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch.nn import functional

from decodiff.data.views import cropped, to_tensor, view_probabilities, views, with_contrast
from decodiff.settings import Augmentation, Image


def _rotated(image: torch.Tensor, degrees: float) -> torch.Tensor:
    """An image ``[3,S,S]`` turned about its centre, bilinear."""
    angle = math.radians(degrees)
    matrix = torch.tensor([[math.cos(angle), -math.sin(angle), 0.0], [math.sin(angle), math.cos(angle), 0.0]])
    grid = functional.affine_grid(matrix[None], [1, *image.shape], align_corners=False)
    return functional.grid_sample(image[None], grid, mode="bilinear", padding_mode="reflection", align_corners=False)[0]


def _recoloured(image: torch.Tensor, brightness: float, contrast: float) -> torch.Tensor:
    """Values in [-1, 1], seen in [0, 1], times the factor ``contrast``, plus ``brightness``, and clipped.

    That is Albumentations' ``RandomBrightnessContrast``, which the authors' code calls.
    """
    return (contrast * (image + 1) / 2 + brightness).clamp(0, 1) * 2 - 1


def augmented(images: np.ndarray, augmentation: Augmentation, image: Image, generator: torch.Generator) -> torch.Tensor:
    """Random crops for the networks.

    Args:
        images: uint8 ``[B,S,S,3]``, with a margin around the crop that the changes need.
        augmentation: what may change, how far and how often.
        image: its ``crop`` is the side of the result, which is seen in its ``contrast``.
        generator: CPU generator; every image draws the same number of values, whatever becomes of it.

    Returns:
        float32 ``[B,3,crop,crop]``, nominally in [-1, 1].
    """
    known = views(augmentation.max_shift, augmentation.half_turn_probability > 0)
    weights = torch.from_numpy(view_probabilities(known, augmentation.shift_probability, augmentation.half_turn_probability))
    results = []
    for picture in images:
        view = known[int(torch.multinomial(weights, 1, generator=generator))]
        draws = torch.rand(6, generator=generator, dtype=torch.float64).tolist()
        degrees, brightness, contrast = (2 * draw - 1 for draw in draws[:3])
        tensor = to_tensor(picture[None])
        if draws[3] < augmentation.rotation_probability:
            tensor = _rotated(tensor[0], degrees * augmentation.rotation_degrees)[None]
        if draws[4] < augmentation.colour_probability:
            tensor = _recoloured(tensor, brightness * augmentation.brightness, 1 + contrast * augmentation.contrast)
        if draws[5] < augmentation.mirror_probability:
            tensor = tensor.flip(-1)
        # the crop is taken last, so that what turns in from outside is image and not border
        results.append(cropped(tensor.permute(0, 2, 3, 1).numpy(), image.crop, view))
    crops = torch.from_numpy(np.ascontiguousarray(np.concatenate(results))).permute(0, 3, 1, 2).contiguous()
    return with_contrast(crops, image.contrast)
