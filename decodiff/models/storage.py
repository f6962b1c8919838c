"""Where a training stands, on disk: a state to resume from, written whole or not at all."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import torch

from decodiff.errors import InputError
from decodiff.files import replacing


def save_state(path: Path, state: dict[str, Any]) -> None:
    """Write tensors, numbers and state dicts; nothing that would need code to read back."""
    with replacing(path) as temporary:
        torch.save(state, temporary)


def load_state(path: Path) -> dict[str, Any] | None:
    """Read what `save_state` wrote, executing nothing; None when there is no such file.

    Raises:
        InputError: the file is damaged or holds something else.
    """
    if not path.is_file():
        return None
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, OSError, EOFError, pickle.UnpicklingError) as error:
        raise InputError(
            f"{path}: not a state to resume from ({' '.join(str(error).split())[:120]}); remove it to start anew"
        ) from error
