"""Time and memory of `fetch` (checking the files) and `prepare` against the number of images, and what a second start costs.

    python benchmarks/prepare.py [--images 200 2000 20000] [--loader 5000] [--folder DIR]

Images are JPEG files of 256×256 pixels with smooth colours and noise, prepared at 128 pixels. Every measurement is a process of
its own: seconds are those of the stage without Python's start, memory is the process's largest resident size. The second table
compares the first start of the arrays' reader (decode and resize all, then open) with the second (find them complete, open).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

SIDE, RESIZE = 256, 128
# one in ten is tested
TEST_EVERY = 10
MEASURE = f"""
import json, resource, sys, time
from pathlib import Path
from decodiff.stages.fetch import fetch
from decodiff.stages.prepare import prepare
from decodiff.files import read_array
stage, manifest = sys.argv[1], Path(sys.argv[2])
output = manifest.parent / "prepared"
start = time.perf_counter()
if stage == "fetch":
    fetch("generated", str(manifest.parent / "source"), "folder", "all", manifest)
else:
    prepare(manifest, {RESIZE}, output)
    for split in ("train", "test"):
        images = read_array(output / f"{{split}}_images.npy", (None, {RESIZE}, {RESIZE}, 3))
seconds = time.perf_counter() - start
print(json.dumps([seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024]))
"""


def generate(folder: Path, count: int) -> None:
    """Write ``count`` different images as one category in MVTec's layout."""
    random = np.random.default_rng(0)
    for split in ("train", "test"):
        (folder / "part" / split / "good").mkdir(parents=True)
    for index in tqdm(range(count), desc="generate", unit="image"):
        colours = Image.fromarray(random.integers(40, 216, (8, 8, 3), dtype=np.uint8))
        smooth = np.asarray(colours.resize((SIDE, SIDE), Image.Resampling.BICUBIC), dtype=np.int16)
        noisy = np.clip(smooth + random.integers(-6, 7, smooth.shape, dtype=np.int16), 0, 255).astype(np.uint8)
        split = "test" if index % TEST_EVERY == 0 else "train"
        Image.fromarray(noisy).save(folder / "part" / split / "good" / f"{index:06d}.jpg", quality=90)


def measure(stage: str, manifest: Path) -> tuple[float, float]:
    """Seconds and MiB of one stage in a process of its own."""
    command = [sys.executable, "-c", MEASURE, stage, str(manifest)]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=True)
    seconds, memory = json.loads(done.stdout)
    return seconds, memory


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, nargs="+", default=[200, 2000, 20000])
    parser.add_argument("--loader", type=int, default=5000)
    parser.add_argument("--folder", type=Path, default=None, help="where to work; by default a temporary folder")
    arguments = parser.parse_args()
    print(f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}\n")
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        folders = {count: Path(name) / str(count) for count in sorted({*arguments.images, arguments.loader})}
        for count, folder in folders.items():
            generate(folder / "source", count)
        print("| images | fetch, s | MiB | prepare, s | MiB | prepare, ms per image |\n|---|---|---|---|---|---|")
        for count in arguments.images:
            manifest = folders[count] / "manifest.csv"
            checked, prepared = measure("fetch", manifest), measure("prepare", manifest)
            cells = [f"{checked[0]:.2f}", f"{checked[1]:.0f}", f"{prepared[0]:.2f}", f"{prepared[1]:.0f}"]
            print(f"| {count:,} | {' | '.join(cells)} | {1000 * prepared[0] / count:.2f} |", flush=True)
        manifest = folders[arguments.loader] / "manifest.csv"
        measure("fetch", manifest)
        first, second = measure("prepare", manifest)[0], measure("prepare", manifest)[0]
        print("\n| images | first start, s | second start, s | ratio |\n|---|---|---|---|")
        print(f"| {arguments.loader:,} | {first:.2f} | {second:.3f} | {first / second:.0f} |")


if __name__ == "__main__":
    main()
