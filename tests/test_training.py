"""Training: what a batch holds, the learning rate, resuming to the bit, several processes, and what goes wrong."""

import csv
import hashlib
import json
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
import yaml
from accelerate.state import AcceleratorState

from decodiff.data.augment import augmented
from decodiff.data.rows import Row, write_rows
from decodiff.data.views import View, cropped, to_tensor, view_probabilities, views
from decodiff.errors import InputError
from decodiff.files import write_json
from decodiff.interruption import noted
from decodiff.models.autoencoder import Autoencoder, build_autoencoder, load_autoencoder, save_autoencoder
from decodiff.models.storage import States
from decodiff.models.unet import build_unet, load_unet
from decodiff.seeds import derived_seed
from decodiff.settings import Augmentation, Diffusion, Image, Masking, TrainedAutoencoder, TrainedModel, Training
from decodiff.stages import autoencoder as autoencoder_stage
from decodiff.stages.autoencoder import train_autoencoder
from decodiff.stages.encode import encode, encode_test
from decodiff.stages.train import train
from decodiff.training import log as log_module
from decodiff.training import loop as loop_module
from decodiff.training.data import EncodedImages, StoredMoments, TrainingData, TrainingSet
from decodiff.training.loop import Loop, learning_rate_factor

MASKING = Masking(patch_sides=(1, 2), patch_probabilities=(0.5, 0.5))
DIFFUSION = Diffusion(num_train_timesteps=10)
IMAGE = Image(resize=16, crop=16)
MODEL = TrainedModel()


def training(**changes):
    values = {"unet": "UNet_mini", "epochs": 4, "batch_size": 4, "learning_rate": 0.001, "warmup_epochs": 1}
    return Training(**{**values, **changes})


def train_on(sets, settings, output, seed=0, diffusion=DIFFUSION, **others):
    train(sets, diffusion, MASKING, settings, MODEL, IMAGE, seed, output, **others)


def latents_on_disk(root, images=8, value=None):
    """Latents of two categories, 8×8 cells; the first number of each is its image's index."""
    generator = np.random.default_rng(0)
    mean = generator.standard_normal((images, 1, 4, 8, 8)).astype(np.float32)
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
    return TrainingSet("bolts", latents, prepared, Augmentation(), ("a", "b"))


def digest(folder):
    return hashlib.sha256((folder / "diffusion_pytorch_model.safetensors").read_bytes()).hexdigest()


def kept_digests(folder):
    return {path.name: digest(path) for path in (folder / "kept").iterdir()}


def losses(folder):
    with open(folder / "log.csv", newline="") as stream:
        return [float(row["loss"]) for row in csv.DictReader(stream)]


# ---- what a batch holds


def test_every_image_is_seen_with_its_own_category(tmp_path):
    data = TrainingData([latents_on_disk(tmp_path)], IMAGE, MASKING, None)
    assert data.categories == ["bolts/a", "bolts/b"] and len(data) == 8
    batch, category = data.batch([0, 3, 6], torch.Generator().manual_seed(0))
    assert batch[:, 0, 0, 0].tolist() == [0, 3, 6] and category.tolist() == [0, 1, 0]


def test_no_content_is_made_in_stored_latents(tmp_path):
    data = TrainingData([latents_on_disk(tmp_path)], IMAGE, MASKING, None)
    with pytest.raises(ValueError, match="these latents are stored"):
        data.batch_with_content([0], torch.Generator())


def test_every_image_is_seen_once_an_epoch_and_in_another_order_the_next(tmp_path):
    data = TrainingData([latents_on_disk(tmp_path)], IMAGE, MASKING, None)
    loop = Loop(build_unet("mini", 2), data, DIFFUSION, MASKING, training(batch_size=3), 0)
    epochs = [[item for step in range(3 * e, 3 * e + 3) for item in loop._chosen(step)] for e in range(2)]
    assert [sorted(order) for order in epochs] == [list(range(8))] * 2 and epochs[0] != epochs[1]


def test_an_epoch_of_so_many_images_sees_all_evenly(tmp_path):
    data = TrainingData([latents_on_disk(tmp_path)], IMAGE, MASKING, None)
    for images, counts in ((20, {2, 3}), (5, {0, 1})):
        loop = Loop(build_unet("mini", 2), data, DIFFUSION, MASKING, training(batch_size=4, epoch_images=images), 0)
        steps = loop.steps_per_epoch
        seen = [item for step in range(steps) for item in loop._chosen(step)]
        assert len(seen) == images and {seen.count(item) for item in range(8)} == counts


