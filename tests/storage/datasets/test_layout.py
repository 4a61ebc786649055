"""Folders of datasets, as the hub and `datasets` lay them out: subsets and splits are found, and never guessed."""

from pathlib import Path

import pytest

from qlora_studio.core.config.run_config import DatasetSource
from qlora_studio.core.errors import StudioError
from qlora_studio.storage.datasets.files import hub_name, locate_dataset
from qlora_studio.storage.datasets.layout import DatasetChoice


def make(folder: Path, *names: str, readme: str = "") -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text('{"text": "a"}\n', "utf-8")
    if readme:
        (folder / "README.md").write_text(readme, "utf-8")
    return folder


def files(folder: Path, **choice: str) -> list[str]:
    found = locate_dataset(DatasetSource(path=str(folder), **choice))
    return [file.path.relative_to(folder).as_posix() for file in found.files]


def choice_of(folder: Path, **choice: str) -> DatasetChoice:
    with pytest.raises(DatasetChoice) as caught:
        locate_dataset(DatasetSource(path=str(folder), **choice))
    return caught.value


def test_splits_are_told_by_names_and_asked_for_where_there_are_several(tmp_path: Path) -> None:
    shards = [f"data/train-0000{number}-of-00002.jsonl" for number in (1, 0)]
    make(tmp_path, *shards, "data/test-0.jsonl", ".git/x.jsonl")
    asked = choice_of(tmp_path)
    assert asked.subsets == {"default": ("train", "test")}
    assert "several splits: train, test" in asked.message and "data.split" in asked.advice
    assert files(tmp_path, split="train") == sorted(shards)


def test_a_split_that_there_is_not_is_named_with_those_there_are(tmp_path: Path) -> None:
    asked = choice_of(make(tmp_path, "train/a.jsonl", "dev/a.jsonl"), split="test")
    assert "no split 'test'; it has: train, validation" in asked.message


def test_the_subsets_that_a_readme_declares_are_taken_and_asked_for(tmp_path: Path) -> None:
    readme = """---
license: mit
configs:
- config_name: math
  data_files:
  - split: train
    path: math/*.jsonl
  - split: test
    path: [held/**/m.jsonl]
- config_name: code
  data_dir: code
- config_name: poems
  data_files: poems.jsonl
---
# Words
"""
    make(
        tmp_path,
        "math/a.jsonl",
        "math/deep/b.jsonl",
        "held/x/y/m.jsonl",
        "code/train.jsonl",
        "poems.jsonl",
        readme=readme,
    )
    asked = choice_of(tmp_path)
    assert asked.subsets == {"math": ("train", "test"), "code": ("train",), "poems": ("train",)}
    assert files(tmp_path, subset="math", split="train") == ["math/a.jsonl"]
    assert files(tmp_path, subset="math", split="test") == ["held/x/y/m.jsonl"]
    assert files(tmp_path, subset="code") == ["code/train.jsonl"]
    assert choice_of(tmp_path, subset="prose").message.endswith("it has: math, code, poems.")


def test_without_a_readme_the_same_rows_in_two_kinds_of_files_are_two_subsets(tmp_path: Path) -> None:
    make(tmp_path, "rows.jsonl", "rows.csv", "notes.txt")
    assert choice_of(tmp_path).subsets == {"CSV": ("train",), "JSON Lines": ("train",)}
    assert files(tmp_path, subset="CSV") == ["rows.csv"]


def test_what_is_no_data_is_passed_over(tmp_path: Path) -> None:
    make(
        tmp_path,
        "rows.txt",
        "LICENSE.txt",
        "requirements.txt",
        "dataset_infos.json",
        "load.py",
        readme="---\n: [\n---\n",
    )
    assert files(tmp_path) == ["rows.txt"]


def test_folders_that_datasets_saved_are_read_split_by_split(tmp_path: Path) -> None:
    from datasets import Dataset, DatasetDict

    rows = Dataset.from_dict({"text": ["a", "b"]})
    rows.save_to_disk(tmp_path / "one")
    DatasetDict({"train": rows, "test": rows}).save_to_disk(tmp_path / "two")
    assert len(files(tmp_path / "one")) == 1
    assert choice_of(tmp_path / "two").subsets == {"default": ("test", "train")}
    assert files(tmp_path / "two", split="test") == ["test/data-00000-of-00001.arrow"]


def test_a_link_within_a_folder_that_leads_out_is_not_followed_and_one_that_is_named_is(tmp_path: Path) -> None:
    (tmp_path / "secret.txt").write_text("mine\n")
    folder = make(tmp_path / "rows", "train.jsonl")
    (folder / "more").mkdir()
    (folder / "more" / "notes.txt").symlink_to(tmp_path / "secret.txt")

    with pytest.raises(StudioError, match=r"more/notes\.txt is a link to a file outside"):
        files(folder)
    named = locate_dataset(DatasetSource(path=str(folder / "more" / "notes.txt")))
    assert named.files[0].size_bytes == 5


def test_a_folder_without_data_says_what_it_has(tmp_path: Path) -> None:
    (tmp_path / "validation").mkdir()
    with pytest.raises(StudioError) as caught:
        locate_dataset(DatasetSource(path=str(tmp_path)))
    assert caught.value.kind == "data_not_found" and "validation" in caught.value.advice


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("HuggingFaceH4/no_robots", "HuggingFaceH4/no_robots"),
        ("https://huggingface.co/datasets/maker/set-1.0/", "maker/set-1.0"),
        ("data/train.jsonl", ""),
        ("data/rows.csv.gz", ""),
        ("/data/rows", ""),
        ("./maker/set", ""),
        ("../maker", ""),
        ("a/b/c", ""),
        ("rows", ""),
    ],
)
def test_a_name_on_the_hub_is_told_from_a_path(path: str, name: str) -> None:
    assert hub_name(path) == name
