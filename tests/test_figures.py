"""What the figures of scores and of sweeps show: every image's score, and the differences and intervals of the tables."""

import numpy as np
import pytest
from matplotlib import pyplot
from matplotlib.collections import PathCollection
from matplotlib.colors import to_hex

from decodiff.data.rows import Row, write_positions
from decodiff.errors import InputError
from decodiff.files import write_csv
from decodiff.reporting import compute_figure, course, score_figures, sweep_figures
from decodiff.reporting.compute_figure import accuracy_by_minutes
from decodiff.reporting.course import Course, step_by_step
from decodiff.reporting.drawing import ANOMALOUS_COLOUR, NORMAL_COLOUR
from decodiff.reporting.score_figures import scores_and_curves, scores_by_defect
from decodiff.reporting.sources import Part
from decodiff.reporting.sweep_figures import accuracy_by_steps, what_settings_change
from decodiff.reporting.sweep_tables import difference_name
from decodiff.settings import Correction, Diffusion
from decodiff.stages.curves import OVERLAP_FILE, PRECISION_FILE
from decodiff.stages.evaluate import SCORE_COLUMNS, THRESHOLD_COLUMNS

HOSTILE = ("$\\frac$ <b>&amp;", "_hidden", "a" * 70, "%s {} ☃", "$x$")


@pytest.fixture
def drawn(monkeypatch):
    """Keeps figures open that would be closed when they are saved; a list of them."""
    figures = []
    for module in (score_figures, sweep_figures, compute_figure, course):
        monkeypatch.setattr(module, "save", lambda figure, path: figures.append(figure))
    yield figures
    for figure in figures:
        figure.canvas.draw()
        pyplot.close(figure)


def part(folder, images, thresholds=None, curves=()):
    """Results of test images: (category, kind of defect or None, score); a curve for each of some categories."""
    folder.mkdir(exist_ok=True)
    rows = [
        Row(f"{index}.png", category, "test", int(defect is not None), defect or "good", "", 8, 8, str(index))
        for index, (category, defect, _) in enumerate(images)
    ]
    write_positions(folder / "images.csv", enumerate(rows))
    scores = [{"image": row.image, "image_score": repr(score)} for row, (*_, score) in zip(rows, images)]
    write_csv(folder / "scores.csv", SCORE_COLUMNS, [dict.fromkeys(SCORE_COLUMNS, "") | row for row in scores])
    limits = [{"category": category, "threshold": value} for category, value in (thresholds or {}).items()]
    write_csv(folder / "thresholds.csv", THRESHOLD_COLUMNS, [dict.fromkeys(THRESHOLD_COLUMNS, "") | row for row in limits])
    for file, axis in ((PRECISION_FILE, "recall"), (OVERLAP_FILE, "false_positive_rate")):
        names = (axis, "mean", *curves)
        write_csv(folder / file, names, [dict.fromkeys(names, value) for value in (0, 0.3)] if curves else [])
    return Part("mine", folder, folder, 8, "standard")


def some(categories=("bolt", "nut", "pin"), kinds=("bent", "hole"), count=7, seed=0):
    random = np.random.default_rng(seed)
    return [
        (category, kind, float(random.normal(0.6 if kind else 0.4, 0.1)))
        for category in categories
        for kind in (None, *kinds)
        for _ in range(count)
    ]


def points(axes):
    """Of each line of strips, the scores by colour: {line: {colour: sorted scores}}."""
    found = {}
    for strip in axes.collections:
        offsets = np.asarray(strip.get_offsets())
        if isinstance(strip, PathCollection) and len(offsets):
            line = int(np.round(offsets[:, 1].mean()))
            of_line = found.setdefault(line, {})
            for (score, _), colour in zip(offsets, np.resize(strip.get_facecolors(), (len(offsets), 4))):
                of_line.setdefault(to_hex(colour).upper(), []).append(score)
    return {line: {colour: sorted(scores) for colour, scores in colours.items()} for line, colours in found.items()}


def expected(images, category, kind):
    return pytest.approx(sorted(score for own, defect, score in images if (own, defect) == (category, kind)))


