"""Many images through the stages: time, memory and file handles of every command against the number of images.

    python benchmarks/soak.py [--images 5000 15000 50000] [--figure docs/soak.png]

Images are generated, 32×32 pixels in ten categories, one in ten anomalous with a mask; all but a thousand are tested. Each
stage is the command that the workflow runs, a process of its own, with networks that were trained for a moment. While it runs,
it is looked at several times a second: memory is what the process holds for itself (RssAnon of Linux; pages of files that are
mapped belong to the system's cache), handles are its open files, seconds are those of the processor.
"""

from __future__ import annotations

import argparse
import csv
import os
import platform
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import psutil
import yaml
from matplotlib import pyplot
from PIL import Image
from tqdm import tqdm

from decodiff.reporting.drawing import save, use_style

ROOT = Path(__file__).parents[1]
PROGRAM = Path(sys.executable).with_name("decodiff")
ENVIRONMENT = os.environ | {"PYTHONPATH": str(ROOT), "TQDM_MININTERVAL": "30"}
SIDE, CATEGORIES, TRAINED = 32, 10, 1000
# one in ten test images is anomalous
ANOMALOUS_EVERY = 10
SECONDS_BETWEEN_LOOKS = 0.2
# the first part of a run, in which programs are loaded, does not count for what grows
WARM_UP = 0.25
STAGES = ("fetch", "prepare", "encode-test", "correct", "score", "evaluate")


@dataclass
class Course:
    """What was seen of a process: its processor seconds at the end; seconds since its start, MiB and handles at every look."""

    seconds: float = 0.0
    looks: list[tuple[float, float, int]] = field(default_factory=list)

    def late(self, column: int) -> list[float]:
        """A column of the looks after the warm-up."""
        end = self.looks[-1][0]
        return [look[column] for look in self.looks if look[0] >= WARM_UP * end]


def generate(folder: Path, count: int) -> list[dict[str, str | int]]:
    """Write images and masks; gives the lines of their list."""
    random = np.random.default_rng(0)
    folder.mkdir()
    mask = np.zeros((SIDE, SIDE), np.uint8)
    mask[10:18, 12:20] = 255
    Image.fromarray(mask).save(folder / "mask.png")
    lines = []
    for index in tqdm(range(count), desc="generate", unit="image"):
        image = random.integers(100, 140, (SIDE, SIDE, 3), dtype=np.uint8)
        is_anomalous = index >= TRAINED and index % ANOMALOUS_EVERY == 0
        if is_anomalous:
            image[mask > 0] = 250
        name = f"{index:06d}.png"
        Image.fromarray(image).save(folder / name, compress_level=1)
        lines.append(
            {
                "image": f"{folder.name}/{name}",
                "split": "train" if index < TRAINED else "test",
                "category": f"part {index // ANOMALOUS_EVERY % CATEGORIES}",
                "label": int(is_anomalous),
                "mask": f"{folder.name}/mask.png" if is_anomalous else "",
            }
        )
    return lines


def watched(command: list[str], folder: Path) -> Course:
    """Run a command of the package and look at it until it ends."""
    course, begin = Course(), time.monotonic()
    with open(folder / "output", "w+") as output:
        process = psutil.Popen(
            [PROGRAM, *command],
            cwd=folder,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=ENVIRONMENT,
        )
        while process.poll() is None:
            try:
                status = Path(f"/proc/{process.pid}/status").read_text()
                memory = int(status.partition("RssAnon:")[2].split()[0]) / 1024
                course.looks.append((time.monotonic() - begin, memory, process.num_fds()))
                times = process.cpu_times()
                course.seconds = times.user + times.system
            except (psutil.Error, OSError, IndexError):  # it has just ended
                break
            time.sleep(SECONDS_BETWEEN_LOOKS)
        if process.wait():
            output.seek(0)
            raise SystemExit(f"decodiff {command[0]} failed: {output.read()[-2000:]}")
    return course


