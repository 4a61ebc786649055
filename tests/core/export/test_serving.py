"""Commands that can be pasted, and Modelfiles that Ollama can read."""

import shlex
from pathlib import PurePosixPath

import pytest

from qlora_studio.core.errors import StudioError
from qlora_studio.core.export.formats import ExportFormat, all_formats, parse_format
from qlora_studio.core.export.serving import TemplateShape, TurnShape, modelfile, serving_commands

CHATML = TemplateShape(
    system=TurnShape("<|im_start|>system\n", "<|im_end|>\n"),
    user=TurnShape("<|im_start|>user\n", "<|im_end|>\n"),
    assistant=TurnShape("<|im_start|>assistant\n", "<|im_end|>\n"),
    opening="<|im_start|>assistant\n",
)


@pytest.mark.parametrize("shape", all_formats(), ids=lambda shape: shape.text)
def test_every_format_can_be_written_down_and_has_commands(shape: ExportFormat) -> None:
    assert parse_format(shape.text) == shape
    assert serving_commands(shape, PurePosixPath("/m"), file="x.gguf", base="b/c")
    assert shape.title
    assert shape.help
    assert "/" not in shape.folder_name


@pytest.mark.parametrize(("rank", "room"), [(4, 8), (16, 16), (24, 32), (300, 320)])
def test_vllm_is_given_a_rank_that_it_knows(rank: int, room: int) -> None:
    commands = serving_commands(parse_format("adapter"), PurePosixPath("/m"), base="b/c", rank=rank)
    assert f"--max-lora-rank {room} " in commands[0].text


@pytest.mark.parametrize("text", ["", "gguf:q9", "safetensors:q8_0", "onnx", "gguf:", "adapter:bf16"])
def test_other_formats_are_refused_with_the_ones_there_are(text: str) -> None:
    if text == "gguf:":
        assert parse_format(text).precision == "q8_0"
        return
    with pytest.raises(StudioError, match="no export format") as caught:
        parse_format(text)
    assert "gguf:q8_0" in caught.value.advice


def test_formats_are_found_in_any_case() -> None:
    assert parse_format("gguf:Q4_K_M").text == "gguf:q4_K_M"
    assert parse_format("gguf").text == "gguf:q8_0"


def test_sizes_follow_the_bits_of_a_weight() -> None:
    sizes = [parse_format(f"gguf:{name}").size(1_000_000_000) for name in ("bf16", "q8_0", "q4_K_M")]
    assert sizes[0] == 2_000_000_000
    assert sizes == sorted(sizes, reverse=True)
    assert parse_format("adapter").size(1_000_000_000, adapter_bytes=5) == 5


def test_paths_with_spaces_and_quotes_stay_one_argument() -> None:
    folder = PurePosixPath("/home/a b/it's $HOME")
    words = shlex.split(serving_commands(parse_format("safetensors"), folder)[0].text)
    assert str(folder) in words
    (command,) = serving_commands(parse_format("ollama"), folder, name="my model")
    assert "my model" in shlex.split(command.text)


def test_servers_listen_on_this_computer_alone() -> None:
    texts = [
        command.text
        for shape in all_formats()
        for command in serving_commands(shape, PurePosixPath("/m"), file="x.gguf")
    ]
    servers = [text for text in texts if text.startswith(("llama-server", "docker", "vllm"))]
    assert len(servers) > 3
    assert all("127.0.0.1" in text for text in servers)


def test_a_modelfile_names_the_gguf_the_template_and_the_stops() -> None:
    generation = {"temperature": 0.6, "top_k": 20, "repetition_penalty": 1.05, "do_sample": True, "eos_token_id": 2}
    text = modelfile("x-Q8_0.gguf", stops=["<|im_end|>"], shape=CHATML, generation=generation)
    assert text.startswith("FROM ./x-Q8_0.gguf\n")
    assert 'PARAMETER stop "<|im_end|>"' in text
    assert "PARAMETER temperature 0.6\nPARAMETER top_k 20\nPARAMETER repeat_penalty 1.05\n" in text
    assert text.count('"""') == 2
    assert "{{ .Content }}<|im_end|>" in text


def test_three_quotes_never_end_a_value_too_early() -> None:
    shape = TemplateShape(None, TurnShape('"""', ""), TurnShape("", ""), "")
    text = modelfile("x.gguf", stops=['a"b', "c\nd", "ok"], shape=shape)
    assert '"""' not in text
    assert text.count("PARAMETER stop") == 1


@pytest.mark.parametrize("sign", ["\u00a0", "\u200b", "\x07"])
def test_what_ollama_would_drop_from_a_value_is_not_written_into_one(sign: str) -> None:
    shape = TemplateShape(None, TurnShape(f"<user>{sign}", ""), TurnShape("", ""), "")
    text = modelfile("x.gguf", stops=[f"<end{sign}>", "<｜end▁of▁turn｜>"], shape=shape)
    assert "TEMPLATE" not in text
    assert text.count("PARAMETER stop") == 1


def test_a_template_shape_renders_a_conversation() -> None:
    messages = [{"role": "system", "content": "S"}, {"role": "user", "content": "U"}]
    assert CHATML.render(messages) == (
        "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nU<|im_end|>\n<|im_start|>assistant\n"
    )
