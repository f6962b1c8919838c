"""Kills, full and protected disks, damaged files: the same command again gives the same tables, and nothing damaged is used."""

import contextlib
import os
import random
import shutil
import signal
import subprocess
import time

import psutil
import pytest
import yaml
from commands import MEASURED, ROOT, SNAKEMAKE, finish, start, tables, write_config

pytestmark = pytest.mark.survival

WHAT_IS_KILLED = ("snakemake", "worker", "group")
SMALL = {"seeds": [0], "scopes": {"all": ["demo_surfaces"]}}
TARGETS = [f"results/toy/{name}.csv" for name in ("tables/T1", "tables/T7", "tables/T8", "all/seed-0/demo_surfaces/metrics")]


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    return write_config(tmp_path_factory.mktemp("config"), **SMALL)


@pytest.fixture(scope="module")
def undisturbed(config, tmp_path_factory):
    """A folder in which the workflow has run without disturbance, and the seconds it took."""
    directory = tmp_path_factory.mktemp("undisturbed")
    begin = time.monotonic()
    finish(start(directory, config, *TARGETS))
    return directory, time.monotonic() - begin


@pytest.fixture
def finished(undisturbed, tmp_path):
    """A copy of it to damage; Snakemake still has nothing to do there."""
    shutil.copytree(undisturbed[0], tmp_path / "copy", symlinks=True)
    return tmp_path / "copy"


def workers(process, command=None):
    """The package's commands that a Snakemake runs at the moment, or those of one name."""
    found = []
    with contextlib.suppress(psutil.Error):
        for child in psutil.Process(process.pid).children(recursive=True):
            with contextlib.suppress(psutil.Error):
                if child.name() == "decodiff" and command in (None, *child.cmdline()):
                    found.append(child)
    return found


def kill(process, what, choose):
    """Kill -9 Snakemake alone, or the next command that it runs, or all of them at once. False when it ended before."""
    while process.poll() is None:
        if what == "group":
            os.killpg(process.pid, signal.SIGKILL)
            return True
        if what == "snakemake":
            process.kill()
            return True
        with contextlib.suppress(psutil.NoSuchProcess):
            if running := workers(process):
                choose.choice(running).kill()
                return True
        time.sleep(0.02)
    return False


def unlock(directory, config):
    """What is documented for a folder that a killed Snakemake has left locked."""
    subprocess.run([SNAKEMAKE, "--unlock", "--directory", directory, "--configfile", config], cwd=ROOT, check=True)


def survive(directory, config, targets, kills, seconds, seed):
    """Run the workflow, killing something so many times at moments spread over most of ``seconds``; gives what was killed."""
    choose, killed, process = random.Random(seed), [], None
    while len(killed) < kills:
        what = WHAT_IS_KILLED[len(killed) % len(WHAT_IS_KILLED)]
        process = process or start(directory, config, *targets)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(choose.uniform(1, 1.5 * seconds / kills))
        if kill(process, what, choose):
            killed.append(what)
        elif process.returncode == 0:
            break
        # when a worker is killed, its Snakemake goes on with what does not depend on it
        if what != "worker" or process.poll() is not None:
            process.wait()
            process = None
            unlock(directory, config)
    if process:
        process.wait()
    finish(start(directory, config, *targets), minutes=40)
    return killed


def test_whatever_is_killed_the_same_command_ends_with_the_same_tables(undisturbed, config, tmp_path):
    directory, seconds = undisturbed
    killed = survive(tmp_path, config, TARGETS, 6, seconds, seed=20)
    assert set(killed) == set(WHAT_IS_KILLED)
    assert tables(tmp_path) == tables(directory)
    left = [path for path in tmp_path.rglob(".*") if ".tmp" in path.name or path.suffix in (".lock", ".part")]
    assert not [path for path in left if ".snakemake" not in path.parts], "nothing half done is left"


@pytest.mark.long
def test_the_demo_killed_twenty_times_gives_the_same_tables(whole_demo, tmp_path):
    config, directory, seconds = whole_demo
    killed = survive(tmp_path, config, [], 20, seconds, seed=0)
    assert len(killed) == 20
    assert tables(tmp_path, MEASURED) == tables(directory, MEASURED)


def test_commands_end_with_a_snakemake_that_is_killed(config, tmp_path):
    long = yaml.safe_load(config.read_text())["autoencoder"] | {"steps": 100_000}
    process = start(tmp_path, write_config(tmp_path, **SMALL, autoencoder=long), *TARGETS)
    running = []
    while not running and process.poll() is None:
        running = workers(process, "autoencoder")
        time.sleep(0.05)
    process.kill()
    gone, left = psutil.wait_procs(running, timeout=60)
    assert gone and not left


