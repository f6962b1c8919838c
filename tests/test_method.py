"""Other methods: what they are given, what becomes of their maps, and what is said of those that fail."""

import hashlib
import json
import re
import signal
import subprocess
import sys
import textwrap
import time
import zipfile
from pathlib import Path

import numpy as np
import psutil
import pytest
from test_evaluate import table
from test_floor import prepare

from decodiff.data.maps import own_maps
from decodiff.data.rows import read_positions
from decodiff.errors import InputError
from decodiff.reporting.main_tables import build_table
from decodiff.reporting.sweep_tables import Source, write_sweep_table
from decodiff.settings import Evaluation, Method
from decodiff.stages import method as stage
from decodiff.stages.evaluate import evaluate_maps, write_unmeasured

ROOT = Path(__file__).parents[1]
IDENTITY = {"dataset": "mine", "scope": "all", "seed": "0", "crop": "central 8 of 12"}
PLACES = "{train} {test} {maps}"
# how far each test image is from the mean of its category's training images: the example of docs/methods.md, with other types
FAR_FROM_THE_MEAN = """
    import json, sys
    from pathlib import Path
    import numpy as np
    from PIL import Image
    train, test, maps = map(Path, sys.argv[1:4])
    read = lambda path: np.asarray(Image.open(path), np.float32)
    for category in sorted(test.iterdir()):
        mean = np.mean([read(path) for path in sorted((train / category.name).iterdir())], axis=0)
        (maps / category.name).mkdir()
        for path in sorted(category.iterdir()):
            np.save(maps / category.name / path.stem, np.abs(read(path) - mean).mean(axis=2))
"""


def example():
    """The method that docs/methods.md shows, as one copies it from there."""
    (code,) = re.findall(r"^```python\n(.*?)^```$", (ROOT / "docs/methods.md").read_text(), re.M | re.S)
    return code


def program(folder, code, name="method.py"):
    """The command that runs some code of Python."""
    path = folder / name
    path.write_text(textwrap.dedent(code))
    return f"{sys.executable} {path} {PLACES}"


def made(folder, code, categories=(), **settings):
    """Where the maps of a method are that is some code, on the data set of `prepare`."""
    if not (folder / "prepared").is_dir():
        prepare(folder / "prepared")
    chosen = Method(command=program(folder, code), **{"minutes": 0.5, "limit_minutes": 1} | settings)
    stage.method("mine", folder / "prepared", categories, chosen, 8, 3, 1, folder / "out")
    return folder / "out"


def record(folder):
    return json.loads((folder / "method.json").read_text())


def test_maps_belong_to_the_images_that_the_pictures_were_of(tmp_path):
    output = made(tmp_path, FAR_FROM_THE_MEAN)
    positions, rows = read_positions(output / "images.csv")
    maps = np.load(output / "anomaly_maps.npy")
    train, test = (np.load(tmp_path / f"prepared/{part}_images.npy")[:, 2:10, 2:10].astype(float) for part in ("train", "test"))
    means = {"bolt": train[:9].mean(axis=0), "nut": train[9:].mean(axis=0)}
    expected = [np.abs(test[place] - means[row.category]).mean(axis=2) for place, row in zip(positions, rows)]
    assert len(rows) == 24 and maps.dtype == np.float32 and maps == pytest.approx(np.array(expected), rel=1e-5)
    assert {row.split for row in rows} == {"test", "validation"}, "a threshold needs the held-out ones"
    found = record(output)
    assert found["failure"] is None and found["parameters"] is None and found["peak_mib"] > 1 and found["seconds"] > 0
    assert not list(output.glob("work-*")), "pictures are not kept"


def test_the_documented_example_is_that_method(tmp_path):
    expected = np.load(made(tmp_path, FAR_FROM_THE_MEAN) / "anomaly_maps.npy")
    assert len(list(filter(None, example().splitlines()))) == 10
    found = np.load(made(tmp_path, example()) / "anomaly_maps.npy")
    assert found.shape == expected.shape and found == pytest.approx(expected, rel=1e-4)


def test_it_is_told_neither_labels_nor_other_categories(tmp_path, caplog):
    code = """
        import sys
        from pathlib import Path
        for folder in map(Path, sys.argv[1:3]):
            for path in sorted(folder.rglob("*")):
                print(path.relative_to(folder.parent))
        sys.exit("seen")
    """
    with caplog.at_level("INFO", logger="decodiff"):
        made(tmp_path, code, categories=("nut",))
    seen = [message for message in caplog.messages if message.startswith(("train/", "test/"))]
    assert seen == [
        *("train/nut", *(f"train/nut/{number:06d}.png" for number in range(9, 18))),
        *("test/nut", *(f"test/nut/{number:06d}.png" for number in range(12, 24))),
    ]