def test_a_scope_of_one_category_leaves_the_others_out(tmp_path):
    everything = latents_on_disk(tmp_path)
    one = TrainingData(
        [TrainingSet("bolts", everything.latents, everything.prepared, Augmentation(), ("b",))], IMAGE, MASKING, None
    )
    batch, category = one.batch(list(range(len(one))), torch.Generator().manual_seed(0))
    assert batch[:, 0, 0, 0].tolist() == [1, 3, 5, 7] and set(category.tolist()) == {0}


def test_several_data_sets_share_a_batch_in_the_order_asked_for(tmp_path):
    sets = [latents_on_disk(tmp_path / "x"), latents_on_disk(tmp_path / "y", images=4)]
    sets[1] = TrainingSet("nuts", sets[1].latents, sets[1].prepared, Augmentation(), ())
    data = TrainingData(sets, IMAGE, MASKING, None)
    assert data.categories == ["bolts/a", "bolts/b", "nuts/a", "nuts/b"]
    batch, category = data.batch([9, 0, 11, 7], torch.Generator().manual_seed(0))
    assert batch[:, 0, 0, 0].tolist() == [1, 0, 3, 7] and category.tolist() == [3, 0, 3, 1]


def test_a_sample_follows_the_posterior(tmp_path):
    item = latents_on_disk(tmp_path)
    np.save(item.latents / "train_std.npy", np.full((8, 1, 4, 8, 8), 0.5, np.float32))
    data = TrainingData([item], IMAGE, MASKING, None)
    samples = torch.cat([data.batch([5], torch.Generator().manual_seed(seed))[0] for seed in range(400)])
    mean = torch.from_numpy(np.load(item.latents / "train_mean.npy")[5, 0])
    assert (samples.mean(0) - mean).abs().max() < 0.12
    assert (samples.std(0) - 0.5).abs().max() < 0.1


# ---- stored and encoded on the fly


@pytest.fixture
def encoded(tmp_path):
    """A prepared data set of 20×20 pixels, its latents under shifts and half turns, and the autoencoder that made them."""
    prepared = tmp_path / "prepared"
    prepared.mkdir()
    generator = np.random.default_rng(0)
    for split, count in (("train", 3), ("test", 1)):
        np.save(prepared / f"{split}_images.npy", generator.integers(0, 256, (count, 20, 20, 3), dtype=np.uint8))
        rows = [Row(f"{i}.png", "a", split, int(split == "test"), "good", "", 20, 20, "") for i in range(count)]
        write_rows(prepared / f"{split}.csv", rows)
    torch.manual_seed(0)
    autoencoder = Autoencoder(build_autoencoder(4, 4, 1, 2), 0.25)
    save_autoencoder(autoencoder, tmp_path / "autoencoder")
    augmentation = Augmentation(max_shift=1, shift_probability=0.6, half_turn_probability=0.3)
    encode(prepared, tmp_path / "autoencoder", augmentation, Image(resize=20, crop=16), tmp_path / "latents")
    return TrainingSet("bolts", tmp_path / "latents", prepared, augmentation, ()), autoencoder


def test_stored_moments_have_the_distribution_of_encoding_on_the_fly(encoded):
    item, autoencoder = encoded
    stored = StoredMoments(item, 3)
    flying = EncodedImages(item, 3, Image(resize=20, crop=16), autoencoder)
    known = torch.from_numpy(np.array(stored.mean[1])).flatten(1)
    counts = {}
    for name, source in (("stored", stored), ("flying", flying)):
        mean, std = source.draw([1] * 3000, torch.Generator().manual_seed(1))
        distance = torch.cdist(mean.flatten(1), known, compute_mode="donot_use_mm_for_euclid_dist")
        nearest = distance.argmin(dim=1)
        assert distance.gather(1, nearest[:, None]).max() < 1e-4, "each is the code of one of the views"
        assert torch.allclose(std, torch.full_like(std, 0.25))
        counts[name] = torch.bincount(nearest, minlength=len(known)) / 3000
    # three standard deviations of a frequency out of 3,000, twice
    bound = 6 * (stored.probabilities * (1 - stored.probabilities) / 3000).sqrt() + 1e-9
    for frequencies in counts.values():
        assert ((frequencies - stored.probabilities).abs() < bound).all()


def test_other_augmentations_store_no_views_and_train_all_the_same(encoded, tmp_path):
    item, _ = encoded
    augmentation = Augmentation(max_shift=1, rotation_degrees=3, rotation_probability=1.0, brightness=0.1, colour_probability=1)
    image = Image(resize=20, crop=16)
    encode(item.prepared, tmp_path / "autoencoder", augmentation, image, tmp_path / "flying")
    assert np.load(tmp_path / "flying" / "train_mean.npy").shape == (3, 0, 2, 4, 4)
    item = TrainingSet("bolts", tmp_path / "flying", item.prepared, augmentation, ())
    with pytest.raises(InputError, match="bolts: its augmentation needs the autoencoder while training"):
        train([item], DIFFUSION, MASKING, training(epochs=2), MODEL, image, 0, tmp_path / "unet")
    for name in ("unet", "again"):
        coder = tmp_path / "autoencoder"
        train([item], DIFFUSION, MASKING, training(epochs=2), MODEL, image, 0, tmp_path / name, autoencoder=coder)
    assert digest(tmp_path / "unet") == digest(tmp_path / "again"), "seeded"


