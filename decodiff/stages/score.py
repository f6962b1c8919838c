"""`score`: anomaly maps and image scores from the latents and their correction."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from decodiff.data.manifest import read_positions
from decodiff.data.views import to_uint8
from decodiff.devices import device
from decodiff.errors import InputError
from decodiff.files import read_array, write_csv, writing_array
from decodiff.models.autoencoder import load_autoencoder
from decodiff.scoring import ScoringSettings, anomaly_maps
from decodiff.settings import Scoring

log = logging.getLogger(__name__)

SCORE_COLUMNS = ("image", "category", "label", "defect", "image_score")


def score(corrected: Path, latents: Path, autoencoder: Path, scoring: Scoring, output: Path) -> None:
    """Decode each latent and its correction and compare them.

    Writes ``anomaly_maps.npy`` float32 ``[N,H,W]`` in [0, 1], ``corrections.npy`` uint8 ``[N,H,W,3]`` (the corrected images)
    and ``scores.csv`` (image score: the map's maximum), all in the order of ``images.csv`` in ``corrected``.

    Raises:
        InputError: files are damaged or do not belong together, or a map holds NaN.
    """
    network = load_autoencoder(autoencoder, device())
    positions, rows = read_positions(corrected / "images.csv")
    after = read_array(corrected / "corrected.npy", (len(rows), None, None, None))
    before = read_array(latents / "test_mean.npy", (None, *after.shape[1:]))
    settings = ScoringSettings(**scoring.model_dump(exclude={"fusion", "batch_size"}))
    height, width = network.decode(torch.from_numpy(after[:1].copy())).shape[-2:]
    scores = []
    with (
        writing_array(output / "anomaly_maps.npy", (len(rows), height, width), np.float32) as maps,
        writing_array(output / "corrections.npy", (len(rows), height, width, 3), np.uint8) as corrections,
    ):
        for start in tqdm(range(0, len(rows), scoring.batch_size), desc="score", unit="batch"):
            part = slice(start, start + scoring.batch_size)
            latent = torch.from_numpy(before[positions[part]]).to(device())
            corrected_latent = torch.from_numpy(after[part].copy()).to(device())
            decoded = network.decode(torch.cat([latent, corrected_latent]))
            image, reconstruction = decoded.chunk(2)
            result = getattr(anomaly_maps(image, reconstruction, latent, corrected_latent, settings), scoring.fusion)
            if not torch.isfinite(result).all():
                bad = int((~torch.isfinite(result)).flatten(1).any(1).nonzero()[0])
                raise InputError(f"{rows[start + bad].image}: its anomaly map holds NaN; check the network and the image")
            maps[part], corrections[part] = result.cpu().numpy(), to_uint8(reconstruction)
            scores += result.flatten(1).amax(1).tolist()
    write_csv(
        output / "scores.csv",
        SCORE_COLUMNS,
        (
            {
                "image": row.image,
                "category": row.category,
                "label": row.label,
                "defect": row.defect,
                "image_score": f"{value:.6f}",
            }
            for row, value in zip(rows, scores)
        ),
    )
    log.info("%d anomaly maps of %d×%d pixels", len(rows), height, width)
