"""Networks that a training keeps on its way: as they would be its result after some epochs."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from diffusers.models import ModelMixin

from decodiff.files import read_json, remove, replacing, write_json
from decodiff.models.storage import save_network

# what the record of a kept network says besides that of a result: after which epoch, how many steps and seconds of training
PROGRESS = ("epoch", "steps", "seconds")


def is_made(folder: Path, settings: dict[str, Any]) -> bool:
    """Whether a network that was trained with these settings is there."""
    if not (folder / "training.json").is_file():
        return False
    record = read_json(folder / "training.json", ("environment",))
    # through JSON, as the record went
    return {name: record[name] for name in record.keys() - {"environment", *PROGRESS}} == json.loads(json.dumps(settings))


class Kept:
    """The networks that one training keeps: folders ``<name>-kept/epoch-<epoch>`` beside its output ``<name>``.

    Args:
        output: folder that the training will write when it is done.
        epochs: after which a network is kept.
        settings, environment: what ``training.json`` says of the training, and what it is made with.
    """

    def __init__(self, output: Path, epochs: tuple[int, ...], settings: dict[str, Any], environment: dict[str, Any]):
        self.folder = output.with_name(f"{output.name}-kept")
        self.epochs, self.settings, self.environment = epochs, settings, environment

    def _place(self, epoch: int) -> Path:
        return self.folder / f"epoch-{epoch:05d}"

    def save(self, network: ModelMixin, epoch: int, steps: int, seconds: float) -> None:
        """Write the network as it is after an epoch, and so many steps and seconds of training.

        Raises:
            InputError: the disk does not take it.
        """
        progress = dict(zip(PROGRESS, (epoch, steps, round(seconds, 3))))
        with replacing(self._place(epoch)) as temporary:
            save_network(network, temporary)
            write_json(temporary / "training.json", {**self.settings, **progress, "environment": self.environment})

    def lost(self, epoch: int) -> Path | None:
        """The first network of up to an epoch that is not there or has other settings; None when all are there."""
        places = (self._place(kept) for kept in self.epochs if kept <= epoch)
        return next((place for place in places if not is_made(place, self.settings)), None)

    def clear(self) -> None:
        """Remove what is left beside the output, those of trainings with other settings included."""
        remove(self.folder)

    def move(self, folder: Path) -> None:
        """Put them into ``kept`` of a folder on the same disk, if there are any."""
        for epoch in self.epochs:
            place = folder / "kept" / self._place(epoch).name
            place.parent.mkdir(exist_ok=True)
            os.replace(self._place(epoch), place)
