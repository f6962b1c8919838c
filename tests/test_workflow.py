"""The whole workflow, run by Snakemake itself at toy size, and what it does when something is wrong."""

import csv
import hashlib
import json
import os
import re
import shutil
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import yaml
from commands import ROOT, planned, snakemake, table, write_config
from test_method import example
from typer.testing import CliRunner

from decodiff import records
from decodiff.cli import app
from decodiff.errors import InputError
from decodiff.metrics import METRICS
from decodiff.models.unet import build_unet
from decodiff.planning import plan
from decodiff.planning.needs import OTHER, Needs
from decodiff.reporting.origin import explain


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A folder in which the toy workflow has run."""
    directory = tmp_path_factory.mktemp("toy")
    snakemake(directory, "--configfile", write_config(directory))
    return directory


def test_it_makes_every_table_figure_and_the_report(finished):
    results = finished / "results/toy"
    for name in ("T1", "T7", "T8", "T12"):
        assert {path.suffix for path in (results / "tables").glob(f"{name}.*")} == {".csv", ".md", ".tex", ".json"}
    for part in ("all/demo_surfaces", "plates/demo_surfaces"):
        names = {path.name for path in (results / "figures" / part).iterdir()}
        assert names == {
            f"{figure}.{suffix}" for figure in ("F2", "F3", "F4", "F6", "F7", "F8", "F10") for suffix in ("png", "pdf")
        }
    assert {path.name for path in (results / "floor/demo_surfaces").iterdir()} == {
        *("anomaly_maps.npy", "images.csv", "floor.json", "metrics.csv", "defects.csv", "intervals.csv"),
        *("resamples.npz", "thresholds.csv", "scores.csv"),
    }
    page = (results / "report.html").read_text()
    assert 'id="T12"' in page and 'id="T9"' not in page
    assert page.count("data:image/jpeg") == 64 + 32, "each test image under each model"
    assert not re.search(r"""\b(?:src|href)="(?!data:|#)|url\(|@import""", page), "nothing is loaded from elsewhere"


def test_other_methods_stand_in_its_tables_and_one_that_fails_takes_nothing_with_it(finished, tmp_path):
    (tmp_path / "mean_image.py").write_text(example())
    methods = {
        "mean-image": {"command": f"{sys.executable} {tmp_path / 'mean_image.py'} {{train}} {{test}} {{maps}}"},
        "broken": {"command": f"{sys.executable} -c \"import sys; sys.exit('no weights')\" {{test}} {{maps}}"},
    }
    copied = shutil.copytree(finished, tmp_path / "run", symlinks=True)
    config = write_config(copied, methods=methods)
    tables = [f"results/toy/tables/{name}.csv" for name in ("T1", "T7", "T14")]
    said = snakemake(copied, *tables, "results/toy/provenance.json", "--configfile", config)
    assert "no weights" in said
    lines = {row["method"]: row for row in table(copied, "T1")}
    good, bad = (lines[f"{name} (this run, all, mean of 2 seeds)"] for name in methods)
    assert 0 < float(good["pixel_ap"]) < 1 and not bad["pixel_ap"] and "failed: ended with status 1: no weights" in bad["note"]
    assert [row["category"] for row in table(copied, "T7") if row["scope"] == "mean-image, all"] == ["tiles", "brushed", "mean"]
    rows = {(row["scope"], row["setting"]): row for row in table(copied, "T14")}
    assert [setting for scope, setting in rows if scope == "plates"] == [
        *("DeCo-Diff", "mean-image", "broken", "floor", "mean-image − DeCo-Diff", "floor − DeCo-Diff"),
    ]
    assert float(rows["all", "DeCo-Diff"]["training, min"]) >= 0 and rows["all", "mean-image"]["training, min"] == "–"
    found = explain(copied / tables[0], "mean-image (this run, all", "pixel_ap")
    assert {of["method"]["method"] for of in found["results"].values()} == {"mean-image"}
    # the run's own results are as they were
    before, after = ({row["method"]: row["pixel_ap"] for row in table(folder, "T1")} for folder in (finished, copied))
    assert before.items() <= after.items()