def test_f6_has_every_image_on_its_category_and_every_threshold(tmp_path, drawn):
    images = some(kinds=("bent",))
    scores_and_curves(part(tmp_path, images, {"bolt": 0.5, "pin": 0.55}, ("bolt", "nut")), tmp_path / "F6.png")
    (left, *curves) = drawn[0].axes
    assert [label.get_text() for label in left.get_yticklabels()] == ["bolt", "nut", "pin"]
    assert points(left) == {
        line: {NORMAL_COLOUR: expected(images, name, None), ANOMALOUS_COLOUR: expected(images, name, "bent")}
        for line, name in enumerate(("bolt", "nut", "pin"))
    }
    marks = [segment for marks in left.collections if marks.get_label() == "threshold" for segment in marks.get_segments()]
    assert [(mark[0, 0], round(mark[:, 1].mean(), 9)) for mark in marks] == [(0.5, 0), (0.55, 2)]
    assert [[line.get_label() for line in axes.get_lines()] for axes in curves] == [["bolt", "nut"]] * 2
    assert [text.get_text() for text in drawn[0].legends[0].get_texts()] == ["bolt", "nut"]


def test_f10_has_every_image_on_its_kind_of_defect_with_the_median(tmp_path, drawn):
    images = [*some(("bolt", "nut")), ("rod", "bent", 0.7)]
    scores_by_defect(part(tmp_path, images, {"nut": 0.5}), tmp_path / "F10.png")
    (axes,) = drawn[0].axes
    lines = ["normal (7)", "bent (7)", "hole (7)"] * 2 + ["bent (1)"]
    assert [label.get_text() for label in axes.get_yticklabels()] == lines
    assert [text.get_text() for text in axes.texts] == ["bolt", "nut", "rod"]
    found, places = points(axes), [1, 2, 3, 5, 6, 7, 9]
    kinds = [(name, kind) for name in ("bolt", "nut") for kind in (None, "bent", "hole")] + [("rod", "bent")]
    assert axes.get_yticks().tolist() == places
    assert found == {
        place: {ANOMALOUS_COLOUR if kind else NORMAL_COLOUR: expected(images, name, kind)}
        for place, (name, kind) in zip(places, kinds)
    }
    medians = {round(y): x for line in axes.get_lines() if line.get_marker() == "|" for x, y in line.get_xydata() if x == x}
    assert medians == pytest.approx({place: np.median(next(iter(of.values()))) for place, of in found.items()})
    (mark,) = next(marks for marks in axes.collections if marks.get_label() == "threshold").get_segments()
    assert mark.tolist() == [[0.5, 4.5], [0.5, 7.5]]


def test_f10_fills_columns_evenly_and_loses_no_category(tmp_path, drawn):
    categories = [f"c{index}" for index in range(15)]
    scores_by_defect(part(tmp_path, some(categories, [f"k{index}" for index in range(8)], 3)), tmp_path / "F10.png")
    assert [[text.get_text() for text in axes.texts] for axes in drawn[0].axes] == [
        categories[:5],
        categories[5:10],
        categories[10:],
    ]
    width, height = drawn[0].get_size_inches()
    assert width < 7.3 and height < 10, "a page"


@pytest.mark.parametrize("draw", [scores_and_curves, scores_by_defect])
@pytest.mark.parametrize(
    "images",
    [
        [("bolt", None, 0.5)],
        [("bolt", "bent", 0.5)],
        [("bolt", None, 0.5)] * 9 + [("nut", "bent", 0.5)] * 9,
        [("bolt", None, 0.5), ("bolt", None, 0.5 + 1e-12), ("nut", "good", 0.1), ("nut", "normal", 0.2)],
        some(HOSTILE, HOSTILE, 2),
    ],
    ids=["one normal", "one anomalous", "equal scores", "scores all but equal", "hostile names"],
)
def test_odd_data_is_drawn_whole(tmp_path, drawn, draw, images):
    draw(part(tmp_path, images, curves={name for name, *_ in images}), tmp_path / "figure.png")
    assert sum(len(scores) for line in points(drawn[0].axes[0]).values() for scores in line.values()) == len(images)
    drawn[0].canvas.draw()
    if images[0][0] == HOSTILE[0]:
        shown = [*drawn[0].axes[0].get_yticklabels(), *drawn[0].axes[0].texts]
        shown += [text for legend in drawn[0].legends for text in legend.get_texts()]
        written = "".join(text.get_text().replace("\\$", "$").replace("\n", "").replace(" ", "") for text in shown)
        assert all(name.replace(" ", "") in written for name in HOSTILE)


