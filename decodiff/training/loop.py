"""The training loop: one network, one or several processes, resumable after any step.

Everything random in a step is drawn from generators that the seed and the number of the step decide. So a training that was
interrupted goes on to the same bits, and several processes see the batches, masks and noise that one would.
"""

from __future__ import annotations

import contextlib
import logging
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import torch
from accelerate import Accelerator
from diffusers.models import ModelMixin
from diffusers.training_utils import EMAModel
from torch import nn
from tqdm import tqdm

from decodiff.devices import device
from decodiff.errors import InputError
from decodiff.interruption import Request, noted
from decodiff.models.storage import States
from decodiff.objectives import Example, content_example, deviation_example, noise_example, squared_errors
from decodiff.scheduler import DeviationScheduler, build_scheduler
from decodiff.seeds import derived_seed, torch_generator
from decodiff.settings import Diffusion, Masking, Training
from decodiff.training.data import TrainingData
from decodiff.training.kept import Kept
from decodiff.training.log import TrainingLog

log = logging.getLogger(__name__)

# seconds of work that a kill may cost; an interruption costs none
SECONDS_PER_STATE = 600
FILES_NAMED = 4

Look = Callable[[nn.Module], torch.Tensor]


def learning_rate_factor(epoch: float, settings: Training) -> float:
    """Factor of the learning rate after ``epoch`` epochs: linear warm-up, then a cosine over ``epochs · cosine_stretch``."""
    if epoch < settings.warmup_epochs:
        return epoch / settings.warmup_epochs
    after = (epoch - settings.warmup_epochs) / (settings.epochs * settings.cosine_stretch - settings.warmup_epochs)
    return 0.5 * (1 + math.cos(math.pi * min(1.0, after)))


@dataclass(frozen=True)
class _Pending:
    """A loss that is still being computed, and what to say should it turn out to be no number."""

    loss: torch.Tensor
    step: int
    files: list[str]

    def check(self) -> None:
        if not math.isfinite(loss := self.loss.item()):
            named = ", ".join(self.files[:FILES_NAMED]) + (" …" if len(self.files) > FILES_NAMED else "")
            raise InputError(
                f"training: the loss is {loss} in step {self.step}, on {named}; check these images, or lower "
                "training.learning_rate"
            )


