"""`autoencoder`: bring a pretrained autoencoder here, train a small one on normal and procedural images, or fit components."""

from __future__ import annotations

import logging
import math
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import torch
from diffusers.models import AutoencoderKL, AutoencoderTiny
from torch.nn import functional
from tqdm import tqdm

from decodiff.data.procedural import dead_leaves_bank
from decodiff.data.views import cropped, network_input
from decodiff.devices import device
from decodiff.errors import InputError
from decodiff.files import alone, read_array
from decodiff.interruption import noted
from decodiff.models.autoencoder import Autoencoder, build_autoencoder, load_autoencoder, save_autoencoder
from decodiff.models.cells import CellComponents, fit_components
from decodiff.models.storage import States
from decodiff.seeds import derived_seed, numpy_generator, torch_generator
from decodiff.settings import ComponentAutoencoder, Image, PretrainedAutoencoder, TrainedAutoencoder

log = logging.getLogger(__name__)

PROCEDURAL_SIDE = 128
WARMUP = 0.1
MAX_GRADIENT_NORM = 1.0
STEPS_PER_CHECKPOINT = 500
GREY_SAMPLE = 64
BATCH_IMAGES = 32


def _crops(images: np.ndarray, count: int, side: int, contrast: str, random: np.random.Generator) -> torch.Tensor:
    """``count`` random crops of images seen in the given contrast, float32 ``[count,3,side,side]``."""
    chosen = random.integers(len(images), size=count)
    tops, lefts = random.integers(0, images.shape[1] - side + 1, (2, count))
    whole = network_input(images[chosen], contrast)
    return torch.stack([image[:, top : top + side, left : left + side] for image, top, left in zip(whole, tops, lefts)])


def _whole(sources: list[np.ndarray], image: Image) -> Iterator[torch.Tensor]:
    """All images as the networks see them, float32 ``[n,3,crop,crop]``."""
    for images in sources:
        for start in range(0, len(images), BATCH_IMAGES):
            yield network_input(cropped(images[start : start + BATCH_IMAGES], image.crop), image.contrast)


def _is_grey(images: np.ndarray) -> bool:
    """Whether all channels of uint8 ``[N,S,S,3]`` are equal."""
    return bool((images == images[..., :1]).all())


def _measure_scaling(module: AutoencoderTiny | CellComponents, batches: Iterable[torch.Tensor]) -> float:
    """1 over the standard deviation of the training images' latents about each image's own mean.

    LDM (Rombach et al., CVPR 2022, section G) divides by the overall standard deviation. Where images differ in brightness more
    than a defect differs from its surroundings, that would leave the defect small against the noise of the forward process.
    """
    squares, count = torch.zeros((), dtype=torch.float64, device=device()), 0
    with torch.no_grad():
        for images in batches:
            latent = module.encode(images.to(device())).latents.double()
            within = latent - latent.mean(dim=(2, 3), keepdim=True)
            squares, count = squares + within.square().sum(), count + within.numel()
    return float(1 / (squares / count).sqrt())


