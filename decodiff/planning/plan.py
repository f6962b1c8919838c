"""The plan of a run: its jobs, how long each is thought to take, and the longest chain of them."""

from __future__ import annotations

import contextlib
import csv
import io
import json
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from decodiff.config import Config, check_file
from decodiff.errors import InputError

if TYPE_CHECKING:
    from decodiff.planning.room import Room

# Operations per second of networks where nothing was measured, a statement: on a GPU a third of what an A100 can do at most in
# bfloat16 (312e12), on a processor what one core reaches in a training with the recipe `small` (docs/results.md).
STATED_OPERATIONS = {"cuda": 1e14, "cpu": 4e10}
# images per second of rules without networks on some cores, where nothing was measured
STATED_IMAGES = {
    **{"fetch": 50, "make_defects": 20, "prepare": 100, "floor": 10},
    **{"evaluate": 50, "evaluate_floor": 50, "evaluate_method": 50, "curves": 100},
    # seconds of its own that it may take
    "method": 1,
}
# seconds of any other job: most of them start, read some files and write one
STATED_SECONDS = 5
NETWORK_RULES = ("autoencoder", "encode", "encode_test", "train", "correct", "score", "over_compute")

# The workflow as Snakemake has read it, and its configuration, put here by the Snakefile: Snakemake's own functions do not give
# them.
workflow: Any = None
config: Any = None
# Seconds of each job of the run that has begun, by its name, for the line that shows how far it is.
expected: dict[str, float] = {}


def job_name(rule: str, wildcards: Mapping[str, str]) -> str:
    """What a job is called: its rule and the values of its wildcards."""
    return " ".join([rule, *wildcards.values()])


@dataclass(frozen=True)
class Job:
    """One job of the workflow.

    Attributes:
        rule: its rule.
        wildcards: their values.
        settings: the sections that its stage may read.
        measured: seconds it took when it last ran here; ``None`` when it has not.
        is_done: whether it need not run.
        needs: positions of the jobs it waits for, all before its own.
        inputs, outputs: its files.
    """

    rule: str
    wildcards: Mapping[str, str]
    settings: Mapping[str, Any]
    measured: float | None
    is_done: bool
    needs: tuple[int, ...]
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return job_name(self.rule, self.wildcards)

    @property
    def computes_with_networks(self) -> bool:
        return self.rule.removesuffix("_variant") in NETWORK_RULES


@dataclass(frozen=True)
class Estimate:
    """A job that is to run.

    Attributes:
        job: which.
        seconds: it is thought to take.
        source: what that was reckoned from: ``measured`` (on jobs of its rule, or itself) or ``stated``.
        end: seconds after the beginning, when every job starts as soon as those it needs have ended.
        waits_for: position of the job that ends last of those it needs; ``None`` when it needs none.
    """

    job: Job
    seconds: float
    source: str
    end: float
    waits_for: int | None


@dataclass(frozen=True)
class Plan:
    """Estimates of all jobs that are to run, each after those it needs."""

    estimates: list[Estimate]

    @property
    def network_seconds(self) -> float:
        """Of all jobs that compute with networks: what GPUs are held for."""
        return sum(item.seconds for item in self.estimates if item.job.computes_with_networks)

    @property
    def critical_path(self) -> list[Estimate]:
        """The chain of jobs that ends last: no number of machines makes the run shorter than it."""
        last = max(self.estimates, key=lambda item: item.end, default=None)
        chain = []
        while last:
            chain.append(last)
            last = None if last.waits_for is None else self.estimates[last.waits_for]
        return chain[::-1]

    def seconds_on(self, devices: int) -> float:
        """At least so long a run takes with some number of GPUs, in seconds."""
        return max(self.critical_path[-1].end if self.estimates else 0.0, self.network_seconds / devices)


def _rates(jobs: list[Job], work: Callable[[Job], float]) -> dict[str, float]:
    """Seconds per unit of work, of rules that have run here."""
    totals: dict[str, list[float]] = {}
    for job in jobs:
        if job.measured is not None and (amount := work(job)) > 0:
            total = totals.setdefault(job.rule, [0.0, 0.0])
            total[0] += job.measured
            total[1] += amount
    return {rule: seconds / amount for rule, (seconds, amount) in totals.items()}


