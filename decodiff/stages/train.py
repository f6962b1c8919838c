"""`train`: learn the direction of deviation on a scope's latents (Beizaee et al., CVPR 2025)."""

from __future__ import annotations

import logging
import math
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from torch.nn import functional
from tqdm import tqdm

from decodiff.config import Data, Diffusion, Masking, Training
from decodiff.data.manifest import Row, read_rows
from decodiff.data.views import View, view_probabilities
from decodiff.errors import InputError
from decodiff.files import read_array, read_json, replacing, write_csv, write_json
from decodiff.masking import sample_mask, sample_noise, sample_patch_side
from decodiff.models.storage import load_state, save_state
from decodiff.models.unet import build_unet
from decodiff.provenance import environment
from decodiff.scheduler import DeviationScheduler
from decodiff.seeds import derived_seed, torch_generator

log = logging.getLogger(__name__)

# seconds of work that an interruption may cost
SECONDS_PER_CHECKPOINT = 600
LOG_COLUMNS = ("epoch", "loss", "learning_rate")


@dataclass(frozen=True)
class TrainingSet:
    """Where one data set's encoded training images lie, and how their views are drawn."""

    name: str
    latents: Path
    prepared: Path
    data: Data
    categories: tuple[str, ...]


class Latents:
    """All training latents of a scope, memory-mapped: an item is a sample of one view's posterior and its category."""

    def __init__(self, sets: list[TrainingSet]):
        self.means, self.stds, self.probabilities, self.files = [], [], [], []
        self.items: list[tuple[int, int, int]] = []
        self.categories: list[str] = []
        for position, item in enumerate(sets):
            rows = read_rows(item.prepared / "train.csv")
            mean = read_array(item.latents / "train_mean.npy", (len(rows), None, None, None, None))
            self.means.append(mean)
            self.stds.append(read_array(item.latents / "train_std.npy", mean.shape))
            views = [View(**view) for view in read_json(item.latents / "views.json")]
            augmentation = item.data.augmentation
            self.probabilities.append(
                torch.from_numpy(view_probabilities(views, augmentation.shift_probability, augmentation.half_turn_probability))
            )
            self._add(position, item, rows)
        if len({mean.shape[2:] for mean in self.means}) != 1:
            raise InputError("the data sets of a scope have latents of different shapes; encode them with one autoencoder")

    def _add(self, position: int, item: TrainingSet, rows: list[Row]) -> None:
        known = item.categories or tuple(dict.fromkeys(row.category for row in rows))
        first = len(self.categories)
        self.categories += [f"{item.name}/{category}" for category in known]
        for index, row in enumerate(rows):
            if row.category in known:
                self.items.append((position, index, first + known.index(row.category)))
                self.files.append(row.image)

    def __len__(self) -> int:
        return len(self.items)

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.means[0].shape[2:]

    def batch(self, chosen: list[int], generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        """Latents float32 ``[B,C,h,w]`` and categories int64 ``[B]`` of the chosen items."""
        means, stds, categories = [], [], []
        for item in chosen:
            position, index, category = self.items[item]
            view = int(torch.multinomial(self.probabilities[position], 1, generator=generator))
            means.append(self.means[position][index, view])
            stds.append(self.stds[position][index, view])
            categories.append(category)
        mean, std = torch.from_numpy(np.stack(means)), torch.from_numpy(np.stack(stds))
        return mean + std * torch.randn(mean.shape, generator=generator), torch.tensor(categories)


def _fingerprint(item: TrainingSet) -> list:
    """What tells one data set's latents and their use from another's, cheaply: size and time of the file, augmentation."""
    status = (item.latents / "train_mean.npy").stat()
    return [item.name, status.st_size, status.st_mtime_ns, item.data.augmentation.model_dump()]


def learning_rate_factor(epoch: float, settings: Training) -> float:
    """Factor of the learning rate after ``epoch`` epochs: linear warm-up, then a cosine over ``epochs · cosine_stretch``."""
    if epoch < settings.warmup_epochs:
        return epoch / settings.warmup_epochs
    after = (epoch - settings.warmup_epochs) / (settings.epochs * settings.cosine_stretch - settings.warmup_epochs)
    return 0.5 * (1 + math.cos(math.pi * min(1.0, after)))


def deviation_loss(
    model: torch.nn.Module,
    scheduler: DeviationScheduler,
    latent: torch.Tensor,
    category: torch.Tensor,
    masking: Masking,
    generator: torch.Generator,
) -> torch.Tensor:
    """Mean squared error between the prediction and the direction of deviation, over all positions of a batch."""
    batch, _, height, width = latent.shape
    side = sample_patch_side(masking.patch_sides, masking.patch_probabilities, generator)
    mask = sample_mask(batch, height, width, side, masking.max_ratio, generator).to(latent.device)
    noise = sample_noise(latent, side, masking.max_foreign_ratio, generator)
    timestep = torch.randint(scheduler.config.num_train_timesteps, (batch,), generator=generator).to(latent.device)
    prediction = model(scheduler.add_noise(latent, noise, mask, timestep), timestep, category)
    return functional.mse_loss(prediction.float(), scheduler.target(latent, noise, mask, timestep))


class _Run:
    """A training under way: the network, its optimiser, and everything needed to go on from where it stands."""

    def __init__(self, latents: Latents, training: Training, diffusion: Diffusion, masking: Masking, seed: int):
        self.accelerator = Accelerator(mixed_precision=training.mixed_precision)
        self.latents, self.training, self.masking = latents, training, masking
        self.scheduler = DeviationScheduler(diffusion.num_train_timesteps)
        torch.manual_seed(derived_seed(seed, "unet weights"))
        self.model = build_unet(training.unet, len(latents.categories), latents.shape[0])
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(), lr=training.learning_rate, weight_decay=training.weight_decay, fused=True
        )
        self.prepared, self.optimizer = self.accelerator.prepare(self.model, self.optimizer)
        torch.manual_seed(derived_seed(seed, "dropout"))
        self.order = torch_generator(seed, "order")
        self.random = torch_generator(seed, "posterior, masks, noise and timesteps")
        self.epoch, self.history = 0, []

    def state(self) -> dict:
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "order": self.order.get_state(),
            "random": self.random.get_state(),
            "dropout": torch.get_rng_state(),
            "epoch": self.epoch,
            "history": self.history,
        }

    def restore(self, state: dict) -> None:
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.order.set_state(state["order"])
        self.random.set_state(state["random"])
        torch.set_rng_state(state["dropout"])
        self.epoch, self.history = state["epoch"], state["history"]

    def train_epoch(self, progress: tqdm) -> None:
        """One pass over all training images; raises `InputError` when the loss is not a number."""
        settings, losses = self.training, []
        order = torch.randperm(len(self.latents), generator=self.order).tolist()
        batches = [order[start : start + settings.batch_size] for start in range(0, len(order), settings.batch_size)]
        for number, chosen in enumerate(batches):
            latent, category = self.latents.batch(chosen, self.random)
            latent, category = latent.to(self.accelerator.device), category.to(self.accelerator.device)
            with self.accelerator.autocast():
                loss = deviation_loss(self.prepared, self.scheduler, latent, category, self.masking, self.random)
            if not torch.isfinite(loss):
                files = ", ".join(self.latents.files[item] for item in chosen[:4]) + (" …" if len(chosen) > 4 else "")
                raise InputError(
                    f"training: the loss is {loss.item()} in epoch {self.epoch}, step {number}, on {files}; "
                    "check these images, or lower training.learning_rate"
                )
            self.accelerator.backward(loss / settings.gradient_accumulation)
            losses.append(loss.item())
            if (number + 1) % settings.gradient_accumulation == 0 or number + 1 == len(batches):
                factor = learning_rate_factor(self.epoch + (number + 1) / len(batches), settings)
                for group in self.optimizer.param_groups:
                    group["lr"] = settings.learning_rate * factor
                if settings.clip_gradient_norm is not None:
                    self.accelerator.clip_grad_norm_(self.model.parameters(), settings.clip_gradient_norm)
                self.optimizer.step()
                self.optimizer.zero_grad()
            progress.update()
        self.epoch += 1
        self.history.append(
            {
                "epoch": self.epoch,
                "loss": f"{np.mean(losses):.6f}",
                "learning_rate": f"{self.optimizer.param_groups[0]['lr']:.3e}",
            }
        )
        progress.set_postfix(loss=f"{np.mean(losses):.4f}", refresh=False)


