"""A hub on this computer: a small real HTTP server that speaks what an upload needs of the hub's API, and keeps it."""

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

_LARGE = (".safetensors", ".gguf")


@dataclass
class Hub:
    """What the server knows and was asked. `files` are those of commits; `stored` are large ones by their hash."""

    token: str
    address: str = ""
    visibility: dict[str, str] = field(default_factory=dict)
    files: dict[str, dict[str, bytes]] = field(default_factory=dict)
    stored: dict[str, bytes] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    uploading: threading.Event = field(default_factory=threading.Event)
    may_go_on: threading.Event = field(default_factory=threading.Event)


@contextmanager
def loopback_hub(token: str) -> Iterator[Hub]:
    """Serve a hub that takes this token, until the block ends."""
    hub = Hub(token)
    hub.may_go_on.set()

    class Handler(_Handler):
        known = hub

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        hub.may_go_on.set()
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    known: Hub
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        repository = self.path.partition("?")[0].removeprefix("/api/models/").partition("/revision/")[0]
        if not self._is_known():
            return
        if repository not in self.known.visibility:
            self._answer({"error": "Repository not found"}, 404, {"X-Error-Code": "RepoNotFound"})
            return
        private = self.known.visibility[repository] == "private"
        self._answer({"id": repository, "modelId": repository, "private": private, "sha": "0" * 40, "siblings": []})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if not self._is_known():
            return
        if self.path == "/api/repos/create":
            asked = json.loads(body)
            name = f"{asked['organization']}/{asked['name']}"
            self.known.visibility[name] = asked.get("visibility", "public")
            self._answer({"url": f"{self.known.address}/{name}", "name": name})
        elif self.path == "/api/validate-yaml":
            self._answer({"errors": [], "warnings": []})
        elif "/preupload/" in self.path:
            self._answer({"files": [self._mode(file["path"]) for file in json.loads(body)["files"]]})
        elif self.path.endswith("/info/lfs/objects/batch"):
            self._answer({"transfer": "basic", "objects": [self._object(item) for item in json.loads(body)["objects"]]})
        elif "/commit/" in self.path:
            self._commit(self.path.removeprefix("/api/models/").partition("/commit/")[0], body)
        else:
            self._answer({"error": "unknown"}, 400)

    def do_PUT(self) -> None:
        data = self.rfile.read(int(self.headers["Content-Length"]))
        self.known.uploading.set()
        self.known.may_go_on.wait(60)
        self.known.stored[hashlib.sha256(data).hexdigest()] = data
        self._answer({})

    def log_message(self, format: str, *arguments: Any) -> None:
        """Keep what was asked instead of printing it."""
        self.known.requests.append(f"{self.command} {self.path}")

    def _is_known(self) -> bool:
        if self.headers.get("Authorization") == f"Bearer {self.known.token}":
            return True
        self._answer({"error": "Invalid user token."}, 401)
        return False

    def _mode(self, path: str) -> dict[str, Any]:
        return {"path": path, "uploadMode": "lfs" if path.endswith(_LARGE) else "regular", "shouldIgnore": False}

    def _object(self, item: dict[str, Any]) -> dict[str, Any]:
        if item["oid"] in self.known.stored:
            return {"oid": item["oid"], "size": item["size"]}
        href = f"{self.known.address}/lfs/{item['oid']}"
        return {**item, "authenticated": True, "actions": {"upload": {"href": href}}}

    def _commit(self, repository: str, body: bytes) -> None:
        files = self.known.files.setdefault(repository, {})
        for line in map(json.loads, body.splitlines()):
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                files[value["path"]] = self.known.stored[value["oid"]]
        oid = "1" * 40
        self._answer(
            {"success": True, "commitOid": oid, "commitUrl": f"{self.known.address}/{repository}/commit/{oid}"}
        )

    def _answer(self, content: dict[str, Any], status: int = 200, headers: dict[str, str] | None = None) -> None:
        data = json.dumps(content).encode()
        self.send_response(status)
        for name, value in {**(headers or {}), "Content-Type": "application/json"}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)
