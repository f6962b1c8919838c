"""Print docs/licences.md: the licences of all packages in an environment, by pip-licenses.

Argument: the folder of the virtual environment.
"""

import json
import re
import subprocess
import sys
from pathlib import Path

HEAD = """# Licences

This project is under the [MIT licence](../LICENSE). It stands on the following packages, which are installed and not copied.
The list is made by `make licences` from what the packages say of themselves; UNKNOWN are those that say nothing. Licences of
data sets are in [datasets.md](datasets.md). With an NVIDIA GPU, CUDA's libraries come besides (`requirements-cuda.lock`), under
NVIDIA's own terms. anomalib (Apache-2.0) and what it needs are installed for `config/peers.yaml` alone
(`config/adapters/anomalib.lock`) and not listed. Programs that tests use, if they are there, come from Debian:
Chromium, nginx, OpenSSH, SLURM, MUNGE.
"""
# a licence's whole text, where a package gives that for its name
LONGEST = 80


def packages(environment: Path) -> list[dict]:
    command = [str(Path(sys.executable).with_name("pip-licenses")), "--python", str(environment / "bin/python")]
    command += ["--format", "json", "--order", "name", "--with-system", "--ignore-packages", "decodiff", "pip", "setuptools"]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def licence(text: str) -> str:
    first = re.sub(r"\s+", " ", text.strip().splitlines()[0])
    return first.replace("|", "/") if len(first) <= LONGEST else first[: LONGEST - 1] + "…"


def main(environment: str) -> None:
    found = packages(Path(environment))
    copyleft = sorted(package["Name"] for package in found if "GPL" in package["License"])
    print(f"{HEAD}\nUnder the GPL, alone or at choice: {', '.join(copyleft)}.\n")
    print("| package | version | licence |\n|---|---|---|")
    for package in found:
        print(f"| {package['Name']} | {package['Version']} | {licence(package['License'])} |")


if __name__ == "__main__":
    main(sys.argv[1])
