"""Networks and trainings on disk: weights with their checksum, and states to resume from, of which the last two are kept."""

from __future__ import annotations

import errno
import logging
import zipfile
from pathlib import Path
from typing import Any, TypeVar

import torch
from diffusers.models import ModelMixin
from safetensors import SafetensorError, safe_open

from decodiff.errors import InputError
from decodiff.files import check_stored, read_json, replacing, sha256, write_json
from decodiff.models.names import CONFIG_FILE, WEIGHTS_FILE

log = logging.getLogger(__name__)

Network = TypeVar("Network", bound=ModelMixin)
CHECKSUM_KEY = "weights_sha256"
KEPT = 2
# blocks of a network, one after another or of one level
MAX_BLOCKS = 64


def is_plain(tensor: torch.Tensor) -> bool:
    """Whether a tensor that was read lies in memory, number by number: not sparse, not quantised, not one number seen often."""
    return (
        tensor.layout == torch.strided
        and tensor.device.type == "cpu"
        and not tensor.is_quantized
        and not tensor.is_nested
        and tensor.untyped_storage().nbytes() >= tensor.numel() * tensor.element_size()
    )


def load_network(kind: type[Network], path: str | Path, config: dict[str, Any]) -> Network:
    """A network in diffusers' format, from safetensors alone; every weight of it must be there.

    Args:
        kind: its class, whatever the configuration names.
        path: a folder with the configuration and the weights, or an id of the hub.
        config: what `checked_config` gave.

    Raises:
        Exception: whatever a damaged or malicious folder makes of the reader.
        ValueError: the configuration speaks of a larger network than there are weights for, which would be built first; or
            weights are missing, which would be random.
    """
    folder = Path(path)
    if "quantization_config" in config:
        raise ValueError("quantization_config names another package's reader")
    for name, value in config.items():
        counts = value if isinstance(value, list) else [value]
        repeats = [count for count in counts if isinstance(count, int) and ("layers" in name or "blocks" in name)]
        if max(len(counts), *repeats, 0) > MAX_BLOCKS:
            raise ValueError(f"{name} of more than {MAX_BLOCKS} blocks")
    if (folder / WEIGHTS_FILE).is_file():
        with safe_open(folder / WEIGHTS_FILE, "pt") as weights:
            if not list(weights.keys()):
                raise ValueError("no weights in it")
        with torch.device("meta"):
            empty: ModelMixin = kind.from_config(config)  # type: ignore[attr-defined]  # of ConfigMixin, which networks are
        size = sum(tensor.numel() for tensor in empty.state_dict().values())
        # a number takes a byte at least
        if size > (folder / WEIGHTS_FILE).stat().st_size:
            raise ValueError(f"{size:,} numbers by its {CONFIG_FILE}, more than there are weights")
    loaded: Any = kind.from_pretrained(path, use_safetensors=True, output_loading_info=True)
    network, found = loaded
    if missing := sorted(found["missing_keys"]):
        raise ValueError(f"{len(missing)} weights are missing, first {missing[0]}")
    return network


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
        check_stored(path)
        # PyTorch does not look at the checksums that its archives have
        with zipfile.ZipFile(path) as archive:
            if damaged := archive.testzip():
                raise ValueError(f"{damaged} has another checksum")
        state = torch.load(path, map_location="cpu", weights_only=True)
        if not isinstance(state, dict) or "inputs" not in state:
            raise ValueError("not a dictionary with inputs")
        return state
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
        damaged: InputError | None = None
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
