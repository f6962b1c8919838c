"""Tables: published numbers beside measured ones, what is marked, and what a reader is told below."""

import csv
import re

import pytest

from decodiff.data.registry import REGISTRY
from decodiff.errors import InputError
from decodiff.files import write_csv
from decodiff.metrics import ALL_METRICS, METRICS
from decodiff.reporting.main_tables import write_table
from decodiff.reporting.published import own_results
from decodiff.reporting.tables import MEASURED, PAIRED, PUBLISHED, Line, Table, ranks, to_latex, to_markdown
from decodiff.stages.evaluate import METRIC_COLUMNS

AS_PUBLISHED = {"protocol": "reference", "crop": "central 256 of 288", "image_score": "maximum"}


def metrics_file(folder, dataset, categories, scope="all", seed=0, value=0.9, **way):
    """A metrics file as `evaluate` writes it, every metric of every category alike."""
    common = dict.fromkeys(METRIC_COLUMNS, "") | AS_PUBLISHED | way | {"dataset": dataset, "scope": scope, "seed": seed}
    numbers = dict.fromkeys(ALL_METRICS, f"{value:.6f}")
    rows = [{**common, **numbers, "category": name, "images": 10, "anomalous": 4} for name in (*categories, "mean")]
    path = folder / f"{dataset}-{scope}-{seed}/metrics.csv"
    write_csv(path, METRIC_COLUMNS, rows)
    return path


def rows_of(path):
    with open(path, newline="") as stream:
        return list(csv.DictReader(stream))


@pytest.fixture
def mvtec(tmp_path):
    return metrics_file(tmp_path, "mvtec_ad", REGISTRY["mvtec_ad"].categories)


def test_a_mean_stands_beside_the_published_one_with_difference_and_source(tmp_path, mvtec):
    published = own_results("MVTec AD")
    assert len(published) == 2 and published[-1].values["image_auroc"] == 0.992
    for name, kept in (("T1", METRICS), ("T7", METRICS[:3]), ("T8", METRICS[3:])):
        write_table(name, [mvtec], tmp_path / f"{name}.csv")
        rows = rows_of(tmp_path / f"{name}.csv")
        (mean,) = [row for row in rows if row["kind"] == "measured" and row.get("category", "mean") == "mean"]
        for metric in kept:
            assert float(mean[f"difference_{metric}"]) == pytest.approx(0.9 - published[-1].values[metric], abs=1e-4)
        sources = {result.note for result in published}
        own = [row for row in rows if row["note"] in sources]
        assert [float(row[kept[0]]) for row in own] == [result.values[kept[0]] for result in published]
        # others stand beside the mean too, and say how they were measured
        (draem,) = [row for row in rows if "DRAEM" in row.get("method", row.get("category"))]
        assert draem["kind"] == "published" and float(draem[kept[0]]) == {"image_auroc": 0.545, "pixel_auroc": 0.476}[kept[0]]
        assert "ADer benchmark" in draem["note"] and "pixel F1max of 21 thresholds" in draem["note"]
        assert [row["note"] for row in own] == [result.note for result in published]
        assert "not measured as" not in mean["note"]
        text = (tmp_path / f"{name}.md").read_text()
        assert f"90.0 ({100 * (0.9 - published[-1].values[kept[0]]):+.1f})" in text and published[-1].source in text


def test_a_run_that_was_measured_in_another_way_says_so(tmp_path):
    path = metrics_file(
        tmp_path, "visa", REGISTRY["visa"].categories, protocol="standard", crop="central 64 of 64", image_score="maximum"
    )
    write_table("T1", [path], tmp_path / "T1.csv")
    note = rows_of(tmp_path / "T1.csv")[-1]["note"]
    assert "protocol standard instead of reference, crop central 64 of 64 instead of central 256 of 288" in note
    assert note in (tmp_path / "T1.md").read_text() and "central 64 of 64" in (tmp_path / "T1.tex").read_text()


def test_some_of_the_categories_are_not_compared_with_the_published_mean(tmp_path):
    path = metrics_file(tmp_path, "mvtec_ad", ("grid", "carpet"))
    write_table("T7", [path], tmp_path / "T7.csv")
    mean = rows_of(tmp_path / "T7.csv")[2]
    assert mean["category"] == "mean" and "without bottle, cable" in mean["note"] and "not to be compared" in mean["note"]
    assert "difference_image_auroc" not in mean or mean["difference_image_auroc"] == ""


