"""Which files a run has, and where: what the rules of the workflow are written with."""

import json
from pathlib import Path

import pytest

from decodiff.config import load
from decodiff.rules.places import Places
from decodiff.variants import BASE

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def demo():
    return Places(load(ROOT / "config/demo.yaml"))


def test_every_result_is_there_once_though_lines_of_several_tables_share_it(demo):
    results = demo.all_results()
    assert len({result.results for result in results}) == len(results)
    lines = [line for table in demo.sweeps for _, line in demo.lines(table)]
    assert set(lines) <= set(results) and len(set(lines)) < len(lines)
    own = [result for result in results if "/sweeps/" not in result.results]
    assert [result.results for result in own] == demo.shown


def test_variants_share_what_their_settings_do_not_change(demo):
    steps = dict(demo.lines("T4"))
    assert steps["S = 1"].unet == steps["S = 5"].unet == "models/demo/all/seed-0"
    assert steps["S = 1"].inference != steps["S = 5"].inference == "results/demo/all/seed-0/demo/inference.json"
    fusions = dict(demo.lines("T3"))
    assert fusions["pixel"].inference == fusions["latent"].inference and fusions["pixel"].results != fusions["latent"].results


def test_a_name_at_a_level_stands_for_the_settings_that_gave_it(demo):
    for names, changed in demo.combinations.items():
        model, correction, scoring = names
        found = json.loads(demo.changes({"model": model, "correction": correction, "scoring": scoring}))
        assert found == dict(changed)
    assert demo.changes({"model": BASE, "correction": BASE}) == "{}"


def test_the_baseline_is_the_method_as_the_run_has_it_where_it_is_a_line(demo):
    assert demo.baseline("T3") == "geometric mean" and demo.baseline("T2") == "DeCo-Diff"


def test_figures_are_those_that_the_run_can_draw(demo):
    assert "results/demo/figures/all/demo/F1" in demo.figures and "results/demo/figures/F5" in demo.figures
    config = demo.config
    noise = config.varied({"diffusion.objective": "noise", "correction.noise_timestep": 4})
    without = Places(noise)
    assert "results/demo/figures/all/demo/F2" in demo.figures and "results/demo/figures/all/demo/F2" not in without.figures
    assert not any(name.endswith(("F1", "F5", "F11")) for name in without.figures), "there are no sweeps"


def test_only_the_runs_own_trainings_keep_networks():
    kept = Places(load(ROOT / "config/surfaces.yaml"))
    assert len(kept.kept_files("base")) == 3 * len(kept.kept_epochs) > 0
    assert "results/surfaces/figures/F9" in kept.figures
    assert not Places(load(ROOT / "config/mtd.yaml").varied({"correction.steps": 1})).kept_epochs
