"""The workflow through a real SLURM on this machine: the same tables, whatever happens to jobs and nodes."""

import os
import signal
import subprocess
from pathlib import Path

import pytest
import slurm
from commands import MEASURED, ROOT, finish, start, tables, write_config
from test_survival import SMALL, TARGETS

pytestmark = [
    pytest.mark.slurm,
    pytest.mark.skipif(not slurm.is_installed(), reason="needs Debian's slurmctld, slurmd, slurm-client and munge, and root"),
]

PROFILE = ("--workflow-profile", ROOT / "profiles/slurm", "--slurm-init-seconds-before-status-checks", "3")
# as many threads as a local run has, for the same sums
HERE = ("--max-threads", str(os.cpu_count()), "--jobs", "4")


@pytest.fixture
def cluster(request):
    with slurm.cluster(nodes=request.param) as running:
        yield running


def job_of(process, rule):
    """SLURM's number and node of the running job of a rule; None when there is none yet."""
    assert process.poll() is None, "Snakemake has ended"
    listed = subprocess.run(["squeue", "-h", "-t", "running", "-o", "%A %N %k"], capture_output=True, text=True).stdout
    return next((tuple(line.split()[:2]) for line in listed.splitlines() if f"rule_{rule}" in line), None)


def lose(cluster, node, job):
    """What a node's power cut does: its daemon and all processes of the job are gone."""
    cluster.kill(f"slurmd-{node}")
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command, environment = (process / "cmdline").read_bytes(), (process / "environ").read_bytes()
        except OSError:
            continue
        if f"slurmstepd: [{job}.".encode() in command or f"SLURM_JOB_ID={job}\0".encode() in environment:
            os.kill(int(process.name), signal.SIGKILL)


@pytest.mark.parametrize("cluster", [2], indirect=True)
def test_the_tables_are_the_same_in_spite_of_a_kill_for_memory_a_lost_node_and_a_controller_away(cluster, tmp_path):
    config = write_config(tmp_path, **SMALL)
    too_small = ["--set-resources", "encode_test:mem_mb=300 * attempt ** 3"]
    there = tmp_path / "there"
    process = start(there, config, *TARGETS, *PROFILE, *HERE, *too_small)
    cluster.wait(lambda: job_of(process, "autoencoder"), "the autoencoder's job", 120)
    job, node = job_of(process, "autoencoder")
    lose(cluster, node, job)
    cluster.wait(lambda: (job, "NODE_FAIL") in cluster.jobs(), "the loss of the node to be noticed", 120)
    cluster.kill("slurmctld")
    cluster.start_controller()
    finish(process)
    printed = (there / "output").read_text()
    assert f"SLURM-job '{job}' failed due to a node failure" in printed
    assert cluster.node_state(node).startswith("down"), "nothing more ran on it"
    assert [state for _, state in cluster.jobs()].count("NODE_FAIL") == 1
    (kept,) = there.glob(".snakemake/slurm_logs/rule_encode_test/**/*.log")
    assert "exceeded memory limit" in kept.read_text() and "mem_mb=2400," in printed, "asked for more after the kill"

    here = tmp_path / "here"
    finish(start(here, config, *TARGETS))
    assert tables(there) == tables(here) and len(tables(here)) == 4


@pytest.mark.long
@pytest.mark.parametrize("cluster", [1], indirect=True)
def test_the_whole_demo_gives_the_same_tables(whole_demo, cluster, tmp_path):
    config, here, _ = whole_demo
    finish(start(tmp_path, config, *PROFILE, *HERE), minutes=60)
    assert cluster.jobs() and {state for _, state in cluster.jobs()} == {"COMPLETED"}
    assert tables(tmp_path, MEASURED) == tables(here, MEASURED)
