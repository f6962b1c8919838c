"""`encode`: latents of a data set, once: moments of every view of the training images, or means of the test images."""

from __future__ import annotations

import logging
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from tqdm import tqdm

from decodiff.data.views import cropped, network_input, views
from decodiff.devices import device
from decodiff.files import read_array, write_json, writing_array
from decodiff.models.autoencoder import ENCODED_TOGETHER, Autoencoder, load_autoencoder
from decodiff.settings import Augmentation, Image

log = logging.getLogger(__name__)


def _latent_shape(network: Autoencoder, crop: int) -> tuple[int, ...]:
    return tuple(network.encode(network_input(np.zeros((1, crop, crop, 3), np.uint8), "as_is"))[0].shape[1:])


def encode(prepared: Path, autoencoder: Path, augmentation: Augmentation, image: Image, output: Path) -> None:
    """Write the scaled latents of the training images, float32, in the order of ``train.csv``.

    ``train_mean.npy`` and ``train_std.npy`` ``[N,V,C,h,w]`` for the V views of the augmentation, and ``views.json`` with the
    views. Of an augmentation that no finite set of views holds, V is 0: training encodes the images itself.
    """
    network = load_autoencoder(autoencoder, device())
    path, images_shape = prepared / "train_images.npy", (None, image.resize, image.resize, 3)
    count = len(read_array(path, images_shape))
    chosen = views(augmentation.max_shift, augmentation.half_turn_probability > 0) if augmentation.is_finite else []
    shape = (count, len(chosen), *_latent_shape(network, image.crop))
    with ExitStack() as stack:
        files = [
            stack.enter_context(writing_array(output / f"train_{name}.npy", shape, np.float32)) for name in ("mean", "std")
        ]
        progress = stack.enter_context(tqdm(total=count * len(chosen), desc="encode train", unit="view"))
        for start in range(0, count, ENCODED_TOGETHER):
            # opened for each batch, so that what was read does not stay mapped
            part = read_array(path, images_shape)[start : start + ENCODED_TOGETHER]
            moments = np.empty((2, len(part), *shape[1:]), np.float32)
            for position, view in enumerate(chosen):
                encoded = network.encode(network_input(cropped(part, image.crop, view), image.contrast))
                moments[:, :, position] = [values.cpu().numpy() for values in encoded]
                progress.update(len(part))
            for file, values in zip(files, moments):
                file.extend(values)
    write_json(output / "views.json", [vars(view) for view in chosen])
    log.info("%d training images in %d views, latents of %s", count, len(chosen), shape[2:])


def encode_test(prepared: Path, autoencoder: Path, image: Image, output: Path) -> None:
    """Write ``test_mean.npy``: scaled means of what is not trained on, float32 ``[N,C,h,w]``, in the order of ``test.csv``."""
    network = load_autoencoder(autoencoder, device())
    path, images_shape = prepared / "test_images.npy", (None, image.resize, image.resize, 3)
    count = len(read_array(path, images_shape))
    shape = (count, *_latent_shape(network, image.crop))
    with writing_array(output / "test_mean.npy", shape, np.float32) as means:
        for start in tqdm(range(0, count, ENCODED_TOGETHER), desc="encode test", unit="batch"):
            # as above
            crops = cropped(read_array(path, images_shape)[start : start + ENCODED_TOGETHER], image.crop)
            means.extend(network.encode(network_input(crops, image.contrast))[0].cpu().numpy())
    log.info("%d test images, latents of %s", count, shape[1:])
