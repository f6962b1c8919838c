"""The workflow without its checkout: deployed by snakedeploy as a module of another workflow, and from an installed package."""

import os
import re
import shlex
import shutil
import sys
import sysconfig
from pathlib import Path

import pytest
import yaml
from commands import ROOT, planned, run
from test_dvc import copy_of_the_project, git
from test_new import loose

SNAKEDEPLOY = shutil.which("snakedeploy", path=os.pathsep.join([str(ROOT / ".venv-tools/bin"), os.environ["PATH"]]))
TAG = "v0.0.1"

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def hosted(tmp_path_factory):
    """Folders of a checkout and of its bare clone, and variables by which git finds that one at https://github.com/lab/decodiff."""
    checkout, host = tmp_path_factory.mktemp("checkout"), tmp_path_factory.mktemp("host")
    copy_of_the_project(checkout)
    git(checkout, "add", "--all")
    git(checkout, "commit", "--quiet", "--message", "as it stands")
    git(checkout, "tag", TAG)
    git(checkout, "clone", "--quiet", "--bare", checkout, host / "lab/decodiff")
    address = {"GIT_CONFIG_KEY_0": f"url.file://{host}/.insteadOf", "GIT_CONFIG_VALUE_0": "https://github.com/"}
    # Snakemake keeps what it cloned, by its tag
    cache = str(tmp_path_factory.mktemp("cache"))
    return checkout, host / "lab/decodiff", address | {"GIT_CONFIG_COUNT": "1", "GITHUB_TOKEN": "", "XDG_CACHE_HOME": cache}


@pytest.fixture(scope="module")
def commands_of(hosted, tmp_path_factory):
    """Folder of the commands of an environment: the package as pip installs it from the repository, all else from here."""
    environment = tmp_path_factory.mktemp("environment")
    run(environment, sys.executable, "-m", "venv", "--without-pip", environment, environment={})
    programs, here = environment / "bin", sysconfig.get_path("purelib")
    packages = next(environment.glob("lib/python*/site-packages"))
    (packages / "others.pth").write_text(f"{here}\n")
    install = ["-m", "pip", "--python", programs / "python", "install", "--quiet", "--no-deps", "--no-build-isolation"]
    run(environment, sys.executable, *install, f"git+file://{hosted[1]}@{TAG}", environment={"PYTHONPATH": ""})
    script = (Path(sys.executable).with_name("snakemake")).read_text()
    (programs / "snakemake").write_text(re.sub("^#!.*", f"#!{programs / 'python'}", script))
    (programs / "snakemake").chmod(0o755)
    return programs


def listing(folder):
    """All files of a folder with their times."""
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


@pytest.mark.skipif(SNAKEDEPLOY is None, reason="no snakedeploy here; `make test-slow` installs it")
def test_it_is_deployed_as_a_module_into_an_empty_folder_and_runs_there(hosted, commands_of, tmp_path):
    checkout, repository, address = hosted
    before = listing(checkout) | listing(repository)
    folder = tmp_path / "mine"
    run(tmp_path, SNAKEDEPLOY, "deploy-workflow", "https://github.com/lab/decodiff", folder, "--tag", TAG, environment=address)
    assert 'github("lab/decodiff", path="workflow/Snakefile"' in (folder / "workflow/Snakefile").read_text()
    # settings of one's own, and a recipe
    settings = yaml.safe_load((ROOT / "tests/toy.yaml").read_text())
    recipe = {"scoring": settings.pop("scoring"), "seed": 7}
    (folder / "config/recipes/mine.yaml").write_text(yaml.safe_dump(recipe))
    settings |= {"recipe": "mine", "seeds": [0], "scopes": {"all": ["demo_surfaces"]}}
    (folder / "config/config.yaml").write_text(yaml.safe_dump(settings))
    deployed = {path.name for path in folder.iterdir()}
    environment = address | {"PYTHONPATH": "", "PATH": f"{commands_of}{os.pathsep}{os.environ['PATH']}"}
    run(folder, commands_of / "snakemake", environment=environment)
    assert {path.name for path in folder.iterdir()} - deployed == {"data", "models", "results", "logs", ".snakemake"}
    assert "Input, correction" in (folder / "results/toy/report.html").read_text()
    assert yaml.safe_load((folder / "results/toy/config.yaml").read_text())["seed"] == 7
    assert "correct" in (folder / "results/toy/rulegraph.dot").read_text()
    assert listing(checkout) | listing(repository) == before
    assert {path.name for path in tmp_path.iterdir()} == {"mine"}
    again = run(folder, commands_of / "snakemake", "-n", environment=environment)
    assert "Nothing to be done" in again
    # what asks the workflow for its plan finds that of the module
    counted = run(folder, commands_of / "decodiff", "plan", "--config", "seeds=[0,1]", environment=environment)
    assert re.search(r"^train +1 ", counted, re.M)


def test_an_installed_package_begins_a_run_anywhere(commands_of, tmp_path):
    images = loose(tmp_path / "bolts", 40)
    environment = {"PYTHONPATH": "", "OMP_NUM_THREADS": "1"}
    said = run(tmp_path, commands_of / "decodiff", "new", "mine", images, environment=environment)
    command = shlex.split(re.search("^next: (.*)$", said, re.M).group(1))
    jobs = planned(run(tmp_path, commands_of / command[0], *command[1:], "-n", environment=environment))
    assert jobs["train"] == jobs["report"] == 1
