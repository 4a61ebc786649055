"""Small sound files of every kind that is read, made here."""

import functools
import gzip
import hashlib
import io
import json
import math
import struct
import warnings
import zipfile
from typing import Any

CHATML = """{% for message in messages %}<|im_start|>{{ message['role'] }}
{{ message['content'] }}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""
_MARKERS = """{% for m in messages %}{% if m.role == 'assistant' %}{% generation %}{{ m.content }}<|im_end|>{%
endgeneration %}{% else %}[{{ m.content | trim }}]{% endif %}{% endfor %}"""
_MACRO = """{%- macro say(m, n=1) -%}<{{ m.role|upper }}>{{ m.content[:200] * n }}{%- endmacro -%}
{% set ns = namespace(i=0) %}{% for m in messages %}{{ say(m) }}{% set ns.i = ns.i + 1 %}
{% if loop.last and add_generation_prompt %}<ASSISTANT>{% endif %}{% endfor %}"""
_CALL = {"type": "function", "function": {"name": "weather", "arguments": {"city": "Köln", "days": 2}}}
_TOOL = {
    "type": "function",
    "function": {"name": "weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}},
}
_PAIRS = [{"prompt": "Two and two?", "completion": "Four."}, {"prompt": "Wie heißt du?", "completion": "„Ich“ 🙂"}]


def conversation() -> tuple[list[dict[str, Any]], None, dict[str, Any]]:
    """Return a conversation as the templates' child gets it."""
    turns = [
        ("system", "Be short."),
        ("user", "Two and two?"),
        ("assistant", "Four."),
        ("user", "And one?"),
        ("assistant", "Five."),
    ]
    return [{"role": role, "content": text} for role, text in turns], None, {}


@functools.cache
def json_lines() -> list[bytes]:
    return [_lines(_PAIRS * 2), _lines([{"instruction": "a", "input": "b", "output": "c"}, {"text": "plain"}])]


