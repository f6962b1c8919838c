"""Weights under the names of the authors' code (LDM's ``UNetModel``), mapped to ours one to one, and read without executing."""

from __future__ import annotations

import argparse
import logging
import pickle
import re
import reprlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from decodiff.errors import InputError, printable
from decodiff.files import check_stored
from decodiff.models.storage import is_plain
from decodiff.models.unet import UNET_SIZES, DeviationUNet

log = logging.getLogger(__name__)

EMBEDDING = "cond_stage_model.embedding.weight"
FIRST_CONVOLUTION = "input_blocks.0.0.weight"
LDM_PREFIX = "model.diffusion_model."
NAMED = 3

_RESIDUAL = {
    "in_layers.0": "norm1",
    "in_layers.2": "conv1",
    "emb_layers.1": "time_emb_proj",
    "out_layers.0": "norm2",
    "out_layers.3": "conv2",
    "skip_connection": "conv_shortcut",
}
_OUTER = {
    "cond_stage_model.embedding": "category_embedding",
    "time_embed.0": "unet.time_embedding.linear_1",
    "time_embed.2": "unet.time_embedding.linear_2",
    "input_blocks.0.0": "unet.conv_in",
    "out.0": "unet.conv_norm_out",
    "out.2": "unet.conv_out",
}


def _inside(block: str, attention: str, layer: int, part: str) -> str:
    """Name inside a residual block or a transformer; ``part`` is what follows the module's index."""
    name, _, parameter = part.rpartition(".")
    if name in _RESIDUAL:
        return f"{block}.resnets.{layer}.{_RESIDUAL[name]}.{parameter}"
    return f"{block}.attentions.{attention}.{part}"


