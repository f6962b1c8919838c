"""Multi-class against per-category training: which scopes are compared, the pairing over several folders, what is refused."""

import json

import numpy as np
import pytest
from test_evaluate import CROP, IDENTITY, make_results, table
from test_tables import metrics_file

from decodiff.bootstrap import interval
from decodiff.data.maps import own_maps
from decodiff.data.rows import write_positions
from decodiff.errors import InputError
from decodiff.files import write_csv
from decodiff.metrics import ALL_METRICS, METRICS
from decodiff.reporting.main_tables import write_table
from decodiff.reporting.trainings import compared, own_networks
from decodiff.settings import Evaluation
from decodiff.stages.compare import compare
from decodiff.stages.evaluate import METRIC_COLUMNS, RESAMPLES_FILE, evaluate_maps

RESAMPLES = 40


def measured(folder, scope, categories, seed=0, lacking="", resamples=RESAMPLES, dataset="mvtec_ad"):
    """A result with random metrics and resamples, the file of its metrics; no category has a metric that is ``lacking``."""
    random = np.random.default_rng([seed, *f"{scope} {dataset}".encode()])
    path = metrics_file(folder, dataset, categories, scope, seed)
    values = random.random((len(categories), len(ALL_METRICS)))
    values[:, [name == lacking for name in ALL_METRICS]] = np.nan
    rows = table(path)
    for row, numbers in zip(rows, [*values, values.mean(axis=0)]):
        row |= {name: "" if np.isnan(number) else f"{number:.6f}" for name, number in zip(ALL_METRICS, numbers)}
    write_csv(path, METRIC_COLUMNS, rows)
    np.savez_compressed(
        path.with_name(RESAMPLES_FILE),
        categories=categories,
        fingerprints=[f"images of {category}" for category in categories],
        metrics=ALL_METRICS,
        measured=values,
        resamples=(values[..., None] + 0.1 * random.normal(size=(*values.shape, resamples))).astype(np.float32),
        protocol=[dataset, "reference", "maximum"],
    )
    return path


def lines_of(path):
    """Lines of T12 by scope, category and what was trained how."""
    return {(row["scope"], row["category"], row["training"]): row for row in table(path)}


def both(category, scope="all"):
    return [(scope, category, training) for training in ("multi-class", "per category", "per category − multi-class")]


def test_only_categories_that_both_have_are_compared_and_the_note_names_the_others(tmp_path):
    files = [
        measured(tmp_path, "all", ("grid", "tile", "wood")),
        measured(tmp_path, "only_wood", ("wood",)),
        measured(tmp_path, "only_grid", ("grid",)),
        measured(tmp_path, "only_pill", ("pill",)),
        measured(tmp_path, "visa", ("candle", "fryum"), dataset="visa"),
    ]
    write_table("T12", files, tmp_path / "T12.csv")
    lines = lines_of(tmp_path / "T12.csv")
    assert list(lines) == [key for category in ("grid", "wood", "mean") for key in both(category)]
    values = {
        (path.parent.name.split("-")[1], row["category"]): {name: float(row[name]) for name in METRICS}
        for path in files
        for row in table(path)
    }
    drawn = {}
    for path in files:
        with np.load(path.with_name(RESAMPLES_FILE)) as content:
            for category, numbers in zip(content["categories"].tolist(), content["resamples"].astype(float)):
                drawn[path.parent.name.split("-")[1], category] = dict(zip(ALL_METRICS, numbers))
    for name in METRICS:
        shared = [values["all", category][name] for category in ("grid", "wood")]
        own = [values[f"only_{category}", category][name] for category in ("grid", "wood")]
        differences = [
            drawn[f"only_{category}", category][name] - drawn["all", category][name] for category in ("grid", "wood")
        ]
        expected = {"grid": (shared[0], own[0], differences[0]), "wood": (shared[1], own[1], differences[1])}
        expected["mean"] = (np.mean(shared), np.mean(own), np.mean(differences, axis=0))
        for category, (together, apart, difference) in expected.items():
            found = [lines[key] for key in both(category)]
            assert [float(row[name]) for row in found] == pytest.approx([together, apart, apart - together], abs=1e-4)
            ends = [float(found[-1][f"{end}_{name}"]) for end in ("low", "high")]
            assert ends == pytest.approx(interval(difference), abs=1e-4)
    for key in both("mean"):
        note = lines[key]["note"]
        assert "over what both have; without tile (no network of their own) and capsule, bottle," in note
        assert "pill" in note and note.endswith("toothbrush (not in scope all)")
    assert all("without" not in lines[key]["note"] for category in ("grid", "wood") for key in both(category))
    origins = json.loads((tmp_path / "T12.json").read_text())
    folders = {path.parent.name.split("-")[1]: str(path.parent) for path in files}
    assert origins[1]["results"] == [folders["only_grid"]]
    assert origins[-3]["results"] == [folders["all"]]
    assert set(origins[-1]["results"]) == {folders["only_grid"], folders["only_wood"], folders["all"]}


def test_several_seeds_give_the_mean_and_deviation_of_their_paired_differences(tmp_path):
    scopes = {"all": ("grid", "wood"), "grid": ("grid",), "wood": ("wood",)}
    files = {(scope, seed): measured(tmp_path, scope, scopes[scope], seed) for scope in scopes for seed in (3, 4, 5)}
    write_table("T12", list(files.values()), tmp_path / "T12.csv")
    lines = lines_of(tmp_path / "T12.csv")
    of_seeds = []
    for seed in (3, 4, 5):
        shared = {row["category"]: float(row["pixel_ap"]) for row in table(files["all", seed])}
        own = {name: float(table(files[name, seed])[0]["pixel_ap"]) for name in ("grid", "wood")}
        of_seeds.append(np.mean([own[name] - shared[name] for name in own]))
    row = lines[both("mean")[-1]]
    assert float(row["pixel_ap"]) == pytest.approx(np.mean(of_seeds), abs=1e-4)
    assert float(row["std_pixel_ap"]) == pytest.approx(np.std(of_seeds, ddof=1), abs=1e-4)
    assert not any(name.startswith("low_") for name in row)


