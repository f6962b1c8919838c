"""Snakemake's records of finished jobs, carried in git: what was copied or pulled here need not be made again.

Snakemake remembers in the working folder with which settings, code and inputs each file was made (`.snakemake/metadata`, format
6), and reruns a job when they differ. A fresh clone has no such records. `export` writes those of a run to
``records/<run>/<rule>.json``, without times, and `restore` puts a record back for every file that is the recorded one by its
content, or that is not here at all.

Three more things Snakemake does not see by itself: an input that is not the recorded one though it is older than what was made
of it, which `restore` marks, so that the job runs again; an input that was made again here as it had been, though another
processor may have rounded its last bits otherwise, which is no reason to make again what was brought here; and whether files
were `brought` here, so that missing ones can be too.
"""

from __future__ import annotations

import base64
import json
import logging
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from decodiff.files import read_json, sha256, write_json

log = logging.getLogger(__name__)

FORMAT = 6
FOLDER = Path("records")
SNAKEMAKE = Path(".snakemake")
METADATA = SNAKEMAKE / "metadata"
# content of large files is not hashed twice
INDEX = SNAKEMAKE / "decodiff-sha256.json"
KEPT = ("rule", "input", "params", "code", "conda_env", "container_img_url", "software_stack_hash", "input_checksums")
CHANGED = "<content changed> "
# in Snakemake's record of a file that was not made here; its own are never 0
RESTORED = 0
# data sets belong to all runs
SHARED = "data"
NAME_LENGTH = 254
FILES_NAMED = 3


@dataclass(frozen=True)
class Recorded:
    """One file of a run as it was made: how, and what came out."""

    record: dict[str, Any]
    sha256: str
    size: int


def _record_path(output: str) -> Path:
    """Where Snakemake keeps the record of a file."""
    name = base64.urlsafe_b64encode(output.encode()).decode()
    parts = [name[start : start + NAME_LENGTH] for start in range(0, len(name), NAME_LENGTH)]
    return METADATA.joinpath(*(f"@{part}" for part in parts[:-1]), parts[-1])


