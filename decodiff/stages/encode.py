"""`encode`: the latents of a data set, once: moments of every view of the training images, means of the test images."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
from tqdm import tqdm

from decodiff.data.views import cropped, to_tensor, views
from decodiff.devices import device
from decodiff.files import read_array, write_json, writing_array
from decodiff.models.autoencoder import load_autoencoder
from decodiff.settings import Augmentation, Image

log = logging.getLogger(__name__)

BATCH_SIZE = 32


def encode(prepared: Path, autoencoder: Path, augmentation: Augmentation, image: Image, output: Path) -> None:
    """Write a data set's scaled latents, float32, in the order of ``<split>.csv``.

    ``train_mean.npy`` and ``train_std.npy`` ``[N,V,C,h,w]`` for the V views of the augmentation, ``test_mean.npy``
    ``[N,C,h,w]``, and ``views.json`` with the views. Of an augmentation that no finite set of views holds, V is 0: training
    encodes the images itself.
    """
    network = load_autoencoder(autoencoder, device())
    side = image.resize
    train = read_array(prepared / "train_images.npy", (None, side, side, 3))
    test = read_array(prepared / "test_images.npy", (None, side, side, 3))
    chosen = views(augmentation.max_shift, augmentation.half_turn_probability > 0) if augmentation.is_finite else []
    example, _ = network.encode(to_tensor(cropped(train[:1], image.crop)))
    shape = tuple(example.shape[1:])
    with (
        writing_array(output / "train_mean.npy", (len(train), len(chosen), *shape), np.float32) as means,
        writing_array(output / "train_std.npy", (len(train), len(chosen), *shape), np.float32) as stds,
    ):
        with tqdm(total=len(train) * len(chosen), desc="encode train", unit="view") as progress:
            for start in range(0, len(train), BATCH_SIZE):
                part = slice(start, start + BATCH_SIZE)
                for position, view in enumerate(chosen):
                    mean, std = network.encode(to_tensor(cropped(train[part], image.crop, view)))
                    means[part, position], stds[part, position] = mean.cpu().numpy(), std.cpu().numpy()
                    progress.update(len(mean))
    with writing_array(output / "test_mean.npy", (len(test), *shape), np.float32) as means:
        for start in tqdm(range(0, len(test), BATCH_SIZE), desc="encode test", unit="batch"):
            part = slice(start, start + BATCH_SIZE)
            means[part] = network.encode(to_tensor(cropped(test[part], image.crop)))[0].cpu().numpy()
    write_json(output / "views.json", [vars(view) for view in chosen])
    log.info("%d training images in %d views and %d test images, latents of %s", len(train), len(chosen), len(test), shape)
