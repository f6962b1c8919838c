"""A threshold for use, chosen on normal images alone."""

from __future__ import annotations

import math

import numpy as np


def choose_threshold(scores: np.ndarray, false_alarm_rate: float) -> tuple[float, float]:
    """The score above which an image is called anomalous, and how often a normal one will be.

    A further normal image is as likely to rank anywhere among N held-out ones: it exceeds the k-th highest of them with
    probability k/(N + 1), whatever the scores' distribution (split conformal prediction, Vovk et al., 2005; ties only lower
    it). k is the largest for which that stays within ``false_alarm_rate``; with too few images for it, the highest score is
    taken and the probability is above the rate.

    Args:
        scores: image scores of held-out normal images, float ``[N]``.
        false_alarm_rate: in (0, 1).

    Returns:
        the threshold and the expected false-alarm rate; NaN both when there is no image.
    """
    if not len(scores):
        return math.nan, math.nan
    # a hair above, so that 0.05 · 20 counts as 1
    rank = max(1, math.floor(false_alarm_rate * (len(scores) + 1) + 1e-9))
    rank = min(rank, len(scores))
    return float(np.sort(scores)[-rank]), rank / (len(scores) + 1)
