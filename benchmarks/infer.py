"""Correction and scoring against the plain way, with the least time each could take on this machine.

    python benchmarks/infer.py [--rounds 2] [--run demo]

"Plain" is batch 8, float32, LDM's einsum attention, and three separate passes of the autoencoder: encode, decode the latent,
decode the corrected latent. All in one run, taking turns; figures are medians over rounds:

- the correction loop: `UNet_XS` on 32×32 latents (256 px), 5 steps; on a GPU `UNet_L` too;
- the whole path from images to anomaly maps with an autoencoder of Stable Diffusion's shape (its weights do not change how long
  it takes; they are random here).

In bf16 the correction and the decoding compute in bfloat16; the encoder stays in float32. On a GPU convolutions in
float32 compute in TF32, PyTorch's default.

The floor of a figure is its number of operations (counted by PyTorch, two per multiply-add, part by part in the precision it is
computed in) over the machine's peak rate, that of a large matrix product measured in the same run in the same precision. Some
convolutions need fewer operations than counted (Winograd's algorithm), so a figure can lie below its floor.

With `--run`, the trained networks of that run (`make demo` first) correct and score its first data set in float32 and in bf16,
and the largest differences of maps and metrics are printed.
"""

from __future__ import annotations

import argparse
import copy
import os
import platform
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from train import CATEGORIES, TOLERANCE, in_turns, plain, without_tf32

from decodiff.config import load
from decodiff.correction import correct
from decodiff.data.maps import own_maps
from decodiff.devices import device, precision
from decodiff.metrics import METRICS, evaluate_batches
from decodiff.models.autoencoder import STABLE_DIFFUSION, Autoencoder, channels_last
from decodiff.models.unet import build_unet
from decodiff.scheduler import DeviationScheduler
from decodiff.scoring import anomaly_maps
from decodiff.settings import Inference
from decodiff.stages.correct import correct as correct_stage
from decodiff.stages.encode import encode_test
from decodiff.stages.score import score as score_stage

BATCH, SIDE, STEPS = 8, 256, 5


def synchronize() -> None:
    if device().type == "cuda":
        torch.cuda.synchronize()


def peak(dtype: torch.dtype) -> float:
    """Operations per second of a matrix product of 4096×4096."""
    a, b = torch.randn(2, 4096, 4096, device=device()).to(dtype)
    times = []
    for _ in range(4):
        begin = time.perf_counter()
        a @ b
        synchronize()
        times.append(time.perf_counter() - begin)
    return 2 * 4096**3 / min(times)


def measured_peaks() -> dict[str, float]:
    """Operations per second in each precision."""
    peaks = {"no": peak(torch.float32), "bf16": peak(torch.bfloat16)}
    print(f"peak: {peaks['no'] / 1e9:.0f} GFLOP/s in float32, {peaks['bf16'] / 1e9:.0f} in bf16\n")
    return peaks


def operations(function: Callable[[], object]) -> int:
    with FlopCounterMode(display=False) as counter:
        function()
    return counter.get_total_flops()


def print_table(seconds: dict[str, float], images: int, floors: dict[str, float]) -> None:
    base = next(iter(seconds.values()))
    print("| way | s | images/s | times the first | floor, s |\n|---|---|---|---|---|")
    for name, value in seconds.items():
        floor = floors["bf16" if "bf16" in name else "no"]
        print(f"| {name} | {value:.2f} | {images / value:.2f} | {base / value:.2f} | {floor:.2f} |", flush=True)
    print()


def stable_diffusion_autoencoders(side: int) -> tuple[Autoencoder, Autoencoder]:
    """Of the shape of ``stabilityai/sd-vae-ft-ema`` with random weights, as this project lays them out and as they come."""
    torch.manual_seed(0)
    module = AutoencoderKL(**STABLE_DIFFUSION, sample_size=side)
    return Autoencoder(channels_last(copy.deepcopy(module)).to(device())), Autoencoder(module.to(device()))


def networks(name: str) -> tuple[nn.Module, nn.Module]:
    """The network with random weights, and the same with LDM's attention."""
    torch.manual_seed(0)
    ours = build_unet(name, CATEGORIES).to(device()).eval().requires_grad_(False)
    nn.init.normal_(ours.unet.conv_out.weight, std=0.02)
    return ours, plain(ours, recomputed=False).eval().requires_grad_(False)


def scheduler() -> DeviationScheduler:
    chosen = DeviationScheduler(10)
    chosen.set_timesteps(STEPS)
    return chosen


def looped(network: nn.Module, latent: torch.Tensor, mixed_precision: str) -> Callable[[], torch.Tensor]:
    category = torch.arange(len(latent), device=device()) % CATEGORIES

    def run() -> torch.Tensor:
        with precision(mixed_precision):
            result = correct(network, latent, category, scheduler())
        synchronize()
        return result

    return run


