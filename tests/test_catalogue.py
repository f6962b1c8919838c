"""The catalogue of data sets: true to the registry, and the sheets it shows."""

import shutil
from pathlib import Path

import numpy as np
from pictures import make_mvtec
from PIL import Image
from typer.testing import CliRunner

from decodiff.cli import app
from decodiff.data.registry import REGISTRY
from decodiff.reporting import catalogue
from decodiff.stages.fetch import fetch
from decodiff.stages.prepare import prepare

DOCS = Path(__file__).parents[1] / "docs"


def test_the_committed_catalogue_is_that_of_the_registry(tmp_path):
    shutil.copytree(DOCS / "datasets", tmp_path / "datasets")
    catalogue.write(tmp_path / "datasets.md", [])
    assert (tmp_path / "datasets.md").read_text() == (DOCS / "datasets.md").read_text(), "run `make catalogue`"


def test_every_data_set_is_listed():
    shown = CliRunner().invoke(app, ["datasets"], env={"COLUMNS": "100"}).output
    for name, dataset in REGISTRY.items():
        assert f" {name} " in shown and dataset.title in shown


def test_a_contact_sheet_shows_all_categories_and_outlines_masks(tmp_path):
    make_mvtec(tmp_path / "mine", ("bolt", "nut"), size=(40, 32))
    fetch("mine", str(tmp_path / "mine"), "folder", "all", tmp_path / "mine-data" / "manifest.csv")
    prepare(tmp_path / "mine-data" / "manifest.csv", 48, tmp_path / "mine-data" / "prepared-48")
    catalogue.write(tmp_path / "datasets.md", [tmp_path / "mine-data" / "prepared-48"])
    sheet = np.asarray(Image.open(tmp_path / "datasets" / "mine-data.png").convert("RGB")).astype(int)
    assert sheet.shape[1] > 1000 and sheet.shape[0] > 300
    # anomalous images are dark here; only the outline is pure red
    assert (np.abs(sheet - (255, 40, 40)).max(axis=2) < 40).sum() > 100
    assert [path.name for path in (tmp_path / "datasets").iterdir()] == ["mine-data.png"]
