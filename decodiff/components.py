"""The floor: how unlike its category's normal patches each patch of an image is, in whitened principal components.

D is the length of a patch as a vector (3·p² for a side of p pixels), K the number of components that are kept.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from sklearn.decomposition import PCA


@dataclass(frozen=True)
class Components:
    """What normal patches are alike in.

    Attributes:
        mean: of the patches, float64 ``[D]``.
        whitening: a patch less the mean times it has components of mean 0 and variance 1, float64 ``[D,K]``.
    """

    mean: np.ndarray
    whitening: np.ndarray


def _patches(images: np.ndarray, side: int) -> np.ndarray:
    """A view ``[N,H−p+1,W−p+1,3,p,p]`` of all patches of images ``[N,H,W,3]``. Raises `ValueError` when these are smaller."""
    if min(images.shape[1:3]) < side:
        raise ValueError(f"images of {images.shape[2]}×{images.shape[1]} pixels are smaller than a patch of {side}×{side}")
    return sliding_window_view(images, (side, side), axis=(1, 2))


def _vectors(patches: np.ndarray) -> np.ndarray:
    """uint8 ``[…,3,p,p]`` to float64 ``[n,D]``; the scale is of no matter, whitening takes it away."""
    return patches.reshape(-1, np.prod(patches.shape[-3:])).astype(np.float64)


def sampled_patches(
    batches: Iterable[np.ndarray], images: int, side: int, count: int, generator: np.random.Generator
) -> np.ndarray:
    """Some patches of many images, each as likely as another, none twice; all of them where there are no more.

    Args:
        batches: the images uint8 ``[n,H,W,3]``, all of one size, a batch at a time. How they are divided has no effect.
        images: how many there are in all.
        side: of a patch, in pixels.
        count: how many to take.
        generator: draws them.

    Returns:
        float64 ``[n,D]``.

    Raises:
        ValueError: the images are smaller than a patch.
    """
    chosen, parts, start = None, [], 0
    for batch in batches:
        patches = _patches(batch, side)
        per_image = patches.shape[1] * patches.shape[2]
        if chosen is None:
            total = images * per_image
            chosen = np.arange(total) if total <= count else np.sort(generator.choice(total, count, replace=False))
        end = start + len(batch) * per_image
        low, high = np.searchsorted(chosen, (start, end))
        parts.append(_vectors(patches[np.unravel_index(chosen[low:high] - start, patches.shape[:3])]))
        start = end
    return np.concatenate(parts)


def fit(patches: np.ndarray, variance_kept: float) -> Components:
    """The fewest principal components that hold more than a share of the patches' variance, whitened.

    Directions without variance, as between the channels of grey images, are never among them. Patches that are all alike
    have no component.

    Args:
        patches: float64 ``[n,D]``.
        variance_kept: the share, above 0 and below 1.
    """
    if len(patches) < 2 or not np.ptp(patches, axis=0).any():
        return Components(patches[0], np.empty((patches.shape[1], 0)))
    found = PCA(n_components=variance_kept, whiten=True).fit(patches)
    return Components(found.mean_, found.components_.T / np.sqrt(found.explained_variance_))


def anomaly_map(image: np.ndarray, components: Components, side: int) -> np.ndarray:
    """The score of a patch is the mean square of its whitened components, that of a pixel the mean over patches that cover it.

    That mean square is the squared Mahalanobis distance within the components over their number; 0 where there are none.

    Args:
        image: uint8 ``[H,W,3]``.
        components: of its category.
        side: of a patch, in pixels.

    Returns:
        float32 ``[H,W]``, at least 0.

    Raises:
        ValueError: the image is smaller than a patch.
    """
    patches = _patches(image[None], side)[0]
    whitened = (_vectors(patches) - components.mean) @ components.whitening
    scores = np.square(whitened).sum(axis=1).reshape(patches.shape[:2]) / max(1, whitened.shape[1])
    height, width = scores.shape
    total, covering = np.zeros(image.shape[:2]), np.zeros(image.shape[:2])
    for down in range(side):
        for right in range(side):
            inside = np.s_[down : down + height, right : right + width]
            total[inside] += scores
            covering[inside] += 1
    return (total / covering).astype(np.float32)
