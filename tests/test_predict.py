"""A trained model outside the benchmark: as a pipeline, published, and on images of one's own."""

import csv
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from commands import run
from hub import hub
from PIL import Image as Picture

from decodiff.config import load
from decodiff.data.demo import render
from decodiff.data.images import read_rgb, squared
from decodiff.data.maps import own_maps
from decodiff.data.pose import posed
from decodiff.data.rows import Row, write_rows
from decodiff.errors import InputError
from decodiff.files import sha256, write_json
from decodiff.graph import TracedModel
from decodiff.models.autoencoder import Autoencoder, build_autoencoder, load_autoencoder, save_autoencoder
from decodiff.models.cells import fit_components
from decodiff.models.unet import build_unet, load_unet
from decodiff.pipeline import DeCoDiffPipeline, ImageProcessor
from decodiff.scheduler import DeviationScheduler
from decodiff.stages.correct import correct
from decodiff.stages.encode import encode_test
from decodiff.stages.evaluate import evaluate_maps
from decodiff.stages.predict import predict
from decodiff.stages.predictions import Rows, overlay
from decodiff.stages.publish import publish
from decodiff.stages.score import score

DECODIFF = (sys.executable, "-c", "from decodiff.cli import run; run()")
SIDE, CATEGORIES = 32, ("ring", "weave")
# two full batches of the encoder's and some more; the categories alternate
COUNT = 36
CONFIG = {
    "run": "mine",
    "data": {"demo": {}},
    "scopes": {"all": ["demo/ring", "demo/weave"]},
    "image": {"resize": SIDE, "crop": SIDE, "contrast": "per_image"},
    "autoencoder": {"source": "components", "downsampling": 4, "latent_channels": 8},
    "masking": {"patch_sides": [1], "patch_probabilities": [1]},
    "training": {"unet": "UNet_nano", "epochs": 1, "batch_size": 4, "learning_rate": 0.001, "warmup_epochs": 0},
    "evaluation": {"resamples": 20},
    "scoring": {"latent_clip": 2.0, "pixel_clip": 1.0},
}


def networks(folder, coder):
    """A network with random weights that change something, and an autoencoder of either kind."""
    torch.manual_seed(0)
    if coder == "components":
        images = torch.stack([torch.from_numpy(render("ring", "train", "good", 0).image).permute(2, 0, 1).float() / 255])
        save_autoencoder(Autoencoder(fit_components([images], 4, 8)), folder / "autoencoder")
    else:
        save_autoencoder(Autoencoder(build_autoencoder(8, 4, 1, 8)), folder / "autoencoder")
    unet = build_unet("UNet_nano", len(CATEGORIES), latent_channels=8)
    torch.nn.init.normal_(unet.unet.conv_out.weight, std=0.05)
    unet.save_pretrained(folder / "all/seed-0")


@pytest.fixture(scope="module", params=["components", "trained"])
def finished(request, tmp_path_factory):
    """A folder in which a run of random networks was taken through the benchmark's stages; images are 40×30 pixels."""
    folder = tmp_path_factory.mktemp("finished")
    models, prepared, results = folder / "models/mine", folder / "prepared", folder / "results/mine"
    rows = []
    for index in range(COUNT):
        category, defect = CATEGORIES[index % 2], ("good", "blob")[index % 3 == 0]
        path = folder / "images" / category / f"{index:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Picture.fromarray(render(category, "test", defect, index).image).resize((40, 30)).save(path)
        split = "validation" if defect == "good" and index > COUNT // 2 else "test"
        name = str(path.relative_to(folder))
        rows.append(Row(name, category, split, int(defect != "good"), defect, "", 40, 30, sha256(path)))
    write_rows(prepared / "test.csv", rows)
    np.save(prepared / "test_images.npy", [squared(read_rgb(folder / row.image, row.sha256), SIDE, "bicubic") for row in rows])
    np.save(prepared / "test_masks_standard.npy", np.zeros((COUNT, SIDE, SIDE), np.uint8))
    networks(models, request.param)
    results.mkdir(parents=True)
    (results / "config.yaml").write_text(yaml.safe_dump(CONFIG))
    config, part = load(results / "config.yaml"), results / "all/seed-0/demo"
    record = {"diffusion": config.diffusion.model_dump(), "categories": [f"demo/{name}" for name in CATEGORIES], "seed": 0}
    write_json(models / "all/seed-0/training.json", {**record, "environment": {"python": "3"}})
    encode_test(prepared, models / "autoencoder", config.image, models / "latents")
    arguments = (models / "latents", prepared, config.diffusion, config.correction, config.inference, part)
    correct("demo", models / "all/seed-0", *arguments)
    score(part, models / "latents", models / "autoencoder", config.scoring, config.inference, part)
    identity = {"dataset": "demo", "scope": "all", "seed": "0", "crop": f"central {SIDE} of {SIDE}"}
    evaluate_maps(own_maps(part, prepared, SIDE, "standard"), config.evaluation, identity, part)
    publish(results, models, folder / "model")
    return folder, rows


