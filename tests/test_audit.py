"""The check of locked packages against known vulnerabilities, with a service of one's own."""

import json
import re
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from test_config import LOCKS

ROOT = Path(__file__).parents[1]
PYTHON = ROOT / ".venv-tools/bin/python"

pytestmark = pytest.mark.skipif(not PYTHON.is_file(), reason="needs the environment of `make audit`")


def audit(address, *options):
    command = [PYTHON, ".ci/audit.py", "--vulnerability-service", "osv", "--osv-url", address, *options]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


class Advisories(BaseHTTPRequestHandler):
    """Knows one vulnerability, of Jinja2."""

    def do_POST(self):
        question = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        known = []
        if question["package"]["name"].lower() == "jinja2":
            events = [{"introduced": "0"}, {"fixed": "99.1"}]
            package = {"name": "jinja2", "ecosystem": "PyPI"}
            affected = [{"package": package, "ranges": [{"type": "ECOSYSTEM", "events": events}]}]
            known = [
                {"id": "TEST-2026-1", "affected": affected, "summary": "", "details": "", "modified": "2026-01-01T00:00:00Z"}
            ]
        answer = json.dumps({"vulns": known} if known else {}).encode()
        self.send_response(200)
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_):
        pass


def test_a_known_vulnerability_is_named_and_fails():
    with ThreadingHTTPServer(("127.0.0.1", 0), Advisories) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        done = audit(f"http://127.0.0.1:{server.server_port}/v1/query")
        server.shutdown()
    assert done.returncode == 1, done.stderr
    assert "jinja2 3.1.6: TEST-2026-1, fixed in 99.1" in done.stdout.lower().replace("test-", "TEST-")
    assert "requirements-dvc.lock: 73 packages audited" in done.stdout and "NOT audited" not in done.stdout


def test_a_service_that_does_not_answer_is_said():
    done = audit("http://127.0.0.1:9/")
    said = re.findall("(.*): not audited", done.stdout)
    assert done.returncode == 0 and sorted(said) == sorted(LOCKS)


def test_an_audit_that_cannot_run_fails():
    done = audit("http://127.0.0.1:9/", "--no-such-option")
    assert done.returncode == 1 and re.search("pip-audit failed: .*--no-such-option", done.stderr)
