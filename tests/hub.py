"""A stand-in for the hub on 127.0.0.1: what `huggingface_hub` needs to upload a folder of small files and to bring it again."""

import base64
import json
from contextlib import contextmanager
from hashlib import sha1
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import yaml
from huggingface_hub import ModelCardData

COMMIT = "0" * 40


class Hub(BaseHTTPRequestHandler):
    """Keeps one model's files in ``server.files``, and the cards it was asked about in ``server.cards``."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def _answer(self, status, content=b"", **headers):
        if not isinstance(content, bytes):
            content = json.dumps(content).encode()
            headers["Content-Type"] = "application/json"
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path == "/api/validate-yaml":
            card = json.loads(body)["content"]
            self.server.cards.append(card)
            try:
                ModelCardData(**yaml.safe_load(card.split("---")[1]))
                self._answer(200, {"errors": [], "warnings": []})
            except Exception as error:  # as the hub answers whatever is wrong with a card
                self._answer(400, {"errors": [{"message": str(error)}], "warnings": []})
        elif self.path == "/api/repos/create":
            self._answer(200, {"url": f"{self.server.address}/owner/model", "name": "owner/model"})
        elif "/preupload/" in self.path:
            files = [
                {"path": file["path"], "uploadMode": "regular", "shouldIgnore": False} for file in json.loads(body)["files"]
            ]
            self._answer(200, {"files": files})
        elif "/commit/" in self.path:
            for line in body.decode().splitlines():
                entry = json.loads(line)
                if entry["key"] == "file":
                    self.server.files[entry["value"]["path"]] = base64.b64decode(entry["value"]["content"])
            self._answer(
                200, {"commitUrl": f"{self.server.address}/owner/model/commit/0", "commitOid": COMMIT, "success": True}
            )
        else:
            self._answer(404)

    def do_GET(self):
        if "/tree/" in self.path:
            files = self.server.files.items()
            self._answer(
                200, [{"type": "file", "path": name, "size": len(held), "oid": sha1(held).hexdigest()} for name, held in files]
            )
            return
        if self.path.startswith("/api/models/"):
            siblings = [{"rfilename": name} for name in self.server.files]
            self._answer(200, {"id": "owner/model", "modelId": "owner/model", "sha": COMMIT, "siblings": siblings, "tags": []})
            return
        content = self.server.files.get(self.path.split("/resolve/", 1)[-1].split("/", 1)[-1])
        if content is None:
            self._answer(404, X_Error_Code="EntryNotFound")
        else:
            self._answer(200, content, ETag=f'"{sha1(content).hexdigest()}"', X_Repo_Commit=COMMIT)

    do_HEAD = do_GET


@contextmanager
def hub():
    """A running stand-in: its address is ``address``."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    server.files, server.cards = {}, []
    server.address = f"http://127.0.0.1:{server.server_port}"
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
