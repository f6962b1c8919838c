"""`correct`: remove the deviations from the latents of a data set's test images."""

from __future__ import annotations

import logging
import resource
import time
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from decodiff.correction import correct as correct_latent
from decodiff.data.rows import Row, read_rows, write_positions
from decodiff.devices import device, device_name, precision
from decodiff.errors import InputError
from decodiff.files import read_array, read_json, sha256, write_json, writing_array
from decodiff.models.names import WEIGHTS_FILE
from decodiff.models.unet import load_unet, prediction_operations
from decodiff.provenance import environment
from decodiff.scheduler import DeviationScheduler, Scheduler, build_scheduler
from decodiff.seeds import torch_generator
from decodiff.settings import Correction, Diffusion, Inference

log = logging.getLogger(__name__)


def correction_scheduler(diffusion: Diffusion, correction: Correction) -> Scheduler:
    """The scheduler with the timesteps that a correction takes, the highest first."""
    scheduler = build_scheduler(diffusion.objective, correction.num_train_timesteps or diffusion.num_train_timesteps)
    scheduler.set_timesteps(correction.steps)
    if correction.noise_timestep is not None:
        scheduler.timesteps = scheduler.timesteps[scheduler.timesteps <= correction.noise_timestep]
    return scheduler


def noised(latent: torch.Tensor, rows: list[Row], seed: int, scheduler: Scheduler, correction: Correction) -> torch.Tensor:
    """Latents as a correction starts from them: as they are, or with standard diffusion noised.

    An image's noise is the same whatever the batch.
    """
    if correction.noise_timestep is None or isinstance(scheduler, DeviationScheduler):
        return latent
    generators = [torch_generator(seed, f"noise of {row.category}, {row.sha256}") for row in rows]
    noise = torch.stack([torch.randn(latent.shape[1:], generator=generator) for generator in generators])
    timestep = torch.full((len(rows),), correction.noise_timestep, device=latent.device)
    return scheduler.add_noise(latent, noise.to(latent), timestep)  # type: ignore[arg-type]  # declared for int32 alone


def _peak_mib() -> float:
    """The most memory held so far in MiB: on the accelerator if there is one, else by the process."""
    if device().type == "cuda":
        return torch.cuda.max_memory_allocated() / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def correct(
    name: str,
    unet: Path,
    latents: Path,
    prepared: Path,
    diffusion: Diffusion,
    correction: Correction,
    inference: Inference,
    output: Path,
) -> None:
    """Correct the test and validation latents of the categories the network knows.

    A network of standard diffusion gets them noised to ``correction.noise_timestep`` and takes the noise away again (DDIM).

    Writes ``corrected.npy`` float32 ``[N,C,h,w]``; ``corrected.csv``, the rows it speaks of with their position in the
    prepared test arrays; and ``inference.json``: which network, its size and operations per image, how fast it was, on what.

    Raises:
        InputError: the network knows no category of this data set, or files are damaged.
    """
    model, record = load_unet(unet, device()), read_json(unet / "training.json", ("categories", "diffusion", "seed"))
    if record["diffusion"] != diffusion.model_dump():
        raise InputError(f"{unet / 'training.json'}: trained with diffusion {record['diffusion']}, the configuration differs")
    known = record["categories"]
    rows = read_rows(prepared / "test.csv")
    chosen = [(position, row) for position, row in enumerate(rows) if f"{name}/{row.category}" in known]
    if not chosen:
        raise InputError(f"{prepared / 'test.csv'}: no test image of the network's categories {', '.join(known)}")
    means, shape = latents / "test_mean.npy", (len(rows), None, None, None)
    latent_shape = read_array(means, shape).shape[1:]
    scheduler = correction_scheduler(diffusion, correction)
    begin = time.perf_counter()
    with (
        writing_array(output / "corrected.npy", (len(chosen), *latent_shape), np.float32) as corrected,
        precision(inference.mixed_precision),
    ):
        for start in tqdm(range(0, len(chosen), correction.batch_size), desc="correct", unit="batch"):
            part = chosen[start : start + correction.batch_size]
            batch = torch.from_numpy(read_array(means, shape)[[position for position, _ in part]]).to(device())
            batch = noised(batch, [row for _, row in part], record["seed"], scheduler, correction)
            category = torch.tensor([known.index(f"{name}/{row.category}") for _, row in part], device=device())
            corrected.extend(correct_latent(model, batch, category, scheduler).cpu().numpy())
    write_positions(output / "corrected.csv", chosen)
    seconds = time.perf_counter() - begin
    record = {
        "network_sha256": sha256(unet / WEIGHTS_FILE),
        "seed": record["seed"],
        "steps": len(scheduler.timesteps),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "operations_per_image": prediction_operations(model, latent_shape) * len(scheduler.timesteps),
        "images_per_second": len(chosen) / seconds,
        "peak_mib": _peak_mib(),
        "device": device_name(),
        "environment": environment(),
    }
    write_json(output / "inference.json", record)
    log.info("%s: corrected %d images in %d steps", name, len(chosen), correction.steps)
