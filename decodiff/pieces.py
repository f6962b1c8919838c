"""A run in pieces: Snakemake works for some minutes, and the next piece goes on where it stopped."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from decodiff.interruption import noted

SNAKEMAKE = Path(sys.executable).with_name("snakemake")
# sysexits' "temporary failure": call again
MORE_TO_DO = os.EX_TEMPFAIL
# of the piece, kept for trainings to save their states and for Snakemake to end
MOST_SECONDS_TO_STOP = 60.0
PART_TO_STOP = 1 / 6
SECONDS_BETWEEN_LOOKS = 0.2


def piece(arguments: list[str], minutes: float) -> int:
    """Run ``snakemake`` with these arguments for at most ``minutes``.

    In the last minute, or the last sixth of a shorter piece, its jobs are interrupted: trainings save their states, other jobs
    start over in the next piece. A Snakemake that has not ended when the time is over is killed with its jobs, and its folder
    unlocked.

    Args:
        arguments: of ``snakemake``.
        minutes: how long the piece may take, above 0.

    Returns:
        0 when nothing is left to do, `MORE_TO_DO` when the time was over, else Snakemake's own exit status.

    Raises:
        KeyboardInterrupt, SystemExit: this process was asked to end; so were the jobs.
    """
    seconds = 60 * minutes
    to_stop = min(MOST_SECONDS_TO_STOP, seconds * PART_TO_STOP)
    end = time.monotonic() + seconds - to_stop
    # a shell that runs this beside it lets it ignore interrupts, and Snakemake would ignore them too
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with noted() as request:
        # interrupted as from a terminal: Snakemake does not pass a signal on to its jobs
        process = subprocess.Popen([SNAKEMAKE, *arguments], process_group=0)
        while process.poll() is None and request.signal is None and time.monotonic() < end:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(SECONDS_BETWEEN_LOOKS)
        if is_stopped := process.poll() is None:
            os.killpg(process.pid, signal.SIGINT)
            try:
                process.wait(to_stop)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                subprocess.run([SNAKEMAKE, *arguments, "--unlock"], check=False)
    if request.signal is not None:
        request.end()
    return MORE_TO_DO if is_stopped and process.returncode else process.returncode