def test_the_metrics_are_those_of_the_categories_and_their_mean(finished):
    with open(finished / "results/toy/all/seed-1/demo_surfaces/metrics.csv") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["category"] for row in rows] == ["tiles", "brushed", "mean"]
    assert all(row["protocol"] == "standard" and row["seed"] == "1" and row["note"] == "" for row in rows)
    for name in METRICS:
        values = [float(row[name]) for row in rows]
        assert all(0 <= value <= 1 for value in values)
        assert values[-1] == pytest.approx(sum(values[:-1]) / 2, abs=1e-6)
    with open(finished / "results/toy/plates/seed-0/demo_surfaces/metrics.csv") as stream:
        assert [row["category"] for row in csv.DictReader(stream)] == ["brushed", "mean"]


def test_every_table_has_the_floor_beside_networks_that_learn_next_to_nothing(finished):
    lines = {row["method"]: row for row in table(finished, "T1")}
    floor = lines["floor: principal components of 4×4 patches (this run)"]
    below = lines["DeCo-Diff (this run, all, mean of 2 seeds)"]
    assert float(floor["pixel_ap"]) > float(below["pixel_ap"]) and floor["note"] == "protocol standard; over all categories"
    difference = 100 * (float(below["pixel_ap"]) - float(floor["pixel_ap"]))
    (shown,) = re.findall(
        r"not above the floor in I-AUROC .* and P-AP \((−[\d.]+) \[.*\]\), in the mean of 2 seeds$", below["note"]
    )
    assert float(shown.replace("−", "-")) == pytest.approx(difference, abs=0.11)
    for name in ("T7", "T8"):
        assert [row["category"] for row in table(finished, name) if row["scope"] == "floor"] == ["tiles", "brushed", "mean"]
    summary = json.loads((finished / "results/toy/metrics.json").read_text())["demo_surfaces"]
    assert summary.keys() == {"all", "plates", "floor"}
    assert summary["floor"]["pixel_ap"] == pytest.approx(float(floor["pixel_ap"]), abs=1e-4)


def test_tables_have_the_mean_and_the_deviation_of_the_seeds(finished):
    with open(finished / "results/toy/tables/T7.csv") as stream:
        shown = {(row["scope"], row["category"]): row for row in csv.DictReader(stream)}
    values = []
    for seed in (0, 1):
        with open(finished / f"results/toy/all/seed-{seed}/demo_surfaces/metrics.csv") as stream:
            values += [float(row["image_auroc"]) for row in csv.DictReader(stream) if row["category"] == "tiles"]
    assert float(shown["all", "tiles"]["image_auroc"]) == pytest.approx(sum(values) / 2, abs=1e-4)
    assert float(shown["all", "tiles"]["std_image_auroc"]) == pytest.approx(abs(values[0] - values[1]) / 2**0.5, abs=1e-4)
    mean, deviation = (100 * float(shown["all", "tiles"][name]) for name in ("image_auroc", "std_image_auroc"))
    assert f"{mean:.1f} ± {deviation:.1f}" in (finished / "results/toy/tables/T7.md").read_text()


