"""The page of a model, as a visitor's browser has it: an upload, the threshold, a message, a small screen, a folder."""

import os
import re
import signal
import socket
import subprocess
import time

import pytest
from commands import ENVIRONMENT
from playwright.sync_api import expect, sync_playwright
from test_predict import DECODIFF, finished, one_kind, read  # noqa: F401  (a fixture)
from test_report import CHROMIUM

from decodiff.stages.predict import predict

pytest.importorskip("nicegui", reason="of the extra `app`")
SECONDS = 60


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


@pytest.fixture(scope="module")
def served(finished, tmp_path_factory):  # noqa: F811
    """The page's address, the folder of the run and that of the predictions which the page shows."""
    folder, found, port = finished[0], tmp_path_factory.mktemp("found"), free_port()
    predict(str(folder / "model"), [str(folder / "images")], found, "ring")
    command = (*DECODIFF, "app", str(folder / "model"), "--predictions", str(found), "--port", str(port))
    # the library would take a running test for one of its own
    environment = {name: value for name, value in ENVIRONMENT.items() if not name.startswith(("PYTEST", "NICEGUI"))}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=found)
    try:
        end = time.monotonic() + SECONDS
        while socket.socket().connect_ex(("127.0.0.1", port)):
            assert process.poll() is None and time.monotonic() < end, process.stdout.read()
            time.sleep(0.2)
        yield f"http://127.0.0.1:{port}", folder, found
    finally:
        os.kill(process.pid, signal.SIGINT)
        process.wait(30)


@pytest.fixture
def tab(served):
    with sync_playwright() as started:
        chromium = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        opened = chromium.new_page(viewport={"width": 1100, "height": 1000})
        opened.set_default_timeout(1000 * SECONDS)
        opened.goto(served[0])
        yield opened
        chromium.close()


def upload(tab, path):
    tab.locator("input[type=file]").set_input_files(path)


def verdict(tab):
    label = tab.get_by_text(re.compile(r"^(anomalous|normal): score"))
    expect(label).to_be_visible(timeout=1000 * SECONDS)
    return label


@one_kind
@pytest.mark.browser
def test_a_dropped_image_is_scored_as_predict_scores_it(served, tab):
    address, folder, found = served
    row = next(row for row in read(found / "predictions.csv") if row["image"].startswith("ring/"))
    tab.get_by_label("category").click()
    tab.get_by_role("option", name="ring").click()
    upload(tab, folder / "images" / row["image"])
    shown, score = verdict(tab), float(row["score"])
    assert abs(float(re.search(r"score ([\d.]+)", shown.inner_text())[1]) - score) < 2e-3
    # image, correction, map and the five steps
    assert tab.locator("img[src^='data:image/png']").count() == 8
    box = tab.get_by_role("slider").bounding_box()
    for share, expected in ((0.01, "anomalous"), (0.99, "normal")):
        tab.mouse.click(box["x"] + share * box["width"], box["y"] + box["height"] / 2)
        expect(shown).to_contain_text(f"{expected}: score")


@one_kind
@pytest.mark.browser
def test_what_is_no_picture_is_refused_and_the_page_goes_on(served, tab, tmp_path):
    _, folder, _ = served
    bad = tmp_path / "bad.png"
    bad.write_text("<script>alert(1)</script>")
    upload(tab, bad)
    message = tab.get_by_text(re.compile("^error: bad.png: not a whole image"))
    expect(message).to_be_visible(timeout=1000 * SECONDS)
    upload(tab, next((folder / "images/ring").glob("*.png")))
    verdict(tab)
    expect(message).to_have_count(0)


@one_kind
@pytest.mark.browser
def test_a_folder_is_shown_from_the_highest_score_down(served, tab):
    scores = [float(label.split()[0]) for label in tab.locator("text=/^0\\.\\d{3} (normal|anomalous)/").all_inner_texts()]
    expected = sorted((float(row["score"]) for row in read(served[2] / "predictions.csv")), reverse=True)
    assert len(scores) == 24 and scores == [round(score, 3) for score in expected[:24]]


@one_kind
@pytest.mark.browser
def test_a_phone_needs_no_scrolling_aside(served, tab):
    tab.set_viewport_size({"width": 390, "height": 800})
    upload(tab, next((served[1] / "images/ring").glob("*.png")))
    verdict(tab)
    assert tab.evaluate("document.documentElement.scrollWidth") <= 390
