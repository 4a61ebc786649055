"""Tokens of spans are found at a glance or one by one, and the rows on disk are those; a wrong guess is put right."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, normalizers
from transformers import AutoTokenizer

from qlora_studio.core.config.run_config_text import from_mapping
from qlora_studio.engine.context import JobContext
from qlora_studio.engine.data.prepared import prepare_datasets
from qlora_studio.engine.data.row_files import RowFile
from qlora_studio.engine.data.tokenized_rows import (
    IGNORED,
    ByteLengths,
    RowTokenizer,
    encode,
    runs_by_offsets,
    runs_of,
)
from qlora_studio.engine.templates.rendering import RenderedRow
from qlora_studio.storage.runs.run_folder import RunFolder

_PIECES = st.sampled_from(
    [" the", "word", "ü", "🙂", "\u200b", "👩‍👩‍👧", "\n", " ", "<|im_end|>", "e\u0301", "你好", "\x00"]
)


@pytest.fixture(scope="module")
def tokenizer(tiny_llama: Path) -> Any:
    return AutoTokenizer.from_pretrained(tiny_llama)


@pytest.mark.slow
@given(st.lists(st.one_of(_PIECES, st.text(max_size=8)), max_size=12).map("".join), st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=150)
def test_the_tokens_of_a_span_are_the_same_at_a_glance_and_one_by_one(tokenizer: Any, text: str, data: Any) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=6)))
    spans = [(a, b) for a, b in zip(cuts[::2], cuts[1::2], strict=False) if a < b]
    (encoding,) = encode([text], tokenizer)
    wanted = runs_by_offsets(encoding.offsets, spans)
    assert runs_of(encoding, len(encoding.ids), spans, len(text)) == wanted
    lengths = ByteLengths.of(tokenizer.backend_tokenizer)
    assert lengths is not None
    assert lengths.runs(encoding.ids, spans, text) in (None, wanted)


def test_the_lengths_of_tokens_tell_where_they_stand(tokenizer: Any) -> None:
    text = "zwölf 🙂 你好\n<|im_end|> and on."
    spans = [(0, 3), (6, 7), (8, 21)]
    (encoding,) = encode([text], tokenizer)
    lengths = ByteLengths.of(tokenizer.backend_tokenizer)
    assert lengths is not None
    assert lengths.runs(encoding.ids, spans, text) == runs_by_offsets(encoding.offsets, spans) != []


def test_tokens_that_are_not_what_stands_in_the_text_are_looked_up(tokenizer: Any) -> None:
    own = copy.deepcopy(tokenizer)
    own.add_tokens([AddedToken("<cut>", lstrip=True, rstrip=True)])
    rows = [RenderedRow(text, ((0, 3),)) for text in ("one two", "one  <cut>  two", "", "zwölf 🙂")]
    lengths = ByteLengths.of(own.backend_tokenizer)
    assert lengths is not None and lengths.runs(own(rows[1].text)["input_ids"], rows[1].spans, rows[1].text) is None
    wanted = [
        (found.ids, runs_by_offsets(found.offsets, row.spans)) for row in rows for found in encode([row.text], own)
    ]
    assert [(row.ids, row.runs) for row in RowTokenizer(own).tokenize(rows)] == wanted
    own.backend_tokenizer.normalizer = normalizers.Lowercase()
    assert ByteLengths.of(own.backend_tokenizer) is None


def test_the_backend_is_asked_for_what_the_tokenizer_says(tokenizer: Any) -> None:
    texts = ["<|im_start|>user\nHi 🙂<|im_end|>\n", "x"]
    tokenizer.backend_tokenizer.enable_truncation(2)
    assert [found.ids for found in encode(texts, tokenizer)] == tokenizer(texts, add_special_tokens=False)["input_ids"]


def test_rows_are_written_cut_and_labelled(tokenizer: Any, tmp_path: Path) -> None:
    rows = RowTokenizer(tokenizer).tokenize(
        [RenderedRow("one two three four five", ((4, 7), (14, 18))), RenderedRow("six", ((0, 3),))]
    )
    path = tmp_path / "rows.arrow"
    with RowFile(path) as file:
        file.append(rows, [7, 9], limit=3)
        file.append([], [], limit=3)
    written = Dataset.from_file(str(path))
    assert written["row"][:] == [7, 9]
    assert written["input_ids"][:] == [row.ids[:3] for row in rows]
    assert written["labels"][:] == [row.labels[:3] for row in rows]
    assert written["labels"][0] == [IGNORED, rows[0].ids[1], IGNORED]


def test_a_first_row_of_another_format_does_not_decide_for_all(tokenizer: Any, tmp_path: Path) -> None:
    chats = [
        {"messages": [{"role": "user", "content": f"Is it {n}?"}, {"role": "assistant", "content": "Yes."}]}
        for n in range(5)
    ]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in [{"text": "Once."}, *chats]), "utf-8")
    config = from_mapping({"data": {"path": str(path), "evaluation_share": 0}})
    context = JobContext(RunFolder(tmp_path / "run"))
    data = prepare_datasets(config, tokenizer, context.folder, context)
    context.close()
    assert data.training["row"][:] == [1, 2, 3, 4, 5]
    verdicts = [json.loads(line) for line in (data.folder / "verdicts.jsonl").read_text("utf-8").splitlines()]
    assert [(row["number"], row["verdict"]) for row in verdicts] == [(0, "rejected")]
    assert dict(data.tally.verdicts) == {"rejected": 1, "ok": 5}
