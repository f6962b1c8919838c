"""Ending with the Snakemake that started a command: one that was killed cannot end it any more."""

from __future__ import annotations

import _thread
import logging
import os
import signal
import threading
import time

import psutil

log = logging.getLogger(__name__)

# set by the workflow: number of the process whose end is to be noticed
VARIABLE = "DECODIFF_STARTED_BY"
SECONDS_BETWEEN_LOOKS = 1.0
# to put things in order, before the process ends as it is
SECONDS_TO_END = 20.0


def _is_alive(process: psutil.Process | None) -> bool:
    try:
        return process is not None and process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def end_with_snakemake() -> None:
    """From now on, interrupt this process once the one that started it has gone. Nothing happens outside the workflow.

    A command that went on alone would keep a processor busy, and hold what its successor waits for.
    """
    number = os.environ.get(VARIABLE, "")
    if not number.isdigit():
        return
    # a shell that runs commands beside it lets them ignore interrupts
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        starter = psutil.Process(int(number))
    except psutil.NoSuchProcess:
        starter = None

    def watch() -> None:
        while _is_alive(starter):
            time.sleep(SECONDS_BETWEEN_LOOKS)
        log.warning("Snakemake has gone; this command ends too")
        _thread.interrupt_main()
        time.sleep(SECONDS_TO_END)
        os._exit(130)

    threading.Thread(target=watch, name="orphans", daemon=True).start()