def test_made_content_corrupts_images_before_they_are_encoded(encoded, tmp_path):
    item, _ = encoded
    content = Masking(patch_sides=(1,), patch_probabilities=(1,), corruption="content", regions=2)
    image = Image(resize=20, crop=16)
    with pytest.raises(InputError, match="bolts: masking.corruption content needs the autoencoder"):
        train([item], DIFFUSION, content, training(epochs=2), MODEL, image, 0, tmp_path / "unet")
    coder = tmp_path / "autoencoder"
    data = TrainingData([item], image, content, load_autoencoder(coder))
    latent, category, made = data.batch_with_content([2, 0], torch.Generator().manual_seed(0))
    assert latent.shape == made.latent.shape and made.mask.shape == (2, 1, *latent.shape[2:])
    assert 0 < made.mask.mean() < 1 and category.tolist() == [0, 0]
    for name in ("unet", "again"):
        train([item], DIFFUSION, content, training(epochs=2), MODEL, image, 0, tmp_path / name, autoencoder=coder)
    assert digest(tmp_path / "unet") == digest(tmp_path / "again")


def test_rotation_and_colours_do_what_they_say():
    image = Image(resize=40, crop=32)
    grey = np.full((1, 40, 40, 3), 128, np.uint8)
    for changed, extremes in (({"brightness": 0.2}, (128 - 51, 128 + 51)), ({"contrast": 0.2}, (0.8 * 128, 1.2 * 128))):
        changed = Augmentation(colour_probability=1.0, **changed)
        values = torch.stack([augmented(grey, changed, image, torch.Generator().manual_seed(seed))[0] for seed in range(200)])
        seen = (values[:, 0, 0, 0] + 1) / 2 * 255
        assert extremes[0] - 0.01 <= seen.min() < extremes[0] + 3 and extremes[1] - 3 < seen.max() <= extremes[1] + 0.01
        assert seen.mean() == pytest.approx(128, abs=4)
    half = np.zeros((1, 40, 40, 3), np.uint8)
    half[:, :, 20:] = 255
    turned = Augmentation(rotation_degrees=10, rotation_probability=1.0)
    angles = []
    for seed in range(100):
        picture = augmented(half, turned, image, torch.Generator().manual_seed(seed))[0, 0].numpy()
        # where the edge crosses the top and the bottom row
        edge = [(picture[row] < 0).sum() for row in (0, 31)]
        angles.append(np.degrees(np.arctan((edge[0] - edge[1]) / 31)))
    assert -11.5 < min(angles) < -7 and 7 < max(angles) < 11.5
    mirrored = augmented(half, Augmentation(mirror_probability=1.0), image, torch.Generator().manual_seed(0))
    assert torch.equal(mirrored, to_tensor(cropped(half, 32)).flip(-1))
    untouched = augmented(half, Augmentation(), image, torch.Generator().manual_seed(0))
    assert torch.equal(untouched, to_tensor(cropped(half, 32)))


# ---- views and the learning rate


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


# ---- resuming


def test_a_training_interrupted_after_any_step_ends_with_the_same_weights_to_the_bit(tmp_path, monkeypatch):
    item = latents_on_disk(tmp_path)
    settings = training(
        epochs=3, batch_size=3, gradient_accumulation=2, ema_decay=0.9, clip_gradient_norm=0.5, kept_epochs=(1, 2)
    )
    train_on([item], settings, tmp_path / "whole", seed=3)
    monkeypatch.setattr(loop_module, "SECONDS_PER_STATE", 0)
    original = Loop._take_step
    limit = [0]

    def killed(self):
        if self.step == limit[0]:
            raise KeyboardInterrupt
        return original(self)

    monkeypatch.setattr(Loop, "_take_step", killed)
    for limit[0] in range(1, 9):
        with pytest.raises(KeyboardInterrupt):
            train_on([item], settings, tmp_path / "broken", seed=3)
        assert not (tmp_path / "broken").exists()
        assert len(list(tmp_path.glob("broken-state-*.pt"))) <= 2, "the last two are kept"
    limit[0] = -1
    train_on([item], settings, tmp_path / "broken", seed=3)
    assert digest(tmp_path / "broken") == digest(tmp_path / "whole")
    assert (tmp_path / "broken" / "log.csv").read_text() == (tmp_path / "whole" / "log.csv").read_text()
    assert kept_digests(tmp_path / "broken") == kept_digests(tmp_path / "whole")
    assert not list(tmp_path.glob("broken-*"))


