"""Names that mean something to a shell, a path, a page or a formula, from images to the report; and hostile configurations."""

import csv
import html
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from commands import ROOT, SNAKEMAKE, finish, run, start, write_config
from pictures import make_mvtec

from decodiff.config import load
from decodiff.errors import InputError
from decodiff.planning.plan import planned
from decodiff.stages.fetch import fetch

CATEGORIES = (
    "$(touch x); touch x",
    "-rf a'b\"c`touch x`",
    "=ü\u0308n\u202eï☃ $\\frac$",
    "<img src=x onerror=alert(1)>",
    "a|b %_&#{}~^\\",
)
DEFECT = "$(touch x) <i>|'"
LABELS = ("$(touch x) <b>|$", "-x=y'\"")


def workflow(directory, config, *arguments, check=False):
    """What Snakemake prints with a configuration; by default it must fail."""
    words = [*arguments, "--directory", directory, "--configfile", config]
    return run(ROOT, SNAKEMAKE, *words, environment={}, check=check)


@pytest.mark.survival
def test_names_are_names_wherever_they_go(tmp_path):
    # the folder's own name is as odd as what it holds
    folder = tmp_path / "a 'b\" $(touch x) ünï"
    folder.mkdir()
    make_mvtec(folder / "mine", CATEGORIES, size=(40, 32), train=2, defect=DEFECT)
    config = write_config(
        folder,
        seeds=[0],
        data={"mine": {"kind": "folder", "source": str(folder / "mine")}},
        scopes={"all": ["mine"]},
        sweeps={"T3": dict(zip(LABELS, ({"scoring.fusion": "pixel"}, {"scoring.fusion": "latent"})))},
    )
    before = {path for path in ROOT.iterdir()}
    finish(start(folder, config))
    results = folder / "results/toy"
    with open(results / "tables/T7.csv", newline="") as stream:
        assert {row["category"] for row in csv.DictReader(stream)} == {*CATEGORIES, "mean"}
    with open(results / "tables/T3.csv", newline="") as stream:
        assert {row["setting"] for row in csv.DictReader(stream)} >= set(LABELS)
    page = (results / "report.html").read_text()
    for name in (*CATEGORIES, DEFECT, *LABELS):
        escaped = html.escape(name).replace("&#x27;", "&#39;").replace("&quot;", "&#34;")
        assert escaped in page
        assert name in page if escaped == name else name not in page, "not as a tag"
    markdown = (results / "tables/T7.md").read_text()
    assert r"a\|b %_&#{}~^\ |" in markdown and "&lt;img src=x" in markdown
    assert r"\$(touch x); touch x &" in (results / "tables/T7.tex").read_text()
    assert not list(tmp_path.rglob("x")) and {path for path in ROOT.iterdir()} == before, "nothing was executed"


@pytest.mark.parametrize("name", ["x\ny", "tab\there", "escape\x1b[31m", "separator\u2028", "mean", "recall"])
def test_names_that_no_table_can_hold_are_refused_by_name(tmp_path, name):
    make_mvtec(tmp_path / "mine", (name,))
    with pytest.raises(InputError, match="rename it|call the category otherwise") as error:
        fetch("mine", str(tmp_path / "mine"), "folder", "all", tmp_path / "data/mine/manifest.csv")
    assert "\n" not in str(error.value) and not (tmp_path / "data/mine/manifest.csv").exists()


@pytest.mark.parametrize("category", ["../../x", "/etc/x", "$(touch x)"])
def test_a_category_of_a_list_is_never_a_path(tmp_path, category):
    make_mvtec(tmp_path / "mine")
    lines = [f"mine/bolt/train/good/{index:03d}.png,train,{category},0" for index in range(2)]
    lines += [f"mine/bolt/test/good/000.png,test,{category},0"]
    (tmp_path / "list.csv").write_text("\n".join(["image,split,category,label", *lines]) + "\n")
    before = {path for path in tmp_path.rglob("*")}
    fetch("mine", str(tmp_path / "list.csv"), "csv", "all", tmp_path / "data/mine/manifest.csv")
    made = {path for path in tmp_path.rglob("*")} - before
    assert made and all((tmp_path / "data") in (path, *path.parents) for path in made)
    assert category in (tmp_path / "data/mine/manifest.csv").read_text()


TAG = "!!python/object/apply:os.system ['touch x']"


