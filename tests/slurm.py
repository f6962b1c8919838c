"""A real SLURM on 127.0.0.1 for tests: Debian's programs, a folder of its own, one or more nodes on this machine."""

import contextlib
import os
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

# where a job's own processes look for it, whatever SLURM_CONF says
CONFIG = Path("/etc/slurm/slurm.conf")
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch")
PARTITION = "ci"
# seconds after which a silent node counts as lost
LOST_AFTER = 10

SETTINGS = """ClusterName=ci
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort=16817
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
SlurmUser=root
AuthInfo=socket={state}/munge.socket
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
JobAcctGatherParams=OverMemoryKill
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
GresTypes=gpu
ReturnToService=2
MinJobAge=3600
KillWait=5
SlurmdTimeout={lost_after}
SlurmdParameters=config_overrides
StateSaveLocation={state}/controller
SlurmdSpoolDir={state}/node-%n
SlurmctldPidFile={state}/slurmctld.pid
SlurmdPidFile={state}/slurmd-%n.pid
SlurmctldLogFile={state}/slurmctld.log
SlurmdLogFile={state}/slurmd-%n.log
{nodes}
PartitionName={partition} Nodes={names} Default=YES MaxTime=INFINITE DefaultTime=10 DefMemPerCPU=500
"""


def is_installed():
    """Whether Debian's packages munge, slurmctld, slurmd and slurm-client are here, and may be started."""
    return all(shutil.which(program, path=f"{os.environ['PATH']}:/usr/sbin") for program in PROGRAMS) and os.geteuid() == 0


class Cluster:
    """A running SLURM.

    Args:
        state: a new folder for all it writes; others must be able to look into it.
        nodes: number of nodes; each claims all of this machine's processors.
    """

    def __init__(self, state, nodes):
        self.state, self.names = state, [f"node{number}" for number in range(1, nodes + 1)]
        if CONFIG.exists() and not CONFIG.is_symlink():
            raise RuntimeError(f"{CONFIG} is not this test's own; it is left alone")
        for folder in ("controller", *(f"node-{name}" for name in self.names)):
            (state / folder).mkdir(parents=True)
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20
        lines = [
            f"NodeName={name} NodeHostname={os.uname().nodename} NodeAddr=127.0.0.1 Port={16818 + index} "
            f"CPUs={os.cpu_count()} RealMemory={memory * 9 // 10} Gres=gpu:1"
            for index, name in enumerate(self.names)
        ]
        self.configuration = state / "slurm.conf"
        self.configuration.write_text(
            SETTINGS.format(
                host=os.uname().nodename,
                state=state,
                lost_after=LOST_AFTER,
                nodes="\n".join(lines),
                names=",".join(self.names),
                partition=PARTITION,
            )
        )
        # a device that is there on every machine stands for the GPU
        (state / "gres.conf").write_text("".join(f"NodeName={name} Name=gpu File=/dev/null\n" for name in self.names))
        key = state / "munge.key"
        key.write_bytes(secrets.token_bytes(1024))
        key.chmod(0o600)

    def start(self):
        CONFIG.parent.mkdir(exist_ok=True)
        for name in ("slurm.conf", "gres.conf"):
            link = CONFIG.with_name(name)
            link.unlink(missing_ok=True)
            link.symlink_to(self.state / name)
        state = self.state
        self._run(
            "munged",
            f"--key-file={state}/munge.key",
            f"--socket={state}/munge.socket",
            f"--pid-file={state}/munged.pid",
            f"--log-file={state}/munged.log",
            f"--seed-file={state}/munge.seed",
        )
        self._run("slurmctld")
        for name in self.names:
            self.start_node(name)
        self.wait(lambda: all(self.node_state(name).startswith("idle") for name in self.names), "the nodes")

    def _run(self, *command):
        done = subprocess.run(
            command, env=os.environ | {"PATH": f"{os.environ['PATH']}:/usr/sbin"}, capture_output=True, text=True
        )
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)}: {done.stdout}{done.stderr}")

    def start_node(self, name):
        self._run("slurmd", "-N", name)

    def start_controller(self):
        self._run("slurmctld")

    def wait(self, holds, what, seconds=60):
        """Until something holds. Raises `TimeoutError` with the end of the logs."""
        end = time.monotonic() + seconds
        while not holds():
            if time.monotonic() > end:
                logs = "".join(path.read_text(errors="replace")[-2000:] for path in self.state.glob("*.log"))
                raise TimeoutError(f"waiting for {what}\n{logs}")
            time.sleep(0.25)

    def node_state(self, name):
        return subprocess.run(["sinfo", "-h", "-n", name, "-o", "%t"], capture_output=True, text=True).stdout.strip()

    def jobs(self):
        """SLURM's number and state of every job, those that ended included."""
        listed = subprocess.run(["squeue", "-h", "-t", "all", "-o", "%A %T"], capture_output=True, text=True).stdout
        return [tuple(line.split()) for line in listed.splitlines()]

    def _process(self, daemon):
        """Number of a daemon's process; None when it does not run."""
        try:
            number = int((self.state / f"{daemon}.pid").read_text())
            state = Path(f"/proc/{number}/status").read_text()
        except (OSError, ValueError):
            return None
        return None if "State:\tZ" in state else number

    def kill(self, daemon):
        """End a daemon at once, as a power cut would."""
        number = self._process(daemon)
        if number is not None:
            os.kill(number, signal.SIGKILL)
            self.wait(lambda: self._process(daemon) is None, f"the end of {daemon}")

    def stop(self):
        subprocess.run(["scancel", "-u", "root"], capture_output=True, check=False)
        with contextlib.suppress(TimeoutError):
            self.wait(lambda: not [state for _, state in self.jobs() if state in ("RUNNING", "COMPLETING")], "jobs to end", 15)
        for daemon in (*(f"slurmd-{name}" for name in self.names), "slurmctld", "munged"):
            number = self._process(daemon)
            if number is not None:
                os.kill(number, signal.SIGTERM)
                with contextlib.suppress(TimeoutError):
                    self.wait(lambda: self._process(daemon) is None, daemon, 10)  # noqa: B023  (called at once)
                self.kill(daemon)
        for name in ("slurm.conf", "gres.conf"):
            link = CONFIG.with_name(name)
            if link.is_symlink() and link.readlink() == self.state / name:
                link.unlink()


@contextlib.contextmanager
def cluster(nodes):
    """A SLURM that runs during the block."""
    with tempfile.TemporaryDirectory(prefix="decodiff-slurm-", dir="/tmp") as state:
        os.chmod(state, 0o755)
        running = Cluster(Path(state), nodes)
        try:
            running.start()
            yield running
        finally:
            running.stop()
