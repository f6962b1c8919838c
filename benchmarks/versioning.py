"""How long DVC takes over 20,000 images: kept as the files they are, and as the arrays made of them.

    python benchmarks/versioning.py [--images 20000] [--side 128] [--dvc .venv/bin/dvc]

Each form is added to a repository of its own. `status` is asked twice: as it is every day, and without DVC's memory of the
files' times (as after a copy), when all contents are hashed.
"""

from __future__ import annotations

import argparse
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image


def as_files(folder: Path, images: int, side: int) -> None:
    """JPEG files in one folder, each of other content."""
    folder.mkdir()
    random = np.random.default_rng(0)
    for index in range(images):
        small = random.integers(0, 256, (side // 8, side // 8, 3), dtype=np.uint8)
        Image.fromarray(small).resize((side, side)).save(folder / f"{index:05d}.jpg")


def as_arrays(folder: Path, images: int, side: int) -> None:
    """One array of all pixels, as `prepare` writes it."""
    folder.mkdir()
    random = np.random.default_rng(0)
    array = np.lib.format.open_memmap(folder / "train_images.npy", "w+", np.uint8, (images, side, side, 3))
    for start in range(0, images, 1000):
        part = array[start : start + 1000]
        part[:] = random.integers(0, 256, part.shape, dtype=np.uint8)
    array.flush()


def seconds(directory: Path, *command: str | Path) -> float:
    start = time.perf_counter()
    subprocess.run(list(map(str, command)), cwd=directory, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--side", type=int, default=128)
    parser.add_argument("--dvc", type=Path, default=Path(".venv/bin/dvc"))
    options = parser.parse_args()
    dvc = options.dvc.absolute()
    print("kept as | files | MB | add, s | status, s | status without memory, s")
    for name, write in (("files", as_files), ("arrays", as_arrays)):
        with tempfile.TemporaryDirectory() as place:
            directory, state = Path(place) / "repository", Path(place) / "state"
            directory.mkdir()
            write(directory / "data", options.images, options.side)
            sizes = [path.stat().st_size for path in (directory / "data").iterdir()]
            subprocess.run(["git", "init", "--quiet"], cwd=directory, check=True)
            seconds(directory, dvc, "init")
            seconds(directory, dvc, "config", "core.site_cache_dir", state)
            added = seconds(directory, dvc, "add", "data")
            warm = seconds(directory, dvc, "status")
            # the second name of its memory is that of the repository
            subprocess.run(["rm", "-rf", state, directory / ".dvc/tmp"], check=True)
            cold = seconds(directory, dvc, "status")
            print(f"{name} | {len(sizes)} | {sum(sizes) / 1e6:.0f} | {added:.1f} | {warm:.1f} | {cold:.1f}", flush=True)


if __name__ == "__main__":
    main()