def soak(folder: Path, lines: list[dict[str, str | int]]) -> dict[str, Course]:
    """Take the listed images through all stages."""
    with open(folder / "list.csv", "w", newline="") as stream:
        writer = csv.DictWriter(stream, list(lines[0]))
        writer.writeheader()
        writer.writerows(lines)
    toy = yaml.safe_load((ROOT / "tests/toy.yaml").read_text())
    data = {"soak": {"kind": "csv", "source": str(folder / "list.csv")}}
    settings = {"run": "soak", "seeds": [0], "data": data, "scopes": {"all": ["soak"]}, "evaluation": {"resamples": 100}}
    (folder / "config.yaml").write_text(yaml.safe_dump(toy | settings))
    config, prepared = ("--config", "config.yaml"), ("--prepared", "prepared")
    coder, latents, network = ("--autoencoder", "autoencoder"), ("--latents", "latents"), ("--unet", "network")
    named, results = ("--dataset", "soak"), ("--output", "results")
    commands = {
        "fetch": ["fetch", "soak", *config, "--output", "data/manifest.csv"],
        "prepare": ["prepare", "data/manifest.csv", "--resize", str(SIDE), "--output", "prepared"],
        "autoencoder": ["autoencoder", *config, *prepared, "--output", "autoencoder"],
        "encode": ["encode", *config, *named, *prepared, *coder, "--output", "latents"],
        "train": ["train", *config, "--scope", "all", "--seed", "0", *latents, *prepared, "--output", "network"],
        "encode-test": ["encode-test", *config, *prepared, *coder, "--output", "latents"],
        "correct": ["correct", *config, *named, *network, *latents, *prepared, *results],
        "score": ["score", *config, "--corrected", "results", *latents, *coder, *results],
        "evaluate": ["evaluate", *config, *named, "--scope", "all", "--seed", "0", "--results", "results", *prepared, *results],
    }
    return {name: watched(command, folder) for name, command in tqdm(commands.items(), desc=f"{len(lines)} images")}


def draw(courses: dict[int, dict[str, Course]], path: Path) -> None:
    """Seconds over images for each stage; memory and handles over the longest run."""
    use_style()
    figure, (left, middle, right) = pyplot.subplots(1, 3, figsize=(7.2, 2.5))
    most = max(courses)
    for stage in STAGES:
        left.plot(
            [count / 1000 for count in courses], [course[stage].seconds for course in courses.values()], "o-", label=stage
        )
        looks = np.array(courses[most][stage].looks)
        part = 100 * looks[:, 0] / looks[-1, 0]
        middle.plot(part, looks[:, 1])
        right.plot(part, looks[:, 2])
    left.set(xlabel="thousand images", ylabel="processor seconds", xlim=(0, None), ylim=(0, None))
    middle.set(xlabel=f"% of the stage, {most:,} images", ylabel="memory held, MiB", xlim=(0, 100), ylim=(0, None))
    right.set(xlabel=f"% of the stage, {most:,} images", ylabel="open files", xlim=(0, 100), ylim=(0, None))
    left.legend()
    save(figure, path)
    path.with_suffix(".pdf").unlink()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, nargs="+", default=[5000, 15000, 50000])
    parser.add_argument("--figure", type=Path, default=Path("soak.png"))
    arguments = parser.parse_args()
    print(f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}\n")
    courses: dict[int, dict[str, Course]] = {}
    with tempfile.TemporaryDirectory() as name:
        lines = generate(Path(name) / "images", max(arguments.images))
        for count in sorted(arguments.images):
            folder = Path(name) / str(count)
            folder.mkdir()
            (folder / "images").symlink_to(Path(name) / "images")
            courses[count] = soak(folder, lines[:count])
    counts = list(courses)
    columns = [f"s, {count:,}" for count in counts] + [f"ms an image, {count:,}" for count in counts]
    columns += [f"MiB, {count:,}" for count in counts] + ["MiB gained", "open files"]
    print(f"| stage | {' | '.join(columns)} |\n|{'---|' * (len(columns) + 1)}")
    for stage in STAGES:
        runs = [course[stage] for course in courses.values()]
        cells = [f"{run.seconds:.1f}" for run in runs]
        cells += [f"{1000 * run.seconds / count:.2f}" for run, count in zip(runs, counts)]
        cells += [f"{max(run.late(1)):.0f}" for run in runs]
        held = runs[-1].late(1)
        third = max(1, len(held) // 3)
        gained = max(held[-third:]) - max(held[:third])
        cells += [f"{gained:+.0f}", f"{min(runs[-1].late(2))} to {max(runs[-1].late(2))}"]
        print(f"| {stage} | {' | '.join(cells)} |")
    draw(courses, arguments.figure)


if __name__ == "__main__":
    main()