def test_networks_of_one_category_each_are_shown_as_one_training(tmp_path, mvtec):
    categories = REGISTRY["mvtec_ad"].categories
    values = [0.8 + index / 1000 for index in range(len(categories))]
    alone = [metrics_file(tmp_path, "mvtec_ad", (name,), name, value=value) for name, value in zip(categories, values)]
    visa = metrics_file(tmp_path, "visa", REGISTRY["visa"].categories, "visa")
    write_table("T1", [*alone, mvtec, visa], tmp_path / "T1.csv")
    rows = [row for row in rows_of(tmp_path / "T1.csv") if row["kind"] == "measured"]
    assert [row["method"] for row in rows] == [f"DeCo-Diff (this run, {name})" for name in ("all", "per category", "visa")]
    assert float(rows[1]["image_auroc"]) == pytest.approx(sum(values) / len(values), abs=1e-4)
    assert rows[1]["note"].endswith("; a network for each category") and rows[1]["difference_image_auroc"] == ""
    write_table("T7", [*alone, mvtec, visa], tmp_path / "T7.csv")
    shown = [row for row in rows_of(tmp_path / "T7.csv") if row["scope"] == "per category"]
    assert [row["category"] for row in shown] == [*categories, "mean"], "no mean for each, and no published ones"
    assert [float(row["image_ap"]) for row in shown[:-1]] == pytest.approx(values, abs=1e-4)
    assert (shown[-1]["images"], shown[-1]["anomalous"]) == (str(10 * len(categories)), str(4 * len(categories)))
    write_table("T9", [*alone, mvtec, visa], tmp_path / "T9.csv")
    assert {row["dataset"] for row in rows_of(tmp_path / "T9.csv")} == {"VisA"}, "the second data set, as before"
    write_table("T1", [*alone[:2], mvtec], tmp_path / "T1.csv")
    assert "without cable, carpet" in rows_of(tmp_path / "T1.csv")[-1]["note"]


def test_the_only_category_of_a_data_set_stands_under_its_scope(tmp_path):
    path = metrics_file(tmp_path, "mtd", REGISTRY["mtd"].categories)
    write_table("T1", [path], tmp_path / "T1.csv")
    assert rows_of(tmp_path / "T1.csv")[-1]["method"] == "DeCo-Diff (this run, all)"


def test_a_data_set_of_ones_own_has_nothing_published(tmp_path):
    path = metrics_file(tmp_path, "mine", ("bolt",), protocol="standard")
    write_table("T1", [path], tmp_path / "T1.csv")
    (row,) = rows_of(tmp_path / "T1.csv")
    assert row["kind"] == "measured" and row["note"] == "protocol standard"


def lines(**values):
    of = {
        name: Line({"dataset": "A", "setting": name, "kind": kind}, {"image_auroc": value}, note)
        for name, (kind, value, note) in values.items()
    }
    return Table("T2", ("dataset", "setting", "kind"), ("image_auroc",), list(of.values()), ranked=(MEASURED,))


def test_the_best_and_second_of_the_ranked_kind_are_marked_as_printed():
    table = lines(
        paper=(PUBLISHED, 0.99, "a paper"),
        ours=(MEASURED, 0.9004, ""),
        same=(MEASURED, 0.9001, ""),
        other=(MEASURED, 0.8, ""),
        less=(PAIRED, 0.95, ""),
    )
    assert ranks(table) == {(1, "image_auroc"): 1, (2, "image_auroc"): 1, (3, "image_auroc"): 2}
    assert to_markdown(table).count("**90.0**") == 2 and "<u>80.0</u>" in to_markdown(table)
    assert "| +95.0 |" in to_markdown(table), "a difference has its sign"
    assert to_latex(table).count(r"\textbf{90.0}") == 2 and r"\underline{80.0}" in to_latex(table)


def test_notes_are_numbered_and_said_once():
    table = lines(a=(MEASURED, 0.9, "way one"), b=(MEASURED, 0.8, "way_two"), c=(MEASURED, 0.7, "way one"), d=(PAIRED, 0.1, ""))
    text = to_markdown(table)
    assert re.findall(r"^\| A \| (\w) .*\| (\d?) \|$", text, re.M) == [("a", "1"), ("b", "2"), ("c", "1"), ("d", "")]
    assert text.endswith("- note 1: way one\n- note 2: way_two\n")
    assert r"2: way\_two" in to_latex(table)
    alike = lines(a=(MEASURED, 0.9, "way"), b=(MEASURED, 0.8, "way"))
    assert to_markdown(alike).endswith("\n- way\n") and "| note |" not in to_markdown(alike)


def test_an_unknown_table_is_one_line(tmp_path, mvtec):
    with pytest.raises(InputError, match="no table 'T99'; choose one of T1, T7"):
        write_table("T99", [mvtec], tmp_path / "T99.csv")
