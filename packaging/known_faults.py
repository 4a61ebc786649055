"""Judges what pip-audit found, JSON on stdin: green only where a list was reached that knows every package.

    pip-audit --format json … | python packaging/known_faults.py

pip-audit itself says "No known vulnerabilities found", and ends with 0, where the index knows none of the packages.
"""

import json
import sys
from typing import Any


def main() -> int:
    """Print the verdict; return 0 where nothing is known against any package, 1 where something is, 2 where unknown."""
    try:
        packages: list[dict[str, Any]] = json.load(sys.stdin)["dependencies"]
    except (ValueError, KeyError, TypeError):
        packages = []
    faults = [(package["name"], fault["id"]) for package in packages for fault in package.get("vulns", [])]
    unknown = [package["name"] for package in packages if "vulns" not in package]
    for name, fault in faults:
        print(f"{name}: {fault}")
    if unknown or not packages:
        print(f"NOT CHECKED: the list of known faults was not reached for {len(unknown) or 'any'} of {len(packages)}.")
        return 2
    print(f"{len(faults)} known faults in {len(packages)} packages.")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
