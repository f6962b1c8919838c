"""What a training says while it runs: a row an epoch, the same in TensorBoard, and how fast it went."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch.utils.tensorboard import SummaryWriter

from decodiff.files import write_csv

# more timesteps than this share columns
MOST_COLUMNS = 10


class TrainingLog:
    """Losses by timestep, summed up over an epoch and written at its end.

    Args:
        timesteps: the trained timesteps, ascending.
        num_train_timesteps: length of their schedule.
        folder: of TensorBoard's files; ``None`` writes none.
        first_epoch: of this run, so that what an interrupted run wrote after its last state is taken back.
    """

    def __init__(self, timesteps: list[int], num_train_timesteps: int, folder: Path | None, first_epoch: int):
        size = -(-len(timesteps) // MOST_COLUMNS)
        starts = timesteps[::size]
        self.columns = [f"loss_t{start}" for start in starts]
        bins = torch.zeros(num_train_timesteps, dtype=torch.int64)
        for position, timestep in enumerate(timesteps):
            bins[timestep] = position // size
        self._membership = torch.nn.functional.one_hot(bins, len(starts)).double()
        self.sums = torch.zeros(len(starts), 2, dtype=torch.float64)
        self.rows: list[dict[str, str]] = []
        self.speeds: list[dict[str, str]] = []
        self._writer = SummaryWriter(str(folder), purge_step=first_epoch + 1) if folder else None
        self._began = time.monotonic()

    def add(self, timestep: torch.Tensor, errors: torch.Tensor) -> None:
        """Losses of single images, float ``[B]``, at their timesteps, int64 ``[B]``, on any one device."""
        self._membership, self.sums = self._membership.to(errors.device), self.sums.to(errors.device)
        # as a product of matrices: its order of summation is fixed, that of an indexed addition on a GPU is not
        values = torch.stack([errors.detach().double(), torch.ones_like(errors, dtype=torch.float64)], dim=1)
        self.sums = self.sums + self._membership[timestep].T @ values

    def end_epoch(
        self, epoch: int, step: int, rate: float, images: int, reduce: Callable[[torch.Tensor], torch.Tensor]
    ) -> None:
        """Add the epoch's row; ``reduce`` adds up the sums of all processes."""
        sums = reduce(self.sums).cpu()
        total, count = sums.sum(dim=0).tolist()
        self.sums = torch.zeros_like(self.sums)
        by_timestep = {
            name: f"{part / number:.6f}" if number else "" for name, (part, number) in zip(self.columns, sums.tolist())
        }
        progress = {"epoch": str(epoch), "step": str(step), "loss": f"{total / count:.6f}", "learning_rate": f"{rate:.3e}"}
        self.rows.append({**progress, **by_timestep})
        seconds, self._began = time.monotonic() - self._began, time.monotonic()
        self.speeds.append({"epoch": str(epoch), "seconds": f"{seconds:.3f}", "images_per_second": f"{images / seconds:.2f}"})
        if self._writer:
            for row in (self.rows[-1], self.speeds[-1]):
                for name, value in row.items():
                    if value and name not in ("epoch", "step"):
                        tag = name.replace("loss_t", "loss_by_timestep/") if name in self.columns else name
                        self._writer.add_scalar(tag, float(value), epoch)
            self._writer.flush()

    @property
    def seconds(self) -> float:
        """Seconds of all epochs that have ended; what was lost in an interruption and trained again counts once."""
        return sum(float(row["seconds"]) for row in self.speeds)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """A context for what is no part of the training, so that it does not count in its seconds."""
        began = time.monotonic()
        yield
        self._began += time.monotonic() - began

    def show(self, epoch: int, images: torch.Tensor) -> None:
        """Pictures float ``[N,3,H,W]`` in [0, 1], in TensorBoard."""
        if self._writer:
            self._writer.add_images("corrected", images, epoch)

    def write(self, folder: Path) -> None:
        """``log.csv``, the same for the same training, and ``speed.tsv``, which is not."""
        write_csv(folder / "log.csv", self.rows[0], self.rows)
        lines = ["\t".join(self.speeds[0]), *("\t".join(row.values()) for row in self.speeds)]
        (folder / "speed.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")

    def state(self) -> dict[str, Any]:
        seconds = time.monotonic() - self._began
        return {"sums": self.sums.cpu(), "rows": self.rows, "speeds": self.speeds, "seconds": seconds}

    def restore(self, state: dict[str, Any]) -> None:
        self.sums, self.rows, self.speeds = state["sums"], state["rows"], state["speeds"]
        self._began = time.monotonic() - state["seconds"]

    def close(self) -> None:
        if self._writer:
            self._writer.close()
