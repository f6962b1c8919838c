"""A run with one line that says what it is doing, how far it is and how long it still takes; the full log goes to a file."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, TextIO

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task
from rich.progress_bar import ProgressBar
from rich.text import Text
from snakemake_interface_logger_plugins.base import LogHandlerBase
from snakemake_interface_logger_plugins.common import LogEvent

from decodiff.files import writing
from decodiff.planning import plan
from decodiff.planning.show import duration

LOG = Path("logs/run.log")
# how it is called among Snakemake's loggers
NAME = "line"
# at first a run is taken to go as fast as it was thought to; so many seconds outweigh that
SECONDS_TO_PACE = 30.0
# where there is no terminal, a line now and then
SECONDS_BETWEEN_LINES = 30.0
# what Snakemake says besides of a job that failed
TOLD = ("RuleException", "Exiting because a job execution failed", "At least one job did not complete successfully")


class Course:
    """How far a run is, by the time that its jobs are thought to take.

    Args:
        clock: seconds.

    Attributes:
        jobs: how many there are.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic):
        self._clock = clock
        self._began = clock()
        self._running: dict[int, tuple[str, float]] = {}
        self._lock = threading.Lock()
        self._ended: list[str] = []
        self._expected: Mapping[str, float] = {}
        self.jobs = 0

    def expect(self, seconds: Mapping[str, float]) -> None:
        """Seconds that each job is thought to take, by its name."""
        with self._lock:
            self._expected = seconds

    def begin(self, job: int, name: str) -> None:
        with self._lock:
            self._running[job] = name, self._clock()

    def end(self, job: int, well: bool = True) -> str:
        """Its name; one that did not end well does not count as done."""
        with self._lock:
            name, _ = self._running.pop(job, ("", 0.0))
            if name and well:
                self._ended.append(name)
            return name

    def _seconds(self, name: str) -> float:
        # jobs that are not planned for only name the files that others make
        return self._expected.get(name, 0.0)

    @property
    def elapsed(self) -> float:
        return self._clock() - self._began

    def _done(self) -> tuple[float, float]:
        """Seconds thought for what is done, of a job that runs at most what it is thought to take; and for all."""
        with self._lock:
            now = self._clock()
            done = sum(map(self._seconds, self._ended))
            done += sum(min(now - began, self._seconds(name)) for name, began in self._running.values())
            return done, sum(self._expected.values())

    @property
    def part(self) -> float:
        """Of the whole run, in [0, 1]."""
        done, total = self._done()
        return done / total if total else 0.0

    @property
    def left(self) -> float:
        """Seconds that it still takes at the pace so far."""
        done, total = self._done()
        return (total - done) * (self.elapsed + SECONDS_TO_PACE) / (done + SECONDS_TO_PACE)

    def line(self) -> str:
        """Jobs that have ended, those that run, time left."""
        with self._lock:
            running = [name for name, _ in sorted(self._running.values(), key=lambda job: -self._seconds(job[0]))]
            ended = len(self._ended)
        more = f" and {len(running) - 1} more" if len(running) > 1 else ""
        if not self.jobs:
            return "planning"
        doing = f"{running[0] if running else 'between jobs'}{more}"
        return f"{ended} of {self.jobs} jobs · {doing} · {duration(self.elapsed)}, about {duration(self.left)} left"


class _Line(ProgressColumn):
    def __init__(self, course: Course):
        super().__init__()
        self._course = course

    def render(self, task: Task) -> Text:
        return Text(self._course.line(), no_wrap=True, overflow="ellipsis")


class _Bar(BarColumn):
    def __init__(self, course: Course):
        super().__init__(bar_width=20)
        self._course = course

    def render(self, task: Task) -> ProgressBar:
        task.completed = self._course.part
        return super().render(task)


