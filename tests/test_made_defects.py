"""Made defects: masks that tell all that differs, and data sets of them that know nothing of the original's test images."""

import shutil

import numpy as np
import pytest
from commands import planned, snakemake, write_config
from pictures import make_mvtec, picture
from scipy.ndimage import distance_transform_edt

from decodiff.config import load
from decodiff.data.images import mask_area, read_mask, read_rgb
from decodiff.data.made_defects import KINDS, LEAST_CONTRAST, VISIBLE, held_out, made_defect, margin
from decodiff.data.rows import read_rows
from decodiff.errors import InputError
from decodiff.files import read_json
from decodiff.planning.work import Work
from decodiff.seeds import numpy_generator
from decodiff.stages.fetch import fetch
from decodiff.stages.make_defects import make_defects
from decodiff.stages.prepare import prepare


def ripples(shape, number=0, contrast=1.0):
    """A picture with detail everywhere, uint8; of one channel, or grey in three, its channels are equal."""
    random = np.random.default_rng(number)
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    waves = np.sin(rows / random.uniform(1, 3)) * np.cos(columns / random.uniform(1, 3))
    grey = 128 + contrast * (50 * waves + random.normal(0, 10, shape[:2]))
    return np.clip(np.rint(grey), 0, 255).astype(np.uint8)[..., None].repeat(shape[2], axis=2)


def coloured(shape, number=0):
    """The same with channels of their own."""
    return np.concatenate([ripples((*shape[:2], 1), 10 * number + channel) for channel in range(shape[2])], axis=2)


