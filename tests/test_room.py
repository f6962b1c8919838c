"""A run that does not fit on the disk or into memory is refused before it starts."""

import re
import shutil
from collections import namedtuple
from pathlib import Path

import psutil
import pytest
import torch
from commands import ROOT, SNAKEMAKE, planned, run, snakemake, write_config

from decodiff.config import load
from decodiff.models.unet import UNET_SIZES, build_unet
from decodiff.planning import room
from decodiff.planning.needs import FLOAT, UNETS, Needs
from decodiff.planning.plan import Job
from decodiff.planning.room import room_of, size


def job(rule="score", outputs=("anomaly_maps.npy",), is_done=False, **wildcards):
    folder = "results/toy/all/seed-0/demo_surfaces"
    named = {"scope": "all", "seed": "0", "dataset": "demo_surfaces"} | wildcards
    return Job(rule, named, {}, None, is_done, (), (), tuple(f"{folder}/{name}" for name in outputs))


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """The toy configuration, in a folder on a disk with 10 MB and a machine with 1 GB."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: namedtuple("usage", "free")(10_000_000))
    monkeypatch.setattr(room, "memory", lambda: 10**9)
    monkeypatch.setattr(room, "ACCELERATORS", ())
    return load(write_config(tmp_path))


def test_a_disk_that_is_too_small_is_named_with_what_to_do(toy):
    each = Needs(toy).of(job(), True).kept
    count = int(10_000_000 / each)
    assert room_of([job()] * count, toy).problems(is_here=True) == []
    (problem,) = room_of([job()] * (count + 1), toy).problems(is_here=False)
    assert re.fullmatch(
        r"results: 1[01] MB of disk needed for what is still to be made, most of it by score; 10 MB free; make room, or run it "
        r"in another folder \(snakemake --directory\)",
        problem,
    )


def test_what_is_done_or_there_counts_only_while_it_is_replaced(toy, tmp_path):
    need = Needs(toy).of(job(), True).kept
    assert room_of([job(is_done=True)], toy).disks == ()
    path = tmp_path / job().outputs[0]
    path.parent.mkdir(parents=True)
    path.write_bytes(bytes(int(need / 2)))
    (disk,) = room_of([job()], toy).disks
    assert disk.needed == pytest.approx(need, abs=2), "the other half, and the first half again"
    path.write_bytes(bytes(int(need) + 1000))
    (disk,) = room_of([job()] * 3, toy).disks
    assert disk.needed == pytest.approx(need), "one at a time"
    assert disk.folders == ("results",) and disk.largest == "score"


def test_other_disks_are_counted_apart(toy, tmp_path, monkeypatch):
    real = room._existing
    (tmp_path / "models").mkdir()
    monkeypatch.setattr(room, "_existing", lambda path: Path("/proc") if path.startswith("models") else real(path))
    network = Job(
        "train", {"scope": "all", "seed": "0"}, {"training": toy.training.model_dump()}, None, False, (), (), ("models/x",)
    )
    disks = room_of([job(), network], toy).disks
    assert [disk.folders for disk in disks] == [("results",), ("models",)]


def test_a_job_that_needs_more_memory_than_there_is_is_named_with_its_setting(toy):
    training = toy.training.model_dump() | {"unet": "UNet_L"}
    network = Job("train", {"scope": "all", "seed": "0"}, {"training": training}, None, False, (), (), ("models/x",))
    found = room_of([job(), network], toy)
    assert found.memory > 4 * FLOAT * UNETS["UNet_L"].parameters
    problem = found.problems(is_here=True)[-1]
    assert re.match(
        r"train all 0: holds [67]\.\d GB of memory or more, there are 1\.0 GB here; lower training\.batch_size", problem
    )
    assert "profiles/slurm" in problem
    assert not any("memory" in line for line in found.problems(is_here=False)), "on a cluster jobs run elsewhere"


def test_memory_is_what_the_control_groups_allow(tmp_path, monkeypatch):
    total = psutil.virtual_memory().total
    monkeypatch.setattr(room, "OWN_GROUPS", tmp_path / "own")
    monkeypatch.setattr(room, "CONTROL_GROUPS", tmp_path / "groups")
    assert room.memory() == total, "no control groups"
    inner, old = tmp_path / "groups/lab/job", tmp_path / "groups/memory/job"
    for folder in (inner, old):
        folder.mkdir(parents=True)
    (tmp_path / "own").write_text("0::/lab/job\n")
    (inner / "memory.max").write_text("max\n")
    assert room.memory() == total
    (inner.parent / "memory.max").write_text("5000\n")
    assert room.memory() == 5000, "of the group above"
    (inner / "memory.max").write_text("4000\n")
    assert room.memory() == 4000
    (tmp_path / "own").write_text("3:cpu:/job\n4:memory:/job\n")
    (old / "memory.limit_in_bytes").write_text("3000\n")
    assert room.memory() == 3000, "version 1"


@pytest.mark.parametrize("name", sorted(UNET_SIZES))
def test_networks_hold_what_the_plan_says(name):
    with torch.device("meta"):
        network = build_unet(name, 15).train()
    assert UNETS[name].parameters == pytest.approx(sum(one.numel() for one in network.parameters()), rel=0.02)
    weights = {one.untyped_storage()._cdata for one in network.parameters()}

    def held(side):
        """Bytes kept for the backward pass, each piece of memory once."""
        found = {}

        def keep(tensor):
            memory = tensor.untyped_storage()
            if memory._cdata not in weights:
                found[memory._cdata] = memory
            return tensor

        with torch.device("meta"), torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            one = torch.zeros(1, dtype=torch.int64)
            network(torch.zeros(1, 4, side, side), one, one)
        return sum(memory.nbytes() for memory in found.values())

    # What grows with the square of the cells is attention's matrices, which only this device keeps.
    small, large = 16**2, 32**2
    square = (held(32) - held(16) * large / small) / (large**2 - small * large)
    assert held(32) - square * large**2 == pytest.approx(UNETS[name].per_cell * large, rel=0.1)


@pytest.mark.parametrize(
    ("count", "shown"), [(3.2e9, "3.2 GB"), (14e6, "14 MB"), (2e3, "0 MB"), (28e9, "28 GB"), (1.25e12, "1.2 TB")]
)
def test_sizes_are_read_easily(count, shown):
    assert size(count) == shown


def test_snakemake_refuses_what_is_far_too_large_and_a_dry_run_says_so(tmp_path):
    config = write_config(
        tmp_path, image={"resize": 16384, "crop": 16384}, seeds=list(range(100)), scopes={"all": ["demo_surfaces"]}
    )
    said = snakemake(tmp_path, "--configfile", config, check=False)
    assert "Traceback" not in said
    (line,) = [line for line in said.splitlines() if "of disk needed" in line]
    assert re.search(r"data, models, results: [\d.]+ TB of disk needed .* make room", line)
    assert not {path.name for path in tmp_path.iterdir()} & {"data", "models", "results"}
    said = snakemake(tmp_path, "-n", "--configfile", config)
    assert "This run would not start here: data, models, results: " in said and planned(said)["train"] == 100
    on_cluster = snakemake(tmp_path, "-n", "--workflow-profile", ROOT / "profiles/slurm", "--configfile", config)
    assert "of memory or more" in said and "of memory or more" not in on_cluster and "of disk needed" in on_cluster
    said = run(
        tmp_path,
        SNAKEMAKE.with_name("decodiff"),
        "plan",
        "-s",
        ROOT / "workflow/Snakefile",
        "--configfile",
        config,
        environment={},
    )
    assert re.search(r"^disk below data, models, results: [\d.]+ TB needed, ", said, re.M)
