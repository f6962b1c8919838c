"""Many images through the stages: memory, time and file handles of every command against the number of images.

    python benchmarks/soak.py [--images 5000 15000 50000] [--figure docs/soak.png]

Test images of 32×32 pixels are generated in twenty categories in MVTec's layout, one in ten with an anomaly and a mask. Each
stage is the command that the workflow runs, a process of its own, with networks that were trained for a moment. While it runs,
Linux is asked ten times a second what it and its children hold, and its progress bar how far it is:

- held is RssAnon: memory that is the process's own and that nothing but its end or a release gives back;
- mapped is RssFile: pages of libraries and of arrays that are read where they lie. The system may take them back at any time,
  but a stage that keeps more and more of them would look like one that leaks, so it is watched too;
- seconds are those of the processor, one thread for the networks, so that other work on the machine counts little.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import sys
import tempfile
import time
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
ENVIRONMENT = os.environ | {"PYTHONPATH": str(ROOT), "TQDM_MININTERVAL": "0.1", "OMP_NUM_THREADS": "1"}
SIDE, CATEGORIES, TRAINED, ANOMALOUS_EVERY = 32, 20, 4, 10
STAGES = ("fetch", "prepare", "encode-test", "correct", "score", "evaluate")
SECONDS_BETWEEN_LOOKS = 0.1
# what a progress bar has shown of a stage when it is warm: libraries are loaded, first batches done
WARM = 0.05
# parts of the images for which the figure has a point; there are as many categories, after which `evaluate` tells of progress
BINS = CATEGORIES
COLUMNS = ("done", "wall", "cpu", "held", "mapped", "handles")


def generate(folder: Path, count: int) -> None:
    """Write ``count`` different test images, their masks, and a few training images in MVTec's layout."""
    random = np.random.default_rng(0)
    for index in tqdm(range(-TRAINED * CATEGORIES, count), desc="generate", unit="image"):
        category = folder / f"part{index % CATEGORIES:02d}"
        image = random.integers(100, 140, (SIDE, SIDE, 3), dtype=np.uint8)
        place = "train/good" if index < 0 else "test/good"
        if index >= 0 and index // CATEGORIES % ANOMALOUS_EVERY == 0:
            place, mask = "test/bright", np.zeros((SIDE, SIDE), np.uint8)
            top, left = random.integers(0, SIDE - 8, 2)
            mask[top : top + 8, left : left + 8] = 255
            image[mask > 0] += random.integers(0, 100, dtype=np.uint8)
            (category / "ground_truth/bright").mkdir(parents=True, exist_ok=True)
            Image.fromarray(mask).save(category / f"ground_truth/bright/{index:06d}_mask.png")
        (category / place).mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(category / place / f"{index:06d}.png", compress_level=1)


def configure(folder: Path) -> dict[str, list[str]]:
    """Write the configuration of a run in ``folder``; gives the arguments of each command."""
    toy = yaml.safe_load((ROOT / "tests/toy.yaml").read_text())
    changes = {
        "run": "soak",
        "seeds": [0],
        "data": {"soak": {"kind": "folder", "source": "source"}},
        "scopes": {"all": ["soak"]},
    }
    changes |= {"correction": {"batch_size": 256}, "evaluation": {}}
    changes["scoring"] = toy["scoring"] | {"batch_size": 256}
    (folder / "config.yaml").write_text(yaml.safe_dump(toy | changes))
    config, prepared, one = ("--config", "config.yaml"), ("--prepared", "prepared"), ("--threads", "1")
    coder, latents, network = ("--autoencoder", "autoencoder"), ("--latents", "latents"), ("--unet", "network")
    named, scoped, results = ("--dataset", "soak"), ("--scope", "all", "--seed", "0"), ("--output", "results")
    return {
        "fetch": ["soak", *config, "--output", "data/manifest.csv", *one],
        "prepare": ["data/manifest.csv", "--resize", str(SIDE), "--output", "prepared", *one],
        "autoencoder": [*config, *prepared, "--output", "autoencoder", *one],
        "encode": [*config, *named, *prepared, *coder, "--output", "latents", *one],
        "train": [*config, *scoped, *latents, *prepared, *coder, "--output", "network", *one],
        "encode-test": [*config, *prepared, *coder, "--output", "latents", *one],
        "correct": [*config, *named, *network, *latents, *prepared, *results, *one],
        "score": [*config, "--corrected", "results", *latents, *coder, *results, *one],
        "evaluate": [*config, *named, *scoped, "--results", "results", *prepared, *results],
    }


