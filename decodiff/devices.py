"""Which device to compute on."""

from __future__ import annotations

import torch
from accelerate import PartialState


def device() -> torch.device:
    """The device of this process: an accelerator when there is one, as `accelerate` finds it."""
    return PartialState().device
