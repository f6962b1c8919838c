"""Training: what a batch holds, the learning rate, resuming to the bit, and a loss that is not a number."""

import csv
import hashlib
import json

import numpy as np
import pytest
import torch

from decodiff.config import Data, Diffusion, Masking, TrainedAutoencoder, Training
from decodiff.data.manifest import Row, write_rows
from decodiff.data.views import View, cropped, view_probabilities, views
from decodiff.errors import InputError
from decodiff.files import write_json
from decodiff.stages import autoencoder as autoencoder_stage
from decodiff.stages import train as train_stage
from decodiff.stages.autoencoder import train_autoencoder
from decodiff.stages.train import Latents, TrainingSet, learning_rate_factor, train

MASKING = Masking(patch_sides=(1, 2), patch_probabilities=(0.5, 0.5))
DIFFUSION = Diffusion(num_train_timesteps=10)


def training(**changes):
    values = {"unet": "UNet_demo", "epochs": 4, "batch_size": 4, "learning_rate": 0.001, "warmup_epochs": 1}
    return Training(**{**values, **changes})


def latents_on_disk(root, images=8, value=None):
    """Latents of two categories, 8×8 cells; the first number of each is its image's index."""
    random = np.random.default_rng(0)
    mean = random.standard_normal((images, 1, 4, 8, 8)).astype(np.float32)
    mean[:, :, 0, 0, 0] = np.arange(images)[:, None]
    if value is not None:
        mean[3] = value
    latents, prepared = root / "latents", root / "prepared"
    latents.mkdir(parents=True), prepared.mkdir()
    np.save(latents / "train_mean.npy", mean)
    np.save(latents / "train_std.npy", np.zeros_like(mean))
    write_json(latents / "views.json", [vars(View(0, 0, False))])
    rows = [Row(f"{i:03d}.png", "ab"[i % 2], "train", 0, "good", "", 8, 8, "") for i in range(images)]
    write_rows(prepared / "train.csv", rows)
    return TrainingSet("bolts", latents, prepared, Data(), ("a", "b"))


def digest(folder):
    return hashlib.sha256((folder / "diffusion_pytorch_model.safetensors").read_bytes()).hexdigest()


def test_every_image_is_seen_once_an_epoch_with_its_own_category(tmp_path):
    latents = Latents([latents_on_disk(tmp_path)])
    assert latents.categories == ["bolts/a", "bolts/b"] and len(latents) == 8
    batch, category = latents.batch([0, 3, 6], torch.Generator().manual_seed(0))
    assert batch[:, 0, 0, 0].tolist() == [0, 3, 6] and category.tolist() == [0, 1, 0]


def test_a_scope_of_one_category_leaves_the_others_out(tmp_path):
    everything = latents_on_disk(tmp_path)
    one = Latents([TrainingSet("bolts", everything.latents, everything.prepared, Data(), ("b",))])
    batch, category = one.batch(list(range(len(one))), torch.Generator().manual_seed(0))
    assert batch[:, 0, 0, 0].tolist() == [1, 3, 5, 7] and set(category.tolist()) == {0}


def test_a_sample_follows_the_posterior(tmp_path):
    item = latents_on_disk(tmp_path)
    np.save(item.latents / "train_std.npy", np.full((8, 1, 4, 8, 8), 0.5, np.float32))
    latents = Latents([item])
    samples = torch.cat([latents.batch([5], torch.Generator().manual_seed(seed))[0] for seed in range(400)])
    mean = torch.from_numpy(np.load(item.latents / "train_mean.npy")[5, 0])
    assert (samples.mean(0) - mean).abs().max() < 0.12
    assert (samples.std(0) - 0.5).abs().max() < 0.1


def test_views_are_drawn_with_their_probabilities():
    all_views = views(1, half_turn=True)
    assert len(all_views) == 18 and all_views[0] == View(0, 0, False)
    probabilities = view_probabilities(all_views, 0.5, 0.25)
    assert probabilities.sum() == pytest.approx(1)
    assert probabilities[0] == pytest.approx((0.5 + 0.5 / 9) * 0.75)
    turned = sum(p for view, p in zip(all_views, probabilities) if view.half_turn)
    assert turned == pytest.approx(0.25)


def test_a_view_is_the_shifted_and_turned_crop():
    image = np.arange(36).reshape(1, 6, 6)
    np.testing.assert_array_equal(cropped(image, 4)[0], image[0, 1:5, 1:5])
    np.testing.assert_array_equal(cropped(image, 4, View(-1, 1, True))[0], image[0, 0:4, 2:6][::-1, ::-1])