FAILURES = {
    "dies": ('print("warming up"); raise SystemExit("no such backbone")', "ended with status 1: no such backbone"),
    "says nothing": ("raise SystemExit(3)", "ended with status 3: it said nothing"),
    "is killed": ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "ended with status -9: it said nothing"),
    "one left out": (FAR_FROM_THE_MEAN + "\n    (maps / 'nut/000023.npy').unlink()", "no map of nut/000023.png"),
    "NaN": (FAR_FROM_THE_MEAN + "\n    np.save(maps / 'nut/000013', np.full((8, 8), np.nan))", "map of nut/000013.png: NaN"),
    "infinite": (FAR_FROM_THE_MEAN + "\n    np.save(maps / 'nut/000013', np.full((8, 8), np.inf))", "000013.png: infinite"),
    "no map at all": (FAR_FROM_THE_MEAN + "\n    (maps / 'nut/000013.npy').write_text('x')", "nut/000013.npy"),
    "costs of another kind": (
        FAR_FROM_THE_MEAN + "\n    (maps / 'costs.json').write_text('{\"parameters\": -1}')",
        "costs.json: parameters: Input should be greater than or equal to 0, got -1",
    ),
    "another size": (
        FAR_FROM_THE_MEAN + "\n    np.save(maps / 'bolt/000000', np.zeros((7, 8)))",
        "map of bolt/000000.png: 7×8 pixels instead of 8×8",
    ),
}


@pytest.mark.parametrize("kind", FAILURES)
def test_a_failure_is_its_result(tmp_path, kind):
    code, message = FAILURES[kind]
    output = made(tmp_path, code)
    assert message in record(output)["failure"] and stage.failure_of(output) == record(output)["failure"]
    assert np.load(output / "anomaly_maps.npy").shape == (0, 8, 8) and read_positions(output / "images.csv")[1] == []
    assert not list(output.glob("work-*"))


def test_one_that_takes_too_long_is_ended_with_all_that_it_started(tmp_path):
    code = """
        import subprocess, sys, time
        subprocess.Popen([sys.executable, "-c", "import time; time.sleep(97.25)"])
        time.sleep(98.25)
    """
    begin = time.monotonic()
    output = made(tmp_path, code, minutes=0.01, limit_minutes=0.05)
    assert record(output)["failure"] == "not done after its limit of 0.05 min" and time.monotonic() - begin < 60
    commands = [" ".join(process.info["cmdline"] or ()) for process in psutil.process_iter(["cmdline"])]
    assert not any("97.25" in command for command in commands)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_ended_it_takes_the_command_with_it(tmp_path, number):
    prepare(tmp_path / "prepared")
    (tmp_path / "method.py").write_text(f"import time\nopen({str(tmp_path / 'begun')!r}, 'w').close()\ntime.sleep(96.75)\n")
    code = (
        "from pathlib import Path\nfrom decodiff.settings import Method\nfrom decodiff.stages.method import method\n"
        f"chosen = Method(command={f'{sys.executable} {tmp_path}/method.py {PLACES}'!r})\n"
        f"method('mine', Path({str(tmp_path / 'prepared')!r}), (), chosen, 8, 0, 1, Path({str(tmp_path / 'out')!r}))\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT)
    try:
        while not (tmp_path / "begun").exists():
            assert process.poll() is None
            time.sleep(0.05)
        process.send_signal(number)
        assert process.wait(60) != 0
    finally:
        process.kill()
    commands = [" ".join(running.info["cmdline"] or ()) for running in psutil.process_iter(["cmdline"])]
    assert not any(str(tmp_path / "method.py") in command for command in commands)
    assert not (tmp_path / "out/method.json").exists(), "it was not the method's failure"


def test_a_program_that_is_not_there_is_a_failure_too(tmp_path):
    prepare(tmp_path / "prepared")
    missing = Method(command=f"no-such-program {PLACES}")
    stage.method("mine", tmp_path / "prepared", (), missing, 8, 0, 1, tmp_path / "out")
    assert record(tmp_path / "out")["failure"] == "cannot be started: no-such-program (No such file or directory)"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"command": ""}, "empty; expected a program"),
        ({"command": "mine {test}"}, "without {maps} it does not know where the maps lie"),
        ({"command": "mine {test} {maps} {masks}"}, "unknown {masks}; expected of {train}, {test}"),
        ({"command": "mine '{test} {maps}"}, "No closing quotation; braces and quotes"),
        ({"command": "mine {test} {maps} {"}, "braces and quotes come in pairs"),
        ({"command": "mine {test} {maps}", "minutes": 200}, "120 are fewer than the 200 minutes"),
    ],
)
def test_settings_that_cannot_work_are_refused(settings, message):
    with pytest.raises(ValueError, match=message.replace("{", r"\{").replace("}", r"\}")):
        Method(**settings)


@pytest.mark.parametrize("name", ["test.csv", "test_images.npy"])
def test_a_damaged_data_set_is_not_the_methods_failure(name, tmp_path):
    prepare(tmp_path / "prepared")
    (tmp_path / "prepared" / name).write_text("nothing\n")
    with pytest.raises(InputError, match=name):
        stage.method("mine", tmp_path / "prepared", (), Method(command=f"true {PLACES}"), 8, 0, 1, tmp_path / "out")


