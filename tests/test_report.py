"""The report in a real browser, from two thousand test images: it opens offline, sorts, filters and fits a phone."""

import json
import re

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import sync_playwright

from decodiff.data.rows import Row, write_positions, write_rows
from decodiff.files import write_csv
from decodiff.reporting.report import write_report
from decodiff.reporting.sources import Part
from decodiff.reporting.workflow_graph import graph_svg
from decodiff.stages.evaluate import SCORE_COLUMNS

CHROMIUM = "/usr/bin/chromium"
COUNT, SIDE = 2000, 32
DOT = '0[label = "all", style="rounded"];\n1[label = "score"];\n2[label = "train"];\n3[label = "fetch"];\n' + "\n".join(
    ["1 -> 0", "2 -> 1", "3 -> 2", "3 -> 1"]
)


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """A report of 2,000 images in two categories, a third of them anomalous, with tables, a figure and run times."""
    folder = tmp_path_factory.mktemp("report")
    random = np.random.default_rng(0)
    labels = np.arange(COUNT) % 3 == 0
    categories = [("bolt", "nut")[index % 2] for index in range(COUNT)]
    rows = [
        Row(f"{index:04d}.png", category, "test", int(label), "bent" if label else "good", "", SIDE, SIDE, str(index))
        for index, (category, label) in enumerate(zip(categories, labels))
    ]
    images = random.integers(0, 256, (COUNT, SIDE, SIDE, 3), dtype=np.uint8)
    np.save(folder / "test_images.npy", images)
    np.save(folder / "test_masks_standard.npy", np.zeros((COUNT, SIDE, SIDE), np.uint8))
    np.save(folder / "corrections.npy", images[::-1])
    np.save(folder / "anomaly_maps.npy", random.random((COUNT, SIDE, SIDE), np.float32))
    write_rows(folder / "test.csv", rows)
    write_positions(folder / "images.csv", enumerate(rows))
    scores = np.where(labels, 0.6, 0.4) + random.normal(0, 0.1, COUNT)
    cells = [
        dict.fromkeys(SCORE_COLUMNS, "") | {"image": row.image, "image_score": score, "alarm": int(score > 0.5)}
        for row, score in zip(rows, scores)
    ]
    write_csv(folder / "scores.csv", SCORE_COLUMNS, cells)
    tables = folder / "tables"
    for name in ("T1", "T7"):
        lines = [
            {
                "dataset": "A",
                "category": f"c{index}",
                "kind": "measured",
                "image_auroc": f"{value:.4f}",
                "note": "protocol standard",
            }
            for index, value in enumerate((0.5, 0.9, 0.7))
        ]
        write_csv(tables / f"{name}.csv", lines[0].keys(), lines)
    figure = folder / "figures/all/A/F3.png"
    figure.parent.mkdir(parents=True)
    Image.new("RGB", (1400, 300), "white").save(figure)
    (folder / "config.yaml").write_text("run: browser\n")
    (folder / "rules.dot").write_text(DOT)
    (folder / "logs").mkdir()
    (folder / "logs/all-train.tsv").write_text("s\tmax_rss\n12.5\t300\n")
    part = Part("A", folder, folder, SIDE, "standard")
    files = sorted(tables.glob("*.csv"))
    write_report(
        "browser", folder / "config.yaml", files, [figure], [part], folder / "rules.dot", [folder / "logs"], folder / "r.html"
    )
    return folder / "r.html", labels, scores


@pytest.fixture
def browser(page):
    """The page opened in headless Chromium; what it complained of, and what it asked for."""
    errors, requests = [], []
    with sync_playwright() as started:
        chromium = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        tab = chromium.new_page(viewport={"width": 1280, "height": 900})
        tab.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
        tab.on("pageerror", lambda error: errors.append(str(error)))
        tab.on("request", lambda request: requests.append(request.url))
        tab.goto(page[0].as_uri())
        yield tab
        chromium.close()
    assert not errors
    assert all(url.startswith(("file:", "data:")) for url in requests), requests


def test_it_is_one_file_of_bounded_size_that_loads_nothing(page):
    text = page[0].read_text()
    assert len(text) < 30e6 and text.count("data:image/jpeg") == COUNT
    assert not re.search(r"""\b(?:src|href)="(?!data:|#)|url\(|@import""", text)


def test_the_workflow_is_drawn_without_needs_that_others_imply():
    svg = graph_svg(DOT)
    assert re.findall(r"<text[^>]*>(\w+)<", svg) == ["fetch", "train", "score"]
    assert svg.count("<path") == 2, "fetch is needed by score through train"


@pytest.mark.browser
def test_a_click_on_a_heading_sorts_its_table(browser):
    def column():
        return browser.locator("#T7 tbody tr td:nth-child(3)").all_inner_texts()

    assert column() == ["50.0", "90.0", "70.0"]
    browser.click("#T7 th:nth-child(3)")
    assert column() == ["90.0", "70.0", "50.0"]
    browser.click("#T7 th:nth-child(3)")
    assert column() == ["50.0", "70.0", "90.0"]


@pytest.mark.browser
def test_images_are_filtered_by_category_defect_and_outcome(browser, page):
    _, labels, scores = page

    def shown():
        assert browser.locator(".gallery > div:visible").count() == int(browser.inner_text("#count").split()[0])
        return int(browser.inner_text("#count").split()[0])

    assert shown() == COUNT
    browser.select_option("#category", "bolt")
    assert shown() == COUNT // 2
    browser.select_option("#outcome", "missed")
    of_bolts = np.arange(COUNT) % 2 == 0
    assert shown() == int((of_bolts & labels & (scores <= 0.5)).sum()) > 0
    browser.select_option("#category", "")
    browser.select_option("#outcome", "false alarm")
    browser.select_option("#defect", "bent")
    assert shown() == 0, "an anomalous image is no false alarm"
    browser.select_option("#defect", "good")
    assert shown() == int((~labels & (scores > 0.5)).sum()) > 0


@pytest.mark.browser
def test_it_fits_a_phone(browser):
    browser.set_viewport_size({"width": 390, "height": 800})
    sizes = browser.evaluate("[document.documentElement.scrollWidth, document.documentElement.clientWidth]")
    assert sizes[0] <= sizes[1]
    assert browser.locator("#T7").is_visible() and browser.locator("svg.graph").is_visible()
    assert json.loads(browser.evaluate("JSON.stringify([...document.images].every(image => image.alt))"))
