"""Packages are installed by the real installer: how far it is is told, and it can be given up."""

import functools
import http.server
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from qlora_studio.core.errors import FailureKind, StudioError
from qlora_studio.jobs.package_install import install_packages, install_watched

_SIZE = 1_000_000


class _Shelf(http.server.SimpleHTTPRequestHandler):
    """A page of links. Of a wheel, the second half waits to be let go."""

    let_go = threading.Event()

    def copyfile(self, source: object, outputfile: object) -> None:
        data = source.read()  # type: ignore[attr-defined]
        half = len(data) // 2 if self.path.endswith(".whl") else len(data)
        try:
            outputfile.write(data[:half])  # type: ignore[attr-defined]
            outputfile.flush()  # type: ignore[attr-defined]
            _ = half < len(data) and self.let_go.wait(30)
            outputfile.write(data[half:])  # type: ignore[attr-defined]
        except OSError:
            pass  # who asked was given up

    def log_message(self, *_words: object) -> None:
        """Say nothing."""


@pytest.fixture
def words(tmp_path: Path) -> Iterator[tuple[str, ...]]:
    """What pip is told to install a package of a megabyte into a folder."""
    shelf = tmp_path / "shelf"
    shelf.mkdir()
    about = "some_package-1.0.dist-info"
    with zipfile.ZipFile(shelf / "some_package-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("some_package/model.bin", bytes(_SIZE))
        wheel.writestr(f"{about}/METADATA", "Metadata-Version: 2.1\nName: some-package\nVersion: 1.0\n")
        wheel.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{about}/RECORD", "")
    _Shelf.let_go.clear()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Shelf, directory=shelf)) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_address[1]}/"
        into = ("--target", str(tmp_path / "into"))
        yield (*into, "--no-index", "--find-links", address, "--no-deps", "--no-cache-dir", "some-package")
        _Shelf.let_go.set()
        server.shutdown()


def test_how_much_came_is_told_while_it_comes(words: tuple[str, ...], tmp_path: Path) -> None:
    told: list[int] = []

    def tell(done: int) -> None:
        told.append(done)
        if done >= _SIZE // 3:
            _Shelf.let_go.set()

    install_watched(words, tell, threading.Event())

    assert any(_SIZE // 3 <= done < _SIZE for done in told), told
    assert (tmp_path / "into" / "some_package" / "model.bin").stat().st_size == _SIZE


def test_it_is_given_up_amid_the_file(words: tuple[str, ...], tmp_path: Path) -> None:
    stop = threading.Event()

    with pytest.raises(StudioError) as caught:
        install_watched(words, lambda done: stop.set() if done >= _SIZE // 3 else None, stop)

    assert caught.value.kind is FailureKind.INTERRUPTED
    assert not (tmp_path / "into").exists()


def test_what_cannot_be_had_is_said_with_what_to_type(words: tuple[str, ...]) -> None:
    with pytest.raises(StudioError) as caught:
        install_packages(*words[:-1], "no-such-package")

    assert "could not be installed." in caught.value.message
    assert caught.value.advice.endswith("no-such-package")
    assert "No matching distribution found for no-such-package" in caught.value.detail


def test_an_index_that_is_not_reached_is_the_cause_that_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_RETRIES", "1")

    with pytest.raises(StudioError) as caught:
        install_packages("--index-url", "http://127.0.0.1:1/", "no-such-package")

    assert "The package index was not reached" in caught.value.message
    assert "HTTPS_PROXY" in caught.value.advice