# where the kind of autoencoder is of no matter
one_kind = pytest.mark.parametrize("finished", ["components"], indirect=True)


def pictures(folder, rows):
    return [read_rgb(folder / row.image) for row in rows]


def read(path):
    with open(path, newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


# ---- the pipeline


def test_maps_and_scores_are_the_benchmarks_to_the_bit(finished):
    folder, rows = finished
    part = folder / "results/mine/all/seed-0/demo"
    output = DeCoDiffPipeline.from_pretrained(folder / "model")(pictures(folder, rows), [row.category for row in rows])
    np.testing.assert_array_equal(output.anomaly_maps, np.load(part / "anomaly_maps.npy"))
    np.testing.assert_array_equal(output.corrections, np.load(part / "corrections.npy"))
    assert output.anomaly_maps.std() > 0.01
    expected = {row["image"]: row["image_score"] for row in read(part / "scores.csv")}
    assert [f"{value:.6f}" for value in output.scores] == [expected[row.image] for row in rows]


def test_another_batch_and_one_image_give_nearly_the_same(finished):
    folder, rows = finished
    pipeline, images = DeCoDiffPipeline.from_pretrained(folder / "model"), pictures(folder, rows)[:5]
    together = pipeline(images, "ring").anomaly_maps
    np.testing.assert_allclose(pipeline(images, "ring", batch_size=2).anomaly_maps, together, atol=1e-4)
    np.testing.assert_allclose(pipeline(np.asarray(images[0]), "ring").anomaly_maps[0], together[0], atol=1e-4)


def test_a_saved_pipeline_gives_the_same_bits(finished, tmp_path):
    folder, rows = finished
    pipeline, images = DeCoDiffPipeline.from_pretrained(folder / "model"), pictures(folder, rows)[:3]
    pipeline.save_pretrained(tmp_path / "again")
    again = DeCoDiffPipeline.from_pretrained(tmp_path / "again")
    np.testing.assert_array_equal(again(images, "ring").anomaly_maps, pipeline(images, "ring").anomaly_maps)
    assert again.settings == pipeline.settings


def test_steps_are_told_and_can_be_chosen(finished):
    folder, rows = finished
    pipeline, seen = DeCoDiffPipeline.from_pretrained(folder / "model"), []
    pipeline(
        pictures(folder, rows)[:2],
        "ring",
        num_inference_steps=2,
        callback_on_step_end=lambda _, step, timestep, now: seen.append((step, timestep, tuple(now["latents"].shape))),
    )
    assert seen == [(0, 5, (2, 8, 8, 8)), (1, 0, (2, 8, 8, 8))]


def test_half_precision_stays_close(finished):
    folder, rows = finished
    pipeline, images = DeCoDiffPipeline.from_pretrained(folder / "model"), pictures(folder, rows)[:2]
    exact = pipeline(images, "ring").anomaly_maps
    half = pipeline.to(torch.bfloat16)(images, "ring").anomaly_maps
    assert half.dtype == np.float32 and 0 < np.abs(half - exact).max() < 0.2


def test_parts_that_do_not_fit_are_refused(finished, tmp_path):
    folder, _ = finished
    vae, unet = load_autoencoder(folder / "model/vae").module, load_unet(folder / "model/unet")
    processor, settings = ImageProcessor(load(folder / "results/mine/config.yaml").image), {"categories": CATEGORIES}
    sections = DeCoDiffPipeline.from_pretrained(folder / "model").settings.model_dump(exclude={"categories", "thresholds"})
    other = build_unet("UNet_nano", 2, latent_channels=4)
    with pytest.raises(InputError, match="latents of 4 channels, that of vae 8"):
        DeCoDiffPipeline(vae, other, DeviationScheduler(10), processor, {**sections, **settings})
    with pytest.raises(InputError, match="made for 2 categories, 1 are named"):
        DeCoDiffPipeline(vae, unet, DeviationScheduler(10), processor, {**sections, "categories": ["ring"]})
    with pytest.raises(InputError, match="scheduler: no stride over 3"):
        DeCoDiffPipeline(vae, unet, DeviationScheduler(3), processor, {**sections, **settings})


def damaged(folder, tmp_path, change):
    """A copy of the model in which something was changed, and the one line that it is refused with."""
    DeCoDiffPipeline.from_pretrained(folder / "model").save_pretrained(tmp_path / "damaged")
    change(tmp_path / "damaged")
    with pytest.raises(InputError) as refused:
        DeCoDiffPipeline.from_pretrained(tmp_path / "damaged")
    assert "\n" not in str(refused.value)
    return str(refused.value)


def changed(name, change):
    def apply(model):
        content = json.loads((model / name).read_text())
        change(content)
        (model / name).write_text(json.dumps(content))

    return apply


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda model: (model / "vae/config.json").unlink(), "vae/config.json"),
        (lambda model: (model / "unet/diffusion_pytorch_model.safetensors").unlink(), "unet"),
        (lambda model: (model / "scheduler/scheduler_config.json").unlink(), "scheduler_config.json"),
        (lambda model: (model / "model_index.json").write_text("{"), "model_index.json"),
        (
            lambda model: build_unet("UNet_nano", 3, latent_channels=8).save_pretrained(model / "unet"),
            "made for 3 categories, 2 are named",
        ),
        (changed("model_index.json", lambda index: index.update(_class_name="Other")), "expected a DeCoDiffPipeline"),
        (changed("model_index.json", lambda index: index["settings"].pop("image")), "settings|image"),
        (changed("model_index.json", lambda index: index["settings"]["thresholds"].update(gear=1.0)), "gear"),
        (changed("scheduler/scheduler_config.json", lambda values: values.update(num_train_timesteps=-1)), "whole number"),
    ],
)
def test_a_damaged_model_is_refused_in_one_line(finished, tmp_path, change, named):
    said = damaged(finished[0], tmp_path, change)
    assert any(part in said for part in named.split("|")) and "damaged" in said


