"""What commands share: the application, options that several take, how a command begins."""

from __future__ import annotations

import json
import logging
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from decodiff.config import Config, load
from decodiff.errors import InputError
from decodiff.files import writing

app = typer.Typer(
    name="decodiff",
    help="DeCo-Diff's benchmark, stage by stage. The workflow calls these commands; each can be typed by hand.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

# groups of commands in the help, before those that the workflow calls
OWN_IMAGES, RUNS, STAGES = "Your own images", "A run", "Steps that the workflow calls"

ConfigFile = Annotated[Path, typer.Option("--config", help="Configuration of the run (YAML).")]
Dataset = Annotated[str, typer.Option(help="Name of the data set, as under `data` in the configuration.")]
Scope = Annotated[str, typer.Option(help="Name of the scope, as under `scopes` in the configuration.")]
Seed = Annotated[int, typer.Option(help="Seed of the model.")]
Prepared = Annotated[Path, typer.Option(help="Folder of the prepared data set.")]
Latents = Annotated[Path, typer.Option(help="Folder of the data set's latents.")]
Autoencoder = Annotated[Path, typer.Option(help="Folder of the autoencoder.")]
Output = Annotated[Path, typer.Option(help="Where to write.")]
LogFile = Annotated[Path | None, typer.Option("--log", help="Also write messages to this file.")]
Threads = Annotated[int | None, typer.Option(help="Processor threads to compute with; by default all.")]
Variant = Annotated[
    str, typer.Option(help="Settings in which a variant differs from the configuration, as JSON: '{\"correction.steps\": 4}'.")
]


def varied(config: Path, variant: str) -> Config:
    try:
        changes = json.loads(variant)
    except ValueError as error:
        raise InputError(f"--variant: not JSON ({error}); expected settings by dotted key") from error
    if not isinstance(changes, dict):
        raise InputError(f"--variant: {variant}; expected settings by dotted key")
    return load(config).varied(changes)


def begin(log: Path | None, threads: int | None = None) -> None:
    """Messages go to the screen and to the log file; networks compute with the given number of threads.

    Of several processes that torchrun started, the first one speaks, and they share the threads.
    """
    is_first = os.environ.get("RANK", "0") == "0"
    # progress bars: lively on a terminal, a line now and then in a log
    os.environ.setdefault("TQDM_MININTERVAL", "0.2" if sys.stderr.isatty() else "10")
    handlers: list[logging.Handler] = [logging.StreamHandler()]
    if log is not None and is_first:
        with writing(log):
            log.parent.mkdir(parents=True, exist_ok=True)
            handlers.append(logging.FileHandler(log, mode="w", encoding="utf-8"))
        # a log that a full disk does not take is no reason to say more than that
        logging.raiseExceptions = False
    logging.basicConfig(level=logging.WARNING, format="%(message)s", handlers=handlers)
    logging.getLogger("decodiff").setLevel(logging.INFO if is_first else logging.WARNING)
    if threads is not None:
        import torch

        torch.set_num_threads(max(1, threads // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))))
