"""The ways to measure: what has to be the same for two results to be comparable."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Protocol:
    """One way to measure.

    Attributes:
        masks: how masks are resized: to the ``nearest`` pixel, or ``bicubic`` and then every value above 0 is anomalous.
        aupro: how PRO is integrated: ``exact``, or over ``200 thresholds`` as in the authors' code.
    """

    masks: str
    aupro: str


PROTOCOLS = {"standard": Protocol("nearest", "exact"), "reference": Protocol("bicubic", "200 thresholds")}