def interrupted(monkeypatch, step, *arguments, **others):
    """Train up to a step, and no further."""
    original = Loop._take_step

    def killed(self):
        if self.step == step:
            raise KeyboardInterrupt
        return original(self)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(Loop, "_take_step", killed)
        train_on(*arguments, **others)


@pytest.mark.parametrize("average", [None, 0.5])
def test_a_network_is_kept_as_the_training_would_give_it_there(tmp_path, average):
    item = latents_on_disk(tmp_path)
    settings = training(epochs=3, batch_size=3, gradient_accumulation=2, ema_decay=average)
    train_on([item], settings, tmp_path / "plain", seed=3)
    settings = settings.model_copy(update={"kept_epochs": (1, 3)})
    train_on([item], settings, tmp_path / "unet", seed=3)
    assert digest(tmp_path / "unet") == digest(tmp_path / "plain"), "keeping changes nothing"
    assert losses(tmp_path / "unet") == losses(tmp_path / "plain")
    assert kept_digests(tmp_path / "unet").keys() == {"epoch-00001", "epoch-00003"}
    assert not (tmp_path / "plain/kept").exists() and not list(tmp_path.glob("*-kept"))
    torch.manual_seed(derived_seed(3, "unet weights"))
    data = TrainingData([item], IMAGE, MASKING, None)
    loop = Loop(build_unet("UNet_mini", 2), data, DIFFUSION, MASKING, settings, 3)
    loop.log = loop_module.TrainingLog(list(range(10)), 10, None, 0)
    seconds = []
    for epoch in (1, 2, 3):
        for _ in range(loop.steps_per_epoch):
            loop._take_step()
            loop.step += 1
        place = tmp_path / f"unet/kept/epoch-{epoch:05d}"
        if place.is_dir():
            kept = load_unet(place).state_dict()
            with loop.result() as network:
                assert all(torch.equal(kept[name], value) for name, value in network.state_dict().items())
            record = json.loads((place / "training.json").read_text())
            assert (record["epoch"], record["steps"]) == (epoch, loop.step)
            seconds.append(record["seconds"])
    rows = [line.split("\t") for line in (tmp_path / "unet/speed.tsv").read_text().splitlines()[1:]]
    assert seconds == pytest.approx([sum(float(row[1]) for row in rows[:count]) for count in (1, 3)])
    record = {name: value for name, value in record.items() if name not in ("epoch", "steps", "seconds")}
    assert record == json.loads((tmp_path / "unet/training.json").read_text()), "and the result's record besides"


def test_a_network_kept_after_the_last_state_is_kept_again(tmp_path, monkeypatch, caplog):
    item, settings = latents_on_disk(tmp_path), training(kept_epochs=(1, 2, 4))
    train_on([item], settings, tmp_path / "whole")
    monkeypatch.setattr(loop_module, "SECONDS_PER_STATE", 0)
    interrupted(monkeypatch, 3, [item], settings, tmp_path / "broken")
    monkeypatch.setattr(loop_module, "SECONDS_PER_STATE", 10**6)
    interrupted(monkeypatch, 5, [item], settings, tmp_path / "broken")
    assert [path.name for path in sorted((tmp_path / "broken-kept").iterdir())] == ["epoch-00001", "epoch-00002"]
    # another training started by mistake takes nothing away before it keeps something itself
    interrupted(monkeypatch, 1, [item], training(kept_epochs=(3,)), tmp_path / "broken")
    with caplog.at_level("INFO"):
        train_on([item], settings, tmp_path / "broken")
    assert "resumed after step 3 of 8" in caplog.text and "anew" not in caplog.text
    assert kept_digests(tmp_path / "broken") == kept_digests(tmp_path / "whole")


@pytest.mark.parametrize("change", ["removed", "of another training"])
def test_without_the_networks_it_had_kept_a_training_begins_anew(tmp_path, monkeypatch, caplog, change):
    item, settings = latents_on_disk(tmp_path), training(kept_epochs=(1, 4))
    train_on([item], settings, tmp_path / "whole")
    monkeypatch.setattr(loop_module, "SECONDS_PER_STATE", 0)
    interrupted(monkeypatch, 5, [item], settings, tmp_path / "broken")
    place = tmp_path / "broken-kept/epoch-00001"
    if change == "removed":
        shutil.rmtree(place)
    else:
        record = json.loads((place / "training.json").read_text())
        write_json(place / "training.json", record | {"seed": 1})
    interrupted(monkeypatch, 3, [item], settings, tmp_path / "broken")
    assert f"{place}: gone, or of another training; so this one begins anew" in caplog.text
    states = sorted(path.name for path in tmp_path.glob("broken-state-*"))
    assert states == ["broken-state-000000002.pt", "broken-state-000000003.pt"], "those before would count as newer"
    train_on([item], settings, tmp_path / "broken")
    assert kept_digests(tmp_path / "broken") == kept_digests(tmp_path / "whole")


