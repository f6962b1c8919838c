"""anomalib's metrics of a folder's maps, for `metrics.py`, which runs this by the Python of an environment with anomalib.

    python anomalib_metrics.py <folder with maps.npy and masks.npy>

Prints one JSON: the metrics and the seconds that they took.
"""

import json
import sys
import time
from pathlib import Path

import numpy as np
import torch
from anomalib.metrics.aupr import _AUPR
from anomalib.metrics.aupro import _AUPRO
from anomalib.metrics.auroc import _AUROC
from anomalib.metrics.f1_score import _F1Max


def value(metric: torch.nn.Module, scores: torch.Tensor, labels: torch.Tensor) -> float:
    metric.update(scores, labels)
    return float(metric.compute())


def main(folder: Path) -> None:
    maps, masks = (torch.from_numpy(np.load(folder / f"{name}.npy")) for name in ("maps", "masks"))
    begin = time.perf_counter()
    result = {}
    for name, scores, labels in (
        ("image", maps.flatten(1).amax(dim=1), masks.flatten(1).any(dim=1).int()),
        ("pixel", maps.flatten(), masks.flatten().int()),
    ):
        for short, kind in (("auroc", _AUROC), ("ap", _AUPR), ("f1max", _F1Max)):
            result[f"{name}_{short}"] = value(kind(), scores, labels)
    result["pixel_aupro"] = value(_AUPRO(), maps, masks.int())
    print(json.dumps({"values": result, "seconds": time.perf_counter() - begin}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
