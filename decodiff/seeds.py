"""Named seeds: every use of randomness gets a generator of its own from the run's seed and the use's name."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch


def derived_seed(seed: int, name: str) -> int:
    """A 63-bit seed that depends on both arguments; different names give independent streams."""
    digest = hashlib.sha256(f"{seed}/{name}".encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:8], "little") >> 1


def numpy_generator(seed: int, name: str) -> np.random.Generator:
    return np.random.default_rng(derived_seed(seed, name))


def torch_generator(seed: int, name: str) -> torch.Generator:
    """One of the CPU."""
    import torch  # here, so that stages without networks need not wait for it

    return torch.Generator().manual_seed(derived_seed(seed, name))
