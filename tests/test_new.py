"""`decodiff new`: what it makes of folders as people have them, and what it refuses."""

import csv
import re
import shlex
import sys
from collections import Counter

import pytest
import yaml
from commands import ROOT, SNAKEMAKE, planned, run
from pictures import area, make_mvtec, nail, picture
from PIL import Image

from decodiff import new as module
from decodiff.config import load, validate
from decodiff.data.own_images import read_own
from decodiff.data.rows import read_rows
from decodiff.errors import InputError
from decodiff.new import CONFIG, FEWEST, GPU_EPOCH_IMAGES, LIST, new
from decodiff.planning.work import Work
from decodiff.settings import Augmentation
from decodiff.stages.fetch import fetch
from decodiff.stages.make_defects import make_defects


def loose(folder, count=12, size=(16, 12)):
    for index in range(count):
        picture(folder / f"{index:03d}.png", size)
    return folder


def decodiff(*words):
    """The command, with the code of this checkout."""
    return [sys.executable, "-c", "from decodiff.cli import run; run()", *words]


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def settings_of(folder):
    return yaml.safe_load((folder / CONFIG).read_text(encoding="utf-8"))


def refusal(folder, images):
    """The one line; nothing may have been written."""
    before = contents(folder) if folder.is_dir() else folder.exists()
    with pytest.raises(InputError) as error:
        new(folder, images)
    assert (contents(folder) if folder.is_dir() else folder.exists()) == before, "nothing is written"
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.fixture
def unplanned(monkeypatch):
    """Without asking Snakemake for its plan, which takes seconds."""
    from decodiff.planning.plan import Plan
    from decodiff.planning.room import Room

    nothing = Plan([]), set(), Room((), "", 0, "", 1)
    monkeypatch.setattr(module, "planned", lambda arguments, operations: nothing)


# ---- layouts


def counted(images):
    return Counter((entry.category, entry.split, entry.defect, bool(entry.mask)) for entry in read_own(images).entries)


def test_loose_images_are_normal_and_keep_a_test_set(tmp_path):
    assert counted(loose(tmp_path / "bolts", 10)) == {
        ("bolts", "train", "good", False): 8,
        ("bolts", "test", "good", False): 2,
    }


@pytest.mark.parametrize("name", ["good", "ok", "Normal"])
def test_folders_beside_that_of_normal_images_are_kinds_of_defects(tmp_path, name):
    loose(tmp_path / "nuts" / name, 10)
    loose(tmp_path / "nuts" / "bent", 3)
    loose(tmp_path / "nuts" / "scratched", 2)
    assert read_own(tmp_path / "nuts").layout == "csv"
    found = counted(tmp_path / "nuts")
    assert found["nuts", "test", "bent", False] == 3 and found["nuts", "test", "scratched", False] == 2
    assert found["nuts", "train", "good", False] == 8 and found.total() == 15


@pytest.mark.parametrize("place", ["masks/bent", "masks", "ground_truth/bent"])
def test_folders_by_defect_may_have_masks(tmp_path, place):
    loose(tmp_path / "good", 10)
    loose(tmp_path / "bent", 2)
    for index in range(2):
        area(tmp_path / place / f"{index:03d}_mask.png", (16, 12))
    anomalous = [entry for entry in read_own(tmp_path).entries if entry.label]
    assert [entry.mask for entry in anomalous] == [tmp_path / place / f"{index:03d}_mask.png" for index in range(2)]


@pytest.mark.parametrize("images", ["images", "."])
def test_a_mask_that_marks_something_makes_an_image_anomalous(tmp_path, images):
    loose(tmp_path / images, 13)
    area(tmp_path / "masks/000.png", (16, 12))
    area(tmp_path / "masks/001_mask.png", (16, 12))
    area(tmp_path / "masks/002.png", (16, 12), value=0)
    entries = read_own(tmp_path).entries
    assert sorted(entry.image.name for entry in entries if entry.label) == ["000.png", "001.png"]
    assert all(entry.split == "test" and entry.mask for entry in entries if entry.label)
    assert Counter(entry.split for entry in entries if not entry.label) == {"train": 8, "test": 3}


