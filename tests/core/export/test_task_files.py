"""A run as a SkyPilot task and as a Kubernetes job: whole files, in which the run is the one that was meant."""

import tomllib
from typing import Any

import yaml

from qlora_studio.core.config.run_config import RunConfig
from qlora_studio.core.config.run_config_text import from_mapping
from qlora_studio.core.export.task_files import kubernetes_job, moved, skypilot_task

_CONFIG = from_mapping(
    {
        "name": 'Ünï "x": {y} # 1',
        "model": {"source": "Qwen/Qwen3-8B"},
        "data": {"path": "/home/a: b/rows.jsonl", "more": [{"path": "/other/rows.jsonl"}, {"path": "owner/set"}]},
        "evaluation": {"prompts": ["Line one\n  two: '#'", "END_OF_RUN_TOML"]},
    }
)


def test_what_lies_here_goes_to_one_folder_there_and_names_of_the_hub_stay() -> None:
    there, places = moved(_CONFIG, 2)
    assert places == {"/home/a: b/rows.jsonl": "/qlora/0-rows.jsonl", "/other/rows.jsonl": "/qlora/1-rows.jsonl"}
    assert (there.data.path, [source.path for source in there.data.more]) == (
        "/qlora/0-rows.jsonl",
        ["/qlora/1-rows.jsonl", "owner/set"],
    )
    assert (there.model.source, there.hardware.gpus) == ("Qwen/Qwen3-8B", "all")


def test_a_skypilot_task_mounts_what_lies_here_and_holds_the_run() -> None:
    task: dict[str, Any] = yaml.safe_load(skypilot_task(_CONFIG, "RTX4090", 2, "/dist/a.whl"))
    assert task["name"] == "qlora-n-x-y-1"
    assert task["resources"] == {"accelerators": "RTX4090:2"}
    assert task["file_mounts"] == {
        "/qlora/a.whl": "/dist/a.whl",
        "/qlora/0-rows.jsonl": "/home/a: b/rows.jsonl",
        "/qlora/1-rows.jsonl": "/other/rows.jsonl",
    }
    _, _, text = task["setup"].partition("<<'END_OF_RUN_TOML'\n")
    assert _config(text.partition("\nEND_OF_RUN_TOML")[0]) == moved(_CONFIG, 2)[0]


def test_a_kubernetes_job_asks_for_cards_and_holds_the_run() -> None:
    text = kubernetes_job(_CONFIG, 2, "registry.example/studio:1", "files")
    settings, job = yaml.safe_load_all(text)
    assert _config(settings["data"]["run.toml"]) == moved(_CONFIG, 2)[0]
    pod = job["spec"]["template"]["spec"]
    assert pod["containers"][0]["resources"] == {"limits": {"nvidia.com/gpu": 2}}
    assert pod["volumes"][1]["configMap"]["name"] == settings["metadata"]["name"]
    assert "#   /other/rows.jsonl -> 1-rows.jsonl" in text.splitlines()


def _config(text: str) -> RunConfig:
    return from_mapping(tomllib.loads(text))