class Screen:
    """What a person sees: on a terminal a line that is drawn anew, elsewhere one now and then; and what went wrong."""

    def __init__(self, course: Course, stream: TextIO, seconds_between_lines: float = SECONDS_BETWEEN_LINES):
        self._course = course
        self._console = Console(file=stream, highlight=False, soft_wrap=True)
        self._bar = Progress(_Bar(course), _Line(course), console=self._console, transient=True, redirect_stderr=False)
        self._bar.add_task("", total=1.0)
        self._seconds_between_lines = seconds_between_lines
        self._is_over = threading.Event()
        # of its own, as Snakemake says nothing while a long job runs
        self._lines = threading.Thread(target=self._say_lines, daemon=True)

    def begin(self) -> None:
        if self._console.is_terminal:
            self._bar.start()
        else:
            self._lines.start()

    def _say_lines(self) -> None:
        while not self._is_over.wait(self._seconds_between_lines):
            self.say(self._course.line())

    def say(self, message: str) -> None:
        self._console.print(message, markup=False)

    def end(self) -> None:
        # it would print an empty line where it has not begun
        if self._console.is_terminal:
            self._bar.stop()
        else:
            self._is_over.set()
            self._lines.join()


def _last_line(paths: Iterable[str]) -> str:
    """The last one of the first of these files that has one."""
    for path in map(Path, paths):
        with contextlib.suppress(OSError):
            lines = [line for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
            if lines:
                return lines[-1]
    return "see the log"


class Handler(LogHandlerBase):
    """Takes Snakemake's messages: all of them to the log, what counts to the screen."""

    screen: Screen
    course: Course

    # what Snakemake asks of a logger; nothing is left out of the log
    writes_to_stream, writes_to_file = True, False
    has_filter, has_formatter = True, False
    needs_rulegraph = False

    # Snakemake's records have further attributes, by their event
    def emit(self, record: Any) -> None:
        print(self.format(record), file=sys.stderr, flush=True)
        event = getattr(record, "event", None)
        course, screen = self.course, self.screen
        if event == LogEvent.RUN_INFO:
            course.jobs = record.stats["total"]
        elif event == LogEvent.JOB_INFO:
            # known since the hook that runs before the first job
            course.expect(plan.expected)
            course.begin(record.jobid, plan.job_name(record.rule_name, record.wildcards))
        elif event == LogEvent.JOB_FINISHED:
            course.end(record.job_id)
        elif event == LogEvent.JOB_ERROR:
            name = course.end(record.jobid, well=False)
            screen.say(f"{name or record.rule_name}: {_last_line(record.log)} ({', '.join(record.log)})")
        elif event == LogEvent.ERROR or event is None and record.levelno >= logging.ERROR:
            message = record.getMessage()
            if not any(text in message for text in TOLD):
                screen.say(message)
        elif event is None and record.getMessage().startswith("Nothing to be done"):
            screen.say("nothing to be done")


@contextlib.contextmanager
def _to_log() -> Iterator[TextIO]:
    """Standard error of this process and of all that it starts goes to `LOG`; gives what it was."""
    with writing(LOG):
        LOG.parent.mkdir(parents=True, exist_ok=True)
        log = open(LOG, "w", encoding="utf-8")
    screen = os.dup(2)
    try:
        with log, os.fdopen(screen, "w", closefd=False) as stream:
            os.dup2(log.fileno(), 2)
            try:
                yield stream
            finally:
                sys.stderr.flush()
                os.dup2(screen, 2)
    finally:
        os.close(screen)


def run(arguments: list[str]) -> int:
    """Run ``snakemake`` with these arguments and one line of progress.

    Args:
        arguments: of ``snakemake``.

    Returns:
        Its exit status.

    Raises:
        InputError: see `plan.read`; or a disk that does not take the log.
    """
    from snakemake.cli import args_to_api  # it takes a second
    from snakemake.exceptions import print_exception
    from snakemake_interface_logger_plugins.registry import LoggerPluginRegistry

    # Snakemake finds loggers among installed packages of their own; this one is known to it from here on
    module = ModuleType("snakemake_logger_plugin_line", __doc__)
    vars(module)["LogHandler"] = Handler
    LoggerPluginRegistry().register_plugin(module.__name__, module)
    parser, parsed = plan.read([*arguments, "--logger", NAME])
    is_done = False
    with _to_log() as stream:
        Handler.course = Course()
        Handler.screen = Screen(Handler.course, stream)
        Handler.screen.begin()
        try:
            is_done = args_to_api(parsed, parser)
        except Exception as error:  # as Snakemake's own command
            print_exception(error)
        finally:
            Handler.screen.end()
    took = duration(Handler.course.elapsed)
    print(f"{'done' if is_done else 'not done'} after {took}; the full log: {LOG}", file=sys.stderr)
    return 0 if is_done else 1