def test_every_number_can_be_followed_back(finished):
    tables = finished / "results/toy/tables"
    rows = table(finished, "T8")
    wanted = ("per category", "brushed")
    index = next(number for number, row in enumerate(rows, start=1) if (row["scope"], row["category"]) == wanted)
    found = explain(tables / "T8.csv", str(index), "pixel_ap")
    assert found["value"] == rows[index - 1]["pixel_ap"] and found["kind"] == "measured"
    assert list(found["results"]) == ["results/toy/plates/seed-0/demo_surfaces", "results/toy/plates/seed-1/demo_surfaces"]
    for seed, (folder, result) in enumerate(found["results"].items()):
        network = finished / f"models/toy/plates/seed-{seed}/diffusion_pytorch_model.safetensors"
        assert result["network"]["sha256"] == hashlib.sha256(network.read_bytes()).hexdigest()
        assert result["network"]["seed"] == seed
        manifest = (finished / "data/demo_surfaces/manifest.csv").read_bytes()
        assert result["manifest"]["sha256"] == hashlib.sha256(manifest).hexdigest()
        metrics = (finished / folder / "metrics.csv").read_bytes()
        assert result["metrics_sha256"] == hashlib.sha256(metrics).hexdigest()
        assert result["correction"]["device"] and result["correction"]["made_with"]["torch"]
    config = (finished / "results/toy/config.yaml").read_bytes()
    assert found["config"]["sha256"] == hashlib.sha256(config).hexdigest()
    found = explain(tables / "T1.csv", "floor: ", "pixel_ap")
    ((folder, result),) = found["results"].items()
    assert folder == "results/toy/floor/demo_surfaces" and not {"network", "correction", "autoencoder"} & result.keys()
    assert result["floor"] == json.loads((finished / folder / "floor.json").read_text()) and result["scope"] == "floor"
    assert result["metrics_sha256"] == hashlib.sha256((finished / folder / "metrics.csv").read_bytes()).hexdigest()
    assert result["manifest"]["sha256"] == hashlib.sha256(manifest).hexdigest()
    found = explain(tables / "T12.csv", "6", "pixel_ap")
    assert found["kind"] == "difference" and found["line"]["category"] == "mean" and "without tiles" in found["note"]
    assert [found["results"][name]["scope"] for name in found["results"]] == ["plates", "plates", "all", "all"]
    with pytest.raises(InputError, match="T8.csv: no column 'colour'; choose one of dataset"):
        explain(tables / "T8.csv", "1", "colour")
    with pytest.raises(InputError, match=r"--row 'brushed' fits the rows \d, .*; give one of these numbers"):
        explain(tables / "T8.csv", "brushed", "pixel_ap")
    with pytest.raises(InputError, match="no row 'nothing'; give its number, 1 to 8"):
        explain(tables / "T8.csv", "nothing", "pixel_ap")
    result = CliRunner().invoke(app, ["explain", str(tables / "T1.csv"), "--row", "this run, all", "--column", "pixel_ap"])
    assert result.exit_code == 0 and json.loads(result.stdout)["line"]["kind"] == "measured"


def test_a_second_run_has_nothing_to_do(finished):
    assert "Nothing to be done" in snakemake(finished, "--configfile", finished / "toy.yaml")


def test_snakemakes_own_report_holds_tables_and_figures(finished, tmp_path):
    snakemake(finished, "--configfile", finished / "toy.yaml", "--report", tmp_path / "jobs.html")
    page = (tmp_path / "jobs.html").read_text()
    assert "results/toy/tables/T1.csv" in page and "results/toy/figures/plates/demo_surfaces/F3.png" in page


def test_every_rule_leaves_a_log_and_a_benchmark(finished):
    for log in (finished / "logs").rglob("*.log"):
        assert log.with_suffix(".tsv").is_file()
    assert "102 anomaly maps of 32×32 pixels" in (finished / "logs/toy/all-0-demo_surfaces-score.log").read_text()
    assert len(list((finished / "logs").rglob("*.log"))) >= 20


def test_a_changed_setting_reruns_what_reads_it_and_nothing_before(finished, tmp_path):
    changed = write_config(tmp_path, scoring={"pixel_sigma": 2.0})
    plan = planned(snakemake(finished, "-n", "--configfile", changed))
    assert {"score", "evaluate", "table", "figures", "report"} <= plan.keys()
    assert not {"fetch", "prepare", "autoencoder", "encode", "train", "correct", "floor", "evaluate_floor"} & plan.keys()


