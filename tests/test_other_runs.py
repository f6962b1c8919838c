"""Runs of Snakemake at toy size beside that of test_workflow, plans of others, and what is said when something is wrong."""

import csv
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from commands import ROOT, planned, snakemake, table, write_config
from pictures import make_mvtec
from test_reference import authors_state

from decodiff.models.unet import build_unet
from decodiff.reporting.names import FIGURES, METHOD_FIGURE


def test_own_images_with_and_without_anomalous_ones_or_masks(tmp_path):
    make_mvtec(tmp_path / "mine", ("bolt", "nut"), size=(40, 32), train=8)
    shutil.rmtree(tmp_path / "mine/bolt/ground_truth")
    for part in ("test", "ground_truth"):
        shutil.rmtree(tmp_path / "mine/nut" / part / "bent")
    lines = [f"mine/bolt/train/good/{index:03d}.png,train,screw,0" for index in range(8)]
    lines += ["mine/bolt/test/good/000.png,test,screw,0", "mine/bolt/test/bent/000.png,test,screw,1"]
    (tmp_path / "list.csv").write_text("\n".join(["image,split,category,label", *lines]) + "\n")
    data = {
        "mine": {"kind": "folder", "source": str(tmp_path / "mine")},
        "listed": {"kind": "csv", "source": str(tmp_path / "list.csv")},
    }
    config = write_config(tmp_path, seeds=[0], data=data, scopes={"all": ["mine", "listed"]})
    targets = [f"tables/{name}.csv" for name in ("T7", "T8", "T9", "T10")]
    targets += [f"figures/all/{name}.png" for name in ("mine/F3", "mine/F6", "listed/F6")]
    snakemake(tmp_path, *(f"results/toy/{target}" for target in targets), "--configfile", config)
    for name, rows in (("mine", 5), ("listed", 2)):
        with open(tmp_path / f"results/toy/all/seed-0/{name}/scores.csv", newline="") as stream:
            assert len(list(csv.DictReader(stream))) == rows
    detection = {(row["dataset"], row["category"]): row for name in ("T7", "T9") for row in table(tmp_path, name)}
    localisation = {(row["dataset"], row["category"]): row for name in ("T8", "T10") for row in table(tmp_path, name)}
    for key in (("mine", "bolt"), ("listed", "screw")):
        assert float(detection[key]["image_auroc"]) in (0, 0.5, 1), "one anomalous image against one or two"
        assert localisation[key]["pixel_auroc"] == "" and "not every anomalous image has a mask" in localisation[key]["note"]
    assert detection["mine", "nut"]["image_auroc"] == "" and "no anomalous" in detection["mine", "nut"]["note"]
    assert "T11" not in snakemake(tmp_path, "-n", "--configfile", config), "there is no third data set"


METRICS_FILE = "results/toy/all/seed-0/demo_surfaces/metrics.csv"


@pytest.mark.slow
def test_standard_diffusion_by_two_processes_on_images_encoded_while_training(tmp_path):
    augmentation = {"rotation_degrees": 0, "brightness": 0.1, "colour_probability": 0.5}
    config = write_config(
        tmp_path,
        seeds=[0],
        scopes={"all": ["demo_surfaces"]},
        processes=2,
        augmentation={"default": augmentation},
        diffusion={"objective": "noise"},
        correction={"noise_timestep": 4},
    )
    snakemake(tmp_path, METRICS_FILE, "--configfile", config)
    record = json.loads((tmp_path / "models/toy/all/seed-0/training.json").read_text())
    assert record["diffusion"]["objective"] == "noise" and record["augmentation"]["demo_surfaces"]["brightness"] == 0.1
    with open(tmp_path / METRICS_FILE, newline="") as stream:
        assert len(list(csv.DictReader(stream))) == 3
    assert list((tmp_path / "logs/toy/tensorboard/all-0").glob("events*"))
    said = snakemake(tmp_path, "-n", "--configfile", config)
    drawn = [name for name in FIGURES if f"results/toy/figures/all/demo_surfaces/{name}.png" in said]
    assert drawn == [name for name in FIGURES if name != METHOD_FIGURE], "that of masks and deviations is left out"


def test_the_authors_weights_instead_of_a_training(tmp_path):
    torch.save({"model": authors_state(build_unet("nano", 2)), "args": None}, tmp_path / "all.pt")
    model = {"source": "reference", "path": str(tmp_path / "{scope}.pt")}
    config = write_config(tmp_path, seeds=[0], scopes={"all": ["demo_surfaces"]}, model=model)
    snakemake(tmp_path, METRICS_FILE, "--configfile", config)
    record = json.loads((tmp_path / "models/toy/all/seed-0/training.json").read_text())
    assert record["model"]["source"] == "reference"
    assert not (tmp_path / "models/toy/all/seed-0/log.csv").exists()
    # its output layer is zero, so it corrects nothing
    assert not np.load(tmp_path / "results/toy/all/seed-0/demo_surfaces/anomaly_maps.npy").any()