def test_nothing_that_a_model_names_or_holds_is_run(finished, tmp_path):
    folder, rows = finished
    pipeline = DeCoDiffPipeline.from_pretrained(folder / "model")
    model, witness = tmp_path / "model", tmp_path / "ran"
    pipeline.save_pretrained(model)
    code = f"open({str(witness)!r}, 'w')\nclass Evil: pass\n"
    for name in ("evil.py", "pipeline.py", "unet/evil.py"):
        (model / name).write_text(code)
    changed("model_index.json", lambda index: index.update(unet=["evil", "Evil"], vae=["os", "abort"]))(model)
    again = DeCoDiffPipeline.from_pretrained(model)
    image = pictures(folder, rows)[0]
    np.testing.assert_array_equal(again(image, "ring").scores, pipeline(image, "ring").scores)
    assert not witness.exists()


def test_a_folder_of_something_else_is_not_overwritten(finished, tmp_path):
    (tmp_path / "thesis.txt").write_text("text")
    with pytest.raises(InputError, match="not a model"):
        DeCoDiffPipeline.from_pretrained(finished[0] / "model").save_pretrained(tmp_path)
    assert (tmp_path / "thesis.txt").read_text() == "text"


# ---- publish


def test_a_published_model_knows_its_categories_and_thresholds(finished):
    folder, _ = finished
    pipeline = DeCoDiffPipeline.from_pretrained(folder / "model")
    expected = {
        row["category"]: float(row["threshold"]) for row in read(folder / "results/mine/all/seed-0/demo/thresholds.csv")
    }
    assert pipeline.categories == CATEGORIES and dict(pipeline.settings.thresholds) == expected


