"""The stages that DVC versions runs by, as written from configurations."""

import shutil
from pathlib import Path

import pytest
import yaml

from decodiff import tracking
from decodiff.errors import InputError
from decodiff.tracking import track

ROOT = Path(__file__).parents[1]


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A folder with the configurations alone."""
    shutil.copytree(ROOT / "config", tmp_path / "config")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_demos_stages_are_those_of_its_configuration(checkout):
    track(Path("config/demo.yaml"), Path("dvc.yaml"))
    assert (checkout / "dvc.yaml").read_text() == (ROOT / "dvc.yaml").read_text()
    data = yaml.safe_load(Path("dvc.yaml").read_text())["stages"]["data"]
    made = [name for out in data["outs"] for name in out]
    expected = [
        f"data/{of}/{name}" for of in ("demo", "demo_surfaces", "demo_parts") for name in ("manifest.csv", "origin.json")
    ]
    assert made == expected, "its arrays are generated"


def test_a_runs_stages_watch_code_settings_and_what_they_are_made_of(checkout):
    path = track(Path("config/config.yaml"))
    assert path == Path("records/paper/dvc.yaml")
    content = yaml.safe_load(path.read_text())
    data, models, results = content["stages"].values()
    made = {name for out in data["outs"] for name in out}
    names = ("manifest.csv", "origin.json", "prepared-288")
    assert made == {f"data/{of}/{name}" for name in names for of in ("mvtec_ad", "visa")}
    assert models["outs"] == [{"models/paper": {"persist": True}}] and set(models["deps"]) > {"data/visa/prepared-288"}
    assert results["outs"] == [{"results/paper": {"persist": True}}] and "models/paper" in results["deps"]
    for stage in (data, models, results):
        assert stage["wdir"] == "../.." and {"decodiff", "workflow"} <= set(stage["deps"])
        assert stage["params"] == [{"config/config.yaml": None}, {"config/recipes/released.yaml": None}]
    assert content["metrics"] == ["../../results/paper/metrics.json"]


def test_a_data_set_is_made_by_the_stage_of_one_run(checkout):
    first = yaml.safe_load(Path("config/config.yaml").read_text())
    Path("config/again.yaml").write_text(yaml.safe_dump(first | {"run": "again"}))
    track(Path("config/config.yaml"))
    for _ in range(2):
        stages = yaml.safe_load(track(Path("config/again.yaml")).read_text())["stages"]
        assert list(stages) == ["models", "results"] and "data/visa/prepared-288" in stages["models"]["deps"]


def test_a_configuration_elsewhere_is_refused(checkout, tmp_path_factory):
    other = tmp_path_factory.mktemp("elsewhere") / "run.yaml"
    shutil.copy(ROOT / "config/demo.yaml", other)
    with pytest.raises(InputError, match="run.yaml: not below .*copy it there"):
        track(other)


def test_pulling_without_dvc_says_how_to_install_it(checkout, monkeypatch):
    monkeypatch.setattr(tracking, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"^decodiff pull: needs DVC; install it with `pip install -e '\.\[dvc\]'`$"):
        tracking.pull()