def wheel(folder):
    """A package that this environment has not, as pip installs it, and a lock of it."""
    path = folder / "elsewhere-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("elsewhere.py", "WORD = 'from elsewhere'\n")
        about = "Metadata-Version: 2.1\nName: elsewhere\nVersion: 1.0\n"
        archive.writestr("elsewhere-1.0.dist-info/METADATA", about)
        archive.writestr("elsewhere-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr("elsewhere-1.0.dist-info/RECORD", "")
    lock = folder / "other.lock"
    lock.write_text(f"{path} --hash=sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}\n")
    return lock


def test_it_runs_in_an_environment_of_its_own_which_is_made_once(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    prepare(tmp_path / "prepared")
    (tmp_path / "which.py").write_text(
        "import elsewhere, sys\ntry:\n    import torch\nexcept ImportError:\n    sys.exit(f'{elsewhere.WORD}, without torch')\n"
    )
    lock = wheel(tmp_path)
    chosen = Method(command=f"python which.py {PLACES}", requirements=str(lock))
    for _ in range(2):
        stage.method("mine", tmp_path / "prepared", (), chosen, 8, 0, 1, tmp_path / "out")
        assert record(tmp_path / "out")["failure"] == "ended with status 1: from elsewhere, without torch"
    (environment,) = (tmp_path / ".environments").glob("other-*")
    assert (environment / "installed").stat().st_mtime > (environment / "pyvenv.cfg").stat().st_mtime
    lock.write_text(lock.read_text().replace("sha256:", "sha256:0")[:-2] + "\n")
    stage.method("mine", tmp_path / "prepared", (), chosen, 8, 0, 1, tmp_path / "out")
    assert "other.lock: pip does not install it (" in record(tmp_path / "out")["failure"]


@pytest.fixture
def measured(tmp_path):
    """Folders of results of the run itself, another method and one that failed, each evaluated."""
    found = {}
    for name, code in (
        ("ours", FAR_FROM_THE_MEAN),
        ("squares", FAR_FROM_THE_MEAN.replace("np.abs(read(path) - mean)", "((read(path) - mean) ** 2)")),
        ("broken", "raise SystemExit('no weights')"),
    ):
        made(tmp_path, code)
        found[name] = (tmp_path / "out").rename(tmp_path / name)
        evaluation = Evaluation(resamples=40)
        if reason := stage.failure_of(found[name]):
            write_unmeasured(f"failed: {reason}", evaluation, IDENTITY, found[name])
        else:
            evaluate_maps(own_maps(found[name], tmp_path / "prepared", 8, "standard"), evaluation, IDENTITY, found[name])
        content = record(found[name]) | {"method": name}
        (found[name] / "method.json").write_text(json.dumps(content))
    inference = {"steps": 2, "parameters": 1_000_000, "operations_per_image": 3e9, "images_per_second": 12.0, "peak_mib": 100.0}
    (found["ours"] / "method.json").unlink()
    (found["ours"] / "inference.json").write_text(json.dumps(inference))
    (found["ours"] / "speed.tsv").write_text("epoch\tseconds\timages_per_second\n1\t60.0\t1\n2\t30.0\t1\n")
    return found


def test_tables_have_a_line_for_each_and_say_what_failed(tmp_path, measured):
    lines = {line.keys["method"]: line for line in build_table("T1", [of / "metrics.csv" for of in measured.values()]).lines}
    assert list(lines) == ["DeCo-Diff (this run, all)", "squares (this run, all)", "broken (this run, all)"]
    assert lines["squares (this run, all)"].values["image_auroc"] == 1
    assert (
        lines["broken (this run, all)"].values == {}
        and "failed: ended with status 1: no weights" in lines["broken (this run, all)"].note
    )
    (category, *_) = build_table("T7", [of / "metrics.csv" for of in measured.values()]).lines[3:]
    assert category.keys["scope"] == "squares, all"
    sources = [Source("DeCo-Diff", measured["ours"], measured["ours"] / "inference.json", measured["ours"] / "speed.tsv")]
    sources += [Source(name, measured[name], *2 * [measured[name] / "method.json"]) for name in ("squares", "broken")]
    write_sweep_table("T14", sources, "DeCo-Diff", [], tmp_path / "T14.csv")
    rows = {row["setting"]: row for row in table(tmp_path / "T14.csv")}
    assert list(rows) == ["DeCo-Diff", "squares", "broken", "squares − DeCo-Diff"]
    assert rows["DeCo-Diff"]["training, min"] == "1.5" and rows["DeCo-Diff"]["parameters, M"] == "1.00"
    assert rows["squares"]["training, min"] == "–" and float(rows["squares"]["peak MiB"]) > 1
    assert rows["broken"]["image_auroc"] == "" and "no weights" in rows["broken"]["note"]
    assert rows["squares"]["low_pixel_ap"] and rows["squares − DeCo-Diff"]["low_pixel_ap"]
