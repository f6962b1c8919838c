"""Weights under the names of the authors' code (LDM's ``UNetModel``), mapped to ours one to one."""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch

from decodiff.models.unet import DeviationUNet

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


def from_reference(state: Mapping[str, torch.Tensor], model: DeviationUNet) -> dict[str, torch.Tensor]:
    """The authors' state dict under our names, checked against ``model`` for names and shapes.

    Raises:
        ValueError: a parameter is unknown, missing, or of another shape; the message names the first few.
    """
    expected = model.state_dict()
    mapped, problems = {}, []
    for name, tensor in state.items():
        try:
            ours = our_name(name, model.config.layers)
        except KeyError as error:
            problems.append(str(error.args[0]))
            continue
        if ours not in expected:
            problems.append(f"{name!r} has no place in this network")
        elif expected[ours].shape != tensor.shape:
            problems.append(f"{name!r} is {tuple(tensor.shape)}, expected {tuple(expected[ours].shape)}")
        else:
            mapped[ours] = tensor
    problems += [f"nothing given for {name!r}" for name in expected.keys() - mapped.keys()] if not problems else []
    if problems:
        raise ValueError(f"weights do not fit: {'; '.join(problems[:3])}" + (" …" if len(problems) > 3 else ""))
    return mapped