def look(process: psutil.Process) -> tuple[float, float, float, int]:
    """Processor seconds, MiB held, MiB mapped and open files of a process and its children."""
    cpu, held, mapped, handles = 0.0, 0.0, 0.0, 0
    for each in (process, *process.children(recursive=True)):
        status = Path(f"/proc/{each.pid}/status").read_text()
        times = each.cpu_times()
        cpu += times.user + times.system
        held += int(status.partition("RssAnon:")[2].split()[0]) / 1024
        mapped += int(status.partition("RssFile:")[2].split()[0]) / 1024
        handles += each.num_fds()
    return cpu, held, mapped, handles


def watched(stage: str, arguments: list[str], folder: Path) -> np.ndarray:
    """Run a stage and look at it until it ends: a line per look with `COLUMNS`; ``done`` is a part of the stage's last bar."""
    lines, begin = [], time.monotonic()
    with open(folder / f"{stage}.out", "w+") as output:
        process = psutil.Popen([PROGRAM, stage, *arguments], cwd=folder, stdout=output, stderr=output, env=ENVIRONMENT)
        while process.poll() is None:
            shown = re.findall(rb"([^\r\n]*):[^\r\n]* (\d+)/(\d+) \[", Path(output.name).read_bytes()[-500:])
            # the bar of the few training images is not the one to follow
            done = int(shown[-1][1]) / int(shown[-1][2]) if shown and b"train" not in shown[-1][0] else 0.0
            try:
                lines.append((done, time.monotonic() - begin, *look(process)))
            except (psutil.Error, OSError, IndexError):  # it or a child has just ended
                continue
            time.sleep(SECONDS_BETWEEN_LOOKS)
        if process.returncode:
            output.seek(0)
            raise SystemExit(f"decodiff {stage} failed: {output.read()[-2000:]}")
    return np.array(lines)


def soak(folder: Path, count: int) -> dict[str, np.ndarray]:
    """Take that many test images through all stages."""
    generate(folder / "source", count)
    commands = configure(folder)
    with tqdm(commands.items(), desc=f"{count} images", unit="stage") as bar:
        courses = {stage: watched(stage, arguments, folder) for stage, arguments in bar}
    scored = len(np.load(folder / "results/anomaly_maps.npy", mmap_mode="r"))
    if scored != count:
        raise SystemExit(f"{scored} images have a map, {count} were generated")
    return courses


def column(looks: np.ndarray, name: str, start: float = 0.0, end: float = 1.0) -> np.ndarray:
    """What was seen between two parts of the stage."""
    return looks[(looks[:, 0] >= start) & (looks[:, 0] <= end), COLUMNS.index(name)]


def at(looks: np.ndarray, name: str, done: float) -> float:
    """What was seen when that part of the stage was done."""
    moved, first = np.unique(looks[:, 0], return_index=True)
    begun = moved > 0
    return float(np.interp(done, moved[begun], looks[first[begun], COLUMNS.index(name)]))


def growth_row(looks: np.ndarray, count: int) -> list[str]:
    """Of one stage: rates of the first and the last quarter; memory of the first and the last tenth; handles."""
    quarters = [(at(looks, "cpu", end) - at(looks, "cpu", start)) for start, end in ((WARM, 0.25), (0.75, 1.0))]
    rates = [(0.25 - WARM) * count / quarters[0], 0.25 * count / quarters[1]]
    first, last = (max(column(looks, "held", *part)) for part in ((WARM, WARM + 0.1), (0.9, 1.0)))
    mapped = [max(column(looks, "mapped", *part)) for part in ((WARM, WARM + 0.1), (0.9, 1.0))]
    handles = column(looks, "handles", WARM)
    cells = [f"{looks[-1, 1]:.0f}", f"{looks[-1, 2]:.0f}", *(f"{rate:,.0f}" for rate in rates), f"{rates[1] / rates[0]:.2f}"]
    cells += [f"{first:.0f}", f"{last:.0f}", f"{(last - first) * 2**20 / count:+,.0f}", *(f"{value:.0f}" for value in mapped)]
    return [*cells, f"{min(handles):.0f} to {max(handles):.0f}"]


