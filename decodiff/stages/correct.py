"""`correct`: remove the deviations from the latents of a data set's test images."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from decodiff.config import Correction, Diffusion
from decodiff.correction import correct as correct_latent
from decodiff.data.manifest import read_rows, write_positions
from decodiff.devices import device
from decodiff.errors import InputError
from decodiff.files import read_array, read_json, writing_array
from decodiff.models.unet import load_unet
from decodiff.scheduler import DeviationScheduler

log = logging.getLogger(__name__)


def correct(
    name: str, unet: Path, latents: Path, prepared: Path, diffusion: Diffusion, correction: Correction, output: Path
) -> None:
    """Correct the test latents of the categories the network knows.

    Writes ``corrected.npy`` float32 ``[N,C,h,w]`` and ``images.csv``, the rows it speaks of with their position in the
    prepared test arrays.

    Raises:
        InputError: the network knows no category of this data set, or files are damaged.
    """
    model, record = load_unet(unet, device()), read_json(unet / "training.json")
    if record["diffusion"] != diffusion.model_dump():
        raise InputError(f"{unet / 'training.json'}: trained with diffusion {record['diffusion']}, the configuration differs")
    known = record["categories"]
    rows = read_rows(prepared / "test.csv")
    chosen = [(position, row) for position, row in enumerate(rows) if f"{name}/{row.category}" in known]
    if not chosen:
        raise InputError(f"{prepared / 'test.csv'}: no test image of the network's categories {', '.join(known)}")
    latent = read_array(latents / "test_mean.npy", (len(rows), None, None, None))
    scheduler = DeviationScheduler(diffusion.num_train_timesteps)
    scheduler.set_timesteps(correction.steps)
    with writing_array(output / "corrected.npy", (len(chosen), *latent.shape[1:]), np.float32) as corrected:
        for start in tqdm(range(0, len(chosen), correction.batch_size), desc="correct", unit="batch"):
            part = chosen[start : start + correction.batch_size]
            batch = torch.from_numpy(latent[[position for position, _ in part]]).to(device())
            category = torch.tensor([known.index(f"{name}/{row.category}") for _, row in part], device=device())
            corrected[start : start + len(part)] = correct_latent(model, batch, category, scheduler).cpu().numpy()
    write_positions(output / "images.csv", chosen)
    log.info("%s: corrected %d images in %d steps", name, len(chosen), correction.steps)
