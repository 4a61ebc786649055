"""A small hub on the loopback address: it speaks what huggingface_hub asks of a repository, and no more."""

import hashlib
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit


@dataclass
class Repository:
    """`revisions` maps a branch to its files; `gated` asks for terms first; `slow` lets no file come to its end."""

    revisions: Mapping[str, Mapping[str, bytes]]
    gated: bool = False
    slow: bool = False

    def commit(self, revision: str) -> str:
        """Return the commit of a branch, or a commit itself; empty where there is none."""
        commits = {name: self._commit_of(files) for name, files in self.revisions.items()}
        return revision if revision in commits.values() else commits.get(revision, "")

    def files(self, revision: str) -> Mapping[str, bytes]:
        """Return the files of a revision."""
        commit = self.commit(revision)
        return next(files for files in self.revisions.values() if self._commit_of(files) == commit)

    @staticmethod
    def _commit_of(files: Mapping[str, bytes]) -> str:
        return hashlib.sha1(repr(sorted(files.items())).encode(), usedforsecurity=False).hexdigest()


@dataclass
class Hub:
    """The server: its address, its repositories by name, and the paths it was asked for."""

    address: str
    repositories: dict[str, Repository] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    released: threading.Event = field(default_factory=threading.Event)


@contextmanager
def running_hub() -> Iterator[Hub]:
    """Run a hub."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.daemon_threads = True
    hub = Hub(f"http://127.0.0.1:{server.server_address[1]}")
    server.hub = hub  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield hub
    finally:
        hub.released.set()
        server.shutdown()
        thread.join()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._serve()

    def do_GET(self) -> None:
        self._serve()

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""

    def _serve(self) -> None:
        hub: Hub = self.server.hub  # type: ignore[attr-defined]
        path = unquote(urlsplit(self.path).path)
        hub.asked.append(path)
        parts = path.removeprefix("/api").removeprefix("/datasets").removeprefix("/models").strip("/").split("/")
        repository = hub.repositories.get("/".join(parts[:2]))
        if repository is None:
            self._refuse(404, "RepoNotFound")
        elif repository.gated:
            self._refuse(403, "GatedRepo")
        else:
            self._answer(hub, repository, parts[2], "/".join(parts[3:]), "/".join(parts[:2]))

    def _answer(self, hub: Hub, repository: Repository, what: str, rest: str, name: str) -> None:
        known = (*repository.revisions, *map(repository.commit, repository.revisions))
        revision = next((item for item in known if rest == item or rest.startswith(item + "/")), None)
        if revision is None:
            self._refuse(404, "RevisionNotFound")
            return
        commit, files = repository.commit(revision), repository.files(revision)
        file = rest.removeprefix(revision).strip("/")
        if what == "revision":
            self._json({"id": name, "sha": commit, "siblings": [{"rfilename": file} for file in files]})
        elif what == "tree":
            self._json([{"type": "file", "path": file, "size": len(data), "oid": "0"} for file, data in files.items()])
        elif file in files:
            self._file(hub, repository, commit, files[file])
        else:
            self._refuse(404, "EntryNotFound")

    def _json(self, data: object) -> None:
        body = json.dumps(data).encode()
        self._head(200, len(body), {"Content-Type": "application/json"})
        self.wfile.write(body)

    def _file(self, hub: Hub, repository: Repository, commit: str, data: bytes) -> None:
        tag = hashlib.sha256(data).hexdigest()
        self._head(200, len(data), {"ETag": f'"{tag}"', "X-Repo-Commit": commit})
        if self.command == "HEAD":
            return
        if repository.slow:
            self.wfile.write(data[: len(data) // 2])
            self.wfile.flush()
            hub.released.wait(60)
            data = data[len(data) // 2 :]
        self.wfile.write(data)

    def _refuse(self, status: int, code: str) -> None:
        self._head(status, 0, {"X-Error-Code": code, "X-Error-Message": code})

    def _head(self, status: int, length: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(length), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
