"""The deviation network: an LDM UNet in diffusers' terms, conditioned on the timestep and the category."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers.configuration_utils import ConfigMixin
from diffusers.models.attention import BasicTransformerBlock
from diffusers.models.attention_processor import Attention
from diffusers.models.modeling_utils import ModelMixin
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from decodiff.errors import InputError
from decodiff.models.storage import checked_config, load_network
from decodiff.registered import registered

DROPOUT = 0.4
LATENT_CHANNELS = 4
# of the normalisation without attention; with the usual 32, each of 32 channels would lose its own mean over the image
GROUPS = 8


@dataclass(frozen=True)
class UNetSize:
    """What distinguishes one size from another; head width is ``channels / heads`` at every level.

    Without attention the network is of convolutions alone, padded by reflection.
    """

    channels: int
    heads: int
    context: int
    multipliers: tuple[int, ...] = (1, 2, 4)
    layers: int = 2
    dropout: float = DROPOUT
    attention: bool = True


UNET_SIZES = {
    "UNet_XS": UNetSize(64, 4, 128),
    "UNet_S": UNetSize(128, 4, 256),
    "UNet_M": UNetSize(192, 6, 384),
    "UNet_L": UNetSize(256, 8, 512),
    # not of the paper: small enough for two processor cores, the first to learn the embedded data sets in minutes
    "UNet_nano": UNetSize(32, 2, 64, multipliers=(1,), layers=1, dropout=0.0),
    "UNet_micro": UNetSize(32, 2, 64, multipliers=(1, 1), layers=1, dropout=0.0),
    "UNet_mini": UNetSize(32, 2, 64, multipliers=(1, 2, 2), layers=1, dropout=0.0),
    "UNet_plain": UNetSize(32, 1, 64, multipliers=(1, 2, 2, 2), layers=1, dropout=0.0, attention=False),
}


class OneTokenAttention:
    """Cross-attention to a context of one token, without what cannot matter.

    A softmax over one key is 1 whatever the query, so the result is the projected value at every position. Queries, keys and
    the normalisation before them have no influence and no gradient.
    """

    def __call__(
        self, attention: Attention, hidden_states: torch.Tensor, encoder_hidden_states: torch.Tensor, **_: object
    ) -> torch.Tensor:
        projection, dropout = attention.to_out
        value = dropout(projection(attention.to_v(encoder_hidden_states)))
        return value.expand(-1, hidden_states.shape[1], -1)


class DeviationUNet(ModelMixin, ConfigMixin):  # type: ignore[misc]  # diffusers' own mixins disagree
    """``f(z_t, t, c)``: predicts the direction of deviation of a latent.

    Args:
        num_categories: number of category embeddings.
        channels: channels of the first level, C.
        heads: attention heads of the first level; every level keeps its head width C/heads.
        context: width of the category embedding, read through cross-attention.
        multipliers: channels of each level as multiples of C.
        layers: residual blocks per level on the way down (one more on the way up).
        dropout: in the residual blocks.
        latent_channels: channels of the latent.
        attention: whether there is any; without, the category's embedding is added to that of the timestep, ``heads`` and
            ``context`` have no meaning, and convolutions see the latent reflected at its border instead of zeros, which
            they could tell from content.
    """

    @registered
    def __init__(
        self,
        num_categories: int,
        channels: int = 64,
        heads: int = 4,
        context: int = 128,
        multipliers: tuple[int, ...] = (1, 2, 4),
        layers: int = 2,
        dropout: float = DROPOUT,
        latent_channels: int = LATENT_CHANNELS,
        attention: bool = True,
    ):
        super().__init__()
        level_channels = tuple(channels * multiplier for multiplier in multipliers)
        if not attention:
            self.unet = UNet2DConditionModel(
                in_channels=latent_channels,
                out_channels=latent_channels,
                down_block_types=("DownBlock2D",) * len(level_channels),
                mid_block_type="UNetMidBlock2D",
                up_block_types=("UpBlock2D",) * len(level_channels),
                block_out_channels=level_channels,
                layers_per_block=layers,
                num_class_embeds=num_categories,
                dropout=dropout,
                norm_num_groups=GROUPS,
            )
            for layer in self.unet.modules():
                if isinstance(layer, nn.Conv2d) and layer.padding != (0, 0):
                    layer.padding_mode = "reflect"
            return
        self.category_embedding = nn.Embedding(num_categories, context)
        self.unet = UNet2DConditionModel(
            in_channels=latent_channels,
            out_channels=latent_channels,
            down_block_types=("CrossAttnDownBlock2D",) * len(level_channels),
            up_block_types=("CrossAttnUpBlock2D",) * len(level_channels),
            block_out_channels=level_channels,
            layers_per_block=layers,
            # diffusers calls it a head's width and means the number of heads
            attention_head_dim=tuple(level // (channels // heads) for level in level_channels),
            cross_attention_dim=context,
            dropout=dropout,
        )
        for block in self.unet.modules():
            if isinstance(block, BasicTransformerBlock):
                block.attn2.set_processor(OneTokenAttention())  # type: ignore[arg-type]  # diffusers takes other classes too
                for unused in (block.norm2, block.attn2.to_q, block.attn2.to_k):
                    unused.requires_grad_(False)

    def forward(self, latent: torch.Tensor, timestep: torch.Tensor, category: torch.Tensor) -> torch.Tensor:
        """Predict ``d``.

        Args:
            latent: ``z_t``, float ``[B,latent_channels,h,w]``; h and w divisible by ``2**(levels − 1)``.
            timestep: int64 ``[B]``.
            category: int64 ``[B]``, in ``[0, num_categories)``.

        Returns:
            The direction of deviation, same shape as ``latent``.
        """
        if not self.config["attention"]:
            # channels last: what processors convolve fastest
            latent = latent.contiguous(memory_format=torch.channels_last)
            return self.unet(latent, timestep, None, class_labels=category, return_dict=False)[0]
        context = self.category_embedding(category)[:, None]
        return self.unet(latent, timestep, encoder_hidden_states=context, return_dict=False)[0]


def build_unet(
    name: str, num_categories: int, latent_channels: int = LATENT_CHANNELS, dropout: float | None = None
) -> DeviationUNet:
    """A freshly initialised network by the name of its size (see `UNET_SIZES`; the prefix ``UNet_`` may be left out).

    ``dropout`` of None is that of the size. The output layer starts at zero, as in LDM: the untrained network corrects nothing.

    Raises:
        ValueError: unknown size.
    """
    size = UNET_SIZES.get(name) or UNET_SIZES.get(f"UNet_{name}")
    if size is None:
        raise ValueError(f"unknown UNet size {name!r}; choose one of {', '.join(UNET_SIZES)}")
    model = DeviationUNet(
        num_categories,
        channels=size.channels,
        heads=size.heads,
        context=size.context,
        multipliers=size.multipliers,
        layers=size.layers,
        dropout=size.dropout if dropout is None else dropout,
        latent_channels=latent_channels,
        attention=size.attention,
    )
    nn.init.zeros_(model.unet.conv_out.weight)
    nn.init.zeros_(model.unet.conv_out.bias)
    return model


def prediction_operations(model: DeviationUNet, shape: tuple[int, ...]) -> int:
    """Operations of one prediction for one latent of ``shape`` ``[C,h,w]``, two per multiply-add.

    Counted on a copy without memory: PyTorch does not count the attention that processors compute.
    """
    empty = copy.deepcopy(model).eval()
    empty.to("meta")  # type: ignore[arg-type]  # mypy takes what diffusers wraps for no method
    one = torch.zeros(1, dtype=torch.int64, device="meta")
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        empty(torch.zeros(1, *shape, device="meta"), one, one)
    return counter.get_total_flops()


def load_unet(folder: Path, device: torch.device | str = "cpu") -> DeviationUNet:
    """A trained network from its folder in diffusers' format, ready to predict; only safetensors are read.

    Raises:
        InputError: the folder is missing, damaged or holds another network.
    """
    config = checked_config(folder)
    try:
        model = load_network(DeviationUNet, folder, config)
        model.to(device)  # type: ignore[arg-type]  # mypy takes what diffusers wraps for no method
    except Exception as error:  # whatever a damaged or malicious folder makes of the reader
        raise InputError(
            f"{folder}: cannot load the network ({' '.join(str(error).split())[:200]}); remove the folder and train again"
        ) from error
    return model.eval()
