"""`train`: learn the direction of deviation on a scope's latents (Beizaee et al., CVPR 2025)."""

from __future__ import annotations

import logging
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import torch

from decodiff.correction import correct
from decodiff.data.rows import read_rows
from decodiff.devices import device
from decodiff.errors import InputError
from decodiff.files import alone, read_array, replacing, write_json
from decodiff.models.autoencoder import Autoencoder, load_autoencoder
from decodiff.models.reference import start_from
from decodiff.models.storage import States, save_network
from decodiff.models.unet import build_unet
from decodiff.provenance import environment
from decodiff.scheduler import DeviationScheduler
from decodiff.seeds import derived_seed
from decodiff.settings import Diffusion, Image, Masking, TrainedModel, Training
from decodiff.training.data import TrainingData, TrainingSet
from decodiff.training.kept import Kept, is_made
from decodiff.training.loop import Look, Loop

log = logging.getLogger(__name__)


def _look(sets: list[TrainingSet], data: TrainingData, autoencoder: Autoencoder, diffusion: Diffusion, count: int) -> Look:
    """Pictures of some anomalous test images, reconstructed (left) and corrected over all timesteps (right)."""
    latents, categories = [], []
    for item in sets:
        rows = read_rows(item.prepared / "test.csv")
        known = [f"{item.name}/{row.category}" for row in rows]
        chosen = [place for place, row in enumerate(rows) if row.label and known[place] in data.categories]
        stored = read_array(item.latents / "test_mean.npy", (len(rows), None, None, None))
        for place in chosen[:: max(1, len(chosen) // count)][:count]:
            latents.append(torch.from_numpy(np.array(stored[place])))
            categories.append(data.categories.index(known[place]))
    if not latents:
        raise InputError(f"{sets[0].prepared / 'test.csv'}: no anomalous test image to look at; set training.look_every to 0")
    latent, category = torch.stack(latents[:count]).to(device()), torch.tensor(categories[:count], device=device())
    scheduler = DeviationScheduler(diffusion.num_train_timesteps)
    scheduler.set_timesteps(len(diffusion.timesteps))

    def look(model: torch.nn.Module) -> torch.Tensor:
        pictures = [autoencoder.decode(part).cpu() for part in (latent, correct(model, latent, category, scheduler))]
        return ((torch.cat(pictures, dim=3) + 1) / 2).clamp(0, 1)

    return look


def train(
    sets: list[TrainingSet],
    diffusion: Diffusion,
    masking: Masking,
    training: Training,
    model: TrainedModel,
    image: Image,
    seed: int,
    output: Path,
    autoencoder: Path | None = None,
    tensorboard: Path | None = None,
) -> None:
    """Train one network and write it to ``output``: diffusers' format, ``training.json``, ``log.csv``, ``speed.tsv``.

    Networks of ``training.kept_epochs`` go to ``output/kept/epoch-<epoch>``, the epoch in five digits: diffusers' format and a
    ``training.json`` that also says after which epoch, how many steps and how many seconds of training.

    An interrupted training leaves its states and kept networks beside ``output`` and goes on from the newest state when it is
    started again. Started by ``torchrun`` or ``accelerate launch``, several processes train the network together, each on its
    part of every batch.

    Args:
        sets: the scope's data sets.
        diffusion, masking, training, model, image: settings.
        seed: of everything random.
        output: folder to write.
        autoencoder: its folder; needed where images are encoded while training, and to look at corrections.
        tensorboard: folder of TensorBoard's files; ``None`` writes none.

    Raises:
        InputError: inputs that do not belong together, a loss that is not a number, or no room for a state.
    """
    coder = load_autoencoder(autoencoder, device()) if autoencoder else None
    data = TrainingData(sets, image, masking, coder)
    torch.manual_seed(derived_seed(seed, "unet weights"))
    network = build_unet(training.unet, len(data.categories), data.channels, training.dropout)
    if model.start is not None:
        start_from(Path(model.start), network)
    settings = {
        "categories": data.categories,
        "diffusion": diffusion.model_dump(),
        "masking": masking.model_dump(mode="json"),
        "training": training.model_dump(),
        "model": model.model_dump(),
        "image": image.model_dump(),
        "augmentation": {item.name: item.augmentation.model_dump() for item in sets},
        "seed": seed,
    }
    made_with = environment()
    look = None
    if training.look_every:
        if coder is None or diffusion.objective != "deviation":
            raise InputError("training.look_every: needs --autoencoder and diffusion.objective deviation; set it to 0")
        look = _look(sets, data, coder, diffusion, training.look_images)
    states = States(output, {**settings, "data": [item.fingerprint() for item in sets]})
    kept = Kept(output, training.kept_epochs, settings, made_with)
    loop = Loop(network, data, diffusion, masking, training, seed, tensorboard)
    is_first = loop.accelerator.is_main_process
    with alone(output) if is_first else nullcontext(False) as waited:
        loop.accelerator.wait_for_everyone()
        if waited and loop.accelerator.num_processes == 1 and is_made(output, settings):
            log.info("%s: trained by the process that was waited for", output)
            return
        loop.run(states, kept, look)
        if is_first:
            with replacing(output) as temporary:
                with loop.result() as trained:
                    save_network(trained, temporary)
                write_json(temporary / "training.json", {**settings, "environment": made_with})
                loop.log.write(temporary)
                # last, as the states are of no use without them
                kept.move(temporary)
            states.clear()
            kept.clear()
            log.info("%d images of %d categories, final loss %s", len(data), len(data.categories), loop.log.rows[-1]["loss"])
    loop.accelerator.wait_for_everyone()
    loop.accelerator.end_training()