@functools.cache
def conversations() -> list[bytes]:
    """Return conversations of every form, with calls, reasoning, parts and marks."""
    turns = [
        {"role": "user", "content": [{"type": "text", "text": "Weather?"}]},
        {"role": "assistant", "content": None, "reasoning_content": "Ask.", "tool_calls": [_CALL]},
        {"role": "tool", "name": "weather", "content": '{"sun": true}'},
        {"role": "assistant", "content": "<think>Sun.</think>Sunny.", "train": True, "weight": 1},
    ]
    shared = [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello", "weight": 0}]
    hermes = [
        {"from": "system", "value": "<tools>[]</tools>"},
        {"from": "gpt", "value": '<tool_call>\n{"name": "f", "arguments": {"x": 1}}\n</tool_call>'},
        {"from": "tool", "value": '<tool_response>\n{"x": 2}\n</tool_response>'},
    ]
    rows = [
        {"messages": turns, "tools": [_TOOL], "chat_template_kwargs": {"enable_thinking": False}},
        {"conversations": shared, "system": "Be kind."},
        {"conversations": hermes, "tools": json.dumps([_TOOL])},
        {"chosen": turns[:1], "rejected": turns[:1], "prompt": "x"},
    ]
    return [_lines([row]) for row in rows]


@functools.cache
def json_array() -> list[bytes]:
    return [
        json.dumps(_PAIRS, indent=1, ensure_ascii=False).encode(),
        b'[{"text": "a"}, {"text": "b", "n": [1, {"m": 2.5}]}]',
    ]


@functools.cache
def csv_rows() -> list[bytes]:
    return [b'prompt,completion\nTwo?,Four.\n"a, ""b""\nc",d\n', "\ufeffprompt;completion\r\nä;ö\r\n".encode()]


@functools.cache
def tsv_rows() -> list[bytes]:
    return [b"prompt\tcompletion\nTwo?\tFour.\nx\ty\n"]


@functools.cache
def text_rows() -> list[bytes]:
    return ["One line.\n\nAnother, with ä.\r\nLast".encode()]


@functools.cache
def utf16_rows() -> list[bytes]:
    return ["prompt,completion\nä,🙂\n".encode("utf-16"), "prompt,completion\nx,y\n".encode("utf-16-be")]


@functools.cache
def gzip_rows() -> list[bytes]:
    one = gzip.compress(_lines(_PAIRS * 20), mtime=0)
    return [one, one + gzip.compress(b'{"text": "b"}\n', mtime=0)]


@functools.cache
def zstd_rows() -> list[bytes]:
    import zstandard

    one = zstandard.ZstdCompressor().compress(_lines(_PAIRS * 20))
    return [one, one + zstandard.ZstdCompressor(write_checksum=True).compress(b'{"text": "b"}\n')]


@functools.cache
def _table() -> Any:
    import pyarrow as pa

    turns = [[{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]] * 3
    columns = {"messages": turns, "when": [1.5, None, 2.0], "tags": pa.array(["a", "b", "a"]).dictionary_encode()}
    return pa.table({**columns, "picture": pa.array([b"x", b"y", None], pa.binary())})


@functools.cache
def parquet_rows() -> list[bytes]:
    from pyarrow import parquet

    found = []
    for how in (
        {"compression": "snappy"},
        {"compression": "zstd", "version": "1.0"},
        {"compression": "none", "row_group_size": 1},
    ):
        sink = io.BytesIO()
        parquet.write_table(_table(), sink, **how)
        found.append(sink.getvalue())
    return found


@functools.cache
def parquet_json() -> list[bytes]:
    """Return a Parquet file with a column of JSON text, as `datasets` keeps turns that are not alike."""
    import pyarrow as pa
    from pyarrow import parquet

    sink = io.BytesIO()
    turns = pa.array([json.dumps([{"role": "user", "content": "a"}])] * 2, pa.json_())
    parquet.write_table(pa.table({"messages": turns}), sink)
    return [sink.getvalue()]


@functools.cache
def arrow_stream() -> list[bytes]:
    return [_arrow(stream=True)]


@functools.cache
def arrow_file() -> list[bytes]:
    return [_arrow(stream=False), _arrow(stream=False, compression="zstd")]


@functools.cache
def dataset_card() -> list[bytes]:
    return [b"---\nconfigs:\n- config_name: a\n  data_files:\n  - split: train\n    path: '*.jsonl'\n---\n# Rows\n"]


@functools.cache
def saved_state() -> list[bytes]:
    return [json.dumps({"_data_files": [{"filename": "train.jsonl"}], "_fingerprint": "1"}).encode()]


@functools.cache
def commands() -> list[bytes]:
    ask = {"type": "ask", "request": 1, "messages": [{"role": "user", "content": "Hi"}], "variants": ["tuned"]}
    rows = {"type": "show_rows", "request": 2, "rows": [1, "longest"], "settings": {"training.max_length": 512}}
    return [_lines([{"type": "pause"}, ask, rows, {"type": "lower_rate", "factor": 0.5, "version": 1, "time": 1.0}])]


@functools.cache
def jobs() -> list[bytes]:
    return [
        b'{"kind": "export", "run_dir": "/x", "formats": ["gguf:q8_0"], "checkpoint": "best"}',
        b'{"kind": "data", "config": {"name": "a", "training": {"epochs": 2}}, "rows": [1, "first"]}',
        b'{"kind": "train"}',
    ]


@functools.cache
def queue() -> list[bytes]:
    return [b'[{"path": "/x/run", "needed_bytes": 5}, {"path": "y"}]']


@functools.cache
def index() -> list[bytes]:
    return [b'{"metadata": {"total_size": 78144}, "weight_map": {"lm_head.weight": "model.safetensors"}}']


@functools.cache
def settings() -> list[bytes]:
    return [b'{"theme": "dark", "runs_dir": "~/runs", "gpus": "0", "last_model": "starter"}']


def session() -> list[bytes]:
    from qlora_studio.core.config.run_config import RunConfig
    from qlora_studio.storage.session import Place, Session

    place = Place(left=7, top=9, width=1200, height=700)
    kept = Session(page="run", place=place, run="/runs/1-run", recent_models=("starter",), recent_datasets=("/a.csv",))
    return [kept.with_draft(RunConfig().with_value("lora.rank", 48)).model_dump_json().encode()]


@functools.cache
def probes() -> list[bytes]:
    record = {
        "card_uuid": "GPU-1",
        "card": "A",
        "driver": "1",
        "versions": {"torch": "2"},
        "context_bytes": 5,
        "time": 1,
    }
    return [json.dumps([record, record]).encode()]


@functools.cache
def hashes() -> list[bytes]:
    return [json.dumps({"/x/y:1:2:3": "0" * 64}).encode()]


@functools.cache
def run_index() -> list[bytes]:
    """Return what an index of runs may hold, of a run without events; @ stands for what its reader knows."""
    summary = {
        "name": "a",
        "source": "m",
        "rank": 16,
        "phase": "failed",
        "failure_kind": "interrupted",
        "step": 3,
        "total_steps": 9,
        "evaluation_loss": 1.5,
        "last_event": 1_700_000_000.5,
        "adapter_path": "/x",
        "parent": "b",
        "parameters": 5,
        "text_model": "",
        "damage": "",
    }
    mark = {"offset": 0, "checksum": 0, "rest": "", "line": 0, "damaged": 0, "first_damaged": 0, "in_session": False}
    entry = {"made_by": "@MADE", "path": "@RUN", "looked": 1, "config": [1, 2, 3, 4], "events": [0, -1, 0, 0]}
    return [json.dumps(entry | {"bookmark": mark, "summary": summary}).encode() + b"\n"]


@functools.cache
def kept_base() -> list[bytes]:
    files = {"model.safetensors": {"size": 3, "sha256": "0" * 64}}
    return [json.dumps({"version": 1, "base": "maker/model", "files": files}).encode()]


@functools.cache
def reports() -> list[bytes]:
    check = {"name": "answers", "title": "Answers", "passed": True, "message": "All of them are trained."}
    rows, verdicts = {"total": 3, "ok": 3}, "datasets/abcd/verdicts.jsonl"
    report = {"path": "rows.jsonl", "rows": rows, "checks": [check], "seconds": 1.5, "verdicts_path": verdicts}
    return [json.dumps(report).encode()]


@functools.cache
def templates() -> list[bytes]:
    strict = "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}" + CHATML
    return [text.encode() for text in (CHATML, _MARKERS, _MACRO, strict)]


@functools.cache
def template_rows() -> list[bytes]:
    return [row.strip() for row in conversations()]


def checked(manifest: bytes) -> bytes:
    """Return a manifest with the checksum that it would bear, by the rule that is told in docs/PROTOCOL.md."""
    try:
        facts = {key: value for key, value in json.loads(manifest).items() if key not in ("checksum", "version")}
        facts = {"version": 1, **facts}
        text = json.dumps(facts, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return json.dumps({**facts, "checksum": hashlib.sha256(text.encode()).hexdigest()}, ensure_ascii=False).encode()
    except (ValueError, AttributeError, RecursionError):
        return manifest


@functools.cache
def gguf() -> list[bytes]:
    """Return a GGUF file of three tensors, and with every kind of value."""
    text = functools.partial(_value, 8)
    pairs = [
        ("general.architecture", text("llama")),
        ("llama.block_count", _value(4, 2)),
        ("llama.embedding_length", _value(4, 32)),
        ("llama.attention.head_count", _value(4, 4)),
        ("llama.context_length", _value(10, 256)),
        ("llama.feed_forward_length", _value(5, 64)),
        ("llama.rope.freq_base", _value(6, 10000.0)),
        ("tokenizer.ggml.tokens", struct.pack("<IIQ", 9, 8, 3) + b"".join(map(_text, ("a", "b", "c")))),
        ("tokenizer.ggml.scores", struct.pack("<IIQ3f", 9, 6, 3, 1, 2, 3)),
        ("many", struct.pack("<IIQ", 9, 4, 5000) + bytes(20_000)),
        ("tokenizer.chat_template", text("{{ messages }}")),
    ]
    tensors = [("token_embd.weight", (32, 3)), ("blk.0.attn_q.weight", (32, 32)), ("output_norm.weight", (32,))]
    body, offset = b"".join(_text(key) + value for key, value in pairs), 0
    for name, shape in tensors:
        body += _text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, 0, offset)
        offset += 4 * math.prod(shape)
    whole = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(pairs)) + body
    return [whole + bytes(-len(whole) % 32 + offset)]


def _value(kind: int, value: Any) -> bytes:
    if kind == 8:
        return struct.pack("<I", kind) + _text(value)
    return struct.pack("<I" + {4: "I", 5: "i", 6: "f", 10: "Q"}[kind], kind, value)


def _text(text: str) -> bytes:
    return struct.pack("<Q", len(text.encode())) + text.encode()


def _lines(rows: list[Any]) -> bytes:
    return b"".join(json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in rows)


def _arrow(*, stream: bool, compression: str | None = None) -> bytes:
    import pyarrow as pa

    sink = io.BytesIO()
    options = pa.ipc.IpcWriteOptions(compression=compression)
    with (pa.ipc.new_stream if stream else pa.ipc.new_file)(sink, _table().schema, options=options) as writer:
        writer.write_table(_table(), max_chunksize=2)
    return sink.getvalue()


@functools.cache
def elsewhere_records() -> list[bytes]:
    """Where a run is."""
    from qlora_studio.storage.runs.elsewhere_record import ElsewhereRecord

    record = ElsewhereRecord(place="cluster", home="/home/me/runs", name="20260101-first", job="42", open=True)
    return [record.model_dump_json().encode()]


@functools.cache
def elsewhere_told() -> list[bytes]:
    """How a run was seen there."""
    from qlora_studio.core.run.events import ElsewhereTold

    waiting = ElsewhereTold(place="cluster", job="42", standing="waiting", reason="Priority")
    lost = ElsewhereTold(place="cluster", job="42", standing="running", node="n1", unreached_since=1.0, problem="Why.")
    return [waiting.model_dump_json().encode(), lost.model_dump_json().encode()]


@functools.cache
def answers() -> list[bytes]:
    """What a place answers."""
    from qlora_studio.core.elsewhere.shell import MARK

    queue = b"RUNNING|None|n1|UNLIMITED"
    parts = b"queue %d 0\n%sevents 5 5\n{...}log 0 0\n" % (len(queue), queue)
    return [b"Welcome\n" + MARK.encode() + b"\n" + parts]


@functools.cache
def labels() -> list[bytes]:
    return [json.dumps({"name": "Baseline", "tags": ["good", "rank 32"], "note": "hot\nat first"}).encode(), b"{}"]


@functools.cache
def ollama_manifest() -> list[bytes]:
    layers = [
        {"mediaType": f"application/vnd.ollama.image.{name}", "digest": f"sha256:{'ab' * 32}", "size": 9}
        for name in ("template", "model")
    ]
    return [json.dumps({"schemaVersion": 2, "layers": layers}).encode()]


@functools.cache
def packed_runs() -> list[bytes]:
    """Return zips of a run, in a folder and without one."""
    files = {"run.toml": b'name = "theirs"\n', "events.jsonl": b"{}\n" * 50, "adapter/a.bin": b"0" * 999}
    packs = (("theirs/", zipfile.ZIP_DEFLATED), ("", zipfile.ZIP_STORED))
    return [zipped([(root + name, data, 0) for name, data in files.items()], how) for root, how in packs]


def zipped(files: list[tuple[str, bytes, int]], how: int) -> bytes:
    """Return a zip of files: the name of each, what it holds, and its mode, as Unix has it."""
    pack = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(pack, "w", how) as writing:
        warnings.simplefilter("ignore")  # of a name that is there twice
        for name, data, mode in files:
            info = zipfile.ZipInfo(name, (2026, 1, 1, 0, 0, 0))
            info.external_attr = mode << 16
            writing.writestr(info, data, how)
    return pack.getvalue()
