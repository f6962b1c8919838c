"""A model as one graph, all but the resizing of images, for other runtimes, and answers of it traced."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image as Picture
from torch import nn

from decodiff.correction import correct
from decodiff.data.views import to_tensor, to_uint8, with_contrast
from decodiff.models.autoencoder import Autoencoder
from decodiff.pipeline import DeCoDiffPipeline, DeCoDiffPipelineOutput, check_maps
from decodiff.scoring import decoded_maps

if TYPE_CHECKING:
    import openvino

# images at a time
TOGETHER = 8


class Graph(nn.Module):
    """All of a model but the resizing of images.

    Args:
        pipeline: whose networks and constants it has.
    """

    def __init__(self, pipeline: DeCoDiffPipeline):
        super().__init__()
        self.unet, self.vae = pipeline.unet.eval(), pipeline.vae.eval()
        self._settings, self._scheduler = pipeline.settings, pipeline.scheduler
        self._scheduler.set_timesteps(self._settings.correction.steps)
        self._constants = self._settings.scoring.constants

    def forward(self, images: torch.Tensor, category: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Compare images with their corrections.

        Args:
            images: resized and cropped, float32 ``[B,3,crop,crop]`` in [-1, 1].
            category: index of each image's category, int64 ``[B]``.

        Returns:
            anomaly maps float32 ``[B,crop,crop]`` in [0, 1]; scores float32 ``[B]``; corrections float32 ``[B,3,crop,crop]``,
            nominally in [-1, 1], in the contrast that the networks see.
        """
        coder = Autoencoder(self.vae)
        latent = coder.encode(with_contrast(images, self._settings.image.contrast))[0]
        corrected = correct(self.unet, latent, category, self._scheduler)
        maps, corrections = decoded_maps(coder.decode, latent, corrected, self._constants, self._settings.scoring.fusion)
        scores = maps.flatten(1).topk(self._settings.top_pixels, dim=1).values.mean(dim=1)
        return maps, scores, corrections


def example(pipeline: DeCoDiffPipeline, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Inputs of noise in the range of images."""
    side = pipeline.settings.image.crop
    images = np.random.default_rng(0).uniform(-1, 1, (count, 3, side, side)).astype(np.float32)
    category = torch.arange(count) % len(pipeline.categories)
    return torch.from_numpy(images).to(pipeline.device), category.to(pipeline.device)


def prepared(pipeline: DeCoDiffPipeline) -> Graph:
    """A model's graph, ready to be traced or exported."""
    graph = Graph(pipeline).eval().requires_grad_(False)
    # the matrices of blurs are made, and kept, when first used; an exporter would have its own kind of tensors kept
    graph(*example(pipeline, 1))
    return graph


def traced(pipeline: DeCoDiffPipeline) -> torch.jit.ScriptModule:
    """A model's graph as TorchScript."""
    return torch.jit.trace(prepared(pipeline), example(pipeline, 2), check_inputs=[example(pipeline, 3)])


def converted(pipeline: DeCoDiffPipeline) -> openvino.Model:
    """A model's graph as OpenVINO has it, for any number of images. Needs the extra `export`."""
    import openvino

    side = pipeline.settings.image.crop
    shapes = [openvino.PartialShape([-1, 3, side, side]), openvino.PartialShape([-1])]
    return openvino.convert_model(traced(pipeline), example_input=example(pipeline, 2), input=shapes)


class TracedModel:
    """A model whose graph TorchScript computes, in float32, on the device that the model is on.

    Answers differ from the pipeline's by less than 1e-4.

    Args:
        pipeline: the model.
    """

    def __init__(self, pipeline: DeCoDiffPipeline):
        self.pipeline = pipeline
        self.categories, self.batch_size = pipeline.categories, TOGETHER
        with torch.no_grad():
            self._graph = traced(pipeline)

    @torch.no_grad()
    def __call__(
        self, images: Sequence[Picture.Image | np.ndarray], category: str, batch_size: int | None = None
    ) -> DeCoDiffPipelineOutput:
        """As `DeCoDiffPipeline`'s. Raises `InputError` when a map holds NaN."""
        index, size, parts = self.categories.index(category), batch_size or self.batch_size, []
        for start in range(0, len(images), size):
            part = images[start : start + size]
            seen = self.pipeline.image_processor.crops(part, [self.pipeline.pose(category)] * len(part))
            crops = to_tensor(seen).to(self.pipeline.device)
            maps, scores, corrections = self._graph(crops, torch.full((len(crops),), index, device=crops.device))
            parts.append((maps.cpu().numpy(), scores.double().cpu().numpy(), to_uint8(corrections)))
        output = DeCoDiffPipelineOutput(*(np.concatenate(values) for values in zip(*parts)))
        check_maps(output.anomaly_maps)
        return output
