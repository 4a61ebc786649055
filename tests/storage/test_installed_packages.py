"""What an installation lacks is found by what each package says of itself, whatever broke it."""

from collections.abc import Callable
from pathlib import Path

import pytest

from qlora_studio.storage.installation import torn_record
from qlora_studio.storage.installed_packages import Harm, harmed_packages

_PROGRAM = "some-program"
Install = Callable[..., Path]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Puts packages into a folder of Python's path, as pip leaves them."""
    site = tmp_path / "site-packages"
    site.mkdir()
    monkeypatch.syspath_prepend(str(site))

    def package(name: str, version: str, *requires: str) -> Path:
        folder, record = site / name, site / f"{name}-{version}.dist-info"
        folder.mkdir()
        record.mkdir()
        (folder / "library.so").write_bytes(bytes(100))
        (record / "METADATA").write_text(
            "\n".join(["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"])
            + "".join(f"\nRequires-Dist: {text}" for text in requires)
            + "\n"
        )
        (record / "INSTALLER").write_text("pip\n")
        (record / "RECORD").write_text(
            f"{name}/library.so,sha256=x,100\n{name}/__pycache__/a.pyc,,\n{record.name}/RECORD,,\n"
        )
        return folder

    package(
        "some_program", "1.0", "zz-first>=2", "zz-never; sys_platform == 'nowhere'", "zz-more[some]; extra == 'all'"
    )
    package("zz_first", "2.1", "zz_second[some]")
    package("zz_second", "1.0", "zz-third==1.0; extra == 'some'")
    package("zz_third", "1.0", "some-program")  # a circle
    return package


def test_nothing_is_wrong_with_what_is_as_it_was_installed(install: Install) -> None:
    assert harmed_packages(_PROGRAM) == []


def test_a_file_that_is_gone_or_cut_short_is_found_and_a_longer_one_is_its_users_own(
    install: Install, tmp_path: Path
) -> None:
    site = tmp_path / "site-packages"
    (site / "zz_first" / "library.so").unlink()
    (site / "zz_second" / "library.so").write_bytes(bytes(99))
    (site / "zz_third" / "library.so").write_bytes(bytes(101))

    found = harmed_packages(_PROGRAM)

    assert found == [
        Harm("zz-first", "a file of zz-first is gone or cut short, zz_first/library.so", "zz-first>=2"),
        Harm("zz-second", "a file of zz-second is gone or cut short, zz_second/library.so", "zz-second"),
    ]


def test_what_is_missing_and_what_is_too_old_is_found_however_far_down(install: Install, tmp_path: Path) -> None:
    site = tmp_path / "site-packages"
    (site / "zz_first-2.1.dist-info").rename(site / "zz_first-1.9.dist-info")
    about = site / "zz_first-1.9.dist-info" / "METADATA"
    about.write_text(about.read_text().replace("\nVersion: 2.1", "\nVersion: 1.9"))
    (site / "zz_third-1.0.dist-info").rename(site / "zz_other-1.0.dist-info")

    found = {harm.package: harm for harm in harmed_packages(_PROGRAM)}

    assert found["zz-first"] == Harm("zz-first", "zz-first is 1.9, and >=2 is needed", "zz-first>=2", is_grave=False)
    assert (found["zz-third"].what, found["zz-third"].mend) == ("zz-third is not here", "zz-third==1.0")


@pytest.mark.parametrize("file", ["RECORD", "METADATA"])
@pytest.mark.parametrize("left", [None, ""])
def test_a_package_that_was_installed_half_is_found(
    install: Install, tmp_path: Path, file: str, left: str | None
) -> None:
    record = tmp_path / "site-packages" / "zz_second-1.0.dist-info"
    (record / file).unlink() if left is None else (record / file).write_text(left)

    assert torn_record("zz-second") == record
    assert [harm.what for harm in harmed_packages(_PROGRAM)] == ["zz-second was installed half"]


def test_what_the_system_packed_without_a_record_is_whole(install: Install, tmp_path: Path) -> None:
    record = tmp_path / "site-packages" / "zz_second-1.0.dist-info"
    (record / "RECORD").unlink()
    (record / "INSTALLER").write_text("debian\n")

    assert torn_record("zz-second") is None
    assert harmed_packages(_PROGRAM) == []


def test_this_installation_is_whole() -> None:
    assert harmed_packages() == []