def our_name(name: str, layers: int) -> str:
    """Our name of one of the authors' parameters.

    Args:
        name: as in the authors' state dict, e.g. ``input_blocks.1.0.in_layers.0.weight``.
        layers: residual blocks per level on the way down.

    Raises:
        KeyError: the name is not one of that network's.
    """
    prefix, _, parameter = name.rpartition(".")
    if prefix in _OUTER:
        return f"{_OUTER[prefix]}.{parameter}"
    match = re.fullmatch(r"(input_blocks|output_blocks)\.(\d+)\.(\d)\.(.+)", name)
    if match:
        side, index, module, part = match[1], int(match[2]), int(match[3]), match[4]
        # the first input block is the first convolution; then a level holds its residual blocks and, except the last, a
        # down-sampling block. The output blocks hold one residual block more per level and up-sample inside the last one.
        level, layer = divmod(index - 1, layers + 1) if side == "input_blocks" else divmod(index, layers + 1)
        block = f"unet.down_blocks.{level}" if side == "input_blocks" else f"unet.up_blocks.{level}"
        if part.startswith("op."):
            return f"{block}.downsamplers.0.conv.{parameter}"
        if part.startswith("conv."):
            return f"{block}.upsamplers.0.conv.{parameter}"
        return _inside(block, str(layer), layer, part) if module < 2 else f"{block}.upsamplers.0.{part}"
    match = re.fullmatch(r"middle_block\.(\d)\.(.+)", name)
    if match:
        return _inside("unet.mid_block", "0", int(match[1]) // 2, match[2])
    raise KeyError(f"{name!r} is not a parameter of the authors' network")


def _placed(
    state: Mapping[str, torch.Tensor], prefix: str, model: DeviationUNet
) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """The tensors under our names where they fit ``model``, and for each other name what is wrong with it.

    Only names that begin with ``prefix`` are looked at; it is not part of the authors' names.
    """
    expected = model.state_dict()
    mapped, problems = {}, {}
    for full, tensor in state.items():
        if not full.startswith(prefix):
            continue
        name = full.removeprefix(prefix)
        try:
            ours = our_name(name, model.config["layers"])
        except KeyError as error:
            problems[full] = str(error.args[0])
            continue
        if ours not in expected:
            problems[full] = f"{name!r} has no place in this network"
        elif not tensor.is_floating_point():
            problems[full] = f"{name!r} holds {tensor.dtype}, expected floating-point numbers"
        elif expected[ours].shape != tensor.shape:
            problems[full] = f"{name!r} is {tuple(tensor.shape)}, expected {tuple(expected[ours].shape)}"
        else:
            mapped[ours] = tensor
    return mapped, problems


def from_reference(state: Mapping[str, torch.Tensor], model: DeviationUNet) -> dict[str, torch.Tensor]:
    """The authors' state dict under our names, checked against ``model`` for names and shapes.

    Raises:
        ValueError: a parameter is unknown, missing, or of another shape; the message names the first few.
    """
    mapped, found = _placed(state, "", model)
    problems = [*found.values()] or [f"nothing given for {name!r}" for name in model.state_dict().keys() - mapped.keys()]
    if problems:
        raise ValueError(f"weights do not fit: {'; '.join(problems[:3])}" + (" …" if len(problems) > 3 else ""))
    return mapped


def read_checkpoint(path: Path) -> dict[str, Any]:
    """A PyTorch checkpoint; besides tensors and plain values it may hold an ``argparse.Namespace``, and nothing that runs.

    Raises:
        InputError: the file is missing or damaged, or holds objects of other classes.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such checkpoint; check the path")
    try:
        check_stored(path)
        with torch.serialization.safe_globals([argparse.Namespace]):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        found = re.search(r"GLOBAL ([\w.]+)", str(error))
        what = f"it holds {found[1]}, which could run code" if found else "it holds more than weights, or is damaged"
        raise InputError(f"{path}: not read: {what}; save the state dict alone with torch.save") from error
    except Exception as error:  # whatever a damaged or malicious file makes of the reader
        raise InputError(f"{path}: not a whole PyTorch checkpoint ({' '.join(str(error).split())[:120]})") from error
    if not isinstance(content, dict):
        raise InputError(f"{path}: holds {type(content).__name__}, expected a dictionary with the weights")
    return content


def _tensors(content: Mapping[str, Any], key: str, path: Path, prefix: str = "") -> dict[str, torch.Tensor]:
    """What lies under ``key`` by names that begin with ``prefix``. Raises `InputError` for other things than plain tensors."""
    state = content.get(key)
    state = {name: value for name, value in state.items() if str(name).startswith(prefix)} if isinstance(state, dict) else None
    if state is None or not all(
        isinstance(name, str) and isinstance(value, torch.Tensor) and is_plain(value) for name, value in state.items()
    ):
        found = ", ".join(reprlib.repr(str(name)) for name in list(content)[:NAMED])
        raise InputError(f"{path}: no weights under {key!r}; it has {found}; expected plain tensors by name")
    return state


def load_reference(path: Path, unet: str, num_categories: int) -> DeviationUNet:
    """A network with the authors' released weights.

    Args:
        path: their checkpoint, ``{'model': state dict, 'args': Namespace}``.
        unet: the size it should have.
        num_categories: how many categories the scope has.

    Raises:
        InputError: the file cannot be read safely, or its weights are of another size or number of categories.
    """
    state = _tensors(read_checkpoint(path), "model", path)
    size, first, embedding = UNET_SIZES[unet], state.get(FIRST_CONVOLUTION), state.get(EMBEDDING)
    if first is None or embedding is None or first.ndim != 4 or embedding.ndim != 2:
        raise InputError(f"{path}: no {FIRST_CONVOLUTION} or {EMBEDDING}; not a checkpoint of the authors' network")
    if len(first) != size.channels:
        sizes = [name for name, other in UNET_SIZES.items() if other.channels == len(first)]
        raise InputError(f"{path}: {len(first)} channels, that is {sizes or 'no known size'}; set training.unet to it")
    if len(embedding) != num_categories:
        raise InputError(f"{path}: trained on {len(embedding)} categories, the scope has {num_categories}; choose its data set")
    model = DeviationUNet(num_categories, **vars(size), latent_channels=first.shape[1])
    try:
        model.load_state_dict(from_reference(state, model))
    except ValueError as error:
        raise InputError(f"{path}: {error}") from error
    return model


def start_from(path: Path, model: DeviationUNet) -> None:
    """Copy into ``model`` those weights of an LDM checkpoint (``model.diffusion_model.*``) that fit, and log which do not.

    Raises:
        InputError: the file cannot be read safely, or nothing of it fits.
    """
    content = read_checkpoint(path)
    content = content if "state_dict" in content else {"state_dict": content}
    state = _tensors(content, "state_dict", path, LDM_PREFIX)
    own, (fitting, left) = model.state_dict(), _placed(state, LDM_PREFIX, model)
    if not fitting:
        raise InputError(f"{path}: no weight of it ({LDM_PREFIX}*) fits this network; choose another size or start at random")
    model.load_state_dict(fitting, strict=False)
    missing = sorted(own.keys() - fitting.keys())
    log.info("start values: %d of %d weights from %s", len(fitting), len(own), path)
    for what, names in (("of the checkpoint do not fit", left), ("of the network start at random", missing)):
        if names:
            log.warning("start values: %d weights %s: %s", len(names), what, ", ".join(map(printable, names)))
