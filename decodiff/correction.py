"""Correction of a latent: the deterministic reverse process of DeCo-Diff."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from decodiff.scheduler import Scheduler

Callback = Callable[[int, int, torch.Tensor, torch.Tensor], None]


@torch.no_grad()
def correct(
    model: Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor],
    latent: torch.Tensor,
    category: torch.Tensor,
    scheduler: Scheduler,
    callback: Callback | None = None,
) -> torch.Tensor:
    """Remove from a latent what deviates from normality (DeCo-Diff's reverse process, deterministic, nothing added).

    Args:
        model: the network ``f``, called as ``model(latent, timestep, category)`` with int64 ``[B]`` timestep and category.
        latent: ``scaling · E(x).mean``, float ``[B,C,h,w]``.
        category: category index, int64 ``[B]``.
        scheduler: its ``timesteps`` are the S steps to take.
        callback: called after each step as ``callback(step, timestep, latent, original)`` with the latent after the step and
            the estimate of the corrected latent; both ``[B,C,h,w]``.

    Returns:
        The corrected latent, same shape and dtype as ``latent``.
    """
    for step, timestep in enumerate(scheduler.timesteps.tolist()):
        timesteps = torch.full((latent.shape[0],), timestep, dtype=torch.int64, device=latent.device)
        # diffusers' may give a tuple too, if asked to
        output: Any = scheduler.step(model(latent, timesteps, category), timestep, latent)
        latent = output.prev_sample
        if callback is not None:
            callback(step, timestep, latent, output.pred_original_sample)
    return latent
