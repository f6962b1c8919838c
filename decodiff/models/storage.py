"""Networks and trainings on disk: weights with their checksum, and states to resume from, of which the last two are kept."""

from __future__ import annotations

import errno
import logging
import zipfile
from pathlib import Path
from typing import Any

import torch
from diffusers import ModelMixin
from safetensors import SafetensorError

from decodiff.errors import InputError
from decodiff.files import read_json, replacing, sha256, write_json

log = logging.getLogger(__name__)

# diffusers' own names
WEIGHTS_FILE = "diffusion_pytorch_model.safetensors"
CONFIG_FILE = "config.json"
CHECKSUM_KEY = "weights_sha256"
KEPT = 2


def save_network(network: ModelMixin, folder: Path) -> None:
    """Write a network into ``folder`` in diffusers' format; ``config.json`` also gets the SHA-256 of the weights.

    Raises:
        OSError: the disk does not take it.
    """
    try:
        network.save_pretrained(folder)
    except SafetensorError as error:
        raise OSError(errno.EIO, str(error)) from error
    write_json(folder / CONFIG_FILE, {**read_json(folder / CONFIG_FILE), CHECKSUM_KEY: sha256(folder / WEIGHTS_FILE)})


def checked_config(folder: Path) -> dict[str, Any]:
    """The configuration of a network in diffusers' format, once its weights are those that `save_network` wrote there.

    Weights of others, whose configuration has no checksum, are taken as they are.

    Raises:
        InputError: the weights have changed since, or a file is missing or damaged.
    """
    config = read_json(folder / CONFIG_FILE)
    if not isinstance(config, dict):
        raise InputError(f"{folder / CONFIG_FILE}: holds {type(config).__name__}, expected a network's configuration")
    known = config.get(CHECKSUM_KEY)
    if known is None:
        return config
    try:
        found = sha256(folder / WEIGHTS_FILE)
    except OSError as error:
        raise InputError(f"{folder / WEIGHTS_FILE}: no such weights; remove the folder and train again") from error
    if found != known:
        raise InputError(
            f"{folder / WEIGHTS_FILE}: damaged, its SHA-256 is not that in {CONFIG_FILE}; remove the folder and run again, or "
            "bring it once more"
        )
    return config


def _read(path: Path) -> dict[str, Any]:
    """Raises `InputError` when the file is damaged or holds what only code could read back."""
    try:
        # PyTorch does not look at the checksums that its archives have
        with zipfile.ZipFile(path) as archive:
            if damaged := archive.testzip():
                raise ValueError(f"{damaged} has another checksum")
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever a damaged or malicious file makes of the reader
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
