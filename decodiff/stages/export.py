"""`export`: a trained model as one graph for other runtimes: correction of S steps, both decodings, the map and the score."""

from __future__ import annotations

import logging
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import nn

from decodiff.correction import correct
from decodiff.data.views import with_contrast
from decodiff.errors import InputError
from decodiff.files import replacing, write_json
from decodiff.models.autoencoder import Autoencoder
from decodiff.pipeline import DeCoDiffPipeline
from decodiff.scoring import ScoringSettings, decoded_maps

log = logging.getLogger(__name__)

Format = Literal["onnx", "torchscript", "openvino"]
INPUTS, OUTPUTS = ("images", "category"), ("anomaly_maps", "scores", "corrections")
# of the extra `export`, what each format needs
NEEDED = {"onnx": ("onnx", "onnxscript"), "torchscript": (), "openvino": ("openvino",)}
SUFFIXES = {"onnx": "onnx", "torchscript": "pt", "openvino": "xml"}


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
        self._constants = ScoringSettings(**self._settings.scoring.model_dump(exclude={"fusion", "batch_size"}))

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


def _example(pipeline: DeCoDiffPipeline, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Inputs of noise in the range of images."""
    side = pipeline.settings.image.crop
    images = np.random.default_rng(0).uniform(-1, 1, (count, 3, side, side)).astype(np.float32)
    return torch.from_numpy(images), torch.arange(count) % len(pipeline.categories)


def _write_onnx(graph: Graph, pipeline: DeCoDiffPipeline, path: Path) -> None:
    batch = {0: torch.export.Dim.DYNAMIC}
    program = torch.export.export(graph, _example(pipeline, 2), dynamic_shapes=(batch, batch), strict=False)
    # the exporter's own optimiser fails on such graphs; runtimes have theirs
    names = {"input_names": list(INPUTS), "output_names": list(OUTPUTS)}
    written = torch.onnx.export(program, (), dynamo=True, optimize=False, verbose=False, **names)
    # weights in the file itself
    written.save(path, external_data=False)


def export(model: str, kind: Format, output: Path) -> Path:
    """Write ``model.onnx``, ``model.pt`` or ``model.xml`` (with ``model.bin``) into a new folder, and ``model.json`` beside it.

    The graph is `Graph`'s, in float32, for any number of images at a time; ``model.json`` says what goes in and what comes out:
    side, filter and crop of images, categories in the order of their index, and thresholds.

    Args:
        model: folder of a `DeCoDiffPipeline`, or its id on the hub.
        kind: of the file.
        output: folder to write, which must not exist.

    Returns:
        The file.

    Raises:
        InputError: a format whose packages are not installed, a folder that is there already, or a folder that is no model.
    """
    if missing := [package for package in NEEDED[kind] if find_spec(package) is None]:
        raise InputError(f"--format {kind}: needs {', '.join(missing)}; install it with `pip install -e '.[export]'`")
    if output.exists():
        raise InputError(f"{output}: there already; give a folder that does not exist")
    pipeline = DeCoDiffPipeline.from_pretrained(model)
    graph = Graph(pipeline).eval().requires_grad_(False)
    settings = pipeline.settings
    name = f"model.{SUFFIXES[kind]}"
    with replacing(output) as temporary, torch.no_grad():
        temporary.mkdir(parents=True)
        # the matrices of blurs are made, and kept, when first used; an exporter would have its own kind of tensors kept
        graph(*_example(pipeline, 1))
        if kind == "onnx":
            _write_onnx(graph, pipeline, temporary / name)
        else:
            traced = torch.jit.trace(graph, _example(pipeline, 2), check_inputs=[_example(pipeline, 3)])
            if kind == "torchscript":
                traced.save(str(temporary / name))
            else:
                import openvino

                side = settings.image.crop
                shapes = [openvino.PartialShape([-1, 3, side, side]), openvino.PartialShape([-1])]
                converted = openvino.convert_model(traced, example_input=_example(pipeline, 2), input=shapes)
                openvino.save_model(converted, str(temporary / name), compress_to_fp16=False)
        write_json(
            temporary / "model.json",
            {
                "inputs": {"images": "float32 [B,3,crop,crop] in [-1, 1]", "category": "int64 [B], index of categories"},
                "outputs": {
                    "anomaly_maps": "float32 [B,crop,crop] in [0, 1]",
                    "scores": "float32 [B] in [0, 1]",
                    "corrections": "float32 [B,3,crop,crop] in [-1, 1]",
                },
                "image": settings.image.model_dump(),
                "categories": list(settings.categories),
                "thresholds": settings.thresholds,
            },
        )
    return output / name