@pytest.mark.slow
def test_a_network_for_each_category_beside_one_for_all(finished, tmp_path):
    config = write_config(tmp_path, seeds=[0], scopes={"all": ["demo_surfaces"], "only_{category}": ["demo_surfaces"]})
    # other tests look at its own table of that name
    directory = shutil.copytree(finished, tmp_path / "toy")
    target = "results/toy/tables/T12.csv"
    snakemake(directory, target, "--configfile", config)
    folders = {name: f"{name}/seed-0/demo_surfaces" for name in ("all", "only_tiles", "only_brushed")}
    measured, drawn = {}, {}
    for scope, folder in folders.items():
        with open(directory / f"results/toy/{folder}/metrics.csv", newline="") as stream:
            measured |= {(scope, row["category"]): row for row in csv.DictReader(stream)}
        with np.load(directory / f"results/toy/{folder}/resamples.npz") as content:
            drawn |= {(scope, name): values for name, values in zip(content["categories"].tolist(), content["resamples"])}
            metrics = content["metrics"].tolist()
    lines = {(row["category"], row["training"]): row for row in table(directory, "T12")}
    assert len(lines) == 3 * 3
    names = ("tiles", "brushed")
    pairs = {name: [drawn[f"only_{name}", name] - drawn["all", name]] for name in names}
    for category, differences in {**pairs, "mean": [pairs[name][0] for name in names]}.items():
        draws = np.mean(differences, axis=0)
        for metric in METRICS:
            shared = float(measured["all", category][metric])
            own = np.mean([float(measured[f"only_{name}", name][metric]) for name in names if category in (name, "mean")])
            shown = [lines[category, training] for training in ("multi-class", "per category", "per category − multi-class")]
            assert [float(row[metric]) for row in shown] == pytest.approx([shared, own, own - shared], abs=1e-4)
            ends = [float(shown[-1][f"{end}_{metric}"]) for end in ("low", "high")]
            assert ends == pytest.approx(np.quantile(draws[metrics.index(metric)], (0.025, 0.975)), abs=1e-4)
    origins = json.loads((directory / target).with_suffix(".json").read_text())
    assert origins[-1]["results"] == [f"results/toy/{folders[name]}" for name in ("only_tiles", "only_brushed", "all")]


SWEEPS = {
    "T2": {"DeCo-Diff": {}, "standard diffusion": {"diffusion.objective": "noise", "correction.noise_timestep": 4}},
    "T3": {"pixel": {"scoring.fusion": "pixel"}, "geometric mean": {}},
    "T4": {"S = 1": {"correction.steps": 1}, "S = 5": {}},
    "T6": {"small": {}},
}