def test_several_categories_each_lie_as_one_does(tmp_path):
    loose(tmp_path / "bolt/good", 10)
    loose(tmp_path / "bolt/bent", 1)
    loose(tmp_path / "nut/images", 10)
    area(tmp_path / "nut/masks/000.png", (16, 12))
    own = read_own(tmp_path)
    assert {entry.category for entry in own.entries} == {"bolt", "nut"}
    assert {(entry.category, entry.defect) for entry in own.entries if entry.label} == {("bolt", "bent"), ("nut", "anomaly")}


def test_the_layout_of_mvtec_is_used_as_it_is(tmp_path, unplanned):
    make_mvtec(tmp_path / "parts", ("bolt", "nut"), train=10)
    before = contents(tmp_path / "parts")
    new(tmp_path / "run", tmp_path / "parts")
    assert settings_of(tmp_path / "run")["data"] == {
        "run": {"kind": "folder", "source": str(tmp_path / "parts"), "hold_out": 0.1}
    }
    assert load(tmp_path / "run" / CONFIG).members("all") == {"run": ()}
    assert not (tmp_path / "run" / LIST).exists() and contents(tmp_path / "parts") == before


def test_held_out_images_that_are_there_are_used(tmp_path, unplanned):
    make_mvtec(tmp_path / "parts", train=10)
    loose(tmp_path / "parts/bolt/validation/good", 2)
    new(tmp_path / "run", tmp_path / "parts")
    assert "hold_out" not in settings_of(tmp_path / "run")["data"]["run"]


# ---- what is written


@pytest.mark.parametrize("name", ["bolts", "M8 'long' \"hex\"", "Größe Ø 8", "ねじ", "a: {b}, #c"])
def test_any_name_gives_a_configuration_whose_data_can_be_fetched_and_made(tmp_path, monkeypatch, unplanned, name):
    images = loose(tmp_path / name, 20)
    picture(images / 'with, "comma" ü.png', (16, 12))
    folder = tmp_path / f"run of {name}"
    lines = new(folder, images)
    assert f"{images}: 21 images, loose" in lines
    config = load(folder / CONFIG)
    assert config.recipe == "small" and list(config.data) == [config.run, f"{config.run}-made"]
    assert config.members("all") == {f"{config.run}-made": ()}
    monkeypatch.chdir(folder)
    work = Work(config)
    before = work.images(f"{config.run}-made", True), work.images(f"{config.run}-made", False)
    manifest = folder / "data" / config.run / "manifest.csv"
    fetch(config.run, manifest=manifest, **config.sections("fetch", config.run))
    made = folder / "data" / f"{config.run}-made" / "manifest.csv"
    make_defects(manifest, f"{config.run}-made", made)
    rows = read_rows(made)
    assert {row.category for row in rows} == {name}
    assert Counter(row.split for row in rows if not row.label) == {"train": 15, "validation": 2, "test": 3}
    trained = sum(row.split == "train" for row in rows)
    assert before == (trained, 2 + 3 * 9) and len(rows) <= sum(before) and not work.unknown


def test_the_list_can_be_edited_and_says_what_each_image_is(tmp_path, unplanned):
    loose(tmp_path / "parts/images", 12)
    area(tmp_path / "parts/masks/003.png", (16, 12))
    new(tmp_path / "run", tmp_path / "parts")
    with open(tmp_path / "run" / LIST, newline="", encoding="utf-8") as stream:
        rows = {row["image"]: row for row in csv.DictReader(stream)}
    assert len(rows) == 12
    anomalous = rows[str(tmp_path / "parts/images/003.png")]
    assert (anomalous["split"], anomalous["label"], anomalous["mask"]) == ("test", "1", str(tmp_path / "parts/masks/003.png"))
    assert settings_of(tmp_path / "run")["data"] == {"run": {"kind": "csv", "source": LIST, "hold_out": 0.1}}


def test_with_a_gpu_the_settings_are_those_for_one_and_independent_of_the_number_of_images(tmp_path, monkeypatch, unplanned):
    import torch

    monkeypatch.setattr(module, "device", lambda: torch.device("cuda"))
    new(tmp_path / "run", loose(tmp_path / "bolts"))
    config, sized = load(tmp_path / "run" / CONFIG), load(ROOT / "config/gpu.yaml")
    assert config.autoencoder == sized.autoencoder and config.image == sized.image and config.masking == sized.masking
    assert config.training == sized.training.model_copy(update={"epoch_images": GPU_EPOCH_IMAGES})
    assert config.data["run-made"].augmentation == sized.data["mtd"].augmentation and not config.sweeps


