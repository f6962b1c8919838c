"""All metrics of one category against the usual way of computing them; the bootstrap; memory on a large set.

    python benchmarks/metrics.py [--rounds 3] [--large 10000] [--anomalib .environments/anomalib-…/bin/python]

117 maps of 256×256 with masks. "Usual" is how the authors' code and most others go about it: AUPRO from 200 thresholds, each
with a loop over the regions of every image; then AUROC and average precision by torchmetrics and F1max from scikit-learn's
precision-recall curve, image and pixel metrics each with a sort of their own. Both take turns in one run, and both give the
same six numbers (AUPRO by 200 thresholds is compared with this project's protocol `reference`), which is checked.

Then the same maps are measured as the ADer benchmark does, restated here from its `util/metric.py`, and by anomalib's own
metrics where the Python of an environment with anomalib is given (`config/adapters/anomalib.lock`): what each gives and how
long it takes; and once more with maps a hundred times as large, whose order, and so every metric, is the same.

For memory, a process of its own evaluates maps it reads from disk: 117 and `--large` of them. What it holds is measured as the
largest resident size less that of an evaluation of four maps.

Needs `pip install torchmetrics` beside the project.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from scipy.ndimage import gaussian_filter
from skimage.measure import label, regionprops

from decodiff.bootstrap import resampled
from decodiff.metrics import METRICS, InBatches, evaluate, evaluate_batches, image_scores

SIDE, COUNT = 256, 117


def make(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Maps float32 and masks bool ``[N,256,256]``: smooth noise, brighter on one to three areas of two images in three."""
    random = np.random.default_rng(seed)
    maps, masks = np.empty((count, SIDE, SIDE), np.float32), np.zeros((count, SIDE, SIDE), bool)
    for index in range(count):
        for _ in range(int(random.integers(1, 4)) * (index % 3 > 0)):
            (top, left), (height, width) = random.integers(0, SIDE - 60, 2), random.integers(5, 60, 2)
            masks[index, top : top + height, left : left + width] = True
        noise = gaussian_filter(random.random((SIDE, SIDE)).astype(np.float32), 3)
        maps[index] = noise + 0.08 * gaussian_filter(masks[index].astype(np.float32), 2)
    return maps, masks


def usual_curve(maps: np.ndarray, masks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """FPR and overlap of regions at 200 thresholds as in the authors' code: for each a loop over images and their regions."""
    low, high = maps.min(), maps.max()
    points = []
    for threshold in np.arange(low, high, (high - low) / 200):
        called, overlaps = maps > threshold, []
        for binary, mask in zip(called, masks):
            for region in regionprops(label(mask)):
                overlaps.append(binary[region.coords[:, 0], region.coords[:, 1]].sum() / region.area)
        points.append((np.logical_and(~masks, called).sum() / (~masks).sum(), np.mean(overlaps)))
    fpr, pro = np.array(points).T
    return fpr, pro


def usual_aupro(maps: np.ndarray, masks: np.ndarray) -> float:
    """AUPRO of that curve below an FPR of 0.3."""
    from sklearn.metrics import auc

    fpr, pro = usual_curve(maps, masks)
    inside = fpr < 0.3
    return auc(fpr[inside] / fpr[inside].max(), pro[inside])


def usual(maps: np.ndarray, masks: np.ndarray) -> dict[str, float]:
    """All seven metrics one by one."""
    import torch
    from sklearn.metrics import precision_recall_curve
    from torchmetrics.functional.classification import binary_auroc, binary_average_precision

    result = {}
    for name, scores, labels in (
        ("image", maps.reshape(len(maps), -1).max(axis=1), masks.any(axis=(1, 2))),
        ("pixel", maps.ravel(), masks.ravel()),
    ):
        tensors = torch.from_numpy(scores), torch.from_numpy(labels.astype(np.int64))
        result[f"{name}_auroc"] = float(binary_auroc(*tensors))
        result[f"{name}_ap"] = float(binary_average_precision(*tensors))
        precision, recall, _ = precision_recall_curve(labels, scores)
        result[f"{name}_f1max"] = float(np.max(2 * precision * recall / np.maximum(precision + recall, 1e-12)))
    return result | {"pixel_aupro": usual_aupro(maps, masks)}


def ader(maps: np.ndarray, masks: np.ndarray) -> dict[str, float]:
    """As the ADer benchmark: pixel F1max of 21 equidistant thresholds, AUPRO of 200, its FPR moved and stretched to [0, 1]."""
    from sklearn.metrics import auc, average_precision_score, precision_recall_curve, roc_auc_score

    scores, labels = maps.reshape(len(maps), -1).max(axis=1), masks.any(axis=(1, 2))
    precision, recall, _ = precision_recall_curve(labels, scores)
    scaled = (maps - maps.min()) / (maps.max() - maps.min())
    called = [scaled > threshold for threshold in np.arange(0, 1.001, 0.05)]
    fpr, pro = usual_curve(maps, masks)
    inside = fpr < 0.3
    return {
        "image_auroc": roc_auc_score(labels, scores),
        "image_ap": average_precision_score(labels, scores),
        "image_f1max": float(np.nanmax(2 * precision * recall / np.maximum(precision + recall, 1e-12))),
        "pixel_auroc": roc_auc_score(masks.ravel(), maps.ravel()),
        "pixel_ap": average_precision_score(masks.ravel(), maps.ravel()),
        "pixel_f1max": max(2 * (masks & positive).sum() / (positive.sum() + masks.sum()) for positive in called),
        "pixel_aupro": auc((fpr[inside] - fpr[inside].min()) / np.ptp(fpr[inside]), pro[inside]),
    }


def anomalib(maps: np.ndarray, masks: np.ndarray, python: Path) -> tuple[dict[str, float], float]:
    """What anomalib's metrics give, and their seconds, in a process of its own environment."""
    with tempfile.TemporaryDirectory() as folder:
        for name, array in (("maps", maps), ("masks", masks)):
            np.save(Path(folder) / f"{name}.npy", array)
        script = Path(__file__).with_name("anomalib_metrics.py")
        output = subprocess.run([python, script, folder], check=True, stdout=subprocess.PIPE, text=True).stdout
    found = json.loads(output.splitlines()[-1])
    return found["values"], found["seconds"]


def others(maps: np.ndarray, masks: np.ndarray, python: Path | None) -> None:
    """Print what this project, the ADer benchmark and anomalib give for the same maps, in percent."""
    rows: dict[str, tuple[dict[str, float], float]] = {}
    for about, scaled in (("", maps), (", maps × 100", maps * np.float32(100))):
        for name, function in (("this project's, standard", ours), ("ADer's, restated", ader)):
            begin = time.perf_counter()
            rows[name + about] = function(scaled, masks), time.perf_counter() - begin
        if python:
            rows[f"anomalib's{about}"] = anomalib(scaled, masks, python)
    print(f"\n| metrics | {' | '.join(METRICS)} | s |\n|---|{'---|' * (len(METRICS) + 1)}")
    for name, (values, seconds) in rows.items():
        print(f"| {name} | {' | '.join(f'{100 * values[metric]:.3f}' for metric in METRICS)} | {seconds:.2f} |")


def ours(maps: np.ndarray, masks: np.ndarray, protocol: str = "standard") -> dict[str, float]:
    values = evaluate(maps, masks, protocol=protocol)
    return {name: values[name] for name in METRICS}


class FromDisk:
    """Maps and masks of two ``.npy`` files, opened anew for each batch."""

    def __init__(self, folder: Path, length: int = 32):
        self.paths, self.length = (folder / "maps.npy", folder / "masks.npy"), length

    def __iter__(self):
        count = len(np.load(self.paths[0], mmap_mode="r"))
        for start in range(0, count, self.length):
            yield tuple(np.array(np.load(path, mmap_mode="r")[start : start + self.length]) for path in self.paths)


def measured(folder: Path) -> None:
    """Evaluate a folder's maps in this process and print seconds and the largest resident size in KiB."""
    batches, begin = FromDisk(folder), time.perf_counter()
    labels = np.concatenate([masks.any(axis=(1, 2)) for _, masks in batches])
    values = evaluate_batches(batches, image_scores(batches), labels)
    seconds = time.perf_counter() - begin
    # not getrusage, whose figure begins with that of the process that started this one
    print(seconds, re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1], values["pixel_aupro"])


