"""How long the report takes to open in a browser, over the number of test images, and how large it is.

    python benchmarks/report.py [--images 200 2000] [--rounds 5]

The page is made of generated images of 256×256 pixels in three categories, with maps, corrections and masks, as a run makes it.
Headless Chromium (`/usr/bin/chromium`) opens the file; the time is that from asking for it until its load event, and then until
the next frame is drawn with the gallery's filter applied. "Plain" is the same page without `content-visibility` on the images,
that is, with every one laid out and decoded at once. Both take turns in one run; figures are medians over rounds.

Needs `/usr/bin/chromium` beside the project's test dependencies.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
from playwright.sync_api import Browser, sync_playwright
from scipy.ndimage import gaussian_filter

from decodiff.data.rows import Row, write_positions, write_rows
from decodiff.files import write_csv
from decodiff.reporting.report import write_report
from decodiff.reporting.sources import Part
from decodiff.stages.evaluate import SCORE_COLUMNS

CHROMIUM = "/usr/bin/chromium"
SIDE = 256
CATEGORIES = ("carpet", "cable", "screw")
LAZY = "content-visibility: auto;"
# resolves when the frame after next begins: by then the one that shows the change has been drawn
DRAWN = "() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))"


def make_part(folder: Path, count: int) -> Part:
    """Prepared test images and their results, a third of them anomalous."""
    random = np.random.default_rng(0)
    folder.mkdir()
    rows, shape = [], (count, SIDE, SIDE)
    images = np.lib.format.open_memmap(folder / "test_images.npy", "w+", np.uint8, (*shape, 3))
    corrections = np.lib.format.open_memmap(folder / "corrections.npy", "w+", np.uint8, (*shape, 3))
    masks = np.lib.format.open_memmap(folder / "test_masks_standard.npy", "w+", np.uint8, shape)
    maps = np.lib.format.open_memmap(folder / "anomaly_maps.npy", "w+", np.float32, shape)
    texture = gaussian_filter(random.random((2 * SIDE, 2 * SIDE, 3)), (2, 2, 0))
    texture = (255 * (texture - texture.min()) / np.ptp(texture)).astype(np.uint8)
    for index in range(count):
        label, (top, left) = int(index % 3 == 0), random.integers(0, SIDE, 2)
        images[index] = corrections[index] = texture[top : top + SIDE, left : left + SIDE]
        if label:
            (y, x), size = random.integers(20, SIDE - 80, 2), int(random.integers(10, 60))
            images[index, y : y + size, x : x + size] = 255 - images[index, y : y + size, x : x + size]
            masks[index, y : y + size, x : x + size] = 1
        maps[index] = 0.1 * images[index, ..., 0] / 255 + 0.8 * gaussian_filter(masks[index].astype(np.float32), 3)
        defect = "bent" if label else "good"
        rows.append(Row(f"{index:05d}.png", CATEGORIES[index % 3 - 1], "test", label, defect, "", SIDE, SIDE, str(index)))
    write_rows(folder / "test.csv", rows)
    write_positions(folder / "images.csv", enumerate(rows))
    scores = [
        dict.fromkeys(SCORE_COLUMNS, "") | {"image": row.image, "image_score": row.label * 0.5 + 0.2, "alarm": row.label}
        for row in rows
    ]
    write_csv(folder / "scores.csv", SCORE_COLUMNS, scores)
    return Part("generated", folder, folder, SIDE, "standard")


def make_page(folder: Path, count: int) -> tuple[Path, float]:
    """The report, and the seconds it took to write."""
    part = make_part(folder / f"part-{count}", count)
    (folder / "config.yaml").write_text("run: benchmark\n")
    (folder / "rules.dot").write_text('0[label = "all"];\n1[label = "score"];\n1 -> 0\n')
    page, start = folder / f"report-{count}.html", time.perf_counter()
    write_report("benchmark", folder / "config.yaml", [], [], [part], folder / "rules.dot", [], page)
    return page, time.perf_counter() - start


def open_page(browser: Browser, page: Path) -> tuple[float, float]:
    """Seconds until the page is loaded and drawn, and from choosing a category until that is drawn."""
    tab = browser.new_page(viewport={"width": 1280, "height": 900})
    start = time.perf_counter()
    tab.goto(page.as_uri())
    tab.evaluate(DRAWN)
    opened = time.perf_counter() - start
    start = time.perf_counter()
    tab.select_option("#category", CATEGORIES[0])
    tab.evaluate(DRAWN)
    filtered = time.perf_counter() - start
    tab.close()
    return opened, filtered


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, nargs="+", default=[200, 2000])
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        print(f"{platform.processor() or platform.machine()}, Chromium {browser.version}")
        print("images | MB | seconds to write | page | seconds to open | to filter")
        for count in arguments.images:
            page, seconds = make_page(Path(name), count)
            plain = page.with_name(f"plain-{count}.html")
            text = page.read_text()
            assert LAZY in text
            plain.write_text(text.replace(LAZY, ""))
            times = {way: [] for way in ("report", "plain")}
            for _ in range(arguments.rounds):
                for way, path in (("report", page), ("plain", plain)):
                    times[way].append(open_page(browser, path))
            for way, found in times.items():
                opened, filtered = (statistics.median(column) for column in zip(*found))
                print(f"{count} | {len(text) / 1e6:.1f} | {seconds:.1f} | {way} | {opened:.2f} | {filtered:.2f}")
        browser.close()


if __name__ == "__main__":
    main()