def test_seconds_of_a_training_go_on_after_an_interruption_and_leave_out_what_is_none(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(log_module.time, "monotonic", lambda: clock[0])

    def log():
        log = log_module.TrainingLog([0, 1], 2, None, 0)
        log.add(torch.tensor([0]), torch.tensor([1.0]))
        return log

    first = log()
    clock[0] += 2
    first.end_epoch(1, 1, 0.1, 8, lambda sums: sums)
    with first.paused():
        clock[0] += 50
    clock[0] += 3
    state = first.state()
    clock[0] += 1000
    second = log()
    second.restore(state)
    clock[0] += 1
    second.add(torch.tensor([0]), torch.tensor([1.0]))
    second.end_epoch(2, 2, 0.1, 8, lambda sums: sums)
    assert [row["seconds"] for row in second.speeds] == ["2.000", "4.000"] and second.seconds == 6
    assert second.speeds[1]["images_per_second"] == "2.00"


@pytest.mark.parametrize(("number", "ends"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)])
@pytest.mark.parametrize(("during", "saved"), [(0, 2), (1, 2), (2, 3), (8, 9)])
def test_a_training_that_is_asked_to_end_saves_a_state_after_its_step_and_goes_on_there(
    number, ends, during, saved, tmp_path, monkeypatch
):
    item = latents_on_disk(tmp_path)
    # three batches an epoch, of which the first two make an optimiser's step
    settings = training(epochs=3, batch_size=3, gradient_accumulation=2, ema_decay=0.9)
    train_on([item], settings, tmp_path / "whole")
    original, before = Loop._take_step, [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]

    def asked(self):
        if self.step == during:
            os.kill(os.getpid(), number)
            os.kill(os.getpid(), signal.SIGINT)  # once more changes nothing
        return original(self)

    monkeypatch.setattr(Loop, "_take_step", asked)
    with pytest.raises(ends) as error:
        train_on([item], settings, tmp_path / "asked")
    assert number == signal.SIGINT or error.value.code == 128 + signal.SIGTERM
    assert [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)] == before
    assert sorted(path.name for path in tmp_path.glob("*asked*")) == [f"asked-state-{saved:09d}.pt"], "and no lock"
    monkeypatch.setattr(Loop, "_take_step", original)
    train_on([item], settings, tmp_path / "asked")
    assert digest(tmp_path / "asked") == digest(tmp_path / "whole")
    assert (tmp_path / "asked" / "log.csv").read_text() == (tmp_path / "whole" / "log.csv").read_text()


def test_what_is_ignored_stays_ignored_and_other_threads_note_nothing():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with noted() as request:
            os.kill(os.getpid(), signal.SIGINT)
        assert request.signal is None
    finally:
        signal.signal(signal.SIGINT, before)

    def elsewhere():
        with noted() as request:
            handlers.append(signal.getsignal(signal.SIGTERM))
        handlers.append(request.signal)

    handlers = []
    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert handlers == [signal.getsignal(signal.SIGTERM), None]


def start_training(tmp_path, output, epochs):
    """A training in a process of its own, with a state after every step."""
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); from test_training import *; loop_module.SECONDS_PER_STATE = 0;"
        "root = Path(sys.argv[2]); bolts = root / 'latents', root / 'prepared', Augmentation(), ('a', 'b');"
        "train_on([TrainingSet('bolts', *bolts)], training(epochs=int(sys.argv[4])), Path(sys.argv[3]))"
    )
    arguments = [str(Path(__file__).parent), str(tmp_path), str(output), str(epochs)]
    return subprocess.Popen([sys.executable, "-c", code, *arguments], stderr=subprocess.PIPE, text=True)


@pytest.mark.slow
def test_a_training_killed_at_random_moments_ends_with_the_same_weights_to_the_bit(tmp_path):
    item = latents_on_disk(tmp_path)
    train_on([item], training(epochs=30), tmp_path / "whole")
    moments = random.Random(0)
    for _ in range(3):
        process = start_training(tmp_path, tmp_path / "killed", 30)
        before = {path.name for path in tmp_path.glob("killed-state-*.pt")}
        while process.poll() is None and {path.name for path in tmp_path.glob("killed-state-*.pt")} <= before:
            time.sleep(0.01)
        time.sleep(moments.uniform(0, 0.5))
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert not (tmp_path / "killed").exists(), "killed before it was done"
    process = start_training(tmp_path, tmp_path / "killed", 30)
    errors = process.communicate()[1]
    assert process.returncode == 0, errors[-2000:]
    assert digest(tmp_path / "killed") == digest(tmp_path / "whole")
    assert [path.name for path in tmp_path.glob("*killed*")] == ["killed"], "nothing half-written is left"