@one_kind
def test_a_model_goes_to_the_hub_and_comes_back(finished, tmp_path):
    folder, rows = finished
    with hub() as server:
        environment = {
            "HF_ENDPOINT": server.address,
            "HF_TOKEN": "token",
            "HF_HOME": str(tmp_path / "cache"),
            "HF_HUB_OFFLINE": "0",
        }
        said = run(folder, *DECODIFF, "publish", "mine", "--output", "pushed", "--push", "owner/model", environment=environment)
        assert "uploaded" in said and server.cards[0] == (folder / "pushed/README.md").read_text()
        arguments = ("predict", "owner/model", "images/ring", "--category", "ring", "--output", tmp_path / "from hub")
        run(folder, *DECODIFF, *arguments, environment=environment)
    predict(str(folder / "model"), [str(folder / "images/ring")], tmp_path / "from folder", "ring")
    found, expected = (read(tmp_path / name / "predictions.csv") for name in ("from hub", "from folder"))
    assert [row["score"] for row in found] == [row["score"] for row in expected] and found


@one_kind
@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("mine", "--scope", "gears"), "--scope: 'gears' is not one of the run's: all"),
        (("mine", "--seed", "7"), "--seed: 7 is not one of the run's: 0"),
        (("yours",), "yours/config.yaml"),
    ],
)
def test_what_cannot_be_published_is_said_in_one_line(finished, tmp_path, arguments, named):
    said = run(finished[0], *DECODIFF, "publish", *arguments, "--output", tmp_path / "out", environment={}, check=False)
    assert named in said and len(said.strip().splitlines()) == 1 and not (tmp_path / "out").exists()


@one_kind
def test_a_category_is_seen_in_its_pose(finished, tmp_path):
    folder, rows = finished
    plain, images = DeCoDiffPipeline.from_pretrained(folder / "model"), pictures(folder, rows)[:3]
    settings = {**plain.settings.model_dump(), "poses": {"ring": "long_axis"}}
    parts = (plain.vae, plain.unet, plain.scheduler, plain.image_processor)
    DeCoDiffPipeline(*parts, settings).save_pretrained(tmp_path / "model")
    model = DeCoDiffPipeline.from_pretrained(tmp_path / "model")
    turned = [posed(image, "long_axis") for image in images]
    expected = plain(turned, "ring").anomaly_maps
    np.testing.assert_array_equal(model(images, "ring").anomaly_maps, expected)
    np.testing.assert_array_equal(model(images, "weave").anomaly_maps, plain(images, "weave").anomaly_maps)
    assert np.abs(plain(images, "ring").anomaly_maps - expected).max() > 0.01
    np.testing.assert_allclose(TracedModel(model)(images, "ring").anomaly_maps, expected, atol=1e-4)
    predict(str(tmp_path / "model"), [str(folder / rows[0].image)], tmp_path / "found", "ring", threshold=0.5)
    drawn = next((tmp_path / "found/overlays").rglob("*.png"))
    answer = model(images[:1], "ring").anomaly_maps[0]
    np.testing.assert_array_equal(np.asarray(Picture.open(drawn)), np.asarray(overlay(turned[0], answer, SIDE, 0.5)))
    with pytest.raises(InputError, match="poses of unknown categories bolt"):
        DeCoDiffPipeline(*parts, {**settings, "poses": {"bolt": "long_axis"}})


# ---- predict