class Loop:
    """A training under way.

    Args:
        model: the network, already initialised.
        data: what it is trained on.
        diffusion, masking, training: settings.
        seed: of batches, masks, noise, timesteps and dropout.
        tensorboard: folder of TensorBoard's files; ``None`` writes none.

    Raises:
        InputError: the precision is not one this machine computes in.
    """

    def __init__(
        self,
        model: ModelMixin,
        data: TrainingData,
        diffusion: Diffusion,
        masking: Masking,
        training: Training,
        seed: int,
        tensorboard: Path | None = None,
    ):
        if training.mixed_precision == "fp16" and device().type == "cpu":
            raise InputError("training.mixed_precision: fp16 needs a GPU; choose bf16 or no")
        self.accelerator = Accelerator(mixed_precision=training.mixed_precision)
        self.data, self.masking, self.training, self.diffusion, self.seed = data, masking, training, diffusion, seed
        self.scheduler = build_scheduler(diffusion.objective, diffusion.num_train_timesteps)
        self.timesteps = torch.tensor(diffusion.timesteps)
        self.model = model
        self.optimizer = torch.optim.AdamW(
            [parameter for parameter in model.parameters() if parameter.requires_grad],
            lr=training.learning_rate,
            weight_decay=training.weight_decay,
            fused=True,
        )
        self.prepared, self.optimizer = self.accelerator.prepare(self.model, self.optimizer)
        self.average = EMAModel(model.parameters(), decay=training.ema_decay) if training.ema_decay else None
        self.epoch_images = training.epoch_images or len(data)
        self.steps_per_epoch = math.ceil(self.epoch_images / training.batch_size)
        self.steps = training.epochs * self.steps_per_epoch
        self.step = 0
        self._tensorboard = tensorboard if self.accelerator.is_main_process else None
        self._order: tuple[int, list[int]] = (-1, [])
        # from `run` on
        self.log: TrainingLog

    # ---- one step

    def _chosen(self, step: int) -> list[int]:
        """Items of a step's batch, those of all processes."""
        epoch, number = divmod(step, self.steps_per_epoch)
        if self._order[0] != epoch:
            generator = torch_generator(self.seed, f"order of epoch {epoch}")
            order: list[int] = []
            while len(order) < self.epoch_images:
                order += torch.randperm(len(self.data), generator=generator).tolist()
            self._order = (epoch, order[: self.epoch_images])
        size = self.training.batch_size
        return self._order[1][number * size : (number + 1) * size]

    def _example(self, chosen: list[int], step: int) -> tuple[Example, torch.Tensor]:
        """The whole batch as the network sees it, with its categories."""
        generator = torch_generator(self.seed, f"training step {step}")
        scheduler = self.scheduler
        if isinstance(scheduler, DeviationScheduler) and self.masking.corruption == "content":
            latent, category, content = self.data.batch_with_content(chosen, generator)
            return content_example(scheduler, latent, content, self.timesteps, generator), category
        latent, category = self.data.batch(chosen, generator)
        if isinstance(scheduler, DeviationScheduler):
            return deviation_example(scheduler, latent, self.timesteps, generator, **self.masking.patches), category
        return noise_example(scheduler, latent, self.timesteps, generator), category

    def _group(self, step: int) -> tuple[int, bool]:
        """Images of the batches that share an optimiser step with this one, and whether it is the last of them."""
        size = self.training.gradient_accumulation
        number = step % self.steps_per_epoch
        first = number - number % size
        last = min(first + size, self.steps_per_epoch) - 1
        images = min((last + 1) * self.training.batch_size, self.epoch_images) - first * self.training.batch_size
        return images, number == last

    def _take_step(self) -> _Pending:
        """Forward and backward on this process's part of the batch; the optimiser's step where a group of batches ends."""
        accelerator, chosen = self.accelerator, self._chosen(self.step)
        example, category = self._example(chosen, self.step)
        # with fewer images than processes, go along without weight
        empty = accelerator.process_index >= len(chosen)
        part = slice(1) if empty else slice(accelerator.process_index, None, accelerator.num_processes)
        noisy, timestep, category, target = (
            tensor[part].to(accelerator.device) for tensor in (example.noisy, example.timestep, category, example.target)
        )
        torch.manual_seed(derived_seed(self.seed, f"dropout of step {self.step}, process {accelerator.process_index}"))
        images, is_last = self._group(self.step)
        waits = contextlib.nullcontext() if is_last else accelerator.no_sync(self.prepared)
        with waits:
            with accelerator.autocast():
                prediction = self.prepared(noisy, timestep, category)
            errors = squared_errors(prediction, target) * (0 if empty else 1)
            # processes' gradients are averaged, so that the sum over all images of the group is divided by their number
            accelerator.backward(errors.sum() * (accelerator.num_processes / images))
        if not empty:
            self.log.add(timestep, errors)
        if is_last:
            self._optimise()
        return _Pending(errors.detach().mean(), self.step, [self.data.files[item] for item in chosen[part]])

    def _optimise(self) -> None:
        rate = self._rate(self.step + 1)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        if self.training.clip_gradient_norm is not None:
            self.accelerator.clip_grad_norm_(self.model.parameters(), self.training.clip_gradient_norm)
        self.optimizer.step()
        self.optimizer.zero_grad()
        if self.average:
            self.average.step(self.model.parameters())

    def _rate(self, steps: int) -> float:
        return self.training.learning_rate * learning_rate_factor(steps / self.steps_per_epoch, self.training)

    # ---- where it stands

    def _state(self) -> dict[str, Any]:
        scaler = self.accelerator.scaler
        return {
            "step": self.step,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": scaler.state_dict() if scaler else None,
            "average": self.average.state_dict() if self.average else None,
            "log": self.log.state(),
        }

    def _restore(self, state: dict[str, Any]) -> None:
        self.step = state["step"]
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.accelerator.scaler:
            self.accelerator.scaler.load_state_dict(state["scaler"])
        if self.average:
            self.average.load_state_dict(state["average"])
            self.average.to(self.accelerator.device)

    @contextlib.contextmanager
    def result(self) -> Iterator[ModelMixin]:
        """The network that the training gives: with averaged weights, where they are wanted, and ready to predict."""
        if self.average:
            self.average.store(self.model.parameters())
            self.average.copy_to(self.model.parameters())
        self.model.eval()
        try:
            yield self.model
        finally:
            self.model.train()
            if self.average:
                self.average.restore(self.model.parameters())

    # ---- all of it

    def run(self, states: States, kept: Kept, look: Look | None = None) -> None:
        """Train to the end, from the newest state if there is one and the networks kept before it are there too.

        Asked to end by SIGINT or SIGTERM, it saves a state after the optimiser's step under way and ends; of several processes
        all do so after the same step, also where one alone was asked.

        Args:
            states: where to keep states.
            kept: where to keep the networks of ``training.kept_epochs``.
            look: gives pictures of what the network does by now, shown every ``training.look_every`` epochs.

        Raises:
            InputError: a loss is not a number, or a state cannot be read, or a state or a kept network cannot be written.
            KeyboardInterrupt, SystemExit: the process was asked to end, and the state is saved.
        """
        with noted() as request:
            self._begin(states, kept)
            self._train(states, kept, look, request)
        self.log.close()

    def _begin(self, states: States, kept: Kept) -> None:
        """From the newest state, if there is one and the networks kept before it are there too."""
        state = states.load()
        if state and (lost := kept.lost(state["step"] // self.steps_per_epoch)):
            log.warning("%s: gone, or of another training; so this one begins anew", lost)
            state = None
            # they would count as newer than those to come; other processes may still be reading
            self.accelerator.wait_for_everyone()
            if self.accelerator.is_main_process:
                states.clear()
        if state:
            self._restore(state)
            log.info("resumed after step %d of %d", self.step, self.steps)
        epoch = self.step // self.steps_per_epoch
        self.log = TrainingLog(self.timesteps.tolist(), self.diffusion.num_train_timesteps, self._tensorboard, epoch)
        if state:
            self.log.restore(state["log"])

    def _train(self, states: States, kept: Kept, look: Look | None, request: Request) -> None:
        saved = time.monotonic()
        pending: _Pending | None = None
        heard: bool | torch.Tensor = False
        with tqdm(
            desc="train", total=self.steps, initial=self.step, unit="step", disable=not self.accelerator.is_main_process
        ) as progress:
            while self.step < self.steps:
                latest, before, heard = self._take_step(), heard, self._heard(request)
                if pending:  # now that the next one is under way
                    pending.check()
                self.step, pending = self.step + 1, latest
                progress.update()
                if self.step % self.steps_per_epoch == 0:
                    self._end_epoch(progress, kept, look)
                if not self._group(self.step - 1)[1]:
                    continue
                # several processes go by what they heard a step ago, which they need not wait for
                is_asked = bool(heard if self.accelerator.num_processes == 1 else before)
                is_due = time.monotonic() - saved > SECONDS_PER_STATE and self.step < self.steps
                if (is_asked or is_due) and self.accelerator.is_main_process:
                    pending.check()
                    states.save(self.step, self._state())
                    saved = time.monotonic()
                if is_asked:
                    self._end_early(request)
        if pending:
            pending.check()

    def _heard(self, request: Request) -> bool | torch.Tensor:
        """Whether this process was asked to end by now; with several, how many of them were: all hear it at the same step."""
        is_asked = request.signal is not None
        if self.accelerator.num_processes == 1:
            return is_asked
        return self.accelerator.reduce(torch.tensor(float(is_asked), device=self.accelerator.device), "sum")

    def _end_early(self, request: Request) -> None:
        """End as asked, once the first process has saved the state."""
        self.log.close()
        self.accelerator.wait_for_everyone()
        log.info("interrupted after step %d of %d, which the next start goes on from", self.step, self.steps)
        request.end()

    def _end_epoch(self, progress: tqdm[NoReturn], kept: Kept, look: Look | None) -> None:
        epoch = self.step // self.steps_per_epoch
        reduce = lambda sums: self.accelerator.reduce(sums, "sum")  # noqa: E731  (a name for an argument)
        self.log.end_epoch(epoch, self.step, self._rate(self.step), self.epoch_images, reduce)
        progress.set_postfix(loss=self.log.rows[-1]["loss"], refresh=False)
        if not self.accelerator.is_main_process:
            return
        every = self.training.look_every
        with self.log.paused():
            if epoch in self.training.kept_epochs:
                with self.result() as model:
                    kept.save(model, epoch, self.step, self.log.seconds)
            if look and every and epoch % every == 0:
                with self.result() as model:
                    self.log.show(epoch, look(model))