def test_two_in_one_folder_and_a_lock_that_was_left_behind(config, tmp_path):
    first = start(tmp_path, config, *TARGETS)
    while not list(tmp_path.glob(".snakemake/locks/*")) and first.poll() is None:
        time.sleep(0.1)
    second = start(tmp_path, config, *TARGETS, output="second")
    assert second.wait() == 1 and "Directory cannot be locked" in (tmp_path / "second").read_text()
    assert first.poll() is None, "the first goes on"
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    again = start(tmp_path, config, *TARGETS)
    assert again.wait() == 1
    message = (tmp_path / "output").read_text()
    assert "Directory cannot be locked" in message and "--unlock" in message
    unlock(tmp_path, config)
    finish(start(tmp_path, config, TARGETS[0], "--dry-run"))


# ---- disks


@contextlib.contextmanager
def mounted(folder, *options):
    """A mount of one's own for the block."""
    folder.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(["mount", *options, folder], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"nothing can be mounted here: {done.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def size_of(directory):
    return sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())


def errors(directory):
    return {line for line in (directory / "output").read_text(errors="replace").splitlines() if line.startswith("error: ")}


@pytest.mark.parametrize("seed", [1, 2])
def test_a_disk_that_fills_up_is_named_and_with_more_room_the_tables_are_the_same(seed, undisturbed, config, tmp_path):
    directory, needed = undisturbed[0], size_of(undisturbed[0])
    room = int(needed * random.Random(seed).uniform(0.2, 0.8))
    small = tmp_path / "small"

    def resize(size):
        subprocess.run(["mount", "-o", f"remount,size={size}", small], check=True)

    with mounted(small, "-t", "tmpfs", "-o", f"size={needed // 10}", "tmpfs"):
        assert start(small, config, *TARGETS, output=tmp_path / "output").wait() != 0
        assert "of disk needed for what is still to be made" in (tmp_path / "output").read_text()
        assert not (small / "data").exists(), "it is refused before it starts"
        # something else takes the room once it has started
        resize(4 * needed)
        process = start(small, config, *TARGETS, output=tmp_path / "output")
        while not (small / "results/toy/config.yaml").exists() and process.poll() is None:
            time.sleep(0.05)
        resize(room)
        assert process.wait() != 0
        assert "No space left on device" in (tmp_path / "output").read_text()
        resize(4 * needed)
        finish(start(small, config, *TARGETS))
        assert tables(small) == tables(directory)


def test_a_results_folder_that_cannot_be_written_is_named(undisturbed, config, finished, tmp_path):
    shutil.rmtree(finished / "results/toy")
    results = finished / "results"
    with mounted(results, "-o", "bind,ro", results):
        assert start(finished, config, *TARGETS, output=tmp_path / "output").wait() != 0
        assert "Read-only file system" in (tmp_path / "output").read_text()
    finish(start(finished, config, *TARGETS))
    assert tables(finished) == tables(undisturbed[0])


# ---- damaged files


def flip(path):
    """Change one byte in the middle."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)


def halve(path):
    """What an interrupted copy leaves."""
    with open(path, "r+b") as stream:
        stream.truncate(path.stat().st_size // 2)


NETWORK = "models/toy/all/seed-0/diffusion_pytorch_model.safetensors"
CODER = "models/toy/autoencoder/diffusion_pytorch_model.safetensors"
MAPS = "results/toy/all/seed-0/demo_surfaces/anomaly_maps.npy"
ARRAY = "data/demo_surfaces/prepared-32/test_images.npy"


@pytest.mark.parametrize(
    ("damage", "name", "expected"),
    [
        (flip, NETWORK, f"{NETWORK}: damaged, its SHA-256 is not that in config.json"),
        (flip, CODER, f"{CODER}: damaged, its SHA-256 is not that in config.json"),
        (halve, MAPS, f"{MAPS}: not a whole .npy array"),
        (halve, ARRAY, f"{ARRAY}: not a whole .npy array"),
    ],
)
def test_a_damaged_file_is_named_and_not_used(damage, name, expected, undisturbed, config, finished):
    before = tables(finished)
    damage(finished / name)
    assert start(finished, config, *TARGETS).wait() != 0
    found = errors(finished)
    assert found and all(expected in line and "run again" in line for line in found), found
    assert not [path for path in tables(finished) if tables(finished)[path] != before[path]], "no table of it"
    # as the message says
    remove = finished / name if name.endswith(".npy") else (finished / name).parent
    shutil.rmtree(remove) if remove.is_dir() else remove.unlink()
    finish(start(finished, config, *TARGETS))
    assert tables(finished) == tables(undisturbed[0])