def train_autoencoder(
    settings: TrainedAutoencoder, image: Image, sources: list[np.ndarray], seed: int, output: Path
) -> Autoencoder:
    """Train to reproduce crops of normal and of procedural images (mean absolute error).

    Procedural images make it reproduce what no normal image holds; without them it blurs the defects to be found. Asked to end
    by SIGINT or SIGTERM, it saves a state after the step under way and ends.

    Args:
        settings: size and training.
        image: in which contrast images are seen.
        sources: arrays of normal images, uint8 ``[N,S,S,3]``, one per data set, each seen equally often.
        seed: seed of weights, procedural images, crops and noise.
        output: where the result will go; states to resume from are kept beside it, until the caller has stored it.

    Raises:
        InputError: the loss is not a number.
        KeyboardInterrupt, SystemExit: the process was asked to end, and the state is saved.
    """
    torch.manual_seed(derived_seed(seed, "autoencoder weights"))
    module = build_autoencoder(settings.channels, settings.downsampling, settings.blocks, settings.latent_channels)
    module.to(device())  # type: ignore[arg-type]  # mypy takes what diffusers wraps for no method
    leaves = dead_leaves_bank(
        settings.procedural_images, max(PROCEDURAL_SIDE, settings.crop), numpy_generator(seed, "procedural images")
    )
    if all(_is_grey(source[:GREY_SAMPLE]) for source in sources):
        # colours would take up a code that grey images never need them in
        leaves = np.repeat(leaves.mean(axis=-1, keepdims=True).round().astype(np.uint8), 3, axis=-1)
    optimizer = torch.optim.AdamW(module.parameters(), lr=settings.learning_rate, fused=True)
    warmup = max(1, round(WARMUP * settings.steps))

    def rate(step: int) -> float:
        after = (step - warmup) / max(1, settings.steps - warmup)
        return (step + 1) / warmup if step < warmup else 0.5 * (1 + math.cos(math.pi * after))

    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, rate)
    random, noise = numpy_generator(seed, "autoencoder crops"), torch_generator(seed, "autoencoder noise")
    normal = round(settings.normal_fraction * settings.batch_size)
    checksums = [zlib.crc32(np.ascontiguousarray(source).data) for source in sources]
    inputs = [settings.model_dump(), image.model_dump(), seed, checksums]
    first, states = 0, States(output, inputs)
    if state := states.load():
        module.load_state_dict(state["module"])
        optimizer.load_state_dict(state["optimizer"])
        schedule.load_state_dict(state["schedule"])
        noise.set_state(state["noise"])
        random.bit_generator.state = state["random"]
        first = state["step"]
        log.info("resumed at step %d", first)
    progress = tqdm(range(first, settings.steps), "train autoencoder", settings.steps, initial=first, unit="step")
    with noted() as request:
        for step in progress:
            source = sources[step % len(sources)]
            batch = [
                _crops(source, normal, settings.crop, image.contrast, random),
                _crops(leaves, settings.batch_size - normal, settings.crop, image.contrast, random),
            ]
            images = torch.cat(batch).to(device())
            latent = module.encode(images).latents
            jitter = torch.randn(latent.shape, generator=noise).to(latent) * settings.posterior_std * latent.detach().std()
            loss = functional.l1_loss(module.decode(latent + jitter).sample, images)
            if not torch.isfinite(loss):
                raise InputError(f"autoencoder: the loss is {loss.item()} at step {step}; lower autoencoder.learning_rate")
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(module.parameters(), MAX_GRADIENT_NORM)
            optimizer.step()
            schedule.step()
            if step % 50 == 0:
                progress.set_postfix(loss=f"{loss.item():.4f}", refresh=False)
            is_asked = request.signal is not None
            if is_asked or (step + 1) % STEPS_PER_CHECKPOINT == 0:
                states.save(
                    step + 1,
                    {
                        "module": module.state_dict(),
                        "optimizer": optimizer.state_dict(),
                        "schedule": schedule.state_dict(),
                        "noise": noise.get_state(),
                        "random": random.bit_generator.state,
                        "step": step + 1,
                    },
                )
            if is_asked:
                log.info("interrupted after step %d of %d, which the next start goes on from", step + 1, settings.steps)
                request.end()
    module.eval()
    module.register_to_config(scaling_factor=_measure_scaling(module, _whole(sources, image)))
    return Autoencoder(module, settings.posterior_std)


def autoencoder(
    settings: PretrainedAutoencoder | TrainedAutoencoder | ComponentAutoencoder,
    image: Image,
    seed: int,
    prepared: list[Path],
    output: Path,
) -> None:
    """Write the run's autoencoder to ``output`` in diffusers' format.

    Args:
        settings: which one.
        image: side of the prepared images, and how the networks see them.
        seed: of its training.
        prepared: folders of the prepared data sets whose training images it sees; unused for a pretrained one.
        output: folder to write.

    Raises:
        InputError: a pretrained one cannot be loaded, or is not what the configuration was checked for.
    """
    if isinstance(settings, PretrainedAutoencoder):
        result = load_autoencoder(settings.path)
        if not isinstance(result.module, AutoencoderKL):
            raise InputError(
                f"autoencoder.path: {settings.path} holds no AutoencoderKL; give one, or set autoencoder.source to train"
            )
        cell = 2 ** (len(result.module.config["down_block_types"]) - 1)
        if cell != settings.downsampling:
            raise InputError(
                f"autoencoder.path: {settings.path} has {cell} pixels a cell, expected {settings.downsampling}; "
                "download it and give the path of the folder"
            )
        save_autoencoder(result, output)
        return
    side = image.resize
    sources = [read_array(folder / "train_images.npy", (None, side, side, 3)) for folder in prepared]
    with alone(output):
        if isinstance(settings, ComponentAutoencoder):
            module = fit_components(_whole(sources, image), settings.downsampling, settings.latent_channels, settings.whitening)
            module.register_to_config(scaling_factor=_measure_scaling(module, _whole(sources, image)))
            result = Autoencoder(module)
        else:
            result = train_autoencoder(settings, image, sources, seed, output)
        save_autoencoder(result, output)
        States(output, None).clear()
    log.info("scaling factor %.4f", result.scaling_factor)
