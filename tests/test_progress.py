"""`decodiff run`: what a person sees of a run, and what goes to the log."""

import io
import os
import pty
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from commands import ENVIRONMENT

from decodiff.progress import SECONDS_TO_PACE, Course, Screen

WORKFLOW = """
rule all:
    input: "first", {second}
rule begin:
    output: "first"
    shell: "echo of the job >&2; sleep 1; touch {{output}}"
rule broken:
    output: "second"
    log: "broken.log"
    shell: "echo 'train.csv: no such column' > {{log}}; exit 1"
"""


@pytest.fixture
def course():
    now = [100.0]
    course = Course(lambda: now[0])
    course.jobs = 3
    course.expect({"prepare a": 10, "train all": 90})
    return course, now


def test_a_run_is_as_far_as_the_time_that_its_jobs_are_thought_to_take(course):
    course, now = course
    course.begin(1, "prepare a")
    now[0] += 4
    assert course.part == pytest.approx(0.04)
    course.end(1)
    assert course.part == pytest.approx(0.1)
    course.begin(2, "train all")
    now[0] += 500  # longer than was thought
    assert course.part == pytest.approx(1)
    assert course.left == 0
    # one that failed is not done
    course.end(2, well=False)
    assert course.part == pytest.approx(0.1)


def test_the_time_left_follows_the_pace_of_the_run(course):
    course, now = course
    assert course.left == pytest.approx(100), "as it was thought"
    course.begin(1, "prepare a")
    now[0] += 30
    course.end(1)
    # 10 s thought took 30 s
    assert course.left == pytest.approx(90 * (30 + SECONDS_TO_PACE) / (10 + SECONDS_TO_PACE))


def test_the_line_names_the_longest_job_that_runs(course):
    course, now = course
    course.begin(1, "prepare a")
    course.begin(2, "train all")
    now[0] += 10
    assert course.line().startswith("0 of 3 jobs · train all and 1 more · 10 s, about ")
    course.end(1)
    course.end(2)
    assert course.line() == "2 of 3 jobs · between jobs · 10 s, about 0 s left"


def test_without_a_terminal_lines_come_while_one_long_job_runs(course):
    course, now = course
    stream = io.StringIO()
    screen = Screen(course, stream, seconds_between_lines=0.01)
    screen.begin()
    course.begin(1, "train all")
    for second in (20, 40):
        now[0] = 100.0 + second
        ends = time.monotonic() + 20
        while f" {second} s, about" not in stream.getvalue() and time.monotonic() < ends:
            time.sleep(0.01)
    screen.end()
    said = stream.getvalue()
    assert "0 of 3 jobs · train all · 20 s, about " in said and "0 of 3 jobs · train all · 40 s, about " in said
    time.sleep(0.05)
    assert stream.getvalue() == said, "none after the end"


def run(folder, *arguments, second="", terminal=None):
    (folder / "Snakefile").write_text(WORKFLOW.format(second=second))
    command = [Path(sys.executable).with_name("decodiff"), "run", "--cores", "1", "--keep-going", *arguments]
    return subprocess.run(
        command, cwd=folder, env=ENVIRONMENT, stdin=subprocess.DEVNULL, stdout=terminal, stderr=terminal or subprocess.PIPE
    )


def test_messages_go_to_the_log_and_the_end_to_the_screen(tmp_path):
    done = run(tmp_path)
    said = done.stderr.decode()
    assert done.returncode == 0
    assert re.fullmatch(r"done after \d+ s; the full log: logs/run.log\n", said), said
    log = (tmp_path / "logs/run.log").read_text()
    assert "rule begin:" in log and "of the job" in log and "2 of 2 steps (100%) done" in log
    assert "nothing to be done" in run(tmp_path).stderr.decode()


def test_a_job_that_fails_is_told_in_a_line_with_its_reason(tmp_path):
    done = run(tmp_path, second="'second'")
    said = done.stderr.decode().splitlines()
    assert done.returncode == 1
    assert said[0] == "broken: train.csv: no such column (broken.log)"
    assert len(said) == 2 and said[1].startswith("not done after "), said
    assert (tmp_path / "first").exists(), "what does not depend on it is made"


def test_a_mistake_on_the_command_line_is_told(tmp_path):
    done = run(tmp_path, "--configfile", "nowhere.yaml")
    assert done.returncode == 1
    assert done.stderr.decode().startswith("error: nowhere.yaml: ")
    assert "unrecognized arguments: --nonsense" in run(tmp_path, "--nonsense").stderr.decode()


def test_a_mistake_in_the_workflow_is_told(tmp_path):
    done = run(tmp_path, second="'nowhere'")
    said = done.stderr.decode()
    assert done.returncode == 1
    assert "nowhere" in said and "Traceback" not in said


def test_a_terminal_shows_one_line(tmp_path):
    ours, theirs = pty.openpty()
    with os.fdopen(theirs, "wb") as terminal:
        done = run(tmp_path, terminal=terminal)
    said = os.read(ours, 1 << 20).decode()
    os.close(ours)
    assert done.returncode == 0
    assert "begin" in said and "0 of 2 jobs" in said
    # drawn anew in its place, and the last message
    assert said.count("\n") - said.count("\x1b[1A") <= 2, said
    assert "rule begin:" not in said
