"""What is built around the program: the same bytes each time, everything inside, names that agree."""

import configparser
import os
import re
import shutil
import subprocess
import tarfile
from pathlib import Path
from xml.etree import ElementTree

import pytest

from qlora_studio.storage.qt_libraries import PACKAGES
from tests.bootstrap.conftest import ROOT, package_of

_PACKAGING = ROOT / "packaging"
_TYPE = "application/vnd.qlora-studio.run+toml"
_MIME = "{http://www.freedesktop.org/standards/shared-mime-info}"


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    """A wheel of the program as small as one can be."""
    package_of(tmp_path / "wheel", "0.1.0")
    return next((tmp_path / "wheel").glob("*.whl"))


def test_the_deb_holds_launchers_desktop_files_and_the_wheel_and_is_the_same_twice(wheel: Path, tmp_path: Path) -> None:
    first, second = (_built("debian", wheel, tmp_path / name, "qlora-studio_0.1.0_all.deb") for name in ("a", "b"))

    assert first.read_bytes() == second.read_bytes()
    subprocess.run(["dpkg-deb", "-x", first, tmp_path / "root"], check=True)
    share = tmp_path / "root" / "usr" / "share"
    carried = {path.name for path in (share / "qlora-studio").iterdir()}
    assert carried == {wheel.name, "constraints.txt", "edition", "set-up.py"}
    for path in (
        "applications/qlora-studio.desktop",
        "icons/hicolor/scalable/apps/qlora-studio.svg",
        "mime/packages/qlora-studio.xml",
    ):
        assert (share / path).is_file()
    for name in ("qlora-studio", "qlora-studio-setup"):
        assert os.access(tmp_path / "root" / "usr" / "bin" / name, os.X_OK)
        assert (share / "man" / "man1" / f"{name}.1.gz").is_file()


def test_the_deb_brings_every_library_that_qt_takes_from_the_system() -> None:
    control = (_PACKAGING / "debian" / "control.in").read_text("utf-8")
    depends = re.search(r"^Depends: (.*)$", control, re.MULTILINE)

    assert depends is not None
    assert {debian for debian, _ in PACKAGES.values()} <= set(depends[1].split(", "))


def test_the_archive_installs_and_uninstalls_in_a_home_and_leaves_nothing(wheel: Path, tmp_path: Path) -> None:
    archive = _built("linux", wheel, tmp_path / "a", "qlora-studio-0.1.0-linux.tar.gz")
    with tarfile.open(archive) as packed:
        packed.extractall(tmp_path, filter="data")
    home = tmp_path / "someone"
    home.mkdir()
    environment = {"HOME": str(home), "PATH": os.environ["PATH"]}
    install = tmp_path / "qlora-studio-0.1.0" / "install.sh"

    # The tiny wheel has no setup inside: the installer comes as far as starting it.
    ended = subprocess.run([install, "--status"], env=environment, check=False, capture_output=True, text=True)

    assert "qlora_studio.bootstrap" in ended.stderr
    assert (home / ".local/share/qlora-studio-package/edition").read_text("utf-8").startswith("0.1.0-")
    entry = configparser.ConfigParser(interpolation=None)
    entry.read(home / ".local/share/applications/qlora-studio.desktop", "utf-8")
    assert entry["Desktop Entry"]["Exec"] == f'"{home}/.local/bin/qlora-studio" %f'
    (home / ".local/bin/qlora-studio-setup").write_text("#!/bin/sh\n", "utf-8")
    subprocess.run([install, "--uninstall"], env=environment, check=True, capture_output=True)
    assert [path for path in home.rglob("*") if not path.is_dir()] == []  # nor an index of the desktop's


@pytest.mark.skipif(not shutil.which("makensis") or not shutil.which("7z"), reason="needs Debian's nsis and p7zip-full")
def test_windows_installer_holds_the_same_and_its_uninstaller_removes_each_file_by_name(
    wheel: Path, tmp_path: Path
) -> None:
    installer = _built("windows", wheel, tmp_path / "a", "qlora-studio-0.1.0-setup.exe")

    listed = subprocess.run(["7z", "l", "-slt", installer], check=True, capture_output=True, text=True).stdout

    named = {path for path in re.findall(r"^Path = (.*)$", listed, re.MULTILINE)[1:] if not path.startswith("$")}
    assert {wheel.name, "set-up.py", "start.pyw", "constraints.txt", "edition", "uninstall.exe"} <= named
    script = (_PACKAGING / "windows" / "qlora-studio.nsi").read_text("utf-8")
    removed = set(re.findall(r'^  Delete "\$INSTDIR\\(.*)"$', script, re.MULTILINE))
    assert {"qlora_studio-*.whl" if name == wheel.name else name for name in named} == removed


def test_a_run_is_of_one_type_for_every_desktop_file() -> None:
    mime = ElementTree.parse(_PACKAGING / "linux" / "qlora-studio.mime.xml").getroot()
    metainfo = ElementTree.parse(_PACKAGING / "linux" / "qlora-studio.metainfo.xml").getroot()
    entry = configparser.ConfigParser(interpolation=None)
    entry.read(_PACKAGING / "linux" / "qlora-studio.desktop", "utf-8")

    assert [kind.get("type") for kind in mime.iter(f"{_MIME}mime-type")] == [_TYPE]
    assert [glob.get("pattern") for glob in mime.iter(f"{_MIME}glob")] == ["run.toml"]
    assert [kind.text for kind in metainfo.iter("mediatype")] == [_TYPE]
    assert entry["Desktop Entry"]["MimeType"] == f"{_TYPE};"
    assert entry["Desktop Entry"]["Exec"].endswith(" %f")


def _built(kind: str, wheel: Path, dist: Path, name: str) -> Path:
    if kind == "debian" and not shutil.which("dpkg-deb"):
        pytest.skip("dpkg-deb is not here")
    environment = os.environ | {"DIST": str(dist), "SOURCE_DATE_EPOCH": "1795000000"}
    subprocess.run([_PACKAGING / kind / "build.sh", wheel], env=environment, check=True, capture_output=True)
    return dist / name
