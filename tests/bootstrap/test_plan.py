"""Which files are fetched, and in which order."""

import json
from pathlib import Path

from qlora_studio.bootstrap.plan import Piece, batches, pieces_of


def test_pips_report_is_read(tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    archive = {"hashes": {"sha256": "ab"}}
    items = [
        {
            "metadata": {"name": "PySide6_Essentials", "version": "6.11"},
            "download_info": {"url": "https://a.b/c/P%2B1.whl", "archive_info": archive},
        },
        {
            "metadata": {"name": "torch", "version": "2.13.0+cpu"},
            "download_info": {"url": "file:///opt/my%20wheels/t.whl"},
        },
    ]
    report.write_text(json.dumps({"version": "1", "install": items}), "utf-8")

    qt, torch = pieces_of(report)

    assert (qt.name, qt.file_name, qt.sha256, qt.here) == ("pyside6-essentials", "P+1.whl", "ab", None)
    assert (torch.version, torch.here) == ("2.13.0+cpu", Path("/opt/my wheels/t.whl"))


def test_what_comes_with_a_build_of_pytorch_is_told_from_all_else() -> None:
    of_torch = ["torch", "triton", "nvidia-cudnn-cu13", "nvidia-cublas", "cuda-bindings"]
    others = ["nvidia-ml-py", "numpy", "tokenizers"]

    assert [name for name in of_torch + others if Piece(name, "1", "").is_of_torch] == of_torch


def test_each_file_is_fetched_once_and_a_large_one_by_itself() -> None:
    pieces = [Piece(name, "1", name) for name in ["torch", *(f"small{n}" for n in range(23)), "nvidia-cublas"]]

    fetched = list(batches(pieces))

    assert sorted(piece.name for batch in fetched for piece in batch) == sorted(piece.name for piece in pieces)
    assert [len(batch) for batch in fetched] == [10, 10, 3, 1, 1]