def others_like(make, shape):
    return lambda random: make((shape[0] // 2, shape[1] + 3, shape[2]), int(random.integers(1, 9)))


# ---- defects


@pytest.mark.parametrize(
    ("make", "shape"), [(coloured, (64, 64, 3)), (ripples, (96, 40, 3)), (ripples, (50, 120, 1)), (coloured, (9, 7, 3))]
)
@pytest.mark.parametrize("kind", KINDS)
def test_a_mask_holds_all_that_can_be_seen_and_nothing_differs_far_from_it(kind, make, shape):
    image = make(shape)
    visible = VISIBLE * max(image.std(), LEAST_CONTRAST)
    for number in range(6):
        random = numpy_generator(number, kind)
        made, mask = made_defect(kind, image, others_like(make, shape), random)
        assert (made.shape, made.dtype) == (image.shape, np.uint8) and mask.dtype == bool and mask.shape == shape[:2]
        change = np.abs(made.astype(int) - image).max(axis=2)
        assert (change[mask] > visible).any() and not (change[~mask] > visible).any()
        assert not change[distance_transform_edt(~mask) >= margin(min(shape[:2]))].any()
        assert not mask.all() or min(shape) < 10
        if make is ripples:
            assert (made == made[..., :1]).all(), "what is grey stays grey"


def test_defects_fall_on_an_object_on_an_empty_ground_with_the_probability_of_focus():
    image = np.full((80, 80, 3), 30, np.uint8)
    image[50:66, 10:26] = ripples((16, 16, 3))
    met = [made_defect("spot", image, None, numpy_generator(number, "focus"))[1][46:70, 6:30].any() for number in range(200)]
    assert 0.65 < np.mean(met) < 0.9, "0.7, and some that fall there by chance or reach so far"


def test_an_image_of_one_tone_has_the_kinds_that_can_be_seen_in_it():
    image = np.full((40, 40, 3), 90, np.uint8)
    visible = {kind for kind in KINDS if made_defect(kind, image, lambda _: image, numpy_generator(0, kind))}
    assert visible >= {"spot", "line", "shade"} and not visible & {"moved", "paste", "texture", "bend"}


@pytest.mark.parametrize("kind", ["paste", "spot", "missing", "bend"])
def test_strength_goes_by_the_contrast_of_the_image(kind):
    masks = []
    for contrast in (1.0, 0.5):
        image = ripples((64, 64, 3), contrast=contrast)
        masks.append(made_defect(kind, image, lambda _: ripples((64, 64, 3), 3), numpy_generator(1, kind))[1])
    assert (masks[0] & masks[1]).sum() > 0.8 * (masks[0] | masks[1]).sum()


# ---- a data set of them


@pytest.fixture
def bolts(tmp_path):
    """Manifest of a fetched data set of two categories with 12 training images each, whose test files are then destroyed."""
    root = make_mvtec(tmp_path / "bolts", ("bolt", "nut"), size=(40, 32), train=12)
    manifest = tmp_path / "data/bolts/manifest.csv"
    fetch("bolts", str(root), "folder", "all", manifest)
    for path in [*root.glob("*/test/**/*.png"), *root.glob("*/ground_truth/**/*.png")]:
        path.write_bytes(b"nobody reads this")
    return manifest


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_data_set_is_made_of_training_images_alone_and_can_be_prepared(bolts, tmp_path):
    manifest = tmp_path / "data/made/manifest.csv"
    make_defects(bolts, "made", manifest, threads=2)
    original = {row.sha256: row for row in read_rows(bolts)}
    rows = read_rows(manifest)
    trained, tested = ([row for row in rows if row.split == split] for split in ("train", "test"))
    assert len(trained) == 2 * 10 and len(tested) == 2 * 2 * (1 + len(KINDS)) and len(rows) == len(trained) + len(tested)
    assert not {row.sha256 for row in trained} & {row.sha256 for row in tested}
    normal = [row for row in tested if not row.label]
    assert all(row.defect == "good" and not row.mask for row in [*trained, *normal])
    assert {original[row.sha256].split for row in [*trained, *normal]} == {"train"}
    assert [row.defect for row in tested if row.category == "nut" and row.label] == [kind for kind in KINDS for _ in range(2)]
    for row in tested:
        if row.label:
            mask = mask_area(read_mask(manifest.parent / row.mask))
            made = np.asarray(read_rgb(manifest.parent / row.image)).astype(int)
            near = distance_transform_edt(~mask) < margin(32)
            held = [np.asarray(read_rgb(manifest.parent / other.image)) for other in normal if other.category == row.category]
            assert mask.any() and any((made == image)[~near].all() and (made != image)[mask].any() for image in held)
    record = read_json(manifest.parent / "origin.json")
    assert record["of"] == "../bolts/manifest.csv" and record["counts"]["test_anomalous"] == 32
    prepare(manifest, 16, tmp_path / "prepared")
    assert np.load(tmp_path / "prepared/test_images.npy").shape == (36, 16, 16, 3)


def test_the_same_name_gives_the_same_bytes_and_another_holds_out_others(bolts, tmp_path):
    found = []
    for place, name, threads in (("a", "made", 1), ("b", "made", 2), ("c", "other", 2)):
        make_defects(bolts, name, tmp_path / "data" / place / "manifest.csv", threads)
        found.append(contents(tmp_path / "data" / place))
    assert found[0] == found[1]
    lists = [{line for line in part["manifest.csv"].decode().splitlines() if ",train," in line} for part in found]
    assert lists[0] != lists[2]
    before = dict(found[0])
    make_defects(bolts, "made", tmp_path / "data/a/manifest.csv")
    assert contents(tmp_path / "data/a") == before, "made again in the same place"


def test_a_copy_of_a_held_out_image_is_not_trained_on(bolts, tmp_path):
    for path in (tmp_path / "bolts/bolt/train/good").iterdir():
        shutil.copy(path, path.with_stem(f"{path.stem}_again"))
    lines = bolts.read_text().splitlines()
    again = [line.replace(".png", "_again.png", 1) for line in lines if ",bolt,train," in line]
    bolts.write_text("\n".join([*lines, *again]) + "\n")
    make_defects(bolts, "made", tmp_path / "data/made/manifest.csv")
    made = [row for row in read_rows(tmp_path / "data/made/manifest.csv") if row.category == "bolt"]
    trained = [row for row in made if row.split == "train"]
    assert not {row.sha256 for row in trained} & {row.sha256 for row in made if row.split == "test"}
    assert len(trained) < 24 - held_out(24)


def test_what_is_wrong_with_the_original_is_one_line_and_nothing_is_written(bolts, tmp_path):
    manifest = tmp_path / "data/made/manifest.csv"
    lines = bolts.read_text().splitlines()
    few = [line for line in lines if ",nut,train," not in line] + [line for line in lines if ",nut,train," in line][:4]
    bolts.write_text("\n".join(few) + "\n")
    with pytest.raises(InputError, match="4 training images of category 'nut'; at least 5 are needed to hold one out"):
        make_defects(bolts, "made", manifest)
    bolts.write_text(lines[0] + "\n")
    with pytest.raises(InputError, match="no training image to make defects in"):
        make_defects(bolts, "made", manifest)
    bolts.write_text("\n".join(lines) + "\n")
    for path in (tmp_path / "bolts/bolt/train/good").iterdir():
        picture(path, (40, 32), value=7)
    with pytest.raises(InputError, match="png: changed since its manifest was written; fetch the data set again"):
        make_defects(bolts, "made", manifest)
    assert not [path for path in manifest.parent.iterdir()]
    with pytest.raises(InputError, match="mine: made of the images of another data set; use `decodiff make-defects`"):
        fetch("mine", None, "made", "all", manifest)


def test_a_category_may_have_any_name(bolts, tmp_path):
    bolts.write_text(bolts.read_text().replace(",bolt,", ",../../../bolt,"))
    make_defects(bolts, "made", tmp_path / "data/made/manifest.csv")
    made = [row for row in read_rows(tmp_path / "data/made/manifest.csv") if row.label]
    assert all(row.image.startswith("images/") and ".." not in row.image for row in made)
    assert {row.category for row in made} == {"../../../bolt", "nut"}


# ---- in a run

DATA = {"demo_surfaces": {}, "surfaces-made": {"kind": "made", "of": "demo_surfaces"}}
LINES = {"as the run": {}, "S = 1": {"correction.steps": 1}, "pixel": {"scoring.fusion": "pixel"}}


def test_a_run_on_made_defects_fetches_the_original_and_needs_no_array_of_it(tmp_path):
    config = write_config(tmp_path, data=DATA, scopes={"all": ["surfaces-made"]}, sweeps={"T13": LINES}, seeds=[0])
    plan = planned(snakemake(tmp_path, "-n", "--configfile", config))
    once = ("fetch", "make_defects", "prepare", "autoencoder", "encode", "train", "correct", "floor", "sweep_table")
    assert {rule: plan[rule] for rule in once} == dict.fromkeys(once, 1)
    assert plan["correct_variant"] == 1 and plan["score_variant"] == plan["evaluate_variant"] == 2


def test_settings_are_compared_on_made_defects_alone_where_the_run_has_others_too(tmp_path):
    scopes = {"all": ["demo_surfaces"], "made": ["surfaces-made"]}
    config = write_config(tmp_path, data=DATA, scopes=scopes, sweeps={"T13": LINES}, seeds=[0])
    plan = planned(snakemake(tmp_path, "-n", "--configfile", config))
    assert plan["prepare"] == plan["train"] == plan["correct"] == plan["floor"] == 2
    assert plan["correct_variant"] == 1 and plan["score_variant"] == plan["evaluate_variant"] == 2
    config = write_config(tmp_path, data=DATA, scopes=scopes, sweeps={"T4": LINES}, seeds=[0])
    assert planned(snakemake(tmp_path, "-n", "--configfile", config))["correct_variant"] == 2


def test_the_plan_counts_images_before_they_are_made(bolts, tmp_path):
    data = {"bolts": {"kind": "folder", "source": "x"}, "made": {"of": "bolts"}}
    work = Work(load(write_config(tmp_path, data=data, scopes={"all": ["made"]})), tmp_path / "data")
    before = work.images("made", True), work.images("made", False, ("nut",))
    make_defects(bolts, "made", tmp_path / "data/made/manifest.csv")
    work = Work(load(write_config(tmp_path, data=data, scopes={"all": ["made"]})), tmp_path / "data")
    assert before == (work.images("made", True), work.images("made", False, ("nut",))) == (20, 2 * (1 + len(KINDS)))
