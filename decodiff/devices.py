"""Which device to compute on, and how precisely."""

from __future__ import annotations

import torch
from accelerate import PartialState


def device() -> torch.device:
    """The device of this process: an accelerator when there is one, as `accelerate` finds it."""
    return PartialState().device


def device_name() -> str:
    """What computes: the accelerator's name, or the processor and its number of threads."""
    if device().type == "cuda":
        return torch.cuda.get_device_name()
    return f"{device().type}, {torch.get_num_threads()} threads"


def precision(mixed_precision: str) -> torch.autocast:
    """A context in which networks compute in float32 (``no``) or, where that is safe, in bfloat16 (``bf16``)."""
    return torch.autocast(device().type, torch.bfloat16, enabled=mixed_precision == "bf16")