def test_a_metric_that_a_category_lacks_leaves_empty_cells(tmp_path):
    scopes = {"all": ("grid", "wood"), "wood": ("wood",)}
    files = [measured(tmp_path, scope, names) for scope, names in scopes.items()]
    files.append(measured(tmp_path, "grid", ("grid",), lacking="pixel_ap"))
    write_table("T12", files, tmp_path / "T12.csv")
    lines = lines_of(tmp_path / "T12.csv")
    for category in ("grid", "mean"):
        together, apart, difference = (lines[key] for key in both(category))
        assert together["pixel_ap"] and not apart["pixel_ap"] and not difference["pixel_ap"]
        assert not apart["low_pixel_ap"] and not difference["low_pixel_ap"] and difference["image_ap"]
    assert lines[both("wood")[-1]]["pixel_ap"]


def test_folders_of_single_categories_pair_as_one_folder_of_all(tmp_path):
    results, prepared, rows, maps, _ = make_results(tmp_path / "a", noise=1.0, seed=1)
    evaluation = Evaluation(resamples=RESAMPLES)

    def measure(positions, given, scope):
        write_positions(results / "images.csv", [(position, rows[position]) for position in positions])
        np.save(results / "anomaly_maps.npy", given[positions])
        identity = IDENTITY | {"scope": scope}
        evaluate_maps(own_maps(results, prepared, CROP, "standard"), evaluation, identity, tmp_path / scope)
        return tmp_path / scope / "metrics.csv"

    everything, other = list(range(len(rows))), maps[:, ::-1].copy()
    of = {name: [place for place in everything if rows[place].category == name] for name in ("bolt", "nut")}
    files = [measure(everything, maps, "all"), *(measure(positions, other, name) for name, positions in of.items())]
    measure(everything, other, "whole")
    write_table("T12", files, tmp_path / "T12.csv")
    compare(tmp_path / "whole", tmp_path / "all", tmp_path / "differences.csv")
    lines = lines_of(tmp_path / "T12.csv")
    for row in table(tmp_path / "differences.csv"):
        if row["metric"] in METRICS:
            found = lines[both(row["category"])[-1]]
            shown = [found[row["metric"]], found[f"low_{row['metric']}"], found[f"high_{row['metric']}"]]
            assert shown == [f"{float(row[name]):.4f}" for name in ("difference", "low", "high")]
    for folder, training in (("all", "multi-class"), ("whole", "per category")):
        for row in table(tmp_path / folder / "intervals.csv"):
            if row["metric"] in METRICS:
                found = lines["all", row["category"], training]
                shown = [float(found[column.format(row["metric"])]) for column in ("{}", "low_{}", "high_{}")]
                assert shown == pytest.approx([float(row[name]) for name in ("value", "low", "high")], abs=1e-4)


def test_what_cannot_be_compared_is_one_line(tmp_path):
    shared = measured(tmp_path, "all", ("grid", "wood"))
    with pytest.raises(InputError, match="T12: no category has a network of its own and is part of one over several"):
        write_table("T12", [shared], tmp_path / "T12.csv")
    other_seed = measured(tmp_path, "grid", ("grid",), seed=1)
    with pytest.raises(InputError, match="T12: mvtec_ad: seeds 0 under scope all, 1 per category; give the same of both"):
        write_table("T12", [shared, other_seed], tmp_path / "T12.csv")
    fewer = measured(tmp_path, "wood", ("wood",), resamples=30)
    with pytest.raises(InputError, match="30 resamples"):
        write_table("T12", [shared, fewer], tmp_path / "T12.csv")
    fewer.with_name(RESAMPLES_FILE).unlink()
    with pytest.raises(InputError, match="wood-0/resamples.npz: no readable resamples; evaluate again"):
        write_table("T12", [shared, fewer], tmp_path / "T12.csv")


@pytest.mark.parametrize(
    ("members", "own", "found"),
    [
        ({"all": {"a": ("x", "y")}}, [], {}),
        ({"x": {"a": ("x",)}, "y": {"a": ("y",)}}, ["x", "y"], {}),
        ({"all": {"a": ("x", "y")}, "x": {"a": ("x",)}}, ["x"], {("a", "all"): ["x"]}),
        ({"all": {"a": ("x",), "b": ("z",)}, "z": {"b": ("z",)}}, ["z"], {("b", "all"): ["z"]}),
        ({"x": {"a": ("x",)}, "again": {"a": ("x",)}}, ["x"], {}),
        # folders of the user's own: what they hold is not known before they are read
        ({"all": {"mine": ()}, "one": {"mine": ("x",)}}, ["one"], {}),
        (
            {"all": {"mine": ()}, "one": {"mine": ("x",)}, "two": {"mine": ("y",)}},
            ["one", "two"],
            {("mine", "all"): ["x", "y"]},
        ),
        ({"all": {"mine": (), "a": ("x",)}, "x": {"a": ("x",)}}, ["x"], {("a", "all"): ["x"]}),
    ],
)
def test_what_is_compared_follows_from_the_scopes(members, own, found):
    assert list(own_networks(members).values()) == own
    assert compared(members) == found
