"""What the network answers on clean cells, on cells corrupted as in training, and on real defects.

    python benchmarks/answers.py results/<run>/config.yaml --scope <scope> --dataset <data set> [--output answers.png]

Reads a finished run of a data set with pixel masks. An answer is how far the correction moves a latent cell, the mean over
channels. Clean cells are those of normal test images; real defects are cells of anomalous ones, half or more in the mask;
made content is that of training images that are corrupted as in training, then encoded and corrected like a test image. Prints
the AUROC of either against clean cells, and draws the three distributions. Where made content is told from clean cells and real
defects are not, the network has learnt the corruption and not what is normal.

It looks at test labels, so it explains a result and must not choose a setting.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import seaborn
import torch
from matplotlib import pyplot
from sklearn.metrics import roc_auc_score
from tqdm import tqdm

from decodiff.config import Config, load
from decodiff.content import clean_cells, made_content
from decodiff.correction import correct
from decodiff.data.rows import read_positions, read_rows
from decodiff.data.views import cropped, network_input
from decodiff.files import read_array, read_json
from decodiff.models.autoencoder import load_autoencoder
from decodiff.models.unet import load_unet
from decodiff.reporting.drawing import ANOMALOUS_COLOUR, NORMAL_COLOUR, save, use_style
from decodiff.seeds import torch_generator
from decodiff.stages.correct import correction_scheduler

CORRUPTED_COLOUR = "#009E73"
BATCH = 16


def answers(before: torch.Tensor, after: torch.Tensor) -> np.ndarray:
    """Mean absolute change of each cell of latents ``[B,C,h,w]``: ``[B,h,w]``."""
    return (after - before).abs().mean(dim=1).numpy()


def on_test(config: Config, scope: str, dataset: str) -> tuple[np.ndarray, np.ndarray]:
    """Answers on clean and on defective cells."""
    part = Path("results", config.run, scope, f"seed-{config.seeds[0]}", dataset)
    positions, rows = read_positions(part / "corrected.csv")
    after = read_array(part / "corrected.npy", (len(rows), None, None, None))
    before = read_array(Path("models", config.run, "latents", dataset, "test_mean.npy"), (None, *after.shape[1:]))[positions]
    moved = answers(torch.from_numpy(before), torch.from_numpy(np.array(after)))
    masks = read_array(prepared(config, dataset) / "test_masks_standard.npy", (None, None, None))[positions]
    cell = config.autoencoder.downsampling
    shares = cropped(masks, config.image.crop).reshape(len(rows), after.shape[2], cell, after.shape[3], cell).mean(axis=(2, 4))
    normal = np.array([row.split == "test" and not row.label for row in rows])
    return moved[normal].ravel(), moved[shares >= 0.5]


def prepared(config: Config, dataset: str) -> Path:
    return Path("data", dataset, f"prepared-{config.image.resize}")


def on_made_content(config: Config, scope: str, dataset: str) -> np.ndarray:
    """Answers on corrupted cells of training images."""
    base = Path("models", config.run)
    unet = base / scope / f"seed-{config.seeds[0]}"
    coder, network = load_autoencoder(base / "autoencoder"), load_unet(unet)
    known = read_json(unet / "training.json", ("categories",))["categories"]
    rows = read_rows(prepared(config, dataset) / "train.csv")
    images = read_array(prepared(config, dataset) / "train_images.npy", (len(rows), None, None, 3))
    scheduler, random, found = correction_scheduler(config.diffusion, config.correction), torch_generator(0, "answers"), []
    for start in tqdm(range(0, len(rows), BATCH), desc="correct", unit="batch"):
        seen = network_input(cropped(images[start : start + BATCH], config.image.crop), config.image.contrast)
        changed, opacity = made_content(seen, config.masking.regions, random)
        latent, _ = coder.encode(changed)
        category = torch.tensor([known.index(f"{dataset}/{row.category}") for row in rows[start : start + BATCH]])
        moved = answers(latent, correct(network, latent, category, scheduler))
        found.append(moved[clean_cells(opacity, tuple(latent.shape[-2:]))[:, 0].numpy() == 0])
    return np.concatenate(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=Path, help="configuration of the run, results/<run>/config.yaml")
    parser.add_argument("--scope", required=True)
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--output", type=Path, default=Path("benchmarks/out/answers.png"))
    arguments = parser.parse_args()
    config = load(arguments.config)
    clean, defective = on_test(config, arguments.scope, arguments.dataset)
    corrupted = on_made_content(config, arguments.scope, arguments.dataset)
    use_style()
    figure, axes = pyplot.subplots(figsize=(5, 2.6))
    groups = (("clean cells", clean, NORMAL_COLOUR), ("made content", corrupted, CORRUPTED_COLOUR))
    for label, values, colour in (*groups, ("real defects", defective, ANOMALOUS_COLOUR)):
        truth = np.repeat([0, 1], [len(clean), len(values)])
        separation = "" if values is clean else f", AUROC {100 * roc_auc_score(truth, np.concatenate([clean, values])):.1f}"
        print(f"{label}: {len(values):,} cells, median {np.median(values):.4f}{separation}")
        logarithms = np.log10(values + 1e-4)
        seaborn.histplot(
            logarithms, bins=60, stat="density", element="step", fill=False, color=colour, ax=axes, label=f"{label}{separation}"
        )
    axes.set_xlabel("log10 of the answer, mean over channels")
    axes.legend()
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    save(figure, arguments.output)


if __name__ == "__main__":
    main()
