"""`import-reference`: the authors' released weights in place of a training."""

from __future__ import annotations

import logging
from pathlib import Path

from decodiff.errors import InputError
from decodiff.files import replacing, sha256, write_json
from decodiff.models.reference import load_reference
from decodiff.models.storage import save_network
from decodiff.provenance import environment
from decodiff.settings import Diffusion, Training

log = logging.getLogger(__name__)


def import_reference(
    weights: Path, members: dict[str, tuple[str, ...]], diffusion: Diffusion, training: Training, output: Path
) -> None:
    """Write the authors' network to ``output``: diffusers' format and ``training.json``.

    Args:
        weights: their checkpoint, ``{'model': state dict, 'args': Namespace}``.
        members: categories of each data set of the scope; their order is that of the category index.
        diffusion: what the correction is to be made with.
        training: whose ``unet`` is the size.
        output: folder to write.

    Raises:
        InputError: the checkpoint cannot be read safely or does not fit, or the categories are not known beforehand.
    """
    for name, categories in members.items():
        if not categories:
            raise InputError(f"scopes: the categories of {name} are not known beforehand; name each as {name}/<category>")
    known = [f"{name}/{category}" for name, categories in members.items() for category in categories]
    model = load_reference(weights, training.unet, len(known))
    record = {
        "categories": known,
        "diffusion": diffusion.model_dump(),
        "training": {"unet": training.unet},
        "model": {"source": "reference", "sha256": sha256(weights)},
        "seed": 0,
        "environment": environment(),
    }
    with replacing(output) as temporary:
        save_network(model, temporary)
        write_json(temporary / "training.json", record)
    log.info("%s: %s of %d categories from %s", output, training.unet, len(known), weights)
