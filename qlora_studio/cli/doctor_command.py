"""`doctor`: is everything there that training needs, and what to do where it is not."""

import argparse
from typing import Any

from qlora_studio.cli.console import Console
from qlora_studio.cli.diagnosis import Finding, diagnose
from qlora_studio.core.errors import ExitCode

_MARKS = {"ok": "ok     ", "warning": "note   ", "error": "PROBLEM"}


def add_commands(commands: Any, shared: argparse.ArgumentParser) -> None:
    """Add `doctor`."""
    doctor = commands.add_parser(
        "doctor",
        parents=[shared],
        help="check Python, driver, card, libraries and disk",
        description="Check Python, driver, card, PyTorch, bitsandbytes and disk, and say what to do. "
        "Ends with exit code 34 where something keeps training from working.",
    )
    doctor.set_defaults(run=run_doctor)


def run_doctor(arguments: argparse.Namespace, console: Console) -> int:
    """Print every finding with its advice."""
    findings: list[Finding] = []
    console.if_interrupted("Not everything was checked; nothing was changed.")
    for finding in diagnose():
        findings.append(finding)
        console.result(f"{_MARKS[finding.level]}  {finding.name}: {finding.message}")
        if finding.advice:
            console.result(f"         {finding.advice}")
    healthy = all(finding.level != "error" for finding in findings)
    console.report({"ok": healthy, "checks": [vars(finding) for finding in findings]})
    console.result("Everything that training needs is here." if healthy else "See the problems above.")
    return ExitCode.OK if healthy else ExitCode.DOCTOR_FOUND_PROBLEMS
