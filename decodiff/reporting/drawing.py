"""Writing a figure in vector and raster, the same bytes for the same content, in the one style."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from textwrap import wrap
from typing import Any

import matplotlib
import numpy as np

matplotlib.use("agg")

from matplotlib import pyplot  # noqa: E402  (after the choice of a backend without a screen)
from matplotlib.axes import Axes  # noqa: E402
from matplotlib.figure import Figure  # noqa: E402

from decodiff.files import replacing  # noqa: E402

STYLE = Path(__file__).with_name("paper.mplstyle")
MAP_COLOURS = "inferno"
NORMAL_COLOUR, ANOMALOUS_COLOUR = "#0072B2", "#D55E00"


def use_style() -> None:
    pyplot.style.use(STYLE)


def literal(text: str) -> str:
    """A name as it is, in text that may hold formulas between dollar signs."""
    return text.replace("$", r"\$")


def wrapped(text: str, width: int) -> str:
    """`literal`, broken into lines of at most ``width`` characters."""
    return literal("\n".join(wrap(text, width)))


def save(figure: Figure, path: Path) -> None:
    """Write ``path`` (PNG) and the PDF beside it, without dates or versions."""
    with replacing(path) as temporary:
        figure.savefig(temporary, metadata={"Software": None})
    with replacing(path.with_suffix(".pdf")) as temporary:
        figure.savefig(temporary, metadata={"CreationDate": None, "Producer": None, "Creator": None})
    pyplot.close(figure)


def legend(owner: Axes | Figure, drawn: Iterable[Axes], **options: Any) -> None:
    """What colours and marks mean, each once."""
    known = {name: handle for axes in drawn for handle, name in zip(*axes.get_legend_handles_labels())}
    owner.legend(known.values(), known.keys(), ncols=4, handletextpad=0.4, **options)


def show(axes: Axes, image: np.ndarray, title: str | None = None, **options: Any) -> None:
    """An image without axes."""
    axes.imshow(image, **options)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.grid(False)
    for spine in axes.spines.values():
        spine.set_visible(False)
    if title is not None:
        axes.set_title(title)


def ground_truth(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """`outlined`; an even grey where there is no anomalous pixel to show."""
    return outlined(image, mask) if mask.any() else np.full_like(image, 230)


def outlined(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The image with the mask's area brightened towards red, uint8 ``[H,W,3]``."""
    tinted = 0.45 * image + 0.55 * np.array([255, 40, 40])
    return np.where(mask[..., None], tinted, 0.75 * image).astype(np.uint8)
