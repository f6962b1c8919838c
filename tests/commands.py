"""Commands run as a user would, and what Snakemake says it would do."""

import csv
import os
import re
import subprocess
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]
SNAKEMAKE = Path(sys.executable).with_name("snakemake")
# progress is told now and then, and with the code of this checkout
ENVIRONMENT = os.environ | {"TQDM_MININTERVAL": "30", "PYTHONPATH": str(ROOT)}


def run(directory, *command, environment, check=True):
    """Run a command in a folder with some variables set besides; returns what it printed, once it ended as ``check`` says."""
    done = subprocess.run(
        list(map(str, command)),
        cwd=directory,
        env=ENVIRONMENT | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert not check or done.returncode == 0, done.stdout[-6000:]
    assert check or done.returncode != 0, done.stdout[-6000:]
    return done.stdout


def snakemake(directory, *arguments, check=True, package=ROOT):
    """Run Snakemake as a user would, in a folder of its own, with the code of the checkout ``package``; returns its output."""
    command = [SNAKEMAKE, "--snakefile", package / "workflow/Snakefile", "--directory", directory]
    return run(ROOT, *command, *arguments, environment={"PYTHONPATH": str(package)}, check=check)


def write_config(directory, **changes):
    """The toy configuration with some sections replaced."""
    path = directory / "toy.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load((ROOT / "tests/toy.yaml").read_text()) | changes, sort_keys=False))
    return path


def start(directory, config, *arguments, output="output"):
    """Start Snakemake in a folder, in a process group of its own; what it prints goes to the file ``output`` there."""
    directory.mkdir(exist_ok=True)
    with open(directory / output, "w") as stream:
        return subprocess.Popen(
            [SNAKEMAKE, *arguments, "--directory", directory, "--configfile", config],
            cwd=ROOT,
            env=ENVIRONMENT,
            stdout=stream,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def finish(process, minutes=10):
    """Wait until a process of `start` ends well."""
    try:
        code = process.wait(60 * minutes)
    finally:
        process.kill()
    assert code == 0, f"{' '.join(map(str, process.args))} ended with {code}"


def table(directory, name):
    """Rows of a table of the toy run in a folder."""
    with open(directory / f"results/toy/tables/{name}.csv", newline="") as stream:
        return list(csv.DictReader(stream))


# tables that also tell how fast this machine was
MEASURED = ("T4", "T6")


def tables(directory, without=()):
    """Content of the tables and metrics in a folder by name, without some tables."""
    found = [*directory.glob("results/*/tables/*.csv"), *directory.glob("results/**/metrics.csv")]
    return {str(path.relative_to(directory)): path.read_bytes() for path in found if path.stem not in without}


def planned(output):
    """Rules and their number of jobs in a dry run."""
    return {rule: int(count) for rule, count in re.findall(r"^(\w+) +(\d+)$", output, re.M) if rule != "total"}