@pytest.mark.parametrize("draw", [scores_and_curves, scores_by_defect])
def test_drawn_again_it_is_the_same_to_the_byte_and_leaves_others_randomness_alone(tmp_path, draw):
    results = part(tmp_path / "results", some(), {"nut": 0.5}, ("bolt",))
    np.random.seed(3)
    before = np.random.get_state()[1].tolist()
    draw(results, tmp_path / "a.png")
    assert np.random.get_state()[1].tolist() == before
    np.random.seed(4)
    draw(results, tmp_path / "b.png")
    for suffix in (".png", ".pdf"):
        assert (tmp_path / "a").with_suffix(suffix).read_bytes() == (tmp_path / "b").with_suffix(suffix).read_bytes()


METRICS = ("image_auroc", "pixel_ap", "pixel_aupro")


def line(setting, values, kind="measured", part=("A", "all"), low=None, high=None, std=None, **more):
    """A row of a table: the value of each metric or None, and how far intervals reach below and above."""
    row = {"dataset": part[0], "scope": part[1], "setting": setting, "kind": kind, **more}
    for metric, value in zip(METRICS, values):
        row[metric] = "" if value is None else value
        if value is not None and low is not None:
            row |= {f"low_{metric}": value - low, f"high_{metric}": value + high}
        if value is not None and std is not None:
            row[f"std_{metric}"] = std
    return row


def table(path, *rows):
    columns = dict.fromkeys([*(key for row in rows for key in row), "note"], "")
    write_csv(path, list(columns), [columns | row for row in rows])
    return path


def shown_differences(axes):
    """Of each line from the top, in percentage points: values, and their ends, in the order of the metrics."""
    values, ends = {}, {}
    for drawing in axes.get_lines():
        if drawing.get_marker() in sweep_figures.MARKERS:
            for x, y in drawing.get_xydata()[~np.isnan(drawing.get_xdata())]:
                values.setdefault(round(y), []).append((y, x))
        elif drawing.get_marker() in ("None", None) and drawing.get_linestyle() == "-":
            (x, *others), (y, *_) = drawing.get_xdata(), drawing.get_ydata()
            if others and drawing.get_ydata()[0] == drawing.get_ydata()[-1]:
                ends.setdefault(round(y), []).append((y, (min(x, *others), max(x, *others))))
    return {
        place: ([x for _, x in sorted(found)], [pair for _, pair in sorted(ends.get(place, []))])
        for place, found in values.items()
    }


def test_f11_has_the_differences_and_intervals_of_every_table(tmp_path, drawn):
    near = [
        table(
            tmp_path / "T3.csv",
            line("pixel", (0.8, 0.5, 0.6)),
            line("mean − of both", (0.9, 0.6, 0.7)),
            line("latent", (0.9, 0.6, 0.7)),
            line("floor", (0.3, 0.2, 0.1)),
            line(difference_name("floor", "mean − of both"), (-0.6, -0.4, -0.6), "difference", low=0.02, high=0.03),
            line(difference_name("pixel", "mean − of both"), (-0.1, -0.1, -0.2), "difference", low=0.02, high=0.03),
            line(difference_name("latent", "mean − of both"), (0.1, 0.05, 0.0), "difference", low=0.01, high=0.05),
        ),
        table(
            tmp_path / "T6.csv",
            line("alone", (0.8, 0.5, 0.6)),
            line("floor", (0.3, 0.2, 0.1)),
            line(difference_name("floor", "alone"), (-0.5, -0.3, -0.5), "difference"),
        ),
    ]
    what_settings_change(near, tmp_path / "F11.png")
    (axes,) = drawn[0].axes
    assert axes.get_ylabel() == "T3" and axes.get_title() == "A / all"
    assert [label.get_text() for label in axes.get_yticklabels()] == ["pixel", "mean − of both (baseline)", "latent"], (
        "no floor"
    )
    shown = shown_differences(axes)
    assert shown.keys() == {0, 2}, "the baseline has no difference"
    assert shown[0][0] == pytest.approx([-10, -10, -20])
    assert shown[0][1] == [pytest.approx(pair) for pair in ((-12, -7), (-12, -7), (-22, -17))]
    assert shown[2][0] == pytest.approx([10, 5, 0])
    assert shown[2][1] == [pytest.approx(pair) for pair in ((9, 15), (4, 10), (-1, 5))]


