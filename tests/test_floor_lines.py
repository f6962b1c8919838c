"""The floor in the tables: its lines, and what they say of others beside it."""

import json

import numpy as np
import pytest
from test_evaluate import table
from test_tables import metrics_file

from decodiff.config import FLOOR
from decodiff.errors import InputError
from decodiff.files import write_csv
from decodiff.metrics import ALL_METRICS, METRICS
from decodiff.reporting.main_tables import write_table
from decodiff.reporting.sweep_tables import Source, write_sweep_table
from decodiff.stages.evaluate import INTERVAL_COLUMNS, METRIC_COLUMNS, RESAMPLES_FILE

DRAWS = np.linspace(-1, 1, 41)


def result(folder, scope, of, seed=0, draws=DRAWS, spread=0.02, without_masks=False, dataset="mvtec_ad"):
    """A result whose metrics are all alike in a category, ``of[category]``, and so are resamples but for ``spread · draws``."""
    path = metrics_file(folder, dataset, tuple(of), scope, seed)
    values = np.array([[value] * len(ALL_METRICS) for value in of.values()])
    if without_masks:
        values[:, [name.startswith("pixel") for name in ALL_METRICS]] = np.nan
    rows = table(path)
    for row, numbers in zip(rows, [*values, values.mean(axis=0)]):
        row |= {name: "" if np.isnan(number) else f"{number:.6f}" for name, number in zip(ALL_METRICS, numbers)}
    write_csv(path, METRIC_COLUMNS, rows)
    write_csv(path.with_name("intervals.csv"), INTERVAL_COLUMNS, [])
    (path.parent / "inference.json").write_text("{}")
    np.savez_compressed(
        path.with_name(RESAMPLES_FILE),
        categories=list(of),
        fingerprints=[f"images of {category}" for category in of],
        metrics=ALL_METRICS,
        measured=values,
        resamples=(values[..., None] + spread * draws).astype(np.float32),
        protocol=[dataset, "reference", "maximum"],
    )
    return path


def floor_result(folder, of, **more):
    path = result(folder, FLOOR, of, spread=0, **more)
    (path.parent / "floor.json").write_text(json.dumps({"patch_side": 4}))
    return path


def made(folder, name, *files):
    write_table(name, list(files), folder / f"{name}.csv")
    return [row for row in table(folder / f"{name}.csv") if row["kind"] == "measured"]


def test_a_line_that_is_not_above_the_floor_says_so(tmp_path):
    floor = floor_result(tmp_path, {"grid": 0.75, "wood": 0.75, "tile": 0.25})
    own = result(tmp_path, "all", {"grid": 0.85, "wood": 0.745})
    lines = made(tmp_path, "T7", own, floor)
    assert [(row["scope"], row["category"]) for row in lines] == [
        (scope, category) for scope in ("all", FLOOR) for category in ("grid", "wood", "mean")
    ]
    notes = {(row["scope"], row["category"]): row["note"] for row in lines}
    assert notes["all", "grid"] == notes[FLOOR, "wood"] == "protocol reference"
    assert notes["all", "wood"].endswith("; not above the floor in I-AUROC (−0.5 [−2.4, +1.4])")
    assert "not above" not in notes["all", "mean"] and "; over grid, wood; without bottle," in notes[FLOOR, "mean"]
    assert made(tmp_path, "T8", own, floor)[1]["note"].endswith("not above the floor in P-AP (−0.5 [−2.4, +1.4])")
    # the mean is not compared over a category that the scope has not
    mean, below = made(tmp_path, "T1", own, floor)
    assert below["method"] == "floor: principal components of 4×4 patches (this run)" and float(below["image_ap"]) == 0.75
    assert "not above" not in mean["note"]
    assert json.loads((tmp_path / "T1.json").read_text())[-1]["results"] == [str(floor.parent)]
    assert r"4$\times$4" in (tmp_path / "T1.tex").read_text()
    other = result(tmp_path, "other", {"grid": 0.7, "wood": 0.8, "tile": 0.25})
    assert "; over all categories;" in made(tmp_path, "T1", own, other, floor)[-1]["note"]
    assert made(tmp_path, "T1", own, other, floor)[1]["note"].endswith(
        "; not above the floor in I-AUROC (+0.0 [−1.9, +1.9]) and P-AP (+0.0 [−1.9, +1.9])"
    )


@pytest.mark.parametrize(("least", "is_above"), [(0.0, False), (0.004, True)])
def test_an_interval_that_touches_zero_is_not_above(tmp_path, least, is_above):
    floor = floor_result(tmp_path, {"grid": 0.5})
    own = result(tmp_path, "all", {"grid": 0.51}, draws=np.maximum(-0.01 + least, 0.02 * DRAWS), spread=1)
    assert ("not above the floor in I-AUROC (+1.0 [" in made(tmp_path, "T1", own, floor)[0]["note"]) is not is_above