def test_sweeps_make_once_what_their_lines_share(finished, tmp_path):
    config = write_config(tmp_path, seeds=[0], scopes={"all": ["demo_surfaces"]}, sweeps=SWEEPS)
    targets = [f"results/toy/tables/{name}.csv" for name in SWEEPS]
    targets += [f"results/toy/figures/{name}.png" for name in ("all/demo_surfaces/F1", "F5", "F11")]
    base = finished / "results/toy/all/seed-0/demo_surfaces"
    before = {name: (base / name).read_bytes() for name in ("corrected.npy", "metrics.csv")}
    plan = planned(snakemake(finished, "-n", *targets, "--configfile", config))
    assert plan == {"train_variant": 1, "correct_variant": 2, "score_variant": 3, "evaluate_variant": 3} | {
        "sweep_table": 4,
        "compare_steps": 1,
        "accuracy_figure": 1,
        "changes_figure": 1,
    }
    snakemake(finished, *targets, "--configfile", config)
    assert before == {name: (base / name).read_bytes() for name in before}
    with open(base / "metrics.csv", newline="") as stream:
        own = next(row for row in csv.DictReader(stream) if row["category"] == "mean")
    for name, label in (("T2", "DeCo-Diff"), ("T3", "geometric mean"), ("T4", "S = 5"), ("T6", "small")):
        rows = table(finished, name)
        lines = {row["setting"]: row for row in rows if row["kind"] == "measured"}
        assert list(lines) == [*SWEEPS[name], "floor"]
        for row in rows[len(lines) :]:
            other, baseline = row["setting"].split(" − ")
            assert row["kind"] == "difference" and baseline == label != other
            for metric in METRICS:
                assert float(row[metric]) == pytest.approx(float(lines[other][metric]) - float(lines[label][metric]), abs=2e-4)
        assert len(rows) == 2 * len(lines) - 1
        assert {metric: float(lines[label][metric]) for metric in METRICS} == pytest.approx(
            {metric: float(own[metric]) for metric in METRICS}, abs=1e-4
        )
        if name != "T6":
            measured = {tuple(row[metric] for metric in METRICS) for row in lines.values()}
            assert len(measured) == len(lines), "each line has maps of its own"
            assert all(
                float(row["low_pixel_ap"]) <= float(row["pixel_ap"]) + 1e-3 <= float(row["high_pixel_ap"]) + 2e-3
                for row in lines.values()
            )
    line, floor, _ = table(finished, "T6")
    assert floor["setting"] == "floor" and floor["images/s"] == floor["parameters, M"] == ""
    unet = build_unet("UNet_nano", 2, latent_channels=4)
    parameters = sum(parameter.numel() for parameter in unet.parameters())
    assert float(line["parameters, M"]) == pytest.approx(parameters / 1e6, abs=0.01) and float(line["images/s"]) > 0
    record = json.loads((finished / "models/toy/sweeps/model~objective=noise/all/seed-0/training.json").read_text())
    assert record["diffusion"]["objective"] == "noise"


def test_tables_and_figures_drawn_again_are_the_same_to_the_byte(finished):
    config = finished / "toy.yaml"
    targets = [f"results/toy/tables/{name}.csv" for name in ("T1", "T8")]
    targets += [
        f"results/toy/figures/all/{name}.png"
        for name in (
            "demo_surfaces/F2",
            "demo_surfaces/F3",
            "demo_surfaces/F4",
            "demo_surfaces/F6",
            "demo_surfaces/F10",
            "training",
        )
    ]
    files = [
        finished / Path(target).with_suffix(suffix)
        for target in targets
        for suffix in ((".csv", ".md", ".tex", ".json") if "tables" in target else (".png", ".pdf"))
    ]
    before = {path: path.read_bytes() for path in files}
    snakemake(finished, *targets, "--force", "--configfile", config)
    again = {path for path in files if path.read_bytes() != before[path]}
    assert not again


