"""Images per second of a published model, by the pipeline and by `decodiff predict`, and the time until the first score.

    python benchmarks/predict.py MODEL IMAGES [--images 64] [--rounds 3]

MODEL is a folder that `decodiff publish` wrote, IMAGES a folder of images. All in one run, taking turns; medians over rounds:

- the pipeline on images that are in memory, in the benchmark's own batches and in batches of 1 and 8;
- `decodiff predict` on files, with all that it writes, likewise;
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

import torch

from decodiff.data.images import read_rgb
from decodiff.pipeline import DeCoDiffPipeline
from decodiff.stages.predict import listed, predict

COMMAND = (sys.executable, "-c", "from decodiff.cli import run; run()", "predict")


def seconds(function: Callable[[], object]) -> float:
    begin = time.perf_counter()
    function()
    return time.perf_counter() - begin


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
    category = pipeline.categories[0]
    sizes = {"the benchmark's": None, "8": 8, "1": 1}

    def whole(size: int | None) -> None:
        with tempfile.TemporaryDirectory() as folder:
            predict(arguments.model, list(map(str, files)), Path(folder), category, batch_size=size)

    def first() -> None:
        with tempfile.TemporaryDirectory() as folder:
            command = (*COMMAND, arguments.model, str(files[0]), "--category", category, "--output", folder)
            subprocess.run(command, check=True, capture_output=True)

    ways = {("pipeline", name): lambda size=size: pipeline(pictures, category, batch_size=size) for name, size in sizes.items()}
    ways |= {("predict", name): lambda size=size: whole(size) for name, size in sizes.items()}
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
