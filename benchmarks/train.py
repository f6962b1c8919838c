"""Training steps of the network against the plain LDM-style one, and in mixed precision where there is a GPU.

    python benchmarks/train.py [--rounds 5] [--compiled]

A step is forward, mean squared error, backward and AdamW on random latents of 4×32×32, with dropout, in float32 unless said.
Without a GPU: UNet_XS, batch 8. With one: UNet_L, batch 128 too. There float32 computes convolutions in TF32, PyTorch's
default, where not said otherwise. "Plain" is the same network with the attention of LDM's code:
scores and weights as whole matrices through einsum, also where the context is one token; "recomputed" as well computes its
transformer blocks a second time in the backward pass, as LDM does by default. All give the same output, which is checked first.
The variants take turns, a step each per round, and a figure is the median over rounds.
"""

from __future__ import annotations

import argparse
import copy
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import torch
from diffusers.models.attention import BasicTransformerBlock
from diffusers.models.attention_processor import Attention
from torch import einsum, nn
from torch.utils.checkpoint import checkpoint

from decodiff.models.unet import build_unet

CATEGORIES = 15
# of outputs that are the same but for rounding; a GPU's kernels add up in other orders
TOLERANCE = {"cpu": 2e-5, "cuda": 1e-3}


class EinsumAttention:
    """Attention as LDM computes it (Rombach et al., CVPR 2022)."""

    def __call__(self, attention: Attention, hidden_states: torch.Tensor, encoder_hidden_states=None, **_):
        context = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        heads = attention.heads

        def split(tensor: torch.Tensor) -> torch.Tensor:
            batch, tokens, width = tensor.shape
            return tensor.reshape(batch, tokens, heads, width // heads).transpose(1, 2).reshape(batch * heads, tokens, -1)

        query, key, value = (
            split(projected) for projected in (attention.to_q(hidden_states), attention.to_k(context), attention.to_v(context))
        )
        scores = einsum("b i d, b j d -> b i j", query, key) * attention.scale
        result = einsum("b i j, b j d -> b i d", scores.softmax(dim=-1), value)
        batch, tokens, width = hidden_states.shape[0], hidden_states.shape[1], query.shape[-1]
        result = result.reshape(batch, heads, tokens, width).transpose(1, 2).reshape(batch, tokens, heads * width)
        return attention.to_out[1](attention.to_out[0](result))


def plain(network: nn.Module, recomputed: bool) -> nn.Module:
    """A copy of the network with LDM's attention."""
    network = copy.deepcopy(network).requires_grad_(True)
    network.unet.set_attn_processor(EinsumAttention())
    for block in network.modules():
        if recomputed and isinstance(block, BasicTransformerBlock):
            block.forward = partial(checkpoint, block.forward, use_reentrant=False)
    return network


def stepper(network: nn.Module, batch: int, device: str, precision: torch.dtype = torch.float32) -> Callable[[], None]:
    """A function that takes one training step."""
    optimizer = torch.optim.AdamW([p for p in network.parameters() if p.requires_grad], lr=1e-4, fused=True)
    latent, target = torch.randn(2, batch, 4, 32, 32, device=device)
    timestep = torch.randint(10, (batch,), device=device)
    category = torch.randint(CATEGORIES, (batch,), device=device)

    def step() -> None:
        with torch.autocast(device, precision, enabled=precision != torch.float32):
            prediction = network(latent, timestep, category)
        nn.functional.mse_loss(prediction.float(), target).backward()
        optimizer.step()
        optimizer.zero_grad()
        if device == "cuda":
            torch.cuda.synchronize()

    return step


def in_turns(steps: dict[str, Callable[[], None]], rounds: int) -> dict[str, float]:
    """Median seconds of each, after a step to warm up."""
    times: dict[str, list[float]] = {name: [] for name in steps}
    for number in range(rounds + 1):
        for name, step in steps.items():
            start = time.perf_counter()
            step()
            if number:
                times[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in times.items()}


@contextmanager
def without_tf32() -> Iterator[None]:
    before, torch.backends.cudnn.allow_tf32 = torch.backends.cudnn.allow_tf32, False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before


def check_same(networks: dict[str, nn.Module], device: str) -> None:
    generator = torch.Generator().manual_seed(0)
    latent = torch.randn(2, 4, 32, 32, generator=generator).to(device)
    timestep, category = torch.tensor([1, 7], device=device), torch.tensor([0, 3], device=device)
    outputs = []
    for network in networks.values():
        network.eval()
        with torch.no_grad(), without_tf32():
            outputs.append(network(latent, timestep, category))
        network.train()
    for output in outputs[1:]:
        torch.testing.assert_close(output, outputs[0], rtol=0, atol=TOLERANCE[device])


def print_table(seconds: dict[str, float], batch: int, base: str) -> None:
    print("| network | s per step | images/s | times the first |\n|---|---|---|---|")
    for name, value in seconds.items():
        print(f"| {name} | {value:.3f} | {batch / value:.2f} | {seconds[base] / value:.2f} |", flush=True)
    print()


def against_plain(name: str, batch: int, rounds: int, device: str, compiled: bool = False) -> dict[str, float]:
    """Images per second of each way."""
    torch.manual_seed(0)
    ours = build_unet(name, CATEGORIES).to(device)
    nn.init.normal_(ours.unet.conv_out.weight, std=0.02)
    networks = {
        "plain, recomputed": plain(ours, recomputed=True),
        "plain": plain(ours, recomputed=False),
        "this project's": ours,
        "this project's, channels last": copy.deepcopy(ours).to(memory_format=torch.channels_last),
    }
    check_same(networks, device)
    steps = {way: stepper(network, batch, device) for way, network in networks.items()}
    if compiled:
        other = copy.deepcopy(ours)
        other.unet.compile()
        steps["this project's, compiled"] = stepper(other, batch, device)
    print(f"{name}, 32×32 latents, batch {batch}, float32\n")
    seconds = in_turns(steps, rounds)
    print_table(seconds, batch, "plain, recomputed")
    return {way: batch / value for way, value in seconds.items()}


def mixed_precision(name: str, batch: int, rounds: int, device: str) -> dict[str, float]:
    """The same steps in float32, with TF32, and in bf16: images per second of each."""
    print(f"{name}, 32×32 latents, batch {batch}\n")
    print("| precision | s per step | images/s | GiB | times float32 |\n|---|---|---|---|---|")
    defaults = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    speeds = {}
    for way, precision, tf32 in (("float32", torch.float32, "highest"), ("float32, TF32", torch.float32, "high")) + (
        ("bf16", torch.bfloat16, "high"),
    ):
        torch.set_float32_matmul_precision(tf32)
        torch.backends.cudnn.allow_tf32 = tf32 == "high"
        torch.manual_seed(0)
        step = stepper(build_unet(name, CATEGORIES).to(device).train(), batch, device, precision)
        if device == "cuda":
            torch.cuda.reset_peak_memory_stats()
        seconds = in_turns({way: step}, rounds)[way]
        speeds[way] = batch / seconds
        memory = f"{torch.cuda.max_memory_allocated() / 2**30:.1f}" if device == "cuda" else "–"
        print(
            f"| {way} | {seconds:.3f} | {speeds[way]:.1f} | {memory} | {speeds[way] / speeds['float32']:.2f} |",
            flush=True,
        )
        del step
        torch.cuda.empty_cache()
    print()
    torch.set_float32_matmul_precision(defaults[0])
    torch.backends.cudnn.allow_tf32 = defaults[1]
    return speeds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--compiled", action="store_true", help="also try torch.compile, which takes minutes to begin")
    arguments = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    where = torch.cuda.get_device_name() if device == "cuda" else f"{torch.get_num_threads()} threads"
    print(f"{where}, {os.cpu_count()} cores, {platform.machine()}, PyTorch {torch.__version__}\n")
    against_plain("UNet_XS", 8, arguments.rounds, device, arguments.compiled)
    if device == "cuda":
        mixed_precision("UNet_L", 128, arguments.rounds, device)


if __name__ == "__main__":
    main()