def test_a_state_of_other_settings_is_not_resumed(tmp_path):
    item = latents_on_disk(tmp_path)
    train_on([item], training(epochs=1), tmp_path / "fresh")
    States(tmp_path / "again", {"another": "training"}).save(3, {"step": 3})
    train_on([item], training(epochs=1), tmp_path / "again")
    assert digest(tmp_path / "again") == digest(tmp_path / "fresh")


def test_a_damaged_state_falls_back_to_the_one_before_and_says_so(tmp_path, caplog):
    states = States(tmp_path / "unet", "inputs")
    for step in (1, 2, 3):
        states.save(step, {"step": step})
    newest = tmp_path / "unet-state-000000003.pt"
    newest.write_bytes(newest.read_bytes()[:100])
    assert states.load() == {"step": 2}
    assert "unet-state-000000003.pt: not a state to resume from" in caplog.text
    (tmp_path / "unet-state-000000002.pt").write_bytes(b"")
    with pytest.raises(InputError, match="unet-state-000000003.pt: not a state to resume from.*remove it to start anew"):
        states.load()


def test_a_disk_that_takes_no_more_leaves_the_last_good_state(tmp_path):
    states = States(tmp_path / "unet", "inputs")
    states.save(1, {"step": 1})
    # no file of this process may grow beyond this, as on a full disk
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        with pytest.raises(InputError, match="000000002.pt: cannot be written .*make room and run again") as error:
            states.save(2, {"step": 2, "weights": torch.zeros(100_000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "\n" not in str(error.value)
    assert states.load() == {"step": 1} and len(list(tmp_path.iterdir())) == 1, "nothing half-written is left"


# ---- several processes


def several_processes(tmp_path, item, settings):
    """The command that trains by two processes, with the configuration that it reads."""
    config = yaml.safe_load((Path(__file__).parent / "toy.yaml").read_text())
    config |= {
        "data": {"bolts": {"kind": "folder", "source": "x"}},
        "scopes": {"all": ["bolts"]},
        "image": IMAGE.model_dump(),
        "masking": {"patch_sides": [1, 2], "patch_probabilities": [0.5, 0.5]},
        "training": settings.model_dump(mode="json"),
    }
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    command = ["torchrun", "--standalone", "--nproc-per-node", "2", "--no-python", "decodiff", "train"]
    command += ["--config", tmp_path / "config.yaml", "--scope", "all", "--seed", "0", "--latents", item.latents]
    return [*command, "--prepared", item.prepared, "--output", tmp_path / "two", "--threads", "1"]


WITH_PATH = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}


def test_two_processes_train_as_one(tmp_path):
    item = latents_on_disk(tmp_path, images=10)
    # batches of 4, 4 and 2 images, the last of an odd number for either
    settings = training(epochs=3, gradient_accumulation=2, kept_epochs=(2,))
    train_on([item], settings, tmp_path / "one")
    command = several_processes(tmp_path, item, settings)
    done = subprocess.run(command, env=WITH_PATH, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert losses(tmp_path / "two") == pytest.approx(losses(tmp_path / "one"), rel=1e-4)
    assert losses(tmp_path / "one")[0] != losses(tmp_path / "one")[-1]
    assert kept_digests(tmp_path / "two").keys() == kept_digests(tmp_path / "one").keys() == {"epoch-00002"}


@pytest.mark.slow
def test_two_processes_of_which_one_is_asked_to_end_stop_at_the_same_step(tmp_path):
    item = latents_on_disk(tmp_path, images=10)
    command = several_processes(tmp_path, item, training(epochs=400))
    folder = tmp_path / "tensorboard"
    with open(tmp_path / "said", "w") as said:
        process = subprocess.Popen([*command, "--tensorboard", folder], env=WITH_PATH, stdout=said, stderr=said)
    while process.poll() is None and not folder.is_dir():
        time.sleep(0.05)
    second = next(
        child
        for child in psutil.Process(process.pid).children(recursive=True)
        if child.name() == "decodiff" and child.environ()["RANK"] == "1"
    )
    second.send_signal(signal.SIGTERM)
    assert process.wait(120) != 0
    said = (tmp_path / "said").read_text()
    assert re.search(r"interrupted after step \d+ of 1200", said), said[-3000:]
    (state,) = tmp_path.glob("two-state-*.pt")
    assert torch.load(state, weights_only=True)["step"] < 1200


def test_processes_take_disjoint_parts_of_each_batch_with_masks_of_their_own(tmp_path):
    data = TrainingData([latents_on_disk(tmp_path)], IMAGE, MASKING, None)
    loop = Loop(build_unet("mini", 2), data, DIFFUSION, MASKING, training(batch_size=8), 0)
    example, _ = loop._example(loop._chosen(0), 0)
    corrupted = (example.target != 0).any(dim=1)
    assert not torch.equal(corrupted[0::2], corrupted[1::2])
    assert len({tuple(mask.flatten().tolist()) for mask in corrupted}) > 4, "every image has a mask of its own"


# ---- settings


def test_accumulated_batches_are_one_larger_batch(tmp_path):
    item = latents_on_disk(tmp_path, images=7)
    data = TrainingData([item], IMAGE, MASKING, None)
    weights = {}
    for name, settings in (("one", training(batch_size=7)), ("three", training(batch_size=3, gradient_accumulation=3))):
        torch.manual_seed(0)
        loop = Loop(build_unet("mini", 2), data, DIFFUSION, MASKING, settings, 0)
        loop._example = lambda chosen, step, whole=loop: fixed_example(data, chosen)
        gradients = []
        loop._optimise = lambda loop=loop, kept=gradients: kept.append(
            [p.grad.clone() for p in loop.model.parameters() if p.grad is not None]
        )
        loop.log = loop_module.TrainingLog(list(range(10)), 10, None, 0)
        for step in range(loop.steps_per_epoch):
            loop.step = step
            loop._take_step()
        assert len(gradients) == 1
        weights[name] = gradients[0]
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(weights["one"], weights["three"], strict=True))


def fixed_example(data, chosen):
    """What only depends on the image."""
    generator = torch.Generator().manual_seed(0)
    latent, category = data.batch(chosen, generator)
    return loop_module.Example(latent, torch.full((len(chosen),), 3), 0.5 * latent), category


def test_only_the_trained_timesteps_are_drawn(tmp_path):
    data = TrainingData([latents_on_disk(tmp_path)], IMAGE, MASKING, None)
    diffusion = Diffusion(num_train_timesteps=1000, trained_timesteps=10)
    loop = Loop(build_unet("mini", 2), data, diffusion, MASKING, training(batch_size=8), 0)
    drawn = Counter(t for step in range(100) for t in loop._example(loop._chosen(0), step)[0].timestep.tolist())
    assert set(drawn) == set(range(0, 1000, 100)) and min(drawn.values()) > 40


def test_the_average_of_the_weights_is_the_result(tmp_path):
    item = latents_on_disk(tmp_path)
    train_on([item], training(), tmp_path / "plain")
    train_on([item], training(ema_decay=0.5), tmp_path / "averaged")
    assert losses(tmp_path / "plain") == losses(tmp_path / "averaged"), "the training itself is the same"
    assert digest(tmp_path / "plain") != digest(tmp_path / "averaged")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_fp16_without_a_gpu_is_refused(tmp_path):
    with pytest.raises(InputError, match="training.mixed_precision: fp16 needs a GPU; choose bf16 or no"):
        train_on([latents_on_disk(tmp_path)], training(mixed_precision="fp16"), tmp_path / "unet")


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_mixed_precision_gives_nearly_the_same_losses(tmp_path, request, precision):
    if precision == "fp16" and not torch.cuda.is_available():
        pytest.skip("scaled fp16 needs a GPU")
    item = latents_on_disk(tmp_path)
    train_on([item], training(), tmp_path / "full")
    # a process has one precision, as accelerate sees it; a training of its own is a process of its own
    AcceleratorState._reset_state()
    request.addfinalizer(AcceleratorState._reset_state)
    train_on([item], training(mixed_precision=precision), tmp_path / "mixed")
    assert losses(tmp_path / "mixed") == pytest.approx(losses(tmp_path / "full"), rel=0.02)
    assert losses(tmp_path / "mixed") != losses(tmp_path / "full")


# ---- what it says


def test_a_training_says_what_it_did(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    item = latents_on_disk(tmp_path)
    train_on([item], training(epochs=2), tmp_path / "unet", tensorboard=tmp_path / "board")
    with open(tmp_path / "unet" / "log.csv") as stream:
        rows = list(csv.DictReader(stream))
    assert [(row["epoch"], row["step"]) for row in rows] == [("1", "2"), ("2", "4")]
    assert all(float(row["loss"]) > 0 and {f"loss_t{t}" for t in range(10)} < row.keys() for row in rows)
    assert (tmp_path / "unet" / "speed.tsv").read_text().startswith("epoch\tseconds\timages_per_second\n1\t")
    events = EventAccumulator(str(tmp_path / "board")).Reload()
    assert [round(event.value, 5) for event in events.Scalars("loss")] == [round(float(row["loss"]), 5) for row in rows]
    assert {"learning_rate", "images_per_second"} < set(events.Tags()["scalars"])
    record = json.loads((tmp_path / "unet" / "training.json").read_text())
    assert record["categories"] == ["bolts/a", "bolts/b"] and record["seed"] == 0
    assert record["training"]["epochs"] == 2 and record["environment"]["torch"].startswith("2.13.0")
    assert record["masking"]["patch_sides"] == [1, 2] and record["augmentation"]["bolts"]["max_shift"] == 0


def test_an_early_look_shows_corrections(encoded, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    item, _ = encoded
    image, board = Image(resize=20, crop=16), tmp_path / "board"
    coder = {"autoencoder": tmp_path / "autoencoder", "tensorboard": board}
    encode_test(item.prepared, tmp_path / "autoencoder", image, item.latents)
    for name, every in (("without", 0), ("with", 2)):
        settings = training(epochs=4, look_every=every)
        train([item], DIFFUSION, MASKING, settings, MODEL, image, 0, tmp_path / name, **coder)
    events = EventAccumulator(str(board)).Reload()
    assert [event.step for event in events.Images("corrected")] == [2, 4]
    assert events.Images("corrected")[0].width == 32, "reconstruction and correction side by side"
    assert digest(tmp_path / "with") == digest(tmp_path / "without"), "looking changes nothing"
    with pytest.raises(InputError, match="training.look_every: needs --autoencoder"):
        train([item], DIFFUSION, MASKING, settings, MODEL, image, 0, tmp_path / "none")


@pytest.mark.parametrize("batch_size", [4, 8])
def test_a_loss_that_is_not_a_number_names_the_images(tmp_path, batch_size):
    item = latents_on_disk(tmp_path, value=np.nan)
    with pytest.raises(InputError, match=r"the loss is nan in step \d, on .*\.png") as error:
        train_on([item], training(batch_size=batch_size, epochs=1), tmp_path / "unet")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "unet").exists()


# ---- the autoencoder


def test_an_interrupted_autoencoder_ends_with_the_same_weights_to_the_bit(tmp_path, monkeypatch):
    monkeypatch.setattr(autoencoder_stage, "STEPS_PER_CHECKPOINT", 3)
    settings = TrainedAutoencoder(
        source="train", channels=4, steps=8, batch_size=4, crop=8, latent_channels=2, procedural_images=2
    )
    images = np.random.default_rng(0).integers(0, 256, (5, 16, 16, 3), dtype=np.uint8)
    whole = train_autoencoder(settings, Image(resize=16, crop=16), [images], 0, tmp_path / "whole").module.state_dict()

    saved = States.save

    def killed(self, step, state):
        saved(self, step, state)
        if step == 6:
            raise KeyboardInterrupt

    monkeypatch.setattr(States, "save", killed)
    with pytest.raises(KeyboardInterrupt):
        train_autoencoder(settings, Image(resize=16, crop=16), [images], 0, tmp_path / "broken")
    monkeypatch.setattr(States, "save", saved)
    again = train_autoencoder(settings, Image(resize=16, crop=16), [images], 0, tmp_path / "broken").module.state_dict()
    assert all(torch.equal(whole[name], again[name]) for name in whole)


@pytest.mark.parametrize("during", [0, 3, 7])
def test_an_autoencoder_that_is_asked_to_end_saves_a_state_and_goes_on_there(during, tmp_path, monkeypatch):
    settings = TrainedAutoencoder(
        source="train", channels=4, steps=8, batch_size=4, crop=8, latent_channels=2, procedural_images=2
    )
    images = np.random.default_rng(0).integers(0, 256, (5, 16, 16, 3), dtype=np.uint8)
    whole = train_autoencoder(settings, Image(resize=16, crop=16), [images], 0, tmp_path / "whole").module.state_dict()
    original, batches = autoencoder_stage.network_input, []

    def asked(batch, contrast):
        batches.append(batch)
        # a step draws from normal and from procedural images
        if len(batches) == 2 * during + 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return original(batch, contrast)

    monkeypatch.setattr(autoencoder_stage, "network_input", asked)
    with pytest.raises(SystemExit) as error:
        train_autoencoder(settings, Image(resize=16, crop=16), [images], 0, tmp_path / "asked")
    assert error.value.code == 143
    assert [path.name for path in tmp_path.glob("asked*")] == [f"asked-state-{during + 1:09d}.pt"]
    again = train_autoencoder(settings, Image(resize=16, crop=16), [images], 0, tmp_path / "asked").module.state_dict()
    assert all(torch.equal(whole[name], again[name]) for name in whole)
