"""DVC beside Snakemake: pulled files are not made again, whatever the store, and what is wrong with one is said.

A clone of the project, with settings at toy size in the place of the demo's, keeps all its files in the stores of these tests.
"""

import getpass
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import commands
import numpy as np
import pytest
import yaml
from pictures import make_mvtec

from decodiff.metrics import METRICS

ROOT = Path(__file__).parents[1]
NGINX, SSHD = Path("/usr/sbin/nginx"), Path("/usr/sbin/sshd")
STORE_LIMIT = 30_000_000
# what tells the settings of these tests from the toy workflow's: the demo's data sets, one scope, one seed
TOY_DATA = """run: toy
seeds: [0, 1]
data:
  demo_surfaces: {}
scopes:
  all: [demo_surfaces]
  plates: [demo_surfaces/brushed]
"""
DEMO_DATA = """run: demo
data:
  demo: {}
  mine: {kind: folder, source: SOURCE}
scopes:
  all: [demo]
"""
CONFIG = "config/demo.yaml"

pytestmark = pytest.mark.dvc


def run(directory, *command, check=True):
    """Run a command as a user would in a clone, with that clone's code; returns what it printed."""
    paths = [str(Path(sys.executable).parent), os.environ["PATH"]]
    environment = {"PATH": os.pathsep.join(paths), "PYTHONPATH": str(directory)}
    return commands.run(directory, *command, environment=environment, check=check)


def git(directory, *arguments):
    return run(directory, "git", "-c", "user.name=test", "-c", "user.email=test@localhost", *arguments)


def snakemake(directory, *arguments, check=True):
    return run(directory, "snakemake", *arguments, "--configfile", CONFIG, check=check)


def planned(directory, *arguments):
    return commands.planned(snakemake(directory, "-n", *arguments))


def change(path, old, new):
    content = path.read_text()
    assert content.count(old) == 1
    path.write_text(content.replace(old, new))