def test_f11_has_deviations_of_seeds_and_a_column_for_every_data_set_and_scope(tmp_path, drawn):
    first, second, labels = ("$A$", "all"), ("B", "_all"), ("$x$ − <b>", "y" * 60)
    rows = [line(label, (0.9, 0.8, 0.7), part=of) for of in (first, second) for label in labels]
    rows += [
        line(difference_name(*labels), values, "difference", of, std=0.02)
        # the second has no masks
        for of, values in ((first, (0.1, 0.2, 0.3)), (second, (-0.1, None, None)))
    ]
    what_settings_change([table(tmp_path / "T2.csv", *rows)], tmp_path / "F11.png")
    left, right = drawn[0].axes
    assert [axes.get_title() for axes in (left, right)] == ["\\$A\\$ / all", "B / _all"]
    (((values, ends),), ((fewer, one),)) = (shown_differences(axes).values() for axes in (left, right))
    assert values == pytest.approx([10, 20, 30]) and fewer == pytest.approx([-10])
    assert ends == [pytest.approx(pair) for pair in ((8, 12), (18, 22), (28, 32))] and one == [pytest.approx((-12, -8))]
    drawn[0].canvas.draw()


def test_f11_without_anything_to_compare_says_so_and_a_damaged_table_is_named(tmp_path, drawn):
    what_settings_change([table(tmp_path / "T6.csv", line("alone", (0.8, None, None)))], tmp_path / "F11.png")
    assert [text.get_text() for text in drawn[0].axes[0].texts] == ["no two settings to compare"]
    rows = [line("a", (0.8, 0.5, 0.6)), line("b", (0.8, 0.5, 0.6)), line("a − c", (0, 0, 0), "difference")]
    with pytest.raises(InputError, match="T2.csv: its differences"):
        what_settings_change([table(tmp_path / "T2.csv", *rows)], tmp_path / "F11.png")


@pytest.mark.parametrize("masks", [True, False])
def test_f5_has_every_setting_also_of_the_same_steps_and_its_interval(tmp_path, drawn, masks):
    rest = (0.5, 0.6) if masks else (None, None)
    rows = [
        line("S = 5", (0.8, *rest), low=0.02, high=0.01, S=5, **{"images/s": 20.0}),
        line("S = 5, other", (0.7, *rest), low=0.02, high=0.01, S=5, **{"images/s": 20.0}),
        line("S = 1", (0.9, *rest), low=0.02, high=0.01, S=1, **{"images/s": 100.0}),
        # it has no steps
        line("floor", (0.3, *rest), low=0.02, high=0.01, S="", **{"images/s": ""}),
    ]
    accuracy_by_steps(table(tmp_path / "T4.csv", *rows), tmp_path / "F5.png")
    for axes, places in zip(drawn[0].axes, ([1, 5, 5], [20, 20, 100])):
        lines = [line for line in axes.get_lines() if len(line.get_xdata())]
        assert len(lines) == (3 if masks else 1)
        assert lines[0].get_xdata().tolist() == places and sorted(lines[0].get_ydata()) == pytest.approx([70, 80, 90])
        ends = sorted(segment[:, 1].tolist() for bars in axes.collections for segment in bars.get_segments())
        assert len(ends) == (9 if masks else 3)
        assert ends[-3:] == [pytest.approx(pair) for pair in ([68, 71], [78, 81], [88, 91])]
    assert len(drawn[0].legends[0].get_texts()) == len(lines)