def test_the_floor_is_ranked_with_what_else_was_measured(tmp_path):
    floor, own = floor_result(tmp_path, {"bolt": 0.75}, dataset="mine"), result(tmp_path, "all", {"bolt": 0.7}, dataset="mine")
    assert made(tmp_path, "T1", own, floor)[0]["note"].startswith("protocol reference; not above the floor")
    text = (tmp_path / "T1.md").read_text()
    assert text.count("**75.0**") == text.count("<u>70.0</u>") == len(METRICS)


def test_several_seeds_are_compared_in_their_mean_and_own_networks_as_one(tmp_path):
    floor = floor_result(tmp_path, {"grid": 0.75, "wood": 0.75})
    of_all = [result(tmp_path, "all", {"grid": value, "wood": value}, seed) for seed, value in enumerate((0.70, 0.76, 0.72))]
    apart = [
        result(tmp_path, name, {name: value}, seed) for name, value in (("grid", 0.95), ("wood", 0.5)) for seed in (0, 1, 2)
    ]
    mean, together, below = made(tmp_path, "T1", *of_all, *apart, floor)
    shown = "(−2.3 [−4.2, −0.4])"
    assert mean["note"].endswith(f"; not above the floor in I-AUROC {shown} and P-AP {shown}, in the mean of 3 seeds")
    assert together["method"] == "DeCo-Diff (this run, per category, mean of 3 seeds)"
    assert "not above the floor in I-AUROC (−2.5 [−4.4, −0.6])" in together["note"]
    assert "std_image_auroc" not in below or not below["std_image_auroc"], "the floor has no seeds"
    write_table("T12", [*of_all, *apart, floor], tmp_path / "T12.csv")
    assert FLOOR not in (tmp_path / "T12.csv").read_text()


def test_without_masks_only_detection_is_compared_and_without_a_floor_nothing(tmp_path):
    floor = floor_result(tmp_path, {"grid": 0.75}, without_masks=True)
    own = result(tmp_path, "all", {"grid": 0.5}, without_masks=True)
    assert made(tmp_path, "T1", own, floor)[0]["note"].endswith("; not above the floor in I-AUROC (−25.0 [−26.9, −23.1])")
    own.with_name(RESAMPLES_FILE).unlink()
    assert len(made(tmp_path, "T1", own)) == 1, "nothing but the metrics is read"
    with pytest.raises(InputError, match="all-0/resamples.npz: no readable resamples"):
        made(tmp_path, "T1", own, floor)


def test_a_resample_without_a_value_leaves_that_metric_without_a_verdict(tmp_path):
    floor = floor_result(tmp_path, {"grid": 0.75})
    own = result(tmp_path, "all", {"grid": 0.5}, draws=np.where(DRAWS == 0, np.nan, DRAWS))
    lines = made(tmp_path, "T1", own, floor)
    assert len(lines) == 2 and "not above" not in lines[0]["note"]


@pytest.mark.parametrize("seeds", [(0,), (0, 1)])
def test_tables_of_settings_have_the_floor_over_their_scope_and_its_difference(tmp_path, seeds):
    floor = floor_result(tmp_path, {"tile": 0.1, "grid": 0.75, "wood": 0.25})
    values = {"a": {"grid": 0.9, "wood": 0.5}, "b": {"grid": 0.8, "wood": 0.5}}
    sources = []
    for label, of in values.items():
        for seed in seeds:
            shifted = {name: value + 0.01 * seed for name, value in of.items()}
            folder = result(tmp_path / label, "all", shifted, seed, spread=0.02).parent
            sources.append(Source(label, folder, folder / "inference.json", folder / "speed.tsv"))
    write_sweep_table("T3", sources, "b", [floor.parent], tmp_path / "T3.csv")
    rows = [row for row in table(tmp_path / "T3.csv") if row["kind"] != "published"]
    assert [row["setting"] for row in rows] == ["a", "b", "floor", "a − b", "floor − b"]
    assert all(float(rows[2][name]) == 0.5 for name in METRICS) and rows[2]["scope"] == "all"
    assert rows[2]["note"].startswith("principal components of 4×4 patches; protocol reference")
    expected = 0.5 - 0.65 - np.mean([0.01 * seed for seed in seeds])
    assert float(rows[4]["image_ap"]) == pytest.approx(expected, abs=1e-4)
    if len(seeds) == 1:
        assert float(rows[4]["low_image_ap"]) == pytest.approx(expected - 0.019, abs=1e-4)
        assert rows[2]["low_image_ap"] == rows[2]["image_ap"] == "0.5000"
    else:
        assert float(rows[4]["std_image_ap"]) == pytest.approx(0.01 / 2**0.5, abs=1e-4)
    origins = json.loads((tmp_path / "T3.json").read_text())
    assert origins[-1]["results"] == [str(floor.parent), *(str(source.results) for source in sources if source.label == "b")]