def odd_images(folder, rows):
    """Images of all sorts, and of which of them nothing can be said."""
    odd = folder / "odd"
    odd.mkdir(exist_ok=True)
    image = read_rgb(folder / rows[0].image)
    image.save(odd / "upright.png")
    turned = image.transpose(Picture.Transpose.ROTATE_90)
    exif = Picture.Exif()
    exif[0x0112] = 6
    turned.save(odd / "turned.png", exif=exif)
    Picture.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257).save(odd / "sixteen.png")
    image.convert("RGBA").save(odd / "alpha.png")
    image.save(odd / "moving.gif", save_all=True, append_images=[turned.resize(image.size)])
    Picture.new("RGB", (1, 500), "gray").save(odd / "line.png")
    Picture.new("RGB", (2, 2), "gray").save(odd / "tiny.png")
    (odd / "text.jpg").write_text("no picture")
    (odd / "cut.png").write_bytes((odd / "upright.png").read_bytes()[:200])
    Picture.fromarray(np.zeros((8, 8), np.float32)).save(odd / "floats.tif")
    return odd, {"text.jpg", "cut.png", "floats.tif"}


@one_kind
def test_each_image_gets_a_row_and_damaged_ones_cost_no_other(finished, tmp_path):
    folder, rows = finished
    odd, bad = odd_images(folder, rows)
    arguments = ("predict", folder / "model", odd, "--category", "ring", "--output", tmp_path, "--threshold", "0.5")
    said = run(tmp_path, *DECODIFF, *arguments, environment={}, check=False)
    assert "3 images could not be looked at" in said
    found = {row["image"]: row for row in read(tmp_path / "predictions.csv")}
    assert set(found) == {path.name for path in odd.iterdir()}
    for name, row in found.items():
        assert bool(row["error"]) == (name in bad) == (not row["score"]) and "\n" not in row["error"]
        if name not in bad:
            assert row["verdict"] == ("anomalous" if float(row["score"]) > 0.5 else "normal")
            anomaly_map = np.load(tmp_path / "maps" / f"{name}.npy")
            assert anomaly_map.shape == (SIDE, SIDE) and float(anomaly_map.max()) == float(row["score"])
            assert Picture.open(tmp_path / "overlays" / f"{name}.png").size == read_rgb(odd / name).size
    # the same picture; its place in a batch decides the last bits
    same = [float(found[name]["score"]) for name in ("upright.png", "turned.png", "alpha.png")]
    assert max(same) - min(same) < 1e-6


@one_kind
def test_an_interrupted_prediction_goes_on_and_ends_the_same(finished, tmp_path):
    folder, _ = finished
    arguments = (str(folder / "model"), [str(folder / "images")])
    for kind in ("csv", "jsonl"):
        for name in ("whole", "cut"):
            predict(*arguments, tmp_path / name, "ring", rows=kind, batch_size=4)
        path = tmp_path / "cut" / f"predictions.{kind}"
        path.write_bytes(path.read_bytes()[:-17])
        before = path.read_bytes()
        predict(*arguments, tmp_path / "cut", "ring", rows=kind, batch_size=4)
        assert path.read_bytes().startswith(before[: before.rindex(b"\n") + 1])
        whole = (tmp_path / "whole" / path.name).read_text()
        first, second = (
            [row for row in (read(tmp_path / name / path.name) if kind == "csv" else map(json.loads, text.splitlines()))]
            for name, text in (("whole", whole), ("cut", path.read_text()))
        )
        assert len(first) == COUNT
        assert [(row["image"], row["verdict"]) for row in first] == [(row["image"], row["verdict"]) for row in second]
        np.testing.assert_allclose([float(row["score"]) for row in first], [float(row["score"]) for row in second], atol=1e-4)


def test_the_most_plausible_category_is_the_one_that_changes_least(finished, tmp_path):
    folder, rows = finished
    predict(str(folder / "model"), [str(folder / "images")], tmp_path)
    pipeline, found = DeCoDiffPipeline.from_pretrained(folder / "model"), read(tmp_path / "predictions.csv")
    images = [read_rgb(folder / "images" / row["image"]) for row in found]
    means = [pipeline(images, name).anomaly_maps.mean(axis=(1, 2)) for name in CATEGORIES]
    assert [row["category"] for row in found] == [CATEGORIES[index] for index in np.argmin(means, axis=0)]
    assert all("lowest mean of the map" in row["reason"] for row in found)
    for row in found:
        assert float(row["threshold"]) == pipeline.threshold(row["category"])