def _snakemakes(output: str) -> dict[str, Any] | None:
    try:
        return json.loads(_record_path(output).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _all_of_snakemake() -> Iterator[tuple[str, dict[str, Any]]]:
    """Files that Snakemake has a record of, with it."""
    for path in sorted(METADATA.rglob("*")):
        if path.is_file():
            name = "".join(part.lstrip("@") for part in path.relative_to(METADATA).parts)
            output = base64.urlsafe_b64decode(name).decode()
            if (record := _snakemakes(output)) and record["record_format_version"] == FORMAT:
                yield output, record


def _time(path: str) -> float:
    """When the file was last changed; 0 when it is not here."""
    return os.lstat(path).st_mtime if os.path.isfile(path) else 0


def _current(output: str) -> dict[str, Any] | None:
    """Snakemake's record of a file, if it is of the file as it is here (or is not here)."""
    own = _snakemakes(output)
    return own if own and own["endtime"] == _time(output) else None


class _Digests:
    """SHA-256 of files, remembered for as long as a file's inode, size and times stay."""

    def __init__(self) -> None:
        self.known: dict[str, list[Any]] = read_json(INDEX) if INDEX.is_file() else {}
        self.new = False

    def __call__(self, path: str) -> str:
        state = os.stat(path)
        key = [state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns]
        if self.known.get(path, [])[:-1] != key:
            self.known[path], self.new = [*key, sha256(Path(path))], True
        return self.known[path][-1]

    def agree(self, checksums: dict[str, str] | None) -> bool:
        """Whether files are here with these contents, as Snakemake writes them: ``sha256:…``."""
        return all(os.path.isfile(name) and self(name) == checksum[7:] for name, checksum in (checksums or {}).items())

    def save(self) -> None:
        if self.new:
            write_json(INDEX, self.known)


def recorded(runs: Iterable[str]) -> dict[str, Recorded]:
    """Every file that the records of some runs, and of the data sets, speak of."""
    found: dict[str, Recorded] = {}
    for run in (SHARED, *runs):
        for path in sorted((FOLDER / run).glob("*.json")):
            content = read_json(path)
            if content.get("record_format_version") != FORMAT:
                log.warning("%s: of another version of Snakemake; not used", path)
                continue
            for job in content["jobs"]:
                record = {name: job[name] for name in KEPT}
                found |= {output: Recorded(record, *made) for output, made in job["outputs"].items()}
    return found


def _plain(record: dict[str, Any]) -> dict[str, Any]:
    return {name: record[name] for name in KEPT} | {
        "input": [name for name in record["input"] or [] if not name.startswith(CHANGED)]
    }


class _MadeAgain:
    """Whether a recorded file was made again here as it had been: by the same code and settings, of the same inputs or of such.

    Its bytes may differ: processors round differently, and speeds are measured.
    """

    def __init__(self, wanted: dict[str, Recorded]) -> None:
        self.wanted = wanted
        self.known: dict[str, bool] = {}

    def __call__(self, path: str) -> bool:
        if path not in self.known:
            self.known[path] = self._asked(path)
        return self.known[path]

    def _asked(self, path: str) -> bool:
        own = _current(path)
        if path not in self.wanted or not own or own["job_hash"] == RESTORED:
            return False
        here, recorded = _plain(own), _plain(self.wanted[path].record)
        inputs, others = here.pop("input_checksums") or {}, recorded.pop("input_checksums") or {}
        same = here == recorded and inputs.keys() == others.keys()
        return same and all(checksum == others[name] or self(name) for name, checksum in inputs.items())


def _mark_changed_inputs(digests: _Digests) -> None:
    """Tell Snakemake of inputs that are not those recorded but no newer than the file made of them."""
    for output, record in _all_of_snakemake():
        made = _time(output)
        changed = [
            CHANGED + name
            for name, checksum in (record["input_checksums"] or {}).items()
            if os.path.isfile(name) and (not made or _time(name) <= made) and checksum != f"sha256:{digests(name)}"
        ]
        inputs = sorted([*_plain(record)["input"], *changed])
        if inputs != sorted(record["input"] or []):
            write_json(_record_path(output), record | {"input": inputs})


def restore(runs: Iterable[str]) -> None:
    """Give Snakemake the records of files that are here as recorded, or not here; name those that are others."""
    wanted = recorded(runs)
    if not wanted:
        return
    digests, made_again, others = _Digests(), _MadeAgain(wanted), []
    # without it Snakemake takes the records for those of an older version
    (SNAKEMAKE / "incomplete").mkdir(parents=True, exist_ok=True)
    for output, known in wanted.items():
        made, own = _time(output), _current(output)
        if own and own["job_hash"] != RESTORED:
            # when all around it was replaced, as by `dvc checkout`, a file that would not have changed stays
            same = _plain(own) == _plain(known.record) or digests.agree(own["input_checksums"])
            if same or not digests.agree({output: f"sha256:{known.sha256}"} | (known.record["input_checksums"] or {})):
                continue
        checksums = {
            name: f"sha256:{digests(name)}" if made_again(name) else checksum
            for name, checksum in (known.record["input_checksums"] or {}).items()
        }
        record = known.record | {"input_checksums": checksums}
        if own and _plain(own) == _plain(record):
            continue
        if made and (os.path.getsize(output) != known.size or digests(output) != known.sha256):
            if not own:
                others.append(output)
            continue
        times = {"starttime": made, "endtime": made, "incomplete": False}
        rest: dict[str, Any] = {
            "log": [],
            "shellcmd": None,
            "record_format_version": FORMAT,
            "job_hash": RESTORED,
            "external_jobid": None,
        }
        write_json(_record_path(output), record | times | rest)
    _mark_changed_inputs(digests)
    digests.save()
    if others:
        named = ", ".join(others[:FILES_NAMED]) + (" …" if len(others) > FILES_NAMED else "")
        log.warning("%d files are not those recorded: %s; `dvc checkout` or `dvc pull` brings them back", len(others), named)


def brought(known: Iterable[str]) -> bool:
    """Whether some of these recorded files were brought here rather than made here."""
    return any(os.path.isfile(output) and (own := _current(output)) and own["job_hash"] == RESTORED for output in known)


def export(run: str) -> None:
    """Write the records of a run, and of the data sets here, to `FOLDER`; files that are not here keep the record they have."""
    digests = _Digests()
    before = recorded([run])
    groups: dict[tuple[str, str], dict[str, dict[str, Any]]] = {}
    now = dict(before)
    for output, record in _all_of_snakemake():
        folder, _, rest = output.partition("/")
        made = _time(output)
        if (folder == SHARED or rest.split("/")[0] == run) and made and record["endtime"] == made:
            now[output] = Recorded(_plain(record), digests(output), os.path.getsize(output))
    for output, known in sorted(now.items()):
        owner = SHARED if output.startswith(f"{SHARED}/") else run
        jobs = groups.setdefault((owner, known.record["rule"]), {})
        job = jobs.setdefault(json.dumps(known.record, sort_keys=True), {**known.record, "outputs": {}})
        job["outputs"][output] = [known.sha256, known.size]
    for (owner, rule), jobs in groups.items():
        write_json(FOLDER / owner / f"{rule}.json", {"record_format_version": FORMAT, "jobs": list(jobs.values())})
    for owner in (run, SHARED):
        for path in (FOLDER / owner).glob("*.json"):
            # what it spoke of is made by other rules now
            if (owner, path.stem) not in groups and read_json(path).get("record_format_version") == FORMAT:
                path.unlink()
    digests.save()
    log.info("records of %d files of the run %s", len(now), run)
