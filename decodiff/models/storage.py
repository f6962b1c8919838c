"""Where a training stands, on disk: states to resume from, each written whole or not at all, the last two kept."""

from __future__ import annotations

import logging
import pickle
from pathlib import Path
from typing import Any

import torch

from decodiff.errors import InputError
from decodiff.files import replacing

log = logging.getLogger(__name__)

KEPT = 2


def _read(path: Path) -> dict[str, Any]:
    """Raises `InputError` when the file is damaged or holds what only code could read back."""
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, OSError, EOFError, ValueError, pickle.UnpicklingError) as error:
        raise InputError(
            f"{path}: not a state to resume from ({' '.join(str(error).split())[:120]}); remove it to start anew"
        ) from error


class States:
    """The states of one training: files ``<name>-state-<step>.pt`` beside its output ``<name>``.

    Args:
        output: folder that the training will write when it is done.
        inputs: what a state must have been made from to be resumed: settings and data.
    """

    def __init__(self, output: Path, inputs: Any):
        self.output, self.inputs = output, inputs

    def _files(self) -> list[Path]:
        """From the newest to the oldest."""
        return sorted(self.output.parent.glob(f"{self.output.name}-state-*.pt"), reverse=True)

    def save(self, step: int, state: dict[str, Any]) -> None:
        """Write tensors, numbers and state dicts; then remove all but the last two.

        Raises:
            InputError: the disk does not take it; the states before it are kept.
        """
        path = self.output.with_name(f"{self.output.name}-state-{step:09d}.pt")
        try:
            with replacing(path) as temporary:
                torch.save({**state, "inputs": self.inputs}, temporary)
        except (OSError, RuntimeError) as error:
            raise InputError(
                f"{path}: cannot be written ({' '.join(str(error).split())[:120]}); the state before it is kept, make room and "
                "run again"
            ) from error
        for old in self._files()[KEPT:]:
            old.unlink()

    def load(self) -> dict[str, Any] | None:
        """The newest state that can be read and was made from the same inputs; None when there is none.

        Raises:
            InputError: there are states, but all are damaged.
        """
        damaged = None
        for path in self._files():
            try:
                state = _read(path)
            except InputError as error:
                log.warning("%s", error)
                damaged = damaged or error
                continue
            return state if state.pop("inputs") == self.inputs else None
        if damaged is not None:
            raise damaged
        return None

    def clear(self) -> None:
        """Remove all states, once the result is safe."""
        for path in self._files():
            path.unlink()
