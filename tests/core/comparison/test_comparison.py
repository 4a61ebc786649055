"""Runs side by side: what differs, what came of each, and which losses can be ranked."""

from dataclasses import replace

from qlora_studio.core.comparison.comparison import Comparison, compare
from qlora_studio.core.comparison.run_record import RunReading, RunRecord
from qlora_studio.core.config.run_config import RunConfig
from qlora_studio.core.run import events as ev
from qlora_studio.core.run.fingerprint import FileEntry, Fingerprint, Fingerprints


def _run(
    name: str, loss: float | None = None, *, rows: str = "", events: tuple[ev.Event, ...] = (), **values: object
) -> RunRecord:
    config = RunConfig(name=name)
    for path, value in values.items():
        config = config.with_value(path.replace("__", "."), value)
    files: dict[str, FileEntry | str] = (
        {"the training rows": "a" * 64, "the evaluation rows": rows * 64} if rows else {}
    )
    reading = RunReading()
    told = [ev.Evaluated(step=4, loss=loss, perplexity=None)] if loss is not None else []
    reading.extend([*events, *told])
    return reading.record(name, f"/runs/2026-{name}", config, Fingerprints(data=Fingerprint(files=files)))


def _texts(comparison: Comparison, group: str) -> dict[str, tuple[str, ...]]:
    return {row.path: row.texts for row in comparison.group(group).shown(everything=False)}


def _best(comparison: Comparison) -> tuple[int, ...]:
    row = next(row for row in comparison.group("results").rows if row.path == "results.held_out_loss")
    return row.best


def test_of_the_settings_those_that_differ_are_shown_in_words_with_their_units() -> None:
    runs = [
        _run("a", lora__rank=8, training__learning_rate=2e-4, export__merge=False),
        _run("b", lora__rank=16, training__learning_rate=1e-4, training__max_length=512, quantization__method="none"),
    ]

    assert _texts(compare(runs), "settings") == {
        "quantization.method": ("4-bit NF4", "16-bit (LoRA)"),
        "lora.rank": ("8", "16"),
        "training.learning_rate": ("2e-4", "1e-4"),
        "training.max_length": ("2048 tokens", "512 tokens"),
        "export.merge": ("no", "yes"),
    }


def test_runs_with_the_same_settings_show_none_and_everything_shows_all() -> None:
    settings = compare([_run("a"), _run("b")]).group("settings")

    assert settings.shown(everything=False) == ()
    assert len(settings.shown(everything=True)) > 40


def test_the_least_held_out_loss_is_the_best_where_the_same_rows_were_held_out() -> None:
    assert _best(compare([_run("a", 0.9), _run("b", 0.8), _run("c", 0.8)])) == (1, 2)
    assert _best(compare([_run("a", 0.9), _run("b", 0.9)])) == ()
    assert _best(compare([_run("a", 0.9)])) == ()


def test_losses_on_other_rows_are_not_ranked_and_why_is_said() -> None:
    other_file = compare([_run("a", 0.9, data__path="x.jsonl"), _run("b", 0.8, data__path="y.jsonl")])
    other_rows = compare([_run("a", 0.9, rows="1"), _run("b", 0.8, rows="2")])

    assert _best(other_file) == _best(other_rows) == ()
    assert other_file.caution.endswith("They differ in: dataset.")
    assert "held-out rows are not the same" in other_rows.caution


def test_rows_that_are_the_same_by_content_can_be_ranked_wherever_their_files_lie() -> None:
    runs = [_run("a", 0.9, rows="1", data__path="/x/rows.jsonl"), _run("b", 0.8, rows="1", data__path="/y/rows.jsonl")]
    comparison = compare(runs)

    assert _best(comparison) == (1,)
    assert comparison.caution == ""
    assert "data.evaluation_sha256" not in _texts(comparison, "data")


def test_answers_stand_side_by_side_where_two_runs_at_least_were_asked() -> None:
    def said(step: int, prompt: str, answer: str) -> ev.Event:
        return ev.SampleGenerated(step=step, prompt=prompt, answer=answer)

    runs = [
        _run("a", events=(said(0, "Hi", "old"), said(9, "Hi", "new"), said(9, "Alone", "x"))),
        _run("b", events=(said(5, "Hi", "hello"),)),
        _run("c"),
    ]
    [found] = compare(runs).answers

    assert found.prompt == "Hi"
    assert found.answers == ((9, "new"), (5, "hello"), None)


def test_versions_differ_package_by_package() -> None:
    def told(**packages: str) -> ev.Event:
        return ev.EnvironmentTold(studio="1", packages=packages)

    runs = [_run("a", events=(told(torch="2.8", peft="0.21"),)), _run("b", events=(told(torch="2.9", peft="0.21"),))]

    assert _texts(compare(runs), "versions") == {"versions.torch": ("2.8", "2.9")}


def test_what_is_not_known_is_a_dash() -> None:
    comparison = compare([_run("a", 0.9), _run("b")])

    results = {row.path: row.texts for row in comparison.group("results").rows}
    assert results["results.held_out_loss"] == ("0.9000", "–")
    assert {row.texts for row in comparison.group("cost").rows} == {("–", "–")}


def test_runs_of_one_name_are_told_apart_by_their_folders() -> None:
    runs = [replace(_run("a"), path="/runs/1-a"), replace(_run("a"), path="/runs/2-a"), _run("b")]

    assert compare(runs).names == ("a (1-a)", "a (2-a)", "b")