def test_the_learning_rate_rises_then_falls_along_the_cosine():
    settings = training(epochs=100, warmup_epochs=10, cosine_stretch=1.5)
    assert learning_rate_factor(5, settings) == pytest.approx(0.5)
    assert learning_rate_factor(10, settings) == pytest.approx(1)
    assert learning_rate_factor(80, settings) == pytest.approx(0.5)  # half-way to 150
    assert learning_rate_factor(100, settings) > 0.25, "stretched, so it does not reach zero"
    assert learning_rate_factor(100, settings.model_copy(update={"cosine_stretch": 1.0})) == pytest.approx(0)


def test_an_interrupted_training_ends_with_the_same_weights_to_the_bit(tmp_path, monkeypatch):
    item = latents_on_disk(tmp_path)
    monkeypatch.setattr(train_stage, "SECONDS_PER_CHECKPOINT", 0)
    settings = training()
    train([item], DIFFUSION, MASKING, settings, 3, tmp_path / "whole")

    original = train_stage._Run.train_epoch

    def killed(run, progress):
        if run.epoch == 2:
            raise KeyboardInterrupt
        original(run, progress)

    monkeypatch.setattr(train_stage._Run, "train_epoch", killed)
    with pytest.raises(KeyboardInterrupt):
        train([item], DIFFUSION, MASKING, settings, 3, tmp_path / "broken")
    assert not (tmp_path / "broken").exists() and (tmp_path / "broken-state.pt").exists()
    monkeypatch.setattr(train_stage._Run, "train_epoch", original)
    train([item], DIFFUSION, MASKING, settings, 3, tmp_path / "broken")
    assert digest(tmp_path / "broken") == digest(tmp_path / "whole")
    assert (tmp_path / "broken" / "log.csv").read_text() == (tmp_path / "whole" / "log.csv").read_text()
    assert not (tmp_path / "broken-state.pt").exists()


def test_a_state_of_other_settings_is_not_resumed(tmp_path, monkeypatch):
    item = latents_on_disk(tmp_path)
    settings = training(epochs=1)
    train([item], DIFFUSION, MASKING, settings, 0, tmp_path / "fresh")
    run = train_stage._Run(Latents([item]), settings, DIFFUSION, MASKING, 1)
    torch.save({**run.state(), "inputs": {"another": "training"}}, tmp_path / "again-state.pt")
    train([item], DIFFUSION, MASKING, settings, 0, tmp_path / "again")
    assert digest(tmp_path / "again") == digest(tmp_path / "fresh")


def test_gradient_accumulation_takes_half_the_steps(tmp_path):
    item = latents_on_disk(tmp_path)
    train([item], DIFFUSION, MASKING, training(epochs=1), 0, tmp_path / "one")
    train([item], DIFFUSION, MASKING, training(epochs=1, gradient_accumulation=2), 0, tmp_path / "two")
    assert digest(tmp_path / "one") != digest(tmp_path / "two")


def test_a_training_says_what_it_did(tmp_path):
    item = latents_on_disk(tmp_path)
    train([item], DIFFUSION, MASKING, training(epochs=2), 0, tmp_path / "unet")
    with open(tmp_path / "unet" / "log.csv") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["epoch"] for row in rows] == ["1", "2"] and all(float(row["loss"]) > 0 for row in rows)
    record = json.loads((tmp_path / "unet" / "training.json").read_text())
    assert record["categories"] == ["bolts/a", "bolts/b"] and record["seed"] == 0
    assert record["training"]["epochs"] == 2 and record["environment"]["torch"].startswith("2.13.0")


def test_a_loss_that_is_not_a_number_names_the_images(tmp_path):
    item = latents_on_disk(tmp_path, value=np.nan)
    with pytest.raises(InputError, match=r"the loss is nan in epoch 0, step \d, on .*003\.png") as error:
        train([item], DIFFUSION, MASKING, training(), 0, tmp_path / "unet")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "unet").exists()


def test_an_interrupted_autoencoder_ends_with_the_same_weights_to_the_bit(tmp_path, monkeypatch):
    monkeypatch.setattr(autoencoder_stage, "STEPS_PER_CHECKPOINT", 3)
    settings = TrainedAutoencoder(
        source="train", channels=4, steps=8, batch_size=4, crop=8, latent_channels=2, procedural_images=2
    )
    images = np.random.default_rng(0).integers(0, 256, (5, 16, 16, 3), dtype=np.uint8)
    whole = train_autoencoder(settings, [images], 0, tmp_path / "whole.pt").module.state_dict()

    saved = autoencoder_stage.save_state

    def killed(path, state):
        saved(path, state)
        if state["step"] == 6:
            raise KeyboardInterrupt

    monkeypatch.setattr(autoencoder_stage, "save_state", killed)
    with pytest.raises(KeyboardInterrupt):
        train_autoencoder(settings, [images], 0, tmp_path / "broken.pt")
    monkeypatch.setattr(autoencoder_stage, "save_state", saved)
    again = train_autoencoder(settings, [images], 0, tmp_path / "broken.pt").module.state_dict()
    assert all(torch.equal(whole[name], again[name]) for name in whole)
