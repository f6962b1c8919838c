"""Images per second of a published model, by each runtime and by `decodiff predict`, and the time until the first score.

    python benchmarks/predict.py MODEL IMAGES [--images 64] [--rounds 3]

MODEL is a folder that `decodiff publish` wrote, IMAGES a folder of images. All in one run, taking turns; medians over rounds:

- the model on images that are in memory: the pipeline with PyTorch, in the benchmark's own batches and in batches of 1 and 8,
  and its graphs with TorchScript, ONNX Runtime and OpenVINO, all in float32 on the processor (needs the extra `export`);
- `decodiff predict` on files, with all that it writes, with both of its runtimes;
- the time from the command's start to its first row, with one image: imports, networks, the image.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import openvino
import torch

from decodiff.data.images import read_rgb
from decodiff.data.views import to_tensor
from decodiff.graph import TracedModel
from decodiff.pipeline import DeCoDiffPipeline
from decodiff.stages.export import export
from decodiff.stages.predict import listed, predict

COMMAND = (sys.executable, "-c", "from decodiff.cli import run; run()", "predict")
SIZES = {"the benchmark's": None, "8": 8, "1": 1}


def seconds(function: Callable[[], object]) -> float:
    begin = time.perf_counter()
    function()
    return time.perf_counter() - begin


def graphs(model: str, folder: Path) -> dict[str, Callable[[np.ndarray], object]]:
    """What each runtime makes of crops uint8 ``[B,crop,crop,3]`` of the first category; graphs are written to ``folder``."""
    compiled = openvino.Core().compile_model(
        str(export(model, "openvino", folder / "openvino")), "CPU", {"INFERENCE_PRECISION_HINT": "f32"}
    )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(str(export(model, "onnx", folder / "onnx")), options)

    def by_openvino(crops: np.ndarray) -> None:
        compiled([to_tensor(crops).numpy(), np.zeros(len(crops), np.int64)])

    def by_session(crops: np.ndarray) -> None:
        session.run(None, {"images": to_tensor(crops).numpy(), "category": np.zeros(len(crops), np.int64)})

    return {"ONNX Runtime": by_session, "OpenVINO": by_openvino}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("images")
    parser.add_argument("--images", dest="count", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    files = list(listed([arguments.images], Path(arguments.model)).values())[: arguments.count]
    pictures = [read_rgb(file) for file in files]
    pipeline = DeCoDiffPipeline.from_pretrained(arguments.model)
    traced, category = TracedModel(pipeline), pipeline.categories[0]

    def all_of(function: Callable[[np.ndarray], object], size: int) -> None:
        for start in range(0, len(pictures), size):
            function(pipeline.image_processor.crops(pictures[start : start + size]))

    def whole(size: int | None, runtime: str) -> None:
        with tempfile.TemporaryDirectory() as folder:
            predict(arguments.model, list(map(str, files)), Path(folder), category, batch_size=size, runtime=runtime)

    def first() -> None:
        with tempfile.TemporaryDirectory() as folder:
            command = (*COMMAND, arguments.model, str(files[0]), "--category", category, "--output", folder)
            subprocess.run(command, check=True, capture_output=True)

    with tempfile.TemporaryDirectory() as folder:
        by_graph = graphs(arguments.model, Path(folder))
        ways = {
            ("PyTorch", name): lambda size=size: pipeline(pictures, category, batch_size=size) for name, size in SIZES.items()
        }
        for what, function in by_graph.items():
            ways |= {(what, str(size)): lambda size=size, function=function: all_of(function, size) for size in (8, 1)}
        ways |= {("TorchScript", str(size)): lambda size=size: traced(pictures, category, size) for size in (8, 1)}
        ways |= {("predict", name): lambda size=size: whole(size, "torch") for name, size in SIZES.items()}
        ways |= {("predict --runtime torchscript", str(size)): lambda size=size: whole(size, "torchscript") for size in (8, 1)}
        ways["start to first score", "1"] = first
        taken: dict[tuple[str, str], list[float]] = {way: [] for way in ways}
        for _ in range(arguments.rounds):
            for way, function in ways.items():
                taken[way].append(seconds(function))
    print(f"{len(files)} images of {pipeline.settings.image.crop} px, {torch.get_num_threads()} threads\n")
    print("| what | batches of | s | images/s |\n|---|---|---:|---:|")
    for (what, name), values in taken.items():
        middle = statistics.median(values)
        rate = "" if what.startswith("start") else f"{len(files) / middle:.1f}"
        print(f"| {what} | {name} | {middle:.2f} | {rate} |")


if __name__ == "__main__":
    main()
