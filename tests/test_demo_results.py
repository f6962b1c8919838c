"""What `make demo` must reach; it runs after it (`make check-demo`)."""

import csv
from pathlib import Path

import numpy as np
import pytest
import torch

from decodiff.data.demo import DATA_SETS, DEFECTS, render
from decodiff.data.views import to_tensor, to_uint8
from decodiff.models.autoencoder import load_autoencoder

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.demo


def test_detection_and_localisation_reach_their_goal_and_some_defects_stay_hard():
    with open(ROOT / "results/demo/all/seed-0/demo/metrics.csv") as stream:
        rows = {row["category"]: row for row in csv.DictReader(stream)}
    mean = rows["mean"]
    assert float(mean["image_auroc"]) >= 0.97
    assert float(mean["pixel_auroc"]) >= 0.97
    assert float(mean["pixel_ap"]) >= 0.55
    assert float(mean["pixel_aupro"]) < 0.999 and float(mean["image_f1max"]) < 0.999, "nothing would be left to improve"


def test_defects_survive_the_autoencoder():
    """On defect pixels |D(E(x)) − x| is at most a third of |x − twin| in the median."""
    autoencoder = load_autoencoder(ROOT / "models/demo/autoencoder")
    samples = [
        render(category, "test", defect, index)
        for category in DATA_SETS["demo"].categories
        for defect in DEFECTS
        for index in range(10)
    ]
    images = np.stack([sample.image for sample in samples])
    with torch.no_grad():
        again = to_uint8(autoencoder.decode(autoencoder.encode(to_tensor(images))[0]))
    defects = np.stack([sample.mask for sample in samples])
    twins = np.stack([sample.twin for sample in samples])
    error = np.abs(again.astype(float) - images).mean(axis=-1)[defects]
    visible = np.abs(images.astype(float) - twins).mean(axis=-1)[defects]
    assert np.median(error) <= np.median(visible) / 3
    assert np.median(error[visible > 0] / visible[visible > 0]) <= 0.4
