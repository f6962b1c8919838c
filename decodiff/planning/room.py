"""Whether a run fits: on the disks that it writes to, and into the memory of this machine."""

from __future__ import annotations

import os
import shutil
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import psutil

from decodiff.config import Config
from decodiff.planning.needs import Needs
from decodiff.planning.plan import Job

# devices of NVIDIA's and AMD's drivers
ACCELERATORS = ("/dev/nvidiactl", "/dev/kfd")
OWN_GROUPS, CONTROL_GROUPS = Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")
# version 1's limit of memory, below a folder for each kind of limit
LIMIT, OLD_LIMIT = "memory.max", "memory.limit_in_bytes"


@dataclass(frozen=True)
class Disk:
    """A file system that a run writes to, bytes.

    Attributes:
        folders: of the run that lie on it.
        needed: by what is still to be made, with what the job that needs most writes besides.
        free: for this user.
        largest: the rule that needs most.
    """

    folders: tuple[str, ...]
    needed: float
    free: int
    largest: str


@dataclass(frozen=True)
class Room:
    """What a run needs and what is there, bytes.

    Attributes:
        disks: that it writes to.
        job: the one that holds most memory; empty when nothing is to be made.
        memory: that it holds at least.
        setting: the key that decides on it; empty where none does.
        there: memory that a process may have here.
    """

    disks: tuple[Disk, ...]
    job: str
    memory: float
    setting: str
    there: int

    def problems(self, is_here: bool) -> list[str]:
        """What does not fit, each with what is needed, what is there and what to do.

        Args:
            is_here: whether jobs run on this machine; on a cluster its memory does not count.
        """
        found = [
            f"{', '.join(disk.folders)}: {size(disk.needed)} of disk needed for what is still to be made, most of it by "
            f"{disk.largest}; {size(disk.free)} free; make room, or run it in another folder (snakemake --directory)"
            for disk in self.disks
            if disk.needed > disk.free
        ]
        if is_here and self.memory > self.there:
            advice = f"lower {self.setting}, or " if self.setting else ""
            found.append(
                f"{self.job}: holds {size(self.memory)} of memory or more, there are {size(self.there)} here; {advice}run it "
                "on a cluster (snakemake --workflow-profile profiles/slurm)"
            )
        return found


def size(count: float) -> str:
    """Bytes in the largest unit that matters: "3.2 GB", "14 MB"."""
    unit, name = next(((unit, name) for unit, name in ((1e12, "TB"), (1e9, "GB")) if count >= unit), (1e6, "MB"))
    return f"{count / unit:.{1 if unit <= count < 10 * unit else 0}f} {name}"


def computes_on_processor() -> bool:
    """Whether networks compute on the processor here, told without PyTorch, which takes seconds to load."""
    return sys.platform != "darwin" and not any(os.path.exists(path) for path in ACCELERATORS)


def memory() -> int:
    """Bytes that a process may have: the machine's memory, or what its control groups allow."""
    limits = [psutil.virtual_memory().total]
    try:
        groups = [line.rstrip().split(":", 2) for line in OWN_GROUPS.read_text().splitlines()]
    except OSError:  # no Linux
        return limits[0]
    for _, controllers, path in groups:
        if controllers not in ("", "memory"):
            continue
        root, name = (CONTROL_GROUPS / "memory", OLD_LIMIT) if controllers else (CONTROL_GROUPS, LIMIT)
        folder = root / path.lstrip("/")
        for above in (folder, *folder.parents):
            # in a container the path may be that outside of it
            if above.is_relative_to(root) and (above / name).is_file():
                limit = (above / name).read_text().strip()
                limits += [int(limit)] if limit.isdigit() else []
    return min(limits)


def _existing(path: str) -> Path:
    """The path or what is there of it."""
    place = Path(path)
    return next(folder for folder in (place, *place.absolute().parents) if folder.exists())


def _present(job: Job) -> int:
    return sum(os.path.getsize(path) for path in job.outputs if os.path.isfile(path))


def room_of(jobs: list[Job], config: Config) -> Room:
    """What the jobs that are to run need, and what is there.

    Files that are there are not counted, but while they are replaced.

    Args:
        jobs: of the workflow, done or not.
        config: of the run.
    """
    needs, on_processor = Needs(config), computes_on_processor()
    folders: dict[int, dict[str, Path]] = {}
    needed: dict[int, Counter[str]] = {}
    besides: dict[int, float] = {}
    most = ("", 0.0, "")
    for job in jobs:
        if job.is_done or not job.outputs:
            continue
        need, there = needs.of(job, on_processor), _present(job)
        folder = _existing(job.outputs[0])
        device = folder.stat().st_dev
        folders.setdefault(device, {})[job.outputs[0].partition("/")[0]] = folder
        needed.setdefault(device, Counter())[job.rule] += round(max(0.0, need.kept - there))
        besides[device] = max(besides.get(device, 0.0), need.working + min(there, need.kept))
        if need.memory > most[1]:
            most = (job.name, need.memory, need.setting)
    disks = [
        Disk(
            tuple(sorted(folders[device])),
            by_rule.total() + besides[device],
            shutil.disk_usage(next(iter(folders[device].values()))).free,
            by_rule.most_common(1)[0][0],
        )
        for device, by_rule in needed.items()
    ]
    return Room(tuple(disks), *most, memory())
