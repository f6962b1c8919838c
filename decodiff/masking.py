"""Random patch masks and the noise that corrupts what they do not keep."""

from __future__ import annotations

from collections.abc import Sequence

import torch


def sample_patch_side(sides: Sequence[int], probabilities: Sequence[float], generator: torch.Generator) -> int:
    """Draw the patch side of one batch, in latent cells, with the given probabilities."""
    weights = torch.tensor(probabilities, dtype=torch.float64)
    return int(sides[int(torch.multinomial(weights, 1, generator=generator))])


def _kept(batch: int, positions: int, max_ratio: float, generator: torch.Generator) -> torch.Tensor:
    """How many positions stay as they are in each image, ``int(n·(1−r))`` with ``r ~ U(0, max_ratio)``: int64 ``[B]``."""
    ratio = max_ratio * torch.rand(batch, generator=generator, dtype=torch.float64)
    return (positions * (1 - ratio)).to(torch.int64)


def _choose(batch: int, positions: int, counts: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Bool ``[batch, positions]`` with ``counts[i]`` true entries in row i, uniformly chosen."""
    rank = torch.rand(batch, positions, generator=generator).argsort(dim=1).argsort(dim=1)
    return rank < counts[:, None]


def _expand(chosen: torch.Tensor, grid: tuple[int, int], side: int) -> torch.Tensor:
    """Patch flags ``[B, n]`` to cells ``[B, 1, h, w]``."""
    cells = chosen.reshape(len(chosen), 1, *grid)
    return cells.repeat_interleave(side, dim=2).repeat_interleave(side, dim=3)


def sample_mask(
    batch: int, height: int, width: int, patch_side: int, max_ratio: float, generator: torch.Generator
) -> torch.Tensor:
    """Per image, a ratio ``r ~ U(0, max_ratio)`` of the patches is corrupted; ``int(n·(1−r))`` of n stay clean.

    Args:
        batch, height, width: shape of the latents, in cells.
        patch_side: side of a patch in cells; must divide ``height`` and ``width``.
        max_ratio: upper end of the ratio's range, in [0, 1].
        generator: CPU generator of the masks.

    Returns:
        ``M``, float32 ``[B,1,h,w]`` in {0, 1}: 1 = left clean, 0 = corrupted.

    Raises:
        ValueError: the patch side does not divide the latent's sides.
    """
    if height % patch_side or width % patch_side:
        raise ValueError(f"a patch side of {patch_side} does not divide a latent of {height}×{width} cells")
    grid = (height // patch_side, width // patch_side)
    positions = grid[0] * grid[1]
    clean = _kept(batch, positions, max_ratio, generator)
    return _expand(_choose(batch, positions, clean, generator), grid, patch_side).float()


def sample_noise(latent: torch.Tensor, patch_side: int, max_foreign_ratio: float, generator: torch.Generator) -> torch.Tensor:
    """Standard Gaussian noise in which some patches hold clean patches from elsewhere in the batch.

    Per image, a ratio ``u ~ U(0, max_foreign_ratio)`` of the patch positions hold patches of the batch's own clean latents,
    shuffled over all images and positions; ``int(n·(1−u))`` of n are Gaussian, as of the mask so many stay clean.

    Args:
        latent: clean latents, float ``[B,C,h,w]``.
        patch_side: side of a patch in cells; must divide h and w.
        max_foreign_ratio: upper end of the ratio's range, in [0, 1].
        generator: CPU generator of the noise.

    Returns:
        ``ε``, same shape, dtype and device as ``latent``.
    """
    batch, channels, height, width = latent.shape
    grid = (height // patch_side, width // patch_side)
    positions = grid[0] * grid[1]
    noise = torch.randn(latent.shape, generator=generator).to(latent)
    gaussian = _kept(batch, positions, max_foreign_ratio, generator)
    foreign = ~_expand(_choose(batch, positions, gaussian, generator), grid, patch_side)
    order = torch.randperm(batch * positions, generator=generator).to(latent.device)
    patches = latent.reshape(batch, channels, grid[0], patch_side, grid[1], patch_side).permute(0, 2, 4, 1, 3, 5)
    patches = patches.reshape(batch * positions, channels, patch_side, patch_side)[order]
    shuffled = patches.reshape(batch, *grid, channels, patch_side, patch_side).permute(0, 3, 1, 4, 2, 5).reshape(latent.shape)
    return torch.where(foreign.to(latent.device), shuffled, noise)
