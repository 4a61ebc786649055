"""Windows' installer, which cannot run here: what is inside it, and in words what nobody tried."""

import re
import shutil
import subprocess
from pathlib import Path

from checks.place import Place, Untried

_WINDOWS = Path(__file__).resolve().parents[1] / "windows"
_CARRIED = {"constraints.txt", "edition", "set-up.py", "start.pyw", "qlora-studio.ico", "LICENSE.txt"}


def check_windows(place: Place) -> None:
    """It holds the very wheel that was built, and its uninstaller removes every file of it by name."""
    installer = place.built("qlora-studio-*-setup.exe")
    wheel = place.found("qlora_studio-*.whl")
    seven_zip = shutil.which("7z")
    if not seven_zip:
        raise Untried("7z is not here, which reads the installer: sudo apt install p7zip-full")
    subprocess.run([seven_zip, "x", f"-o{place.root}", installer], check=True, capture_output=True, text=True)
    found = {path.name for path in place.root.iterdir() if path.is_file()}
    place.installed_bytes = sum(path.stat().st_size for path in place.root.iterdir() if path.is_file())
    assert found == _CARRIED | {wheel.name, "uninstall.exe"}, f"In the installer: {sorted(found)}"
    assert (place.root / wheel.name).read_bytes() == wheel.read_bytes(), "The installer has another wheel."
    script = (_WINDOWS / "qlora-studio.nsi").read_text("utf-8")
    removed = set(re.findall(r'^  Delete "\$INSTDIR\\(.*)"$', script, re.MULTILINE))
    assert removed == _CARRIED | {"qlora_studio-*.whl", "uninstall.exe"}, f"The uninstaller removes: {sorted(removed)}"
    place.left = "not known, for it never ran on Windows; not tried there:\n" + "\n".join(_never_tried())


def _never_tried() -> list[str]:
    """Return the list that stands beside the installer."""
    page = (_WINDOWS / "README.md").read_text("utf-8")
    return [f"  {line}" for line in re.findall(r"^\d+\. .*$", page, re.MULTILINE)]
