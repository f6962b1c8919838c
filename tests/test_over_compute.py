"""Networks that a training kept, measured one after the other: the last one as the result itself."""

import csv

import numpy as np
import pytest
import torch
import yaml
from commands import ROOT
from typer.testing import CliRunner

from decodiff.cli import app
from decodiff.data.rows import Row, write_rows
from decodiff.errors import InputError
from decodiff.metrics import ALL_METRICS
from decodiff.models.autoencoder import Autoencoder, build_autoencoder, save_autoencoder

SIDE, COUNT = 16, 8


def decodiff(command, **options):
    """Run a command with options, of which one may have several values."""
    arguments = [
        argument
        for name, values in options.items()
        for value in (values if isinstance(values, list) else [values])
        for argument in (f"--{name}", str(value))
    ]
    CliRunner().invoke(app, [command, *arguments], catch_exceptions=False)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Two categories of random images and a training of two epochs on them, which keeps its network after each."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "prepared").mkdir()
    random = np.random.default_rng(0)
    for split in ("train", "test"):
        labels = [int(split == "test" and index % 4 > 1) for index in range(COUNT)]
        rows = [
            Row(f"{i}.png", "ab"[i % 2], split, label, "hole" if label else "good", "m" * label, SIDE, SIDE, f"{split}{i}")
            for i, label in enumerate(labels)
        ]
        write_rows(folder / f"prepared/{split}.csv", rows)
        images = random.integers(0, 256, (COUNT, SIDE, SIDE, 3), dtype=np.uint8)
        np.save(folder / f"prepared/{split}_images.npy", images)
    masks = (random.random((COUNT, SIDE, SIDE)) < 0.2) * np.array(labels)[:, None, None]
    np.save(folder / "prepared/test_masks_standard.npy", masks.astype(np.uint8))
    torch.manual_seed(0)
    save_autoencoder(Autoencoder(build_autoencoder(4, 4, 1, 4)), folder / "autoencoder")
    toy = yaml.safe_load((ROOT / "tests/toy.yaml").read_text())
    toy |= {
        "data": {"bolts": {"kind": "folder", "source": "x"}},
        "scopes": {"all": ["bolts"]},
        "image": {"resize": SIDE, "crop": SIDE},
        "training": toy["training"] | {"epochs": 2, "batch_size": 4, "learning_rate": 0.01, "kept_epochs": [1, 2]},
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(toy))
    config = {"config": folder / "config.yaml", "prepared": folder / "prepared"}
    for command in ("encode", "encode-test"):
        dataset = {"dataset": "bolts"} if command == "encode" else {}
        decodiff(command, **config, **dataset, autoencoder=folder / "autoencoder", output=folder / "latents")
    decodiff("train", **config, scope="all", seed=1, latents=folder / "latents", output=folder / "unet")
    return folder


def over_compute(folder, output, unets):
    given = {name: folder / name for name in ("prepared", "latents", "autoencoder")}
    decodiff("over-compute", config=folder / "config.yaml", dataset="bolts", scope="all", unet=unets, output=output, **given)


def test_the_network_kept_after_the_last_epoch_is_measured_as_the_result(trained, tmp_path):
    over_compute(trained, tmp_path / "way.tsv", [trained / f"unet/kept/epoch-0000{epoch}" for epoch in (1, 2)])
    with open(tmp_path / "way.tsv", newline="") as stream:
        first, last = csv.DictReader(stream, delimiter="\t")
    config = {"config": trained / "config.yaml"}
    both = config | {"latents": trained / "latents", "output": tmp_path}
    decodiff("correct", **both, dataset="bolts", unet=trained / "unet", prepared=trained / "prepared")
    decodiff("score", **both, corrected=tmp_path, autoencoder=trained / "autoencoder")
    own = {"results": tmp_path, "prepared": trained / "prepared", "output": tmp_path}
    decodiff("evaluate", **config, **own, dataset="bolts", scope="all", seed=1)
    with open(tmp_path / "metrics.csv", newline="") as stream:
        *_, mean = csv.DictReader(stream)
    shared = mean.keys() & last.keys()
    assert shared > {*ALL_METRICS, "dataset", "scope", "seed", "protocol", "crop"}
    assert {name: last[name] for name in shared} == {name: mean[name] for name in shared}
    assert all(mean[name] for name in ALL_METRICS) and any(first[name] != last[name] for name in ALL_METRICS)
    assert [(row["epoch"], row["steps"]) for row in (first, last)] == [("1", "2"), ("2", "4")]
    assert 0 < float(first["seconds"]) < float(last["seconds"])


def test_a_network_that_no_training_kept_is_named_and_nothing_is_written(trained, tmp_path):
    with pytest.raises(InputError, match="unet/training.json: no epoch, steps, seconds in it"):
        over_compute(trained, tmp_path / "way.tsv", [trained / "unet/kept/epoch-00001", trained / "unet"])
    assert not list(tmp_path.iterdir())