def correction_loop(name: str, batch: int, rounds: int, peaks: dict[str, float]) -> dict[str, float]:
    """Images per second of each way."""
    ours, theirs = networks(name)
    latent = torch.randn(batch, 4, SIDE // 8, SIDE // 8, generator=torch.Generator().manual_seed(1)).to(device())
    ways = {
        "plain": looped(theirs, latent, "no"),
        "this project's": looped(ours, latent, "no"),
        "this project's, bf16": looped(ours, latent, "bf16"),
    }
    with without_tf32():
        torch.testing.assert_close(ways["plain"](), ways["this project's"](), rtol=0, atol=5 * TOLERANCE[device().type])
    print(f"Correction loop, {name}, {STEPS} steps, 32×32 latents, batch {batch}\n")
    count = operations(ways["plain"])
    seconds = in_turns(ways, rounds)
    print_table(seconds, batch, {name: count / rate for name, rate in peaks.items()})
    return {way: batch / value for way, value in seconds.items()}


def whole_path(name: str, side: int, batch: int, rounds: int, peaks: dict[str, float]) -> dict[str, float]:
    """Images per second of each way."""
    ours, theirs = networks(name)
    coder, plain_coder = stable_diffusion_autoencoders(side)
    images = torch.rand(batch, 3, side, side, generator=torch.Generator().manual_seed(2)) * 2 - 1

    def plainly() -> torch.Tensor:
        latent, _ = plain_coder.encode(images)
        corrected = looped(theirs, latent, "no")()
        image, reconstruction = plain_coder.decode(latent), plain_coder.decode(corrected)
        result = anomaly_maps(image, reconstruction, latent, corrected).geometric
        synchronize()
        return result

    def together(mixed_precision: str) -> torch.Tensor:
        latent, _ = coder.encode(images)
        corrected = looped(ours, latent, mixed_precision)()
        with precision(mixed_precision):
            image, reconstruction = coder.decode(torch.cat([latent, corrected])).chunk(2)
        result = anomaly_maps(image, reconstruction, latent, corrected).geometric
        synchronize()
        return result

    ways = {
        "plain": plainly,
        "this project's": lambda: together("no"),
        "this project's, bf16": lambda: together("bf16"),
    }
    print(f"Images to maps, {name}, {STEPS} steps, {side} px, Stable Diffusion's autoencoder, batch {batch}\n")
    seconds = in_turns(ways, rounds)
    encoding = operations(lambda: plain_coder.encode(images))
    rest = operations(plainly) - encoding
    print_table(seconds, batch, {name: encoding / peaks["no"] + rest / rate for name, rate in peaks.items()})
    return {way: batch / value for way, value in seconds.items()}


def differences(run: str) -> None:
    """Maps and metrics of a run's first data set in bf16 against float32."""
    config = load(Path("results") / run / "config.yaml")
    dataset, scope = next(iter(config.data)), next(iter(config.scopes))
    prepared = Path("data") / dataset / f"prepared-{config.image.resize}"
    models = Path("models") / run
    maps, metrics = {}, {}
    encoded = tempfile.TemporaryDirectory()
    encode_test(prepared, models / "autoencoder", config.image, Path(encoded.name))
    for mixed_precision in ("no", "bf16"):
        inference = Inference(mixed_precision=mixed_precision)
        with tempfile.TemporaryDirectory() as temporary:
            folder, latents = Path(temporary), Path(encoded.name)
            unet = models / scope / f"seed-{config.seeds[0]}"
            correct_stage(dataset, unet, latents, prepared, config.diffusion, config.correction, inference, folder)
            score_stage(folder, latents, models / "autoencoder", config.scoring, inference, folder)
            stored = own_maps(folder, prepared, config.image.crop, "standard")
            tested = np.array([index for index, image in enumerate(stored.images) if image.split == "test"])
            maps[mixed_precision] = stored.maps(tested)
            for category in dict.fromkeys(stored.images[index].category for index in tested):
                part = np.array([index for index in tested if stored.images[index].category == category])
                labels = np.array([stored.images[index].label for index in part], dtype=bool)
                values = evaluate_batches(stored.batches(part), stored.scores(part, 1), labels)
                metrics.setdefault(category, []).append([values[name] for name in METRICS])
    difference = np.abs(maps["no"] - maps["bf16"])
    print(f"bf16 against float32, run {run}, {len(difference)} maps of {dataset}\n")
    print(f"largest difference of a map's pixel: {difference.max():.4f}; mean {difference.mean():.6f}")
    pairs = np.array(list(metrics.values()))
    print("| metric | largest difference of a category | of the mean |\n|---|---|---|")
    for index, name in enumerate(METRICS):
        delta = pairs[:, 0, index] - pairs[:, 1, index]
        print(f"| {name} | {np.abs(delta).max():.5f} | {abs(delta.mean()):.5f} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--run", help="also compare the precisions with the trained networks of this run")
    arguments = parser.parse_args()
    where = torch.cuda.get_device_name() if device().type == "cuda" else f"{torch.get_num_threads()} threads"
    print(f"{where}, {os.cpu_count()} cores, {platform.machine()}, PyTorch {torch.__version__}")
    with torch.no_grad():
        peaks = measured_peaks()
        correction_loop("UNet_XS", BATCH, arguments.rounds + 1, peaks)
        if device().type == "cuda":
            correction_loop("UNet_L", 64, arguments.rounds + 1, peaks)
        whole_path("UNet_XS", SIDE, BATCH, arguments.rounds, peaks)
        if arguments.run:
            differences(arguments.run)


if __name__ == "__main__":
    main()