def test_sweeps_drawn_again_are_the_same_to_the_byte(tmp_path):
    rows = [line(label, (0.9, 0.8, 0.7), low=0.1, high=0.1, S=1, **{"images/s": 10}) for label in "ab"]
    rows.append(line(difference_name("a", "b"), (0.1, 0.2, 0.3), "difference", low=0.1, high=0.1))
    path = table(tmp_path / "T4.csv", *rows)
    for name in ("one", "two"):
        accuracy_by_steps(path, tmp_path / f"{name}-F5.png")
        what_settings_change([path], tmp_path / f"{name}-F11.png")
    for file in ("F5.png", "F5.pdf", "F11.png", "F11.pdf"):
        assert (tmp_path / f"one-{file}").read_bytes() == (tmp_path / f"two-{file}").read_bytes()


def measured_on_the_way(path, minutes, values, scope="all"):
    """What `over_compute` writes, of a network kept after so many minutes each; a value that is None is none."""
    rows = [("$A$", scope, 60 * at, *("" if value is None else value for value in of)) for at, of in zip(minutes, values)]
    lines = [compute_figure.COLUMNS, *rows]
    path.write_text("".join("\t".join(map(str, line)) + "\n" for line in lines))
    return path


def test_f9_has_every_network_of_every_data_set_and_scope_by_its_minutes(tmp_path, drawn):
    values = [(0.5, 0.2, 0.3), (0.7, 0.4, 0.5), (0.8, 0.5, 0.6)]
    files = [
        measured_on_the_way(tmp_path / "a.tsv", (2, 10, 40), values),
        measured_on_the_way(tmp_path / "b.tsv", (2, 3, 4), [(value, None, None) for value, *_ in values], "plates"),
        measured_on_the_way(tmp_path / "c.tsv", (2,), values[:1], "one"),
        measured_on_the_way(tmp_path / "d.tsv", (2, 4), [(None,) * 3] * 2, "normal images alone"),
    ]
    accuracy_by_minutes(files, tmp_path / "F9.png")
    panels = [axes for axes in drawn[0].axes if axes.get_visible()]
    assert [axes.get_title() for axes in panels] == [
        f"\\$A\\$ / {name}" for name in ("all", "plates", "one", "normal images alone")
    ]
    assert [axes.get_xscale() for axes in panels[:3]] == ["log", "linear", "linear"], "by how far the minutes range"
    shown = [[line for line in axes.get_lines() if len(line.get_xdata())] for axes in panels]
    assert [len(lines) for lines in shown] == [3, 1, 3, 0]
    for metric, line in enumerate(shown[0]):
        assert line.get_xdata().tolist() == [2, 10, 40]
        assert line.get_ydata().tolist() == pytest.approx([100 * of[metric] for of in values])
    assert shown[1][0].get_ydata().tolist() == pytest.approx([50, 70, 80])
    assert [text.get_text() for text in panels[3].texts] == ["no metric"]
    assert len(drawn[0].legends[0].get_texts()) == 3


def test_f9_drawn_again_is_the_same_to_the_byte_and_a_file_without_rows_is_named(tmp_path):
    path = measured_on_the_way(tmp_path / "a.tsv", (2, 10), [(0.5, 0.2, 0.3), (0.7, 0.4, 0.5)])
    for name in ("one", "two"):
        accuracy_by_minutes([path], tmp_path / f"{name}-F9.png")
    for suffix in ("png", "pdf"):
        assert (tmp_path / f"one-F9.{suffix}").read_bytes() == (tmp_path / f"two-F9.{suffix}").read_bytes()
    empty = measured_on_the_way(tmp_path / "empty.tsv", (), ())
    with pytest.raises(InputError, match="empty.tsv: no row in it; measure the networks again"):
        accuracy_by_minutes([path, empty], tmp_path / "F9.png")


def test_steps_of_images_without_an_anomalous_one_are_said_to_be_missing(tmp_path, drawn):
    normal = part(tmp_path, [("bolt", None, 0.1), ("bolt", None, 0.2)])
    step_by_step(Course(normal, tmp_path, tmp_path, tmp_path, Diffusion(), Correction()), tmp_path / "F4.png")
    assert [text.get_text() for axis in drawn[0].axes for text in axis.texts] == ["no anomalous image"]
