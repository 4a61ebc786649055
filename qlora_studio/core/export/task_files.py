"""A run as a file for somebody else's scheduler: a SkyPilot task, or a Kubernetes job. Pure text; nothing is sent.

What lies on this computer goes to one folder there. Values are written as JSON, which is YAML too.
"""

import json
from pathlib import PurePath

from qlora_studio.core.config.run_config import ALL_CARDS, AUTO_CARD, RunConfig
from qlora_studio.core.config.run_config_text import to_toml
from qlora_studio.core.run.named_places import renamed

PLACE = "/qlora"


def moved(config: RunConfig, cards: int) -> tuple[RunConfig, dict[str, str]]:
    """Return a config as it is run elsewhere by so many cards, and what goes where: its place here, its place there."""
    places: dict[str, str] = {}

    def there(_: str, name: str) -> str:
        return places.setdefault(name, f"{PLACE}/{len(places)}-{PurePath(name).name}") if _is_here(name) else name

    hardware = config.hardware.model_copy(update={"gpus": ALL_CARDS if cards > 1 else AUTO_CARD})
    return renamed(config, there).model_copy(update={"hardware": hardware}), places


def skypilot_task(config: RunConfig, accelerators: str, cards: int, wheel: str) -> str:
    """Return a task for `sky launch`: it installs the program from a wheel, and trains in ~/qlora/runs."""
    there, places = moved(config, cards)
    name = PurePath(wheel).name
    mounts = {f"{PLACE}/{name}": wheel, **{place: path for path, place in places.items()}}
    lines = [f"  {json.dumps(place)}: {json.dumps(path)}" for place, path in mounts.items()]
    return f"""\
# sky launch THIS_FILE. When it is done: fetch ~/qlora/runs with rsync, then qlora-studio import FOLDER.
name: {json.dumps(_name(config))}
resources:
  accelerators: {json.dumps(f"{accelerators}:{cards}")}
file_mounts:
{_joined(lines)}
setup: |
  python3 -m venv ~/qlora/venv
  ~/qlora/venv/bin/pip install {json.dumps(f"{PLACE}/{name}")}
  cat > ~/qlora/run.toml <<'END_OF_RUN_TOML'
{_indented(to_toml(there), 2)}
  END_OF_RUN_TOML
run: |
  ~/qlora/venv/bin/qlora-studio train ~/qlora/run.toml --runs ~/qlora/runs
"""


def kubernetes_job(config: RunConfig, cards: int, image: str, claim: str) -> str:
    """Return a job for `kubectl apply`: an image that has the program, and a claim that has model and data."""
    there, places = moved(config, cards)
    copies = [f"#   {path} -> {place.removeprefix(PLACE)[1:]}" for path, place in places.items()]
    name = _name(config)
    return f"""\
# kubectl apply -f THIS_FILE. First copy into the volume that {claim} claims:
{_joined(copies or ["#   nothing: model and data are on the hub"])}
# Its runs are in runs/ there: fetch one, then qlora-studio import FOLDER.
apiVersion: v1
kind: ConfigMap
metadata:
  name: {json.dumps(name)}
data:
  run.toml: |
{_indented(to_toml(there), 4)}
---
apiVersion: batch/v1
kind: Job
metadata:
  name: {json.dumps(name)}
spec:
  backoffLimit: 0
  template:
    spec:
      restartPolicy: Never
      containers:
        - name: train
          image: {json.dumps(image)}
          command: ["qlora-studio", "train", "/run-config/run.toml", "--runs", "{PLACE}/runs"]
          env:
            - name: QLORA_STUDIO_HOME
              value: {PLACE}/home
            - name: HF_HOME
              value: {PLACE}/hub
          resources:
            limits:
              nvidia.com/gpu: {cards}
          volumeMounts:
            - name: files
              mountPath: {PLACE}
            - name: run-config
              mountPath: /run-config
            - name: shared-memory
              mountPath: /dev/shm
      volumes:
        - name: files
          persistentVolumeClaim:
            claimName: {json.dumps(claim)}
        - name: run-config
          configMap:
            name: {json.dumps(name)}
        - name: shared-memory
          emptyDir:
            medium: Memory
"""


def _is_here(path: str) -> bool:
    """Whether this names a place on this computer: names of the hub and of the program's own do not."""
    return path.startswith("/") or path[1:3] in (":\\", ":/")


def _name(config: RunConfig) -> str:
    """Return the run's name as schedulers take one: small letters, digits and hyphens."""
    letters = "".join(letter if letter.isascii() and letter.isalnum() else "-" for letter in config.name.lower())
    return "qlora-" + ("-".join(filter(None, letters.split("-")))[:40].strip("-") or "run")


def _indented(text: str, columns: int) -> str:
    return "\n".join(" " * columns + line for line in text.splitlines())


def _joined(lines: list[str]) -> str:
    return "\n".join(lines)
