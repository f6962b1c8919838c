"""Which timesteps a correction takes; kept apart from the scheduler so that checking a configuration needs no tensors."""

from __future__ import annotations


def strided_timesteps(num_train_timesteps: int, num_inference_steps: int) -> list[int]:
    """Ascending timesteps ``range(0, T, stride)`` for the smallest stride that gives exactly S members.

    Raises:
        ValueError: no stride gives exactly ``num_inference_steps`` members.
    """
    for stride in range(1, num_train_timesteps + 1):
        timesteps = list(range(0, num_train_timesteps, stride))
        if len(timesteps) == num_inference_steps:
            return timesteps
    possible = sorted({len(range(0, num_train_timesteps, stride)) for stride in range(1, num_train_timesteps + 1)})
    raise ValueError(
        f"no stride over {num_train_timesteps} training timesteps gives {num_inference_steps} of them; "
        f"choose one of {', '.join(map(str, possible))}"
    )
