"""What `decodiff plan` says a run will cost."""

import itertools
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from commands import ROOT, SNAKEMAKE, planned, run, write_config
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from decodiff.config import load
from decodiff.data.registry import REGISTRY
from decodiff.models.unet import build_unet, prediction_operations
from decodiff.planning.plan import NETWORK_RULES, STATED_SECONDS, Job, estimate
from decodiff.planning.show import duration
from decodiff.planning.work import STEP, Work, unet_operations


def job(rule="table", measured=None, is_done=False, needs=()):
    return Job(rule, {"dataset": "x"}, {}, measured, is_done, tuple(needs))


@st.composite
def workflows(draw):
    """Jobs with any needs before them, some done."""
    count = draw(st.integers(1, 7))
    return [
        job(
            measured=float(draw(st.integers(0, 9))),
            is_done=draw(st.booleans()) and draw(st.booleans()),
            needs=draw(st.sets(st.integers(0, place - 1))) if place else (),
        )
        for place in range(count)
    ]


@given(workflows())
def test_the_critical_path_is_the_longest_of_all_chains(jobs):
    plan = estimate(jobs, lambda _: 1.0, 1.0)
    todo = [place for place, one in enumerate(jobs) if not one.is_done]
    longest = 0.0
    for length in range(1, len(todo) + 1):
        for chain in itertools.combinations(todo, length):
            if all(before in jobs[after].needs for before, after in itertools.pairwise(chain)):
                longest = max(longest, sum(jobs[place].measured for place in chain))
    found = plan.critical_path
    assert sum(item.seconds for item in found) == longest == plan.seconds_on(10**9)
    assert all(item.job in jobs for item in found) and len(plan.estimates) == len(todo)


def test_measured_jobs_speak_for_their_rule_and_stated_throughput_for_the_rest():
    jobs = [
        job("train", measured=100.0, is_done=True),
        job("train"),
        job("train_variant"),
        job("score", measured=7.0),
        job("prepare"),
        job("table"),
    ]
    work = {0: 50.0, 1: 25.0, 2: 1000.0, 3: 1.0, 4: 300.0, 5: 1.0}
    plan = estimate(jobs, lambda one: work[next(place for place, other in enumerate(jobs) if other is one)], 10.0)
    assert [(item.seconds, item.source) for item in plan.estimates] == [
        (50.0, "measured"),
        (100.0, "stated"),
        (7.0, "measured"),
        (3.0, "stated"),
        (STATED_SECONDS, "stated"),
    ]
    assert plan.network_seconds == 157 and plan.seconds_on(1) == 157 and plan.seconds_on(2) == 100


def test_operations_are_those_of_all_layers_and_of_attention():
    unet, one = build_unet("UNet_nano", 1, 8).eval(), torch.zeros(1, dtype=torch.int64)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        unet(torch.zeros(1, 8, 16, 16), one, one)
    # on a processor PyTorch leaves out attention: one block on the way down, one in the middle, two on the way up, and in each
    # two products of 256 queries with 256 keys or values of 32 channels
    attention = 4 * 2 * 2 * 256 * 256 * 32
    assert unet_operations("UNet_nano", 8, 16) == counter.get_total_flops() + attention
    assert unet_operations("UNet_nano", 8, 16) == prediction_operations(unet, (8, 16, 16))
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        empty = build_unet("UNet_nano", 1, 8)
        empty(torch.zeros(1, 8, 16, 16), torch.zeros(1, dtype=torch.int64), torch.zeros(1, dtype=torch.int64)).sum().backward()
    assert counter.get_total_flops() == pytest.approx(STEP * unet_operations("UNet_nano", 8, 16), rel=0.02), "a step's"


