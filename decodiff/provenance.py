"""What a result was made with."""

from __future__ import annotations

import platform
import subprocess
from importlib.metadata import version
from pathlib import Path

import decodiff

PACKAGES = ("torch", "diffusers", "numpy", "scipy", "scikit-image", "snakemake")


def commit() -> str:
    """The checkout's commit, with ``+`` when files differ from it; empty outside a checkout or without git."""
    command = ["git", "describe", "--always", "--dirty=+", "--abbrev=12", "--exclude=*"]
    package = Path(decodiff.__file__).parent
    try:
        return subprocess.run(command, cwd=package, capture_output=True, text=True, check=False).stdout.strip()
    except OSError:  # no git here
        return ""


def environment() -> dict[str, str]:
    """Versions of this project and of what computes, the commit and the processor's kind."""
    packages = {name: version(name) for name in PACKAGES}
    return {"decodiff": decodiff.__version__, "commit": commit(), "python": platform.python_version(), **packages} | {
        "machine": f"{platform.system()} {platform.machine()}"
    }