def memory(count: int, baseline: float | None) -> tuple[float, float]:
    """Seconds, and MiB held beyond ``baseline``, of an evaluation of that many maps from disk."""
    with tempfile.TemporaryDirectory() as folder:
        files = [
            np.lib.format.open_memmap(Path(folder) / f"{name}.npy", "w+", dtype, (count, SIDE, SIDE))
            for name, dtype in (("maps", np.float32), ("masks", bool))
        ]
        base = make(min(count, 200))
        random = np.random.default_rng(1)
        for start in range(0, count, 200):
            part = slice(start, min(start + 200, count))
            length = part.stop - part.start
            # other scores in every part, so that the distinct ones grow with the maps
            files[0][part] = base[0][:length] * np.float32(random.uniform(0.9, 1.1))
            files[1][part] = base[1][:length]
        del files
        output = subprocess.run([sys.executable, __file__, "--folder", folder], check=True, capture_output=True, text=True)
    seconds, kib = map(float, output.stdout.split()[:2])
    return seconds, kib / 1024 - (baseline or 0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--large", type=int, default=10_000)
    parser.add_argument("--anomalib", type=Path, help="Python of an environment with anomalib")
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.folder:
        measured(arguments.folder)
        return
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    maps, masks = make(COUNT)
    seconds: dict[str, list[float]] = {"usual": [], "ours": []}
    for _ in range(arguments.rounds):
        for name, function in (("usual", usual), ("ours", ours)):
            begin = time.perf_counter()
            result = function(maps, masks)
            seconds[name].append(time.perf_counter() - begin)
            if name == "usual":
                expected = result
    reference = ours(maps, masks, "reference")
    worst = max(abs(reference[name] - expected[name]) for name in METRICS)
    assert worst < 1e-5, (reference, expected)
    usual_s, ours_s = (statistics.median(seconds[name]) for name in ("usual", "ours"))
    print(f"\n{COUNT} maps of {SIDE}×{SIDE}, {masks.mean():.1%} anomalous pixels, median of {arguments.rounds} rounds")
    print("| way | s | times faster |\n|---|---|---|")
    print(f"| usual | {usual_s:.2f} | 1 |\n| this project's | {ours_s:.3f} | {usual_s / ours_s:.0f} |")
    print(f"largest difference of a metric between the two (protocol reference): {worst:.1e}")

    others(maps, masks, arguments.anomalib)

    begin = time.perf_counter()
    batches = InBatches(maps, masks)
    resampled(batches, image_scores(batches), masks.any(axis=(1, 2)), 1000, np.random.default_rng(0))
    print(f"\n1,000 resamples of all metrics: {time.perf_counter() - begin:.2f} s")

    _, baseline = memory(4, None)
    print("\n| maps from disk | GB of maps | s | MiB held | times the maps |\n|---|---|---|---|---|")
    for count in (COUNT, 1000, arguments.large):
        held = memory(count, baseline)
        size = count * SIDE**2 * 4
        print(f"| {count:,} | {size / 1e9:.2f} | {held[0]:.2f} | {held[1]:.0f} | {held[1] * 2**20 / size:.2f} |")


if __name__ == "__main__":
    main()
