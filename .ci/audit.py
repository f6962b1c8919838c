"""Ask an advisory service about every locked package, by pip-audit; other arguments go to it.

Ends with 1 when a vulnerability is known, or when pip-audit itself fails. A service that does not answer is said, and is no
failure: the locks pin checksums.
"""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
LOCKS = [
    path.relative_to(ROOT).as_posix()
    for pattern in ("requirements*.lock", "config/adapters/*.lock")
    for path in sorted(ROOT.glob(pattern))
]

# in what pip-audit writes when the service, and not the lock or pip-audit itself, is at fault
UNANSWERED = ("requests.exceptions.", "ServiceError", "your network may be blocking this service")


def audited(lock: str, options: list[str]) -> list[dict]:
    """What pip-audit says of each package of a lock."""
    command = [str(Path(sys.executable).with_name("pip-audit")), "--require-hashes", "--disable-pip", "--requirement", lock]
    command += ["--format", "json", "--progress-spinner", "off", *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if not done.stdout.strip():
        reason = (done.stderr.strip().splitlines() or ["no word"])[-1]
        if not any(name in done.stderr for name in UNANSWERED):
            sys.exit(f"{lock}: pip-audit failed: {reason}")
        print(f"{lock}: not audited: {reason}")
        return []
    return json.loads(done.stdout)["dependencies"]


def main(options: list[str]) -> int:
    found = 0
    for lock in LOCKS:
        packages = audited(lock, options)
        skipped = [package for package in packages if "skip_reason" in package]
        print(f"{lock}: {len(packages) - len(skipped)} packages audited")
        if skipped:
            print(f"{lock}: {len(skipped)} packages NOT audited, for the first: {skipped[0]['skip_reason']}")
        for package in packages:
            for advisory in package.get("vulns", []):
                found += 1
                fixed = ", ".join(advisory["fix_versions"]) or "no version yet"
                print(f"{package['name']} {package['version']}: {advisory['id']}, fixed in {fixed}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