def copy_of_the_project(directory):
    """What a clone of the project as it stands would hold, as a repository of its own."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT, check=True, stdout=subprocess.PIPE
    )
    for name in listed.stdout.decode().split("\0"):
        if name and (ROOT / name).is_file():
            (directory / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, directory / name)
    git(directory, "init", "--quiet")


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """A repository in which the toy run is made by DVC, committed and pushed, and the folder it was pushed to."""
    repository, store = tmp_path_factory.mktemp("kept") / "repository", tmp_path_factory.mktemp("store")
    copy_of_the_project(repository)
    shutil.copy(ROOT / "tests/toy.yaml", repository / CONFIG)
    source = make_mvtec(tmp_path_factory.mktemp("images"), ("bolt",), size=(32, 32), train=4)
    change(repository / CONFIG, TOY_DATA, DEMO_DATA.replace("SOURCE", str(source)))
    run(repository, "decodiff", "track", CONFIG, "--output", "dvc.yaml")
    # a store that has room for maps and pictures
    ignored = repository / ".dvcignore"
    ignored.write_text("\n".join(line for line in ignored.read_text().splitlines() if "config.yaml" in line or "__" in line))
    for name in ("records", "store", "dvc.lock"):
        shutil.rmtree(repository / name) if (repository / name).is_dir() else (repository / name).unlink(missing_ok=True)
    run(repository, "dvc", "remote", "add", "--default", "lab", store)
    run(repository, "dvc", "repro")
    git(repository, "add", "--all")
    git(repository, "commit", "--quiet", "--message", "toy run")
    run(repository, "dvc", "push")
    return repository, store


@pytest.fixture
def clone(kept, tmp_path):
    """A fresh clone, nothing pulled."""
    git(tmp_path, "clone", "--quiet", kept[0], tmp_path / "clone")
    return tmp_path / "clone"


def test_run_twice_it_does_nothing_the_second_time(kept):
    assert "up to date" in run(kept[0], "dvc", "repro")
    assert "up to date" in run(kept[0], "dvc", "status")
    assert git(kept[0], "status", "--porcelain") == ""


@pytest.mark.slow
def test_in_five_clones_in_a_row_nothing_is_left_to_do_after_a_pull(kept, tmp_path):
    for number in range(5):
        directory = tmp_path / str(number)
        git(tmp_path, "clone", "--quiet", kept[0], directory)
        run(directory, "dvc", "pull")
        assert "Nothing to be done" in snakemake(directory, "-n")
    # data that the code generates is not stored, and drawn by figures
    snakemake(directory, "prepared")
    assert "Nothing to be done" in snakemake(directory, "-n")
    change(directory / CONFIG, "resamples: 50", "resamples: 60")
    plan = planned(directory)
    assert plan.keys() - {"all"} == {
        *("evaluate", "evaluate_floor", "table", "summary", "figures", "provenance", "report", "rule_graph")
    }
    change(directory / CONFIG, "resamples: 60", "resamples: 50")
    path = directory / "decodiff/training/loop.py"
    path.write_text("# a comment\n" + path.read_text())
    change(directory / "decodiff/reporting/main_tables.py", "import MEAN\n", "import MEAN as MEAN\n")
    assert planned(directory).keys() - {"all"} == {"table", "provenance", "report"}
    run(directory, "dvc", "repro")
    assert "Nothing to be done" in snakemake(directory, "-n")


def test_an_added_scope_trains_one_network(clone):
    run(clone, "dvc", "pull")
    snakemake(clone, "prepared")
    change(clone / CONFIG, "  all: [demo]\n", "  all: [demo]\n  others: [mine]\n")
    plan = planned(clone)
    assert plan["train"] == 1 and not {"fetch", "prepare", "autoencoder", "encode"} & plan.keys()


def test_with_the_networks_alone_nothing_is_trained(clone):
    run(clone, "dvc", "pull", "models")
    assert not (clone / "data").exists()
    assert "Nothing to be done" in snakemake(clone, "-n", "trained")
    output = snakemake(clone, "measured", check=False)
    assert "would be trained again" in output and "dvc pull" in output
    run(clone, "dvc", "pull", "data")
    snakemake(clone, "prepared")
    assert not {"autoencoder", "train"} & planned(clone).keys()


def round_otherwise(path):
    """What another processor may do, at the time at which Snakemake saw the file written."""
    state, array = path.stat(), np.load(path)
    np.save(path, array * np.float32(1 + 2**-23))
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))


def test_what_was_made_again_on_another_processor_makes_nothing_again_that_was_pulled(clone):
    run(clone, "dvc", "pull")
    shutil.rmtree(clone / "models/demo/latents")
    maps = clone / "results/demo/all/seed-0/demo/anomaly_maps.npy"
    maps.unlink()
    snakemake(clone, "prepared")
    snakemake(clone, "encoded")
    for path in (clone / "models/demo/latents").rglob("*.npy"):
        round_otherwise(path)
    snakemake(clone, "shown")
    round_otherwise(maps)
    assert "Nothing to be done" in snakemake(clone, "-n")
    # and what somebody else did later
    np.save(maps, np.load(maps)[::-1])
    assert {"evaluate", "curves"} <= planned(clone).keys() and "train" not in planned(clone)


@pytest.mark.slow
def test_metrics_settings_and_curves_can_be_compared(clone):
    run(clone, "dvc", "pull")
    shown = json.loads(run(clone, "dvc", "metrics", "show", "--json"))
    measured = shown[""]["data"]["results/demo/metrics.json"]["data"]
    assert list(measured["demo"]["all"]) == list(METRICS)
    change(clone / CONFIG, "pixel_sigma: 1.0", "pixel_sigma: 3.0")
    run(clone, "dvc", "repro")
    assert "scoring.pixel_sigma" in run(clone, "dvc", "params", "diff")
    difference = json.loads(run(clone, "dvc", "metrics", "diff", "--json"))
    assert difference["results/demo/metrics.json"]["demo.all.pixel_ap"]["diff"] != 0
    run(clone, "dvc", "plots", "show")
    page = (clone / "dvc_plots/index.html").read_text()
    assert all(title in page for title in ("Training of all", "Pixel precision", "Overlap with the defects"))
    log = json.loads((clone / "models/demo/all/seed-0/training.json").read_text())
    assert log["training"]["epochs"] == 1


@pytest.mark.slow
def test_experiments_run_on_the_same_settings_and_leave_nothing_to_do_once_applied(clone):
    run(clone, "dvc", "pull")
    git(clone, "config", "user.name", "test"), git(clone, "config", "user.email", "test@localhost")
    run(clone, "dvc", "exp", "run", "--name", "now", "--set-param", f"{CONFIG}:evaluation.resamples=60")
    assert "Nothing to be done" in snakemake(clone, "-n")
    run(clone, "dvc", "exp", "run", "--queue", "--name", "later", "--set-param", f"{CONFIG}:scoring.pixel_sigma=2.0")
    run(clone, "dvc", "exp", "run", "--run-all")
    shown = json.loads(run(clone, "dvc", "exp", "show", "--json"))
    assert "later" in json.dumps(shown) and "now" in json.dumps(shown)
    run(clone, "dvc", "exp", "apply", "later")
    assert "pixel_sigma: 2.0" in (clone / CONFIG).read_text()
    assert "Nothing to be done" in snakemake(clone, "-n")


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def wait_for(port):
    for _ in range(100):
        with socket.socket() as client:
            if client.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise AssertionError(f"nothing listens on port {port}")


@pytest.fixture
def web(kept, tmp_path):
    """Address of an nginx that serves a copy of the store read-only, and that copy."""
    if not NGINX.exists():
        pytest.skip("needs Debian's package nginx-light")
    store, port, state = tmp_path / "www", free_port(), tmp_path / "nginx"
    shutil.copytree(kept[1], store)
    state.mkdir()
    temporary = "".join(f"{name}_temp_path {state}; " for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    user = f"user {getpass.getuser()};" if os.getuid() == 0 else ""
    (state / "nginx.conf").write_text(
        f"{user} daemon off; pid {state}/pid; error_log {state}/error.log; events {{}}\n"
        f"http {{ access_log off; {temporary} server {{ listen 127.0.0.1:{port}; root {store}; "
        "location / { limit_except GET { deny all; } } } }\n"
    )
    server = subprocess.Popen([NGINX, "-p", state, "-c", state / "nginx.conf", "-e", state / "error.log"])
    try:
        wait_for(port)
        yield f"http://127.0.0.1:{port}", store
    finally:
        server.terminate()
        server.wait()


def test_a_read_only_web_server_is_pulled_from_and_refuses_a_push(clone, web):
    run(clone, "dvc", "remote", "add", "--local", "--default", "web", web[0])
    run(clone, "dvc", "remote", "modify", "--local", "web", "verify", "true")
    run(clone, "dvc", "pull")
    assert "Nothing to be done" in snakemake(clone, "-n")
    shutil.rmtree(web[1])
    web[1].mkdir()
    output = run(clone, "dvc", "push", check=False)
    assert "403" in output or "Forbidden" in output
    assert not list(web[1].rglob("*"))


def test_a_damaged_object_of_a_web_server_is_not_taken(clone, web):
    run(clone, "dvc", "remote", "add", "--local", "--default", "web", web[0])
    run(clone, "dvc", "remote", "modify", "--local", "web", "verify", "true")
    weights = max((path for path in web[1].rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)
    content = bytearray(weights.read_bytes())
    content[len(content) // 2] ^= 1
    weights.write_bytes(content)
    output = run(clone, "dvc", "pull", check=False)
    assert "ERROR" in output
    for path in clone.rglob("*"):
        assert not path.is_file() or path.stat().st_size != len(content) or path.read_bytes() != bytes(content)


def test_maintainers_push_by_ssh(kept, clone, tmp_path):
    if not SSHD.exists():
        pytest.skip("needs Debian's package openssh-server")
    store, port, keys = tmp_path / "store", free_port(), tmp_path / "keys"
    store.mkdir()
    keys.mkdir(mode=0o700)
    for name in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", keys / name], check=True)
    shutil.copy(keys / "user.pub", keys / "authorized")
    if os.getuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)
    (keys / "config").write_text(
        f"ListenAddress 127.0.0.1:{port}\nHostKey {keys}/host\nAuthorizedKeysFile {keys}/authorized\nPidFile none\n"
        "StrictModes no\nUsePAM no\nPasswordAuthentication no\nPermitRootLogin prohibit-password\n"
        "Subsystem sftp internal-sftp\n"
    )
    server = subprocess.Popen([SSHD, "-D", "-f", keys / "config", "-E", keys / "log"])
    try:
        wait_for(port)
        run(clone, "dvc", "pull")
        url = f"ssh://{getpass.getuser()}@127.0.0.1:{port}{store}"
        run(clone, "dvc", "remote", "add", "--local", "--default", "server", url)
        run(clone, "dvc", "remote", "modify", "--local", "server", "keyfile", keys / "user")
        run(clone, "dvc", "push")
        shutil.rmtree(clone / ".dvc/cache")
        for name in ("data", "models", "results"):
            shutil.rmtree(clone / name)
        run(clone, "dvc", "pull")
        assert "Nothing to be done" in snakemake(clone, "-n")
    finally:
        server.terminate()
        server.wait()


def test_another_run_is_versioned_by_its_configuration_and_is_nothing_to_miss_before_it_was_made(kept, tmp_path):
    directory = tmp_path / "clone"
    git(tmp_path, "clone", "--quiet", kept[0], directory)
    run(directory, "dvc", "pull")
    said = run(directory, "decodiff", "track", "config/config.yaml")
    assert said == "records/paper/dvc.yaml: now `dvc repro records/paper/dvc.yaml` makes the run, and `dvc push` stores it\n"
    plan = run(directory, "dvc", "repro", "--dry", "--single-item", "records/paper/dvc.yaml:data")
    assert "snakemake prepared --configfile config/config.yaml" in plan and "decodiff records paper" in plan
    run(directory, "decodiff", "pull")
    # made and stored in one clone, pulled in another
    content = yaml.safe_load((directory / CONFIG).read_text()) | {"run": "second", "scopes": {"all": ["mine"]}}
    (directory / "config/second.yaml").write_text(yaml.safe_dump(content | {"data": {"mine": content["data"]["mine"]}}))
    run(directory, "decodiff", "track", "config/second.yaml")
    stages = yaml.safe_load((directory / "records/second/dvc.yaml").read_text())["stages"]
    assert list(stages) == ["models", "results"], "the data set is that of the first run"
    run(directory, "dvc", "repro", "records/second/dvc.yaml")
    shutil.rmtree(directory / "records/paper")
    git(directory, "add", "--all")
    git(directory, "commit", "--quiet", "--message", "second run")
    run(directory, "dvc", "push")
    git(tmp_path, "clone", "--quiet", directory, tmp_path / "other")
    run(tmp_path / "other", "dvc", "pull")
    said = run(tmp_path / "other", "snakemake", "-n", "--configfile", "config/second.yaml")
    assert "Nothing to be done" in said and "Nothing to be done" in snakemake(tmp_path / "other", "-n")


def test_a_pull_that_fails_says_why_in_a_line_and_loses_nothing(clone, kept, tmp_path):
    def said():
        output = run(clone, "decodiff", "pull", check=False)
        (line,) = [line for line in output.splitlines() if line.startswith("error: ")]
        assert "Traceback" not in output
        return line

    assert "files" in run(clone, "decodiff", "pull")
    assert "nothing, all is here" in run(clone, "decodiff", "pull")
    changed = clone / "results/demo/tables/T1.csv"
    original = changed.read_bytes()
    changed.write_text("mine")
    assert "T1.csv" in said() or "results/demo" in said()
    assert changed.read_text() == "mine"
    changed.unlink()
    store = tmp_path / "store"
    shutil.copytree(kept[1], store)
    run(clone, "dvc", "remote", "add", "--local", "--default", "copy", store)
    run(clone, "dvc", "remote", "modify", "--local", "copy", "verify", "true")
    shutil.rmtree(clone / ".dvc/cache")
    before = {path: path.read_bytes() for path in clone.joinpath("models").rglob("*.safetensors")}
    (path,) = (path for path in store.rglob("*") if path.is_file() and path.read_bytes() == original)
    path.chmod(0o644)
    path.write_bytes(original[::-1])
    assert "not whole in the remote 'copy'" in said()
    shutil.rmtree(store)
    shutil.rmtree(clone / ".dvc/cache", ignore_errors=True)
    assert "not whole in the remote 'copy'" in said()
    assert all(path.read_bytes() == content for path, content in before.items())
    shutil.rmtree(clone / ".dvc")
    assert "no clone that DVC knows" in said()


def test_the_store_of_the_repository_is_small_and_holds_all_that_the_demo_shows(tmp_path):
    objects = [path.stat().st_size for path in (ROOT / "store").rglob("*") if path.is_file()]
    assert objects and sum(objects) <= STORE_LIMIT
    copy_of_the_project(tmp_path)
    run(tmp_path, "dvc", "pull")
    assert len(list((tmp_path / "results/demo/tables").glob("T*.csv"))) == 9, "all but T5, T6, T12 to T14"
    assert len(list((tmp_path / "results/demo/figures").rglob("F*.png"))) >= 20
    assert (tmp_path / "results/demo/report.html").stat().st_size > 1_000_000
    assert "Nothing to be done" in snakemake(tmp_path, "-n"), (
        "the store was made with other code or settings: docs/reproduce.md"
    )
    assert not list(tmp_path.glob("data/*/*/")), "images and arrays are not stored"
