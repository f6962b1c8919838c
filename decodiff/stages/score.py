"""`score`: anomaly maps from the latents and their correction."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from decodiff.data.rows import read_positions, write_positions
from decodiff.data.views import to_uint8
from decodiff.devices import device, precision
from decodiff.errors import InputError
from decodiff.files import read_array, writing_array
from decodiff.models.autoencoder import load_autoencoder
from decodiff.scoring import decoded_maps
from decodiff.settings import Inference, Scoring

log = logging.getLogger(__name__)


def score(corrected: Path, latents: Path, autoencoder: Path, scoring: Scoring, inference: Inference, output: Path) -> None:
    """Decode each latent and its correction and compare them.

    Writes ``anomaly_maps.npy`` float32 ``[N,H,W]`` in [0, 1] and ``corrections.npy`` uint8 ``[N,H,W,3]`` (the corrected
    images), in the order of ``corrected.csv`` in ``corrected``, which becomes their ``images.csv``.

    Raises:
        InputError: files are damaged or do not belong together, or a map holds NaN.
    """
    network = load_autoencoder(autoencoder, device())
    positions, rows = read_positions(corrected / "corrected.csv")
    after, means = corrected / "corrected.npy", latents / "test_mean.npy"
    shape = read_array(after, (len(rows), None, None, None)).shape
    settings = scoring.constants

    def decode(latent: torch.Tensor) -> torch.Tensor:
        # the maps themselves are always computed in float32
        with precision(inference.mixed_precision):
            return network.decode(latent)

    height, width = network.decode(torch.zeros(1, *shape[1:])).shape[-2:]
    with (
        writing_array(output / "anomaly_maps.npy", (len(rows), height, width), np.float32) as maps,
        writing_array(output / "corrections.npy", (len(rows), height, width, 3), np.uint8) as corrections,
    ):
        for start in tqdm(range(0, len(rows), scoring.batch_size), desc="score", unit="batch"):
            part = slice(start, start + scoring.batch_size)
            # opened for each batch, so that what was read does not stay mapped
            latent = torch.from_numpy(read_array(means, (None, *shape[1:]))[positions[part]]).to(device())
            corrected_latent = torch.from_numpy(np.array(read_array(after, shape)[part])).to(device())
            result, reconstruction = decoded_maps(decode, latent, corrected_latent, settings, scoring.fusion)
            if not torch.isfinite(result).all():
                bad = int((~torch.isfinite(result)).flatten(1).any(1).nonzero()[0])
                raise InputError(f"{rows[start + bad].image}: its anomaly map holds NaN; check the network and the image")
            maps.extend(result.cpu().numpy())
            corrections.extend(to_uint8(reconstruction))
    write_positions(output / "images.csv", zip(positions.tolist(), rows))
    log.info("%d anomaly maps of %d×%d pixels", len(rows), height, width)