def test_it_says_what_it_found(tmp_path, unplanned):
    loose(tmp_path / "nuts/good", 11)
    picture(tmp_path / "nuts/good/long.png", (40, 16))
    loose(tmp_path / "nuts/bent", 3)
    lines = new(tmp_path / "run", tmp_path / "nuts")
    assert lines[:3] == [
        f"{tmp_path / 'nuts'}: 15 images, in folders by defect",
        "  nuts: 12 normal, 3 anomalous (bent 3) with no masks; 16×12 to 40×16 pixels",
        "  more than 2 times as long as wide, and distorted into squares: 1",
    ]


def test_loose_parts_that_lie_in_any_direction_are_turned(tmp_path, unplanned):
    for name, turns in (("any", 0.6), ("one", 0)):
        (tmp_path / name).mkdir()
        for index in range(FEWEST + 2):
            nail(turns * index, (index % 4, index // 4))[0].save(tmp_path / name / f"{index:02d}.png")
    said = new(tmp_path / "run", tmp_path / "any")
    assert "  loose parts in any direction: they will be turned to one, `pose: long_axis`" in said
    config = load(tmp_path / "run" / CONFIG)
    for data in ("run", "run-made"):
        assert config.data[data].pose == "long_axis" and config.data[data].augmentation == Augmentation()
    assert not any("pose" in line for line in new(tmp_path / "still", tmp_path / "one"))
    assert load(tmp_path / "still" / CONFIG).data["still"].pose == "as_is"


def test_what_it_says_to_type_next_is_planned_by_snakemake(tmp_path):
    folder = tmp_path / "my run"
    images = loose(tmp_path / "my bolts", 40)
    environment = {"OMP_NUM_THREADS": "1"}
    said = run(ROOT, *decodiff("new", folder, images), environment=environment)
    assert "Traceback" not in said and re.search(r"an estimate: 22 jobs, 6 of them with networks: 0\.[1-9]", said)
    command = shlex.split(re.search("^next: (.*)$", said, re.M).group(1))
    assert command == ["snakemake", "--directory", str(folder)]
    jobs = planned(run(ROOT, SNAKEMAKE, *command[1:], "-n", environment=environment))
    assert jobs["fetch"] == jobs["make_defects"] == jobs["train"] == jobs["report"] == 1
    # the same from anywhere
    said = run(tmp_path, *decodiff("new", "other", images), environment=environment)
    command = shlex.split(re.search("^next: (.*)$", said, re.M).group(1))
    elsewhere = ["--snakefile", str(ROOT / "workflow/Snakefile"), "--workflow-profile", str(ROOT / "profiles/default")]
    assert command == ["snakemake", *elsewhere, "--directory", "other"]
    # a second time, as a user sees it
    said = run(tmp_path, *decodiff("new", "other", images), environment=environment, check=False)
    assert said == "error: other: not empty; give the name of a new folder\n"


# ---- refusals


def test_a_folder_that_holds_something_is_left_alone(tmp_path):
    images = loose(tmp_path / "bolts")
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "notes.txt").write_text("mine")
    assert "not empty" in refusal(folder, images)
    assert "a file" in refusal(folder / "notes.txt", images)


def test_an_empty_folder_is_taken(tmp_path, unplanned):
    (tmp_path / "run").mkdir()
    new(tmp_path / "run", loose(tmp_path / "bolts"))
    assert load(tmp_path / "run" / CONFIG)


def test_a_folder_among_the_images_is_refused(tmp_path):
    images = loose(tmp_path / "bolts")
    assert "lies in" in refusal(images / "run", images)
    (tmp_path / "link").symlink_to(images)
    assert "lies in" in refusal(tmp_path / "link" / "run", images)
    assert "lies in" in refusal(images / "deep" / ".." / "run", images)


def empty(root):
    root.mkdir()


def texts(root):
    root.mkdir()
    (root / "notes.txt").write_text("no picture")


def disguised(root):
    loose(root)
    (root / "999.png").write_text("no picture")


def truncated(root):
    loose(root)
    (root / "000.png").write_bytes((root / "000.png").read_bytes()[:60])


def few(root):
    loose(root, FEWEST - 1)


def masks_among_images(root):
    loose(root)
    area(root / "003_mask.png", (16, 12))


def masks_of_the_same_name(root):
    loose(root)
    Image.new("RGB", (16, 12)).save(root / "003.jpg")


def masks_of_nothing(root):
    loose(root / "images")
    area(root / "masks/other.png", (16, 12))


def mask_of_another_size(root):
    loose(root / "images")
    area(root / "masks/003.png", (12, 16))


def anomalous_without_mask(root):
    loose(root / "good")
    loose(root / "bent", 2)
    area(root / "masks/000.png", (16, 12))


def categories_or_defects(root):
    loose(root / "a")
    loose(root / "b")


def loose_beside_folders(root):
    loose(root)
    loose(root / "old")


def loose_above_folders(root):
    loose(root)
    loose(root / "old" / "deep")


def published(root):
    picture(root / "overview.png")
    loose(root / "MT_Free" / "Imgs")


def copies(root):
    loose(root / "good")
    (root / "bent").mkdir()
    for path in (root / "good").iterdir():
        (root / "bent" / f"copy {path.name}").write_bytes(path.read_bytes())


def untested(root):
    make_mvtec(root, ("bolt", "nut"), train=10)
    for path in sorted((root / "nut/test").rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()


REFUSED = {
    empty: "no image in it",
    texts: "no image in it",
    disguised: "999.png: not a whole image",
    truncated: "000.png: not a whole image",
    few: f"category 'parts' has 9 normal images; at least {FEWEST} are needed",
    masks_among_images: "003_mask.png has the name of 003.png",
    masks_of_the_same_name: "has the name of 003",
    masks_of_nothing: "1 masks of no image",
    mask_of_another_size: "mask of 12×16 pixels for an image of 16×12",
    anomalous_without_mask: "no mask for",
    categories_or_defects: "categories or kinds of defects",
    loose_beside_folders: "in its folder old",
    loose_above_folders: "in its folder old",
    published: "layout of Magnetic Tile, which is known by name; give it as data.mtd.source",
    copies: "the same image as",
    untested: "the test set of category 'nut' is empty",
}


@pytest.mark.parametrize("make", REFUSED, ids=lambda make: make.__name__)
def test_what_cannot_be_used_is_one_line_and_nothing_is_written(tmp_path, make):
    make(tmp_path / "parts")
    before = contents(tmp_path / "parts")
    said = refusal(tmp_path / "run", tmp_path / "parts")
    assert REFUSED[make] in said and str(tmp_path / "parts") in said
    assert contents(tmp_path / "parts") == before


def test_what_is_no_folder_is_one_line(tmp_path):
    assert "not there" in refusal(tmp_path / "run", tmp_path / "bolts")
    assert "a file" in refusal(tmp_path / "run", picture(tmp_path / "bolt.png"))


def test_many_damaged_images_are_counted_not_listed(tmp_path):
    for index in range(30):
        (loose(tmp_path / "parts", 1) / f"bad{index}.png").write_text("no picture")
    said = refusal(tmp_path / "run", tmp_path / "parts")
    assert said.count("not a whole image") == 5 and "26 more" in said


@pytest.mark.parametrize(("count", "is_refused"), [(FEWEST - 1, True), (FEWEST, False)])
def test_the_fewest_images_are_enough_for_every_part(tmp_path, unplanned, count, is_refused):
    images, folder = loose(tmp_path / "bolts", count), tmp_path / "run"
    if is_refused:
        refusal(folder, images)
        return
    new(folder, images)
    config = load(folder / CONFIG)
    source = {"source": str(folder / LIST)}
    manifest = folder / "data/run/manifest.csv"
    fetch("run", manifest=manifest, **(config.sections("fetch", "run") | source))
    make_defects(manifest, "run-made", folder / "data/run-made/manifest.csv")
    found = Counter(row.split for row in read_rows(folder / "data/run-made/manifest.csv") if not row.label)
    assert found["train"] and found["validation"] and found["test"]


def test_a_run_is_not_called_like_a_known_data_set(tmp_path, unplanned):
    new(tmp_path / "mtd", loose(tmp_path / "bolts"))
    assert validate(settings_of(tmp_path / "mtd")).run == "mtd-own"