@pytest.mark.parametrize(
    ("file", "old", "new", "expected"),
    [
        ("reporting/score_figures.py", "MAX_FPR", "MAX_FPR, METRICS", {"figures", "report"}),
        ("reporting/paper.mplstyle", "\n", "\n\n", {"figures", "training_curve", "report"}),
        ("reporting/main_tables.py", "MEAN", "MEAN as MEAN", {"table", "provenance", "report"}),
        (
            "metrics.py",
            "MAX_FPR = 0.3",
            "MAX_FPR = 0.2",
            {"evaluate", "evaluate_floor", "curves", "table", "summary", "figures", "provenance", "report"},
        ),
        (
            "components.py",
            "total / covering",
            "total / covering / 1",
            {"floor", "evaluate_floor", "table", "summary", "provenance", "report"},
        ),
        ("training/loop.py", "# seconds", "# the seconds", set()),
    ],
)
def test_changed_code_reruns_what_runs_it_and_nothing_before(finished, tmp_path, file, old, new, expected):
    for folder in ("decodiff", "workflow"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    path = tmp_path / "decodiff" / file
    content = path.read_text()
    assert old in content
    path.write_text(content.replace(old, new, 1))
    plan = planned(snakemake(finished, "-n", "--configfile", finished / "toy.yaml", package=tmp_path))
    assert plan.keys() - {"all"} == expected


# what reads the settings of `evaluate`, and what follows
EVALUATED = {"evaluate", "evaluate_floor", "table", "summary", "figures", "provenance", "report", "rule_graph"}


@pytest.fixture
def copied(finished, tmp_path, monkeypatch):
    """What a clone is after a pull: the run's files and its records, but nothing of Snakemake's own."""
    monkeypatch.chdir(finished)
    records.export("toy")
    for name in ("data", "models", "results", "records"):
        shutil.copytree(finished / name, tmp_path / "clone" / name)
    write_config(tmp_path / "clone")
    return tmp_path / "clone"


def test_a_copy_has_nothing_to_do_whatever_the_times_of_its_files(copied):
    random = np.random.default_rng(0)
    for _ in range(5):
        shutil.rmtree(copied / ".snakemake", ignore_errors=True)
        for path in copied.rglob("*"):
            os.utime(path, (moment := float(random.uniform(1e9, 1.7e9)), moment))
        assert "Nothing to be done" in snakemake(copied, "-n", "--configfile", copied / "toy.yaml")
    config = write_config(copied, evaluation={"resamples": 60})
    plan = planned(snakemake(copied, "-n", "--configfile", config))
    assert plan.keys() - {"all"} == EVALUATED
    config = write_config(copied, training=yaml.safe_load(config.read_text())["training"] | {"epochs": 2})
    assert planned(snakemake(copied, "-n", "--configfile", config))["train"] == 4, "the record is of other settings"


def test_records_go_with_a_rule_whose_files_others_make(finished, monkeypatch):
    monkeypatch.chdir(finished)
    records.export("toy")
    folder = Path("records/toy")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    content = json.loads(before["table.json"])
    (folder / "main_table.json").write_text(
        json.dumps(content | {"jobs": [job | {"rule": "main_table"} for job in content["jobs"]]})
    )
    (folder / "of_another_snakemake.json").write_text(json.dumps(content | {"record_format_version": 5}))
    records.export("toy")
    after = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert after.pop("of_another_snakemake.json") and after == before
    (folder / "of_another_snakemake.json").unlink()


def test_a_file_that_is_not_the_recorded_one_is_named_and_what_was_made_of_it_is_made_again(copied):
    path = copied / "results/toy/all/seed-0/demo_surfaces/anomaly_maps.npy"
    maps = np.load(path)
    np.save(path, maps[::-1])
    os.utime(path, (1e9, 1e9))
    output = snakemake(copied, "-n", "--configfile", copied / "toy.yaml")
    assert "1 files are not those recorded: results/toy/all/seed-0/demo_surfaces/anomaly_maps.npy" in output
    assert {"evaluate", "table"} <= planned(output).keys() and "train" not in planned(output)


@pytest.mark.slow
def test_pulled_networks_are_not_trained_again_by_surprise(copied):
    shutil.rmtree(copied / "data")
    assert "Nothing to be done" in snakemake(copied, "-n", "--configfile", copied / "toy.yaml"), "nobody needs it"
    shutil.rmtree(copied / "results")
    shutil.rmtree(copied / "models/toy/latents")
    output = snakemake(copied, "--configfile", copied / "toy.yaml", check=False)
    assert "would be trained again, as files that it was made of are not here. Bring them (`dvc pull`)" in output
    assert not (copied / "data").exists() and "Traceback" not in output
    for target in ("prepared", "encoded"):
        snakemake(copied, target, "--configfile", copied / "toy.yaml")
    plan = planned(snakemake(copied, "-n", "--configfile", copied / "toy.yaml"))
    assert {"correct", "score", "evaluate", "report"} <= plan.keys() and not {"autoencoder", "train"} & plan.keys()


def test_an_added_seed_trains_one_model_per_scope(finished, tmp_path):
    plan = planned(snakemake(finished, "-n", "--configfile", write_config(tmp_path, seeds=[0, 1, 2])))
    assert plan["train"] == 2 and not {"fetch", "autoencoder", "encode"} & plan.keys()


@pytest.mark.slow
def test_a_second_run_elsewhere_gives_the_same_bytes(finished, tmp_path):
    config = write_config(tmp_path, seeds=[0], scopes={"all": ["demo_surfaces"]})
    snakemake(tmp_path, "results/toy/all/seed-0/demo_surfaces/metrics.csv", "--configfile", config)
    for name in ("metrics.csv", "scores.csv", "images.csv"):
        path = Path("results/toy/all/seed-0/demo_surfaces") / name
        assert (tmp_path / path).read_bytes() == (finished / path).read_bytes()
    assert (tmp_path / "models/toy/all/seed-0/log.csv").read_bytes() == (
        finished / "models/toy/all/seed-0/log.csv"
    ).read_bytes()


# of arrays, whose sizes are known but for what lies beside them
ARRAY_RULES = ("prepare", "encode", "encode_test", "correct", "score", "floor")


def most_memory(benchmark):
    """Bytes that a job held by Snakemake's record of it."""
    with open(benchmark, newline="") as stream:
        return float(next(csv.DictReader(stream, delimiter="\t"))["max_rss"]) * 2**20


def test_what_is_planned_of_disk_and_memory_is_what_the_run_took(finished, tmp_path, monkeypatch):
    monkeypatch.setattr("decodiff.planning.room.ACCELERATORS", ())
    arguments = ["--snakefile", ROOT / "workflow/Snakefile", "--directory", tmp_path, "--configfile", finished / "toy.yaml"]
    _, _, room = plan.planned(list(map(str, arguments)), 1.0)
    monkeypatch.chdir(tmp_path)
    needs, expected, made, jobs = Needs(plan.config), Counter(), Counter(), Counter()
    planned_jobs = plan.jobs_of(plan.workflow.dag)
    trained = [f"{job.wildcards['scope']}-{job.wildcards['seed']}" for job in planned_jobs if job.rule == "train"]
    # alike; looked at from time to time, so that one may have ended before it was seen to hold the most
    held = max(most_memory(finished / f"logs/toy/{name}-train.tsv") for name in trained)
    for job in planned_jobs:
        need = needs.of(job, on_processor=True)
        jobs[job.rule] += 1
        expected[job.rule] += need.kept
        made[job.rule] += sum((finished / path).stat().st_size for path in job.outputs)
        if job.rule == "train":
            assert held / 3 < need.memory < held
    made["fetch"] += sum(path.stat().st_size for path in (finished / "data").rglob("images/**/*.*"))
    for rule in ARRAY_RULES:
        assert abs(expected[rule] - made[rule]) < 0.1 * made[rule] + jobs[rule] * OTHER, rule
    assert made.total() / 2 < expected.total() < made.total() * 2
    (disk,) = room.disks
    assert disk.needed >= expected.total() and disk.folders == ("data", "models", "results")


def test_a_damaged_image_stops_its_own_data_set_and_the_rest_stays(finished, tmp_path):
    # a user's folder with a truncated image beside the data set that is done
    images = finished / "data/demo_surfaces/images"
    mine = tmp_path / "mine"
    shutil.copytree(images / "brushed", mine / "brushed")
    path = mine / "brushed/test/blob/003.webp"
    path.write_bytes(path.read_bytes()[:60])
    data = {"demo_surfaces": {}, "folder": {"source": str(mine)}}
    config = write_config(tmp_path, data=data, scopes={"all": ["demo_surfaces"], "mine": ["folder"]})
    output = snakemake(finished, "data/folder/manifest.csv", "--configfile", config, check=False)
    lines = {line for line in output.splitlines() if line.startswith("error: ")}
    assert len(lines) == 1 and "brushed/test/blob/003.webp: not a whole image" in lines.pop()
    assert not (finished / "data/folder/manifest.csv").exists()
    assert (finished / "results/toy/report.html").is_file()
