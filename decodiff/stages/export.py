"""`export`: a trained model as one graph for other runtimes: correction of S steps, both decodings, the map and the score."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import torch

from decodiff.errors import InputError
from decodiff.files import replacing, write_json
from decodiff.graph import converted, example, prepared, traced
from decodiff.pipeline import DeCoDiffPipeline
from decodiff.settings import GraphFormat

INPUTS, OUTPUTS = ("images", "category"), ("anomaly_maps", "scores", "corrections")
# of the extra `export`, what each format needs
NEEDED = {"onnx": ("onnx", "onnxscript"), "torchscript": (), "openvino": ("openvino",)}
SUFFIXES = {"onnx": "onnx", "torchscript": "pt", "openvino": "xml"}


def _write_onnx(pipeline: DeCoDiffPipeline, path: Path) -> None:
    batch = {0: torch.export.Dim.DYNAMIC}
    program = torch.export.export(prepared(pipeline), example(pipeline, 2), dynamic_shapes=(batch, batch), strict=False)
    # the exporter's own optimiser fails on such graphs; runtimes have theirs
    # weights in the file itself
    torch.onnx.export(
        program,
        (),
        path,
        dynamo=True,
        optimize=False,
        verbose=False,
        external_data=False,
        input_names=list(INPUTS),
        output_names=list(OUTPUTS),
    )


def export(model: str, kind: GraphFormat, output: Path) -> Path:
    """Write ``model.onnx``, ``model.pt`` or ``model.xml`` (with ``model.bin``) into a new folder, and ``model.json`` beside it.

    The graph is that of `decodiff.graph.Graph`, in float32, for any number of images at a time; ``model.json`` says what goes
    in and what comes out: side, filter and crop of images, categories in the order of their index, thresholds, and poses.

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
    settings = pipeline.settings
    name = f"model.{SUFFIXES[kind]}"
    with replacing(output) as temporary, torch.no_grad():
        temporary.mkdir(parents=True)
        if kind == "onnx":
            _write_onnx(pipeline, temporary / name)
        elif kind == "torchscript":
            traced(pipeline).save(str(temporary / name))
        else:
            import openvino

            openvino.save_model(converted(pipeline), str(temporary / name), compress_to_fp16=False)
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
                "poses": settings.poses,
            },
        )
    return output / name
