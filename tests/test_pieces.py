"""A run in pieces: how each ends, what the next goes on from, and what runs on a GPU at toy size."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
import torch
import yaml
from commands import ENVIRONMENT, ROOT, planned, run, snakemake, write_config

from decodiff import pieces

# stands for Snakemake: notes what it was called with, and does as the first argument says
STAND_IN = """#!{python}
import signal, sys, time
from pathlib import Path
Path("called").open("a").write(" ".join(sys.argv[1:]) + "\\n")
if "--unlock" in sys.argv:
    sys.exit(0)
def end(number, frame):
    sys.exit({{"slow": 1, "just done": 0}}[sys.argv[1]])
signal.signal(signal.SIGINT, signal.SIG_IGN if sys.argv[1] == "deaf" else end)
if sys.argv[1].isdigit():
    sys.exit(int(sys.argv[1]))
time.sleep(60)
"""


@pytest.fixture
def stand_in(tmp_path, monkeypatch):
    path = tmp_path / "snakemake"
    path.write_text(STAND_IN.format(python=sys.executable))
    path.chmod(0o755)
    monkeypatch.setattr(pieces, "SNAKEMAKE", path)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "called"


@pytest.mark.parametrize(
    ("does", "status", "calls"),
    [
        ("0", 0, 1),  # nothing left
        ("3", 3, 1),  # its own failure
        ("slow", os.EX_TEMPFAIL, 1),
        ("just done", 0, 1),
        ("deaf", os.EX_TEMPFAIL, 2),  # killed, and its folder unlocked
    ],
)
def test_a_piece_says_whether_there_is_more_to_do(does, status, calls, stand_in):
    assert pieces.piece([does, "--config", "a=b"], minutes=0.05) == status
    assert stand_in.read_text().splitlines() == [f"{does} --config a=b", f"{does} --config a=b --unlock"][:calls]


def test_a_piece_that_is_asked_to_end_interrupts_its_jobs(stand_in, monkeypatch):
    wait = subprocess.Popen.wait

    def asked(self, timeout=None):
        if stand_in.exists():
            os.kill(os.getpid(), signal.SIGTERM)
        return wait(self, timeout)

    monkeypatch.setattr(subprocess.Popen, "wait", asked)
    with pytest.raises(SystemExit) as error:
        pieces.piece(["slow"], minutes=9)
    assert error.value.code == 128 + signal.SIGTERM


NETWORK = "models/toy/all/seed-0/diffusion_pytorch_model.safetensors"


@pytest.mark.slow
def test_a_run_cut_in_its_training_ends_with_the_same_network(tmp_path):
    training = yaml.safe_load((ROOT / "tests/toy.yaml").read_text())["training"] | {"epochs": 8, "batch_size": 8}
    config = write_config(tmp_path, seeds=[0], scopes={"all": ["demo_surfaces"]}, training=training)
    snakemake(tmp_path / "whole", NETWORK, "--cores", "1", "--configfile", config)
    cut = tmp_path / "cut"
    cut.mkdir()
    command = [sys.executable, "-c", "from decodiff.cli import run; run()", "piece", NETWORK, "--directory", cut]
    command += ["--cores", "1", "--configfile", config]
    with open(tmp_path / "said", "w") as said:
        process = subprocess.Popen(command, cwd=ROOT, env=ENVIRONMENT, stdout=said, stderr=said)
    # opened when the steps begin
    while process.poll() is None and not list(cut.glob("logs/toy/tensorboard/all-0/*")):
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    assert process.wait(120) == 128 + signal.SIGTERM, (tmp_path / "said").read_text()[-3000:]
    assert len(list(cut.glob("models/toy/all/seed-0-state-*.pt"))) == 1, (tmp_path / "said").read_text()[-3000:]
    said = run(ROOT, *command, environment={})
    assert "resumed after step" in said
    assert (cut / NETWORK).read_bytes() == (tmp_path / "whole" / NETWORK).read_bytes()
    assert not list(cut.glob("models/toy/all/seed-0-state-*"))


def test_the_gpus_configuration_plans_all_jobs(tmp_path):
    plan = planned(snakemake(tmp_path, "-n", "--configfile", ROOT / "config/gpu.yaml"))
    assert plan["autoencoder"] == plan["train"] == 1 and "train_variant" not in plan
    assert [plan[rule] for rule in ("encode", "correct", "score", "evaluate", "floor")] == [3] * 5


BENCHMARK = (sys.executable, ROOT / "benchmarks/gpu.py")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_the_gpus_benchmark_without_one_is_refused_in_a_line(tmp_path):
    said = run(tmp_path, *BENCHMARK, "--output", tmp_path, environment={}, check=False)
    assert said.count("\n") == 1 and said.startswith("error: no GPU here") and not list(tmp_path.iterdir())


@pytest.mark.slow
def test_the_gpus_benchmark_at_toy_size(tmp_path):
    run(tmp_path, *BENCHMARK, "--toy", "--rounds", "1", "--output", tmp_path / "out", environment={})
    found = json.loads((tmp_path / "out/gpu.json").read_text())
    assert found["is_toy"] and found["versions"]["torch"] and all(row["images_per_second"] > 0 for row in found["rows"])
    assert {row["part"] for row in found["rows"]} == {"training step", "correction loop", "images to maps"}
    table = (tmp_path / "out/gpu.md").read_text()
    assert "toy size" in table and "times InvAD's 88" in table and "times DeCo-Diff's 17" in table
