"""Commands run as a user would, and what Snakemake says it would do."""

import os
import re
import subprocess


def run(directory, *command, environment, check=True):
    """Run a command in a folder with some variables set besides; returns what it printed, once it ended as ``check`` says."""
    done = subprocess.run(
        list(map(str, command)),
        cwd=directory,
        env=os.environ | {"TQDM_MININTERVAL": "30"} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert not check or done.returncode == 0, done.stdout[-6000:]
    assert check or done.returncode != 0, done.stdout[-6000:]
    return done.stdout


def planned(output):
    """Rules and their number of jobs in a dry run."""
    return {rule: int(count) for rule, count in re.findall(r"^(\w+) +(\d+)$", output, re.M) if rule != "total"}