def test_networks_are_kept_and_measured_only_where_a_training_here_is_to_keep_some(tmp_path):
    toy = yaml.safe_load((ROOT / "tests/toy.yaml").read_text())["training"]
    keeping = {"training": toy | {"epochs": 3, "kept_epochs": [1, 3]}, "scopes": {"all": ["demo_surfaces"]}}
    sweeps = {"T6": {"other": {"training.epochs": 2}}}
    output = snakemake(tmp_path, "-n", "--configfile", write_config(tmp_path, **keeping, sweeps=sweeps))
    plan = planned(output)
    assert (plan["train"], plan["over_compute"], plan["compute_figure"]) == (2, 1, 1), "of the first seed"
    for seed in (0, 1):
        for epoch in (1, 3):
            assert f"models/toy/all/seed-{seed}/kept/epoch-{epoch:05d}/diffusion_pytorch_model.safetensors" in output
    assert plan["train_variant"] == 2 and not re.search(r"sweeps/[^ ]*/kept/", output)
    model = {"source": "reference", "path": "x"}
    (tmp_path / "x").touch()
    for changes in (keeping | {"model": model, "seeds": [0]}, {}):
        plan = planned(snakemake(tmp_path, "-n", "--configfile", write_config(tmp_path, **changes)))
        assert plan["report"] == 1 and not {"over_compute", "compute_figure"} & plan.keys()


@pytest.mark.slow
def test_the_last_network_kept_is_measured_as_the_result(tmp_path):
    toy = yaml.safe_load((ROOT / "tests/toy.yaml").read_text())["training"]
    keeping = toy | {"epochs": 2, "kept_epochs": [1, 2]}
    config = write_config(tmp_path, training=keeping, seeds=[0], scopes={"all": ["demo_surfaces"]})
    part = Path("results/toy/all/seed-0/demo_surfaces")
    snakemake(tmp_path, "results/toy/figures/F9.pdf", part / "metrics.csv", "--configfile", config)
    with open(tmp_path / part / "accuracy_over_compute.tsv", newline="") as stream:
        rows = list(csv.DictReader(stream, delimiter="\t"))
    with open(tmp_path / part / "metrics.csv", newline="") as stream:
        mean = list(csv.DictReader(stream))[-1]
    assert [row["epoch"] for row in rows] == ["1", "2"] and mean.items() - rows[-1].items() == {
        (name, mean[name]) for name in ("category", "images", "anomalous")
    }


def test_the_papers_configuration_plans_all_jobs():
    plan = planned(snakemake(ROOT, "-n"))
    assert plan.keys() >= {
        "fetch",
        "prepare",
        "autoencoder",
        "encode",
        "train",
        "correct",
        "score",
        "evaluate",
        "table",
        "figures",
    }
    assert plan["train"] == 2, "one network for MVTec AD, one for VisA"
    # standard diffusion, three mask ratios, three patch sides, three sizes; both data sets
    assert plan["train_variant"] == 2 * (1 + 3 + 3 + 3)
    # those, and five numbers of steps; three discrepancies besides
    assert plan["correct_variant"] == 2 * (10 + 5) and plan["score_variant"] == 2 * (15 + 3)
    assert plan["floor"] == plan["evaluate_floor"] == 2
    assert plan["table"] == 5, "no T11 for two data sets, no T12 for multi-class training alone"


def test_per_category_training_plans_a_network_for_each_beside_the_multi_class_ones(tmp_path):
    plan = planned(snakemake(tmp_path, "-n", "--configfile", ROOT / "config/per-category.yaml"))
    assert [plan[rule] for rule in ("train", "correct", "score", "evaluate")] == [2 + 15 + 12] * 4
    assert plan["encode"] == 2 and plan["table"] == 6 and not {"train_variant", "sweep_table"} & plan.keys()


def test_a_download_that_fails_is_one_clear_line(tmp_path, monkeypatch):
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")  # nothing listens there, so no host is reached
    output = snakemake(tmp_path, "data/visa/manifest.csv", "--configfile", ROOT / "config/config.yaml", check=False)
    lines = [line for line in output.splitlines() if line.startswith("error: ")]
    assert len(set(lines)) == 1 and "cannot be reached" in lines[0] and "give its path: data.visa.source" in lines[0]
    assert "Traceback" not in output


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"correction": {"steps": 7}}, "correction.steps: no stride over 10 training timesteps gives 7"),
        ({"colour": "red"}, "colour: unknown key"),
    ],
)
def test_a_wrong_configuration_stops_before_any_job(tmp_path, changes, expected):
    output = snakemake(tmp_path, "--configfile", write_config(tmp_path, **changes), check=False)
    assert expected in output and "Traceback" not in output
    assert not (tmp_path / "data").exists() and not (tmp_path / "results").exists()


# docs/architecture.md says of each why it is left
LEFT_BY_LINT = {
    "Specify a conda environment or container for each rule.",
    "Shell command directly uses variable from outside of the rule",
}


def test_snakemakes_own_look_at_the_rules_finds_nothing_new():
    said = snakemake(ROOT, "--lint", "--configfile", ROOT / "config/demo.yaml", check=False)
    remarks = {re.sub(r"variable \w+ from", "variable from", line) for line in re.findall(r"^    \* (.*?):?$", said, re.M)}
    assert remarks == LEFT_BY_LINT