@pytest.mark.parametrize(
    "change",
    [
        {"run": "$(touch x)"},
        {"run": "../x"},
        {"scopes": {"a;touch x": ["demo_surfaces"]}},
        {"data": {"../x": {"kind": "folder"}}},
        {"sweeps": {"T3": {"a\nb": {}}}},
        {"processes": "1; touch x"},
        {"image": {"resize": "32 $(touch x)", "crop": 32}},
    ],
)
def test_values_that_would_reach_a_shell_are_refused_before_any_job(tmp_path, change):
    config = write_config(tmp_path, **change)
    done = subprocess.run(
        [SNAKEMAKE, "--directory", tmp_path, "--configfile", config], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode != 0 and "configuration: " in done.stderr and "Traceback" not in done.stderr
    assert {path.name for path in tmp_path.iterdir()} <= {"toy.yaml", ".snakemake"} and not (ROOT / "x").exists()


def test_a_tag_in_a_configuration_is_not_executed_by_the_workflow_either(tmp_path):
    config = tmp_path / "evil.yaml"
    config.write_text((ROOT / "tests/toy.yaml").read_text() + f"seed: {TAG}\n")
    workflow(tmp_path, config, "-n")
    assert not list(tmp_path.rglob("x")) and not (ROOT / "x").exists()


def test_a_template_is_run_by_snakemake_itself_and_named_at_once(tmp_path):
    """What SECURITY.md says of configurations: Snakemake's reader runs these before any rule file is read, even with ``-n``."""
    config = tmp_path / "evil.yaml"
    executed = tmp_path / "executed"
    config.write_text(f"__use_yte__: true\n{(ROOT / 'tests/toy.yaml').read_text()}seed: ?len(str(open('{executed}', 'w')))\n")
    assert f"{config}: __use_yte__: `snakemake` runs the expressions" in workflow(tmp_path, config, "-n")
    assert executed.exists(), "Snakemake no longer runs templates: say so in SECURITY.md and docs/architecture.md"
    with pytest.raises(InputError, match="__use_yte__: unknown key"):
        load(config)


LAUGHS = ["a: &a {k: 1}", *(f"{b}: &{b} {{x: *{a}, y: *{a}}}" for a, b in zip("abcdefghijklmno", "bcdefghijklmnop"))]


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (["__use_yte__: true", "seed: ?len(str(open('executed', 'w')))"], "__use_yte__: `snakemake` runs the expressions"),
        (LAUGHS, "more than 10,000 values"),
        (["seed: 1", "seed: 2"], "not YAML .'seed' stands there twice"),
    ],
    ids=["template", "aliases", "twice"],
)
def test_a_plan_runs_nothing_of_a_configuration(tmp_path, monkeypatch, lines, expected):
    """So it can be asked what others' configurations would do."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "evil.yaml").write_text((ROOT / "tests/toy.yaml").read_text() + "\n".join(lines) + "\n")
    with pytest.raises(InputError, match=f"evil.yaml: {expected}"):
        planned(["--configfile", "evil.yaml", "--snakefile", str(ROOT / "workflow/Snakefile")], 1e14)
    assert [path.name for path in tmp_path.iterdir()] == ["evil.yaml"]


def test_a_key_that_stands_twice_stops_the_workflow(tmp_path):
    config = tmp_path / "mine.yaml"
    config.write_text((ROOT / "tests/toy.yaml").read_text() + "run: other\n")
    assert f"{config}: not YAML ('run' stands there twice" in workflow(tmp_path, config, "-n")


def test_paths_of_a_configuration_reach_commands_as_one_word(tmp_path):
    """A source with words of the shell: it is looked for, and nothing else happens."""
    source = tmp_path / "no such $(touch x); touch x 'folder"
    data = {"mine": {"kind": "folder", "source": str(source)}}
    config = write_config(tmp_path, data=data, scopes={"all": ["mine"]})
    printed = workflow(tmp_path, config, "data/mine/manifest.csv")
    assert f"error: data.mine.source: no folder or archive {source};" in printed
    assert not list(tmp_path.rglob("x")) and not (ROOT / "x").exists()


def test_paths_of_networks_are_one_word_of_a_command_or_none(tmp_path):
    paths = {name: str(tmp_path / f"$(touch x); touch x '{name}") for name in ("model", "autoencoder")}
    for path in paths.values():
        Path(path).write_bytes(b"no network")
    config = write_config(
        tmp_path,
        seeds=[0],
        model={"source": "reference", "path": paths["model"]},
        autoencoder={"source": "pretrained", "path": paths["autoencoder"]},
    )
    targets = ["models/toy/all/seed-0/config.json", "models/toy/autoencoder/config.json"]
    printed = workflow(tmp_path, config, "-n", "-p", *targets, check=True)
    commands = [shlex.split(command) for command in re.findall("^Shell command: (decodiff .*)", printed, re.M)]
    words = {command[1]: command for command in commands}
    assert words.keys() == {"import-reference", "autoencoder"} and words["import-reference"][2] == paths["model"]
    assert not any("touch" in word for word in words["autoencoder"]), "it is read from the configuration"
    assert not list(tmp_path.rglob("x")) and not (ROOT / "x").exists()


def test_one_word_stays_one_word_in_a_variant(tmp_path):
    """Settings of a variant are JSON on a command line."""
    program = Path(sys.executable).with_name("decodiff")
    arguments = ["score", "--config", ROOT / "config/demo.yaml", "--variant", '{"scoring.fusion": "$(touch x)"}']
    for option in ("--corrected", "--latents", "--autoencoder", "--output"):
        arguments += [option, tmp_path]
    done = subprocess.run([program, *arguments], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and done.stderr.startswith("error: sweeps: scoring.fusion: ") and done.stderr.count("\n") == 1
    assert not list(tmp_path.rglob("x"))
    assert yaml.safe_load((ROOT / "config/demo.yaml").read_text())["run"] == "demo"