@pytest.mark.parametrize("kind", ["png", "tiff"])
def test_maps_of_16_bits_are_the_maps(finished, tmp_path, kind):
    folder, rows = finished
    for maps in ("npy", kind):
        predict(str(folder / "model"), [str(folder / rows[0].image)], tmp_path / maps, "ring", maps=maps)
    name = Path(rows[0].image).name
    exact = np.load(tmp_path / "npy/maps" / f"{name}.npy")
    stored = np.asarray(Picture.open(tmp_path / kind / "maps" / f"{name}.{kind}"))
    assert stored.dtype == np.uint16
    np.testing.assert_allclose(stored / 65535, exact, atol=0.6 / 65535)


def test_what_was_made_otherwise_is_not_mixed(finished, tmp_path):
    folder, rows = finished
    image = [str(folder / rows[0].image)]
    predict(str(folder / "model"), image, tmp_path, "ring")
    before = (tmp_path / "predictions.csv").read_bytes()
    for options in ({"category": "weave"}, {"category": "ring", "threshold": 0.1}, {"category": "ring", "maps": "png"}):
        with pytest.raises(InputError, match="other options"):
            predict(str(folder / "model"), image, tmp_path, **options)
    assert (tmp_path / "predictions.csv").read_bytes() == before


@one_kind
@pytest.mark.parametrize(
    ("images", "options", "named"),
    [
        (["missing.png"], {}, "missing.png: no such image"),
        (["*.nothing"], {}, "no such image, folder or pattern"),
        (["."], {}, "no image in it"),
        (["a/x.png", "b/x.png"], {}, "another image named 'x.png'"),
        (["a/x.png"], {"category": "gear"}, "not one that the model knows: ring, weave"),
    ],
)
def test_bad_arguments_are_one_line(finished, tmp_path, monkeypatch, images, options, named):
    monkeypatch.chdir(tmp_path)
    if images == ["."]:
        (tmp_path / "notes.txt").write_text("text")
    else:
        for name in ("a", "b"):
            (tmp_path / name).mkdir()
            Picture.new("RGB", (8, 8)).save(tmp_path / name / "x.png")
    with pytest.raises(InputError, match="(?s).*".join(map(str, [named]))) as refused:
        predict(str(finished[0] / "model"), images, tmp_path / "out", **options)
    assert "\n" not in str(refused.value) and not (tmp_path / "out/predictions.csv").exists()


@one_kind
def test_what_it_wrote_below_the_images_is_no_image_of_theirs(finished, tmp_path):
    Picture.new("RGB", (8, 8)).save(tmp_path / "x.png")
    for _ in range(2):
        predict(str(finished[0] / "model"), [str(tmp_path)], tmp_path / "found", "ring")
    assert [row["image"] for row in read(tmp_path / "found/predictions.csv")] == ["x.png"]


def test_a_file_of_other_rows_is_left_alone(tmp_path):
    path = tmp_path / "predictions.csv"
    path.write_text("image,score\na.png,1\n")
    with pytest.raises(InputError, match="not what this command writes"):
        Rows(path, "csv")
    assert path.read_text() == "image,score\na.png,1\n"


def test_an_overlay_marks_what_is_above_the_threshold_where_it_lies():
    anomaly_map = np.zeros((24, 24), np.float32)
    anomaly_map[4:8, 16:20] = 0.9
    drawn = np.asarray(overlay(Picture.new("RGB", (64, 32), "gray"), anomaly_map, 32, 0.5)).astype(int)
    red = drawn[..., 0] - drawn[..., 2]
    assert drawn.shape == (32, 64, 3)
    # the crop begins four pixels inside; the image is twice as wide as its resized form
    assert red[8:12, 40:48].min() > 100 and red[16:].max() == 0 and red[:, :32].max() == 0
    assert (drawn == (255, 255, 0)).all(axis=2).any()
