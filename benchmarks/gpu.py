"""The GPU's parts of `train.py` and `infer.py`, beside published speeds.

    python benchmarks/gpu.py [--rounds 5] [--toy] [--output benchmarks/out]

Training steps in float32, with TF32 and in bf16; the correction loop; the whole path from images to anomaly maps, with the
images per second of each way over the published ones. What they measure, and how, is said there. Writes ``gpu.json`` and
``gpu.md`` with the device and the versions.

`--toy` goes through the same at a size that a processor does in seconds; its numbers say nothing.
"""

from __future__ import annotations

import argparse
import platform
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from infer import SIDE, correction_loop, measured_peaks, whole_path
from train import against_plain, mixed_precision

from decodiff.devices import device
from decodiff.files import write_json, write_text
from decodiff.provenance import environment

# Images per second that others published, from image to anomaly map, on devices and with batches of their own.
PUBLISHED = {
    "InvAD": (88, "Sakai et al., CVPR 2026, arXiv:2504.05662"),
    "DeCo-Diff": (17, "source not found; to be checked before it is cited"),
}
TRAINING, CORRECTION, WHOLE = "training step", "correction loop", "images to maps"


def measure(is_toy: bool, rounds: int) -> list[dict[str, str | int | float]]:
    """A row for each way of each part: ``part``, ``network``, ``batch``, ``way``, ``images_per_second``."""
    kind = device().type
    rows = []

    def add(part: str, network: str, batch: int, function: Callable[..., dict[str, float]], *arguments: object) -> None:
        for way, speed in function(*arguments).items():
            rows.append({"part": part, "network": network, "batch": batch, "way": way, "images_per_second": speed})

    for name, batch in [("UNet_nano", 2)] if is_toy else [("UNet_XS", 8)]:
        add(TRAINING, name, batch, against_plain, name, batch, rounds, kind)
    for name, batch in [("UNet_nano", 2)] if is_toy else [("UNet_M", 64), ("UNet_L", 128)]:
        add(TRAINING, name, batch, mixed_precision, name, batch, rounds, kind)
    with torch.no_grad():
        peaks = measured_peaks()
        for name, batch in [("UNet_nano", 2)] if is_toy else [("UNet_XS", 8), ("UNet_M", 64), ("UNet_L", 64)]:
            add(CORRECTION, name, batch, correction_loop, name, batch, rounds, peaks)
        for name, batch in [("UNet_nano", 1)] if is_toy else [("UNet_XS", 8), ("UNet_M", 32), ("UNet_L", 32), ("UNet_L", 1)]:
            add(WHOLE, name, batch, whole_path, name, 64 if is_toy else SIDE, batch, rounds, peaks)
    return rows


def table(rows: list[dict[str, str | int | float]], where: str, is_toy: bool) -> str:
    """Markdown."""
    lines = [f"{where}, PyTorch {torch.__version__}{'; toy size, which says nothing about speed' if is_toy else ''}", ""]
    names = "".join(f" times {name}'s {speed} |" for name, (speed, _) in PUBLISHED.items())
    lines += [f"| part | network | batch | way | images/s |{names}", "|---" * (5 + len(PUBLISHED)) + "|"]
    for row in rows:
        speed = row["images_per_second"]
        ratios = [f"{speed / other:.2f}" if row["part"] == WHOLE else "" for other, _ in PUBLISHED.values()]
        cells = [row["part"], row["network"], str(row["batch"]), row["way"], f"{speed:.2f}", *ratios]
        lines.append(f"| {' | '.join(cells)} |")
    sources = [f"{name}, {speed} images/s: {source}." for name, (speed, source) in PUBLISHED.items()]
    return "\n".join([*lines, "", *sources, ""])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--toy", action="store_true", help="at toy size, also without a GPU")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "out", help="folder to write to")
    arguments = parser.parse_args()
    if not arguments.toy and not torch.cuda.is_available():
        sys.exit("error: no GPU here; run this where there is one, or go through it at toy size by --toy")
    where = torch.cuda.get_device_name() if torch.cuda.is_available() else platform.machine()
    rows = measure(arguments.toy, arguments.rounds)
    published = {name: {"images_per_second": speed, "source": source} for name, (speed, source) in PUBLISHED.items()}
    record = {"device": where, "is_toy": arguments.toy, "cuda": torch.version.cuda, "versions": environment()}
    arguments.output.mkdir(parents=True, exist_ok=True)
    write_json(arguments.output / "gpu.json", {**record, "published": published, "rows": rows})
    text = table(rows, where, arguments.toy)
    write_text(arguments.output / "gpu.md", text)
    print(text)


if __name__ == "__main__":
    main()
