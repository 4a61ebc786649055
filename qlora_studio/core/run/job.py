"""What a worker is asked to do, once: the content of a job folder's `job.json`. Every job speaks the same protocol.

A run folder without a `job.json` is a training job: `run.toml` says everything.
"""

from typing import Literal

from pydantic import BaseModel, ConfigDict

from qlora_studio.core.config.run_config import RunConfig
from qlora_studio.core.run.machines import Machines
from qlora_studio.core.run.message import UnionReader
from qlora_studio.core.words import say

CHAT_VARIANTS = {"tuned": say("Tuned"), "base": say("Base"), "merged": say("Merged"), "gguf": "GGUF"}
ANSWER_WAYS = {
    "4bit": say("in 4 bit, 16 bit does not fit"),
    "llama_cpp": say("by llama.cpp"),
    "unpacked": say("unpacked to 16 bit, without llama.cpp"),
}


class _Job(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class TrainJob(_Job):
    """Train the run of this folder, from its newest safe checkpoint where there is one."""

    kind: Literal["train"] = "train"


class ExportJob(_Job):
    """Write a run's adapter in other shapes. `checkpoint` is best, final, last or a step."""

    kind: Literal["export"] = "export"
    run_dir: str
    formats: list[str] = ["safetensors"]
    checkpoint: str = "best"
    base: Literal["original", "nf4"] = "original"
    out_dir: str = ""
    force: bool = False
    importance_matrix: Literal["auto", "on", "off"] = "auto"


class VerifyJob(_Job):
    """Check an export in a fresh process: reported as `verification`, and written beside what was checked.

    `more` are other exports of the same run. `run_dir` is found from the path where it is empty. `bases` also measures
    which base is better to merge into. A merge without a run names its `base_model` and `adapter` instead. `way` is how
    models are loaded: whole, or streamed layer by layer; auto takes what fits.
    """

    kind: Literal["verify"] = "verify"
    path: str
    more: list[str] = []
    run_dir: str = ""
    bases: bool = False
    base_model: str = ""
    adapter: str = ""
    way: Literal["auto", "whole", "streamed"] = "auto"


class MergeJob(_Job):
    """Merge an adapter made elsewhere into a base, without a run. `out_dir` must not exist."""

    kind: Literal["merge"] = "merge"
    base_model: str
    adapter: str
    out_dir: str
    force: bool = False


class ChatJob(_Job):
    """Answer `Ask` commands by a run's models until `Stop`: with the adapter and without, and what was exported."""

    kind: Literal["chat"] = "chat"
    run_dir: str
    checkpoint: str = "best"


class DataJob(_Job):
    """Read, check, render and tokenize the dataset of a config, report, and answer `ShowRows` until `Stop`.

    Without `tokenize` the rows are read and nothing is said that a model would decide.
    """

    kind: Literal["data"] = "data"
    config: RunConfig
    rows: list[int | str] = []
    stay: bool = False
    tokenize: bool = True


class DownloadJob(_Job):
    """Fetch a model from the hub into the hub's own cache."""

    kind: Literal["download"] = "download"
    source: str
    revision: str = ""


class UploadJob(_Job):
    """Upload an export to a repository owner/name of the hub. `force` passes over what would refuse it."""

    kind: Literal["upload"] = "upload"
    path: str
    repository: str
    private: bool = True
    force: bool = False


class EstimateJob(_Job):
    """Trace the memory of a config without a card. `gpu` is a name of the catalogue, or empty."""

    kind: Literal["estimate"] = "estimate"
    config: RunConfig
    gpu: str = ""


class MachineJob(_Job):
    """Train along with machine 0, which has the run; `config` is the run file as this machine has it."""

    kind: Literal["machine"] = "machine"
    config: RunConfig
    machines: Machines


Job = (
    TrainJob | MachineJob | ExportJob | VerifyJob | MergeJob | ChatJob | DataJob | DownloadJob | UploadJob | EstimateJob
)

_READER = UnionReader(Job, "kind")


def parse_job(text: str | bytes) -> Job:
    """Return the job of a `job.json`. Raises ValueError where it is not one."""
    job: Job = _READER.read(text)
    return job
