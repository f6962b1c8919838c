"""From prepared images to maps: the same whatever the batch, close to float32 in bfloat16, and without a file half written."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch

from decodiff.data.demo import render
from decodiff.data.rows import Row, write_rows
from decodiff.errors import InputError
from decodiff.files import write_json
from decodiff.models.autoencoder import Autoencoder, build_autoencoder, save_autoencoder
from decodiff.models.unet import build_unet
from decodiff.settings import Augmentation, Correction, Diffusion, Image, Inference, Scoring
from decodiff.stages import encode as encoding
from decodiff.stages.correct import correct
from decodiff.stages.encode import encode, encode_test
from decodiff.stages.score import score

COUNT = 9


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Nine images of the embedded data set, and networks with random weights that change something."""
    folder = tmp_path_factory.mktemp("made")
    rows = [Row(f"{index}.png", "ring", "test", 1, "blob", "", 64, 64, str(index)) for index in range(COUNT)]
    (folder / "prepared").mkdir()
    write_rows(folder / "prepared/test.csv", rows)
    images = np.stack([render("ring", "test", "blob", index).image for index in range(COUNT)])
    np.save(folder / "prepared/test_images.npy", images)
    torch.manual_seed(0)
    save_autoencoder(Autoencoder(build_autoencoder(16, 4, 1, 4)), folder / "autoencoder")
    unet = build_unet("UNet_mini", 1, latent_channels=4)
    torch.nn.init.normal_(unet.unet.conv_out.weight, std=0.05)
    unet.save_pretrained(folder / "unet")
    write_json(folder / "unet/training.json", {"diffusion": Diffusion().model_dump(), "categories": ["demo/ring"], "seed": 0})
    encode_test(folder / "prepared", folder / "autoencoder", Image(resize=64, crop=64), folder / "latents")
    return folder


def maps(made, output, batch_size=4, mixed_precision="no"):
    inference = Inference(mixed_precision=mixed_precision)
    correction = Correction(batch_size=batch_size)
    arguments = (made / "latents", made / "prepared", Diffusion(), correction, inference, output)
    correct("demo", made / "unet", *arguments)
    score(output, made / "latents", made / "autoencoder", Scoring(batch_size=batch_size), inference, output)
    return np.load(output / "anomaly_maps.npy")


def test_the_batch_makes_no_difference(made, tmp_path):
    together = maps(made, tmp_path / "nine", 9)
    assert together.shape == (COUNT, 64, 64) and together.max() > 0.1
    for batch_size in (1, 4):
        np.testing.assert_allclose(maps(made, tmp_path / str(batch_size), batch_size), together, atol=1e-4)


def test_bfloat16_changes_maps_a_little(made, tmp_path):
    exact, mixed = maps(made, tmp_path / "exact"), maps(made, tmp_path / "mixed", mixed_precision="bf16")
    assert mixed.dtype == np.float32
    assert 1e-6 < np.abs(exact - mixed).max() < 0.1


def test_the_same_run_gives_the_same_bytes(made, tmp_path):
    for name in ("one", "two"):
        maps(made, tmp_path / name)
    for name in ("corrected.npy", "anomaly_maps.npy", "corrections.npy", "images.csv"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_a_map_with_nan_stops_and_leaves_no_file(made, tmp_path):
    maps(made, tmp_path)
    corrected = np.load(tmp_path / "corrected.npy")
    corrected[6] = np.nan
    np.save(tmp_path / "corrected.npy", corrected)
    (tmp_path / "anomaly_maps.npy").unlink()
    with pytest.raises(InputError, match="6.png: its anomaly map holds NaN"):
        score(tmp_path, made / "latents", made / "autoencoder", Scoring(batch_size=4), Inference(), tmp_path)
    assert not (tmp_path / "anomaly_maps.npy").exists() and not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("split", ["train", "test"])
def test_encoding_keeps_no_array_mapped_that_it_has_read(tmp_path, monkeypatch, split):
    count, side = 640, 128
    path = tmp_path / f"{split}_images.npy"
    np.save(path, np.zeros((count, side, side, 3), np.uint8))
    mapped = []

    class Coder:
        """Looks how much of the array is in the process's memory, in KiB."""

        def encode(self, images):
            areas = Path("/proc/self/smaps").read_text().split(f"{path}\n")[1:]
            mapped.append(sum(int(re.search(r"Rss: +(\d+)", area)[1]) for area in areas))
            return torch.zeros(2, len(images), 1, 1, 1)

    monkeypatch.setattr(encoding, "load_autoencoder", lambda *_: Coder())
    if split == "train":
        encode(tmp_path, tmp_path, Augmentation(), Image(resize=side, crop=side), tmp_path)
    else:
        encode_test(tmp_path, tmp_path, Image(resize=side, crop=side), tmp_path)
    # the system maps up to 2 MiB around what is read
    assert mapped and max(mapped) < path.stat().st_size / 1024 / 4
