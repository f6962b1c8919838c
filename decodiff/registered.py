"""diffusers' ``register_to_config`` with types: without them mypy could not check what its classes are called with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from diffusers.configuration_utils import register_to_config

Initialiser = TypeVar("Initialiser", bound=Callable[..., None])


def registered(initialiser: Initialiser) -> Initialiser:
    """Of an ``__init__``: what it is called with becomes the ``config`` of the object, which is saved beside its weights."""
    decorated: Any = register_to_config(initialiser)
    return decorated