def estimate(jobs: list[Job], work: Callable[[Job], float], operations: float) -> Plan:
    """How long each job that is to run will take.

    A job that has run here before takes as long again; others take as long as measured jobs of their rule did, by the work they
    have to do; where there are none, a stated throughput is used.

    Args:
        jobs: all of the workflow, done or not, each after those it needs.
        work: of a job, see `decodiff.planning.work.Work.of`.
        operations: per second, of networks of which nothing was measured.
    """
    rates = _rates(jobs, work)
    places: dict[int, int] = {}
    estimates: list[Estimate] = []
    for place, job in enumerate(jobs):
        if job.is_done:
            continue
        rule = job.rule.removesuffix("_variant")
        source = "stated"
        if job.measured is not None:
            seconds, source = job.measured, "measured"
        elif job.rule in rates:
            seconds, source = work(job) * rates[job.rule], "measured"
        elif job.computes_with_networks:
            seconds = work(job) / operations
        elif rule in STATED_IMAGES:
            seconds = work(job) / STATED_IMAGES[rule]
        else:
            seconds = STATED_SECONDS
        before = [places[need] for need in job.needs if need in places]
        last = max(before, key=lambda index: estimates[index].end, default=None)
        begin = 0.0 if last is None else estimates[last].end
        places[place] = len(estimates)
        estimates.append(Estimate(job, seconds, source, begin + seconds, last))
    return Plan(estimates)


# ---- from Snakemake


def _benchmark_seconds(path: Path | None) -> float | None:
    """What a job took, as Snakemake's benchmark file of it says; ``None`` when there is none that can be read."""
    if path is None or not path.is_file():
        return None
    try:
        with open(path, newline="", encoding="utf-8") as stream:
            return float(next(csv.DictReader(stream, delimiter="\t"))["s"])
    except (StopIteration, KeyError, ValueError, TypeError):
        return None


def jobs_of(dag: Any) -> list[Job]:
    """The jobs of Snakemake's plan that do something, each after those it needs."""
    places: dict[Any, int] = {}
    found: list[Job] = []
    for job in (job for level in dag.toposorted() for job in level):
        if not job.is_norun:
            places[job] = len(found)
            found.append(
                Job(
                    job.rule.name,
                    dict(job.wildcards_dict),
                    json.loads(job.params.get("settings", "{}")),
                    _benchmark_seconds(Path(job.benchmark) if job.benchmark else None),
                    not dag.needrun(job),
                    tuple(places[other] for other in dag.dependencies[job] if other in places),
                    tuple(map(str, job.input)),
                    tuple(map(str, job.output)),
                )
            )
    return found


def plan_of(jobs: list[Job], config: Config, operations: float) -> tuple[Plan, set[str]]:
    """The plan of what Snakemake is about to run, and the data sets whose number of images is not known yet."""
    from decodiff.planning.work import Work  # it loads the networks' libraries, which the Snakefile need not wait for

    work = Work(config)
    return estimate(jobs, lambda job: work.of(job.rule, job.wildcards, job.settings), operations), work.unknown


def read(arguments: list[str]) -> tuple[ArgumentParser, Namespace]:
    """Arguments of ``snakemake`` as it reads them, and its parser.

    Raises:
        InputError: a configuration among them that Snakemake is not to read, see `check_file`.
    """
    from snakemake.cli import parse_args  # it takes a second

    parser, parsed = parse_args(arguments)
    for path in parsed.configfile or []:
        check_file(Path(path))
    return parser, parsed


def planned(arguments: list[str], operations: float) -> tuple[Plan, set[str], Room]:
    """`plan_of` what ``snakemake`` with these arguments would run, and whether it fits; nothing is run, neither jobs nor what a
    configuration holds.

    Raises:
        InputError: see `read`; or Snakemake cannot plan it, with what it says.
    """
    from snakemake.cli import args_to_api  # it takes a second

    from decodiff.planning.room import room_of

    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        parser, parsed = read([*arguments, "--dry-run"])
        is_planned = args_to_api(parsed, parser)
    if not is_planned:
        # it says why in a line between indented ones
        reasons = [line for line in said.getvalue().splitlines() if line and not line[0].isspace()]
        raise InputError(f"Snakemake cannot plan this run ({' '.join(reasons[-1:])}); `snakemake -n` says more")
    # Snakemake has left the run's folder again
    with contextlib.chdir(parsed.directory or "."):
        jobs = jobs_of(workflow.dag)
        return *plan_of(jobs, config, operations), room_of(jobs, config)