def table(head: list[str], rows: dict[str, list[str]]) -> None:
    print(f"\n| stage | {' | '.join(head)} |\n|{'---|' * (len(head) + 1)}")
    for stage, cells in rows.items():
        print(f"| {stage} | {' | '.join(cells)} |")


def size_rows(courses: dict[int, dict[str, np.ndarray]]) -> tuple[list[str], dict[str, list[str]]]:
    """Seconds and most memory of every run; what a further image costs between one number of images and the next."""
    counts = list(courses)
    head = [*(f"s, {count:,}" for count in counts)]
    head += [f"ms an image, {few:,} to {many:,}" for few, many in zip(counts, counts[1:])]
    head += [f"MiB, {count:,}" for count in counts]
    rows = {}
    for stage in STAGES:
        runs = [courses[count][stage] for count in counts]
        seconds = [run[-1, 2] for run in runs]
        each = np.diff(seconds) / np.diff(counts) * 1000
        rows[stage] = [*(f"{value:.1f}" for value in seconds), *(f"{value:.3f}" for value in each)]
        rows[stage] += [f"{max(column(run, 'held')):.0f}" for run in runs]
    return head, rows


def draw(courses: dict[str, np.ndarray], count: int, path: Path) -> None:
    """Most memory, seconds an image, and most handles in each twentieth of the images, a line per stage."""
    use_style()
    figure, panels = pyplot.subplots(1, 3, figsize=(7.2, 2.6))
    edges = np.linspace(0, 1, BINS + 1)
    for stage in STAGES:
        looks = courses[stage]
        begun = looks[looks[:, 0] > 0]
        bins = np.minimum((begun[:, 0] * BINS + 1e-9).astype(int), BINS - 1)
        filled = np.unique(bins)
        seconds = np.diff([at(looks, "cpu", edge) for edge in edges[filled[0] :]])
        for panel, name in zip(panels[::2], ("held", "handles")):
            most = [begun[bins == each, COLUMNS.index(name)].max() for each in filled]
            panel.plot((filled + 0.5) / BINS * count / 1000, most, label=stage)
        # the first bin holds looks from somewhere within it
        panels[1].plot((edges[filled[0] + 2 :] - 0.5 / BINS) * count / 1000, (seconds / seconds.mean())[1:])
    labels = ("memory held, MiB", "time an image ÷ stage's mean", "open files")
    for panel, label in zip(panels, labels):
        panel.set(xlabel="thousand images done", ylabel=label, xlim=(0, count / 1000), ylim=(0, 1.1 * panel.get_ylim()[1]))
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper center", ncols=len(STAGES))
    save(figure, path)
    path.with_suffix(".pdf").unlink()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, nargs="+", default=[5000, 15000, 50000])
    parser.add_argument("--figure", type=Path, default=Path("soak.png"))
    arguments = parser.parse_args()
    if max(arguments.images) < 10_000:
        parser.error("--images: at least one run needs 10,000, fewer are done before enough is seen of them")
    print(f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}")
    courses = {}
    for count in sorted(arguments.images):
        with tempfile.TemporaryDirectory() as name:
            courses[count] = soak(Path(name), count)
    most = max(courses)
    head = ["wall s", "processor s", "images per processor s, first quarter", "last quarter", "ratio"]
    head += ["MiB held, first tenth", "last tenth", "bytes an image", "MiB mapped, first tenth", "last tenth", "open files"]
    table(head, {stage: growth_row(courses[most][stage], most) for stage in STAGES})
    table(*size_rows(courses))
    draw(courses[most], most, arguments.figure)


if __name__ == "__main__":
    main()