def test_work_follows_images_epochs_and_steps(tmp_path):
    config = load(ROOT / "config/demo.yaml")
    channels = config.autoencoder.latent_channels
    work, one = Work(config, tmp_path), unet_operations("UNet_nano", channels, 16)
    counts = REGISTRY["demo"].counts
    sections = {name: value.model_dump() for name, value in config.sections("train").items() if name == "training"}
    of_training = work.of("train", {"scope": "all", "seed": "0"}, sections)
    assert of_training == pytest.approx(counts.train * config.training.epochs * STEP * one)
    tested = counts.test_normal + counts.test_anomalous + counts.validation
    named = {"scope": "all", "seed": "0", "dataset": "demo"}
    assert work.of("correct", named, {"correction": {"steps": 5}}) == pytest.approx(tested * 5 * one)
    keeping = config.model_copy(update={"training": config.training.model_copy(update={"kept_epochs": (5, 20, 30)})})
    both = [work.of(rule, named, {"correction": {"steps": 5}}) for rule in ("correct", "score")]
    way = Work(keeping, tmp_path).of("over_compute", named, {"correction": {"steps": 5}})
    assert way == pytest.approx(3 * sum(both)), "once for each network that is kept"
    micro = named | {"model": "unet=UNet-micro"}
    sizes = config.model_copy(update={"sweeps": {"T6": {"UNet_micro": {"training.unet": "UNet_micro"}}}})
    other = Work(sizes, tmp_path).of("correct_variant", micro, {"correction": {"steps": 5}})
    assert other == pytest.approx(tested * 5 * unet_operations("UNet_micro", channels, 16))


def test_a_manifest_says_how_many_images_there_are_and_without_one_they_are_unknown(tmp_path):
    from decodiff.data.rows import Row, write_rows

    data = {"mine": {"kind": "folder", "source": "somewhere"}}
    config = load(write_config(tmp_path, data=data, scopes={"all": ["mine"]}))
    work = Work(config, tmp_path)
    assert work.images("mine", True) == 0 and work.unknown == {"mine"}
    row = dict(category="nut", defect="good", label=0, mask="", width=8, height=8, sha256="0" * 64)
    rows = [Row(image=f"{number}.png", split=split, **row) for number, split in enumerate(["train", "train", "test"])]
    (tmp_path / "mine").mkdir()
    write_rows(tmp_path / "mine/manifest.csv", rows)
    work = Work(config, tmp_path)
    assert (work.images("mine", True), work.images("mine", False, ("nut",)), work.unknown) == (2, 1, set())


@pytest.mark.parametrize(("seconds", "shown"), [(41, "41 s"), (125, "2 min 05 s"), (7500, "2 h 05 min"), (100000, "1 d 3 h")])
def test_durations_are_read_easily(seconds, shown):
    assert duration(seconds) == shown


# a process starts with the largest size of the one that started it, so it is started by a small one
OF_CHILD = """
import resource, subprocess, sys
code = subprocess.run(sys.argv[1:]).returncode
print("KiB:", resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(code)
"""


def test_the_papers_whole_run_is_planned_job_by_job_in_little_memory(tmp_path):
    arguments = ["--snakefile", ROOT / "workflow/Snakefile", "--directory", tmp_path]
    arguments += ["--configfile", ROOT / "config/config.yaml", "--config", "seeds=[0,1,2,3,4]"]
    listed = run(tmp_path, sys.executable, "-c", OF_CHILD, SNAKEMAKE, "-n", *arguments, environment={})
    rules = planned(listed)
    assert int(re.search(r"^KiB: (\d+)", listed, re.M)[1]) < 2**20
    assert rules["train"] + rules["train_variant"] == 110
    shown = run(tmp_path, SNAKEMAKE.with_name("decodiff"), "plan", *arguments, environment={})
    by_rule = {rule: int(count) for rule, count in re.findall(r"^(\w+) +(\d+) ", shown, re.M)}
    assert by_rule == {rule: count for rule, count in rules.items() if rule != "all"}
    networks = sum(count for rule, count in rules.items() if rule.removesuffix("_variant") in NETWORK_RULES)
    jobs, of_networks, hours = re.search(r"^(\d+) jobs, (\d+) of them with networks: ([\d.]+) GPU hours", shown, re.M).groups()
    assert (int(jobs), int(of_networks)) == (sum(by_rule.values()), networks) and float(hours) > 100
    path = re.search(r"^critical path: (.*)", shown, re.M)[1]
    assert [step.split()[0] for step in path.split(" → ")][:4] == ["fetch", "prepare", "encode", "train"]
    assert not list(tmp_path.glob("results/**/*")), "nothing was run"


def test_a_run_that_cannot_be_planned_is_one_line(tmp_path):
    config = write_config(tmp_path, colour="red")
    command = [Path(sys.executable).with_name("decodiff"), "plan", "-s", ROOT / "workflow/Snakefile", "--configfile", config]
    done = subprocess.run(list(map(str, command)), cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1 and done.stdout == ""
    assert re.fullmatch(r"error: Snakemake cannot plan this run \(configuration: colour: unknown key.*\); .*\n", done.stderr)
