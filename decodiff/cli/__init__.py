"""The command line: a command per rule of the workflow, and what is typed by hand.

A command parses, loads the settings that its stage may read, and calls it.
"""

from __future__ import annotations

import logging
import os
import sys

# they add their commands, in the order of the help
from decodiff.cli import own_images  # noqa: F401

# isort: split
from decodiff.cli import data, measuring, networks, reports, runs  # noqa: F401
from decodiff.cli.options import app
from decodiff.errors import InputError
from decodiff.orphans import end_with_snakemake


def run() -> None:
    """Entry point: a user's mistake is one line and status 1."""
    # diffusers sets its own level when it is imported; it would warn of keys in a configuration that are ours
    os.environ.setdefault("DIFFUSERS_VERBOSITY", "error")
    end_with_snakemake()
    try:
        app()
    except InputError as error:
        logging.getLogger("decodiff").error("error: %s", error)
        sys.exit(1)