def train(sets: list[TrainingSet], diffusion: Diffusion, masking: Masking, training: Training, seed: int, output: Path) -> None:
    """Train one network and write it to ``output``: the network in diffusers' format, ``training.json``, ``log.csv``.

    An interrupted training leaves its state beside ``output`` and goes on from there when it is started again.

    Raises:
        InputError: inputs that do not belong together, or a loss that is not a number.
    """
    latents = Latents(sets)
    if len(latents) == 0:
        raise InputError(f"{sets[0].prepared / 'train.csv'}: no training image for this scope; at least one is needed")
    run = _Run(latents, training, diffusion, masking, seed)
    settings = {
        "categories": latents.categories,
        "diffusion": diffusion.model_dump(),
        "masking": masking.model_dump(mode="json"),
        "training": training.model_dump(),
        "seed": seed,
    }
    # what a state must have been trained on to be resumed
    inputs = {**settings, "data": [_fingerprint(item) for item in sets]}
    made_with = environment()
    state_path = output.with_name(f"{output.name}-state.pt")
    if (state := load_state(state_path)) and state.pop("inputs") == inputs:
        run.restore(state)
        log.info("resumed after epoch %d", run.epoch)
    steps = math.ceil(len(latents) / training.batch_size)
    progress = tqdm(desc="train", total=training.epochs * steps, initial=run.epoch * steps, unit="step")
    saved = time.monotonic()
    while run.epoch < training.epochs:
        run.train_epoch(progress)
        if time.monotonic() - saved > SECONDS_PER_CHECKPOINT and run.epoch < training.epochs:
            save_state(state_path, {**run.state(), "inputs": inputs})
            saved = time.monotonic()
    progress.close()
    with replacing(output) as temporary:
        run.model.save_pretrained(temporary)
        write_json(temporary / "training.json", {**settings, "environment": made_with})
        write_csv(temporary / "log.csv", LOG_COLUMNS, run.history)
    state_path.unlink(missing_ok=True)
    log.info("%d images of %d categories, final loss %s", len(latents), len(latents.categories), run.history[-1]["loss"])
