"""What is asked of a dataset: a report is shown for just the drafts that it is true of."""

import pytest

from qlora_studio.core.config.run_config import RunConfig
from qlora_studio.ui.readiness.data_question import (
    Answer,
    lengths_question,
    report_question,
    row_question,
    rows_question,
    tokens_question,
)

CONFIG = RunConfig().with_value("model.source", "starter").with_value("data.path", "a.jsonl")
ALL = {
    "rows": rows_question,
    "row": row_question,
    "lengths": lengths_question,
    "tokens": tokens_question,
    "report": report_question,
}


@pytest.mark.parametrize(
    ("path", "value", "still_true"),
    [
        ("training.learning_rate", 1e-5, "rows row lengths tokens report"),
        ("lora.rank", 64, "rows row lengths tokens report"),
        ("name", "another", "rows row lengths tokens report"),
        ("training.batch_size", 7, "rows row lengths tokens"),  # padding and steps are others
        ("training.gradient_accumulation", 3, "rows row lengths tokens"),
        ("training.max_length", 64, "rows lengths"),  # how long the rows are before they are cut
        ("training.packing", True, "rows lengths"),
        ("training.seed", 7, "rows lengths"),
        ("data.exclude", ["0" * 16], "rows row"),  # fewer rows are counted, and each is what it was
        ("training.loss_on", "all", "rows"),
        ("data.path", "b.jsonl", ""),
        ("data.evaluation_share", 0.5, ""),
        ("data.chat_template", "chatml", ""),
        ("data.reasoning", "keep", ""),
        ("model.source", "another/model", ""),
        ("model.source", "", ""),
    ],
)
def test_a_report_answers_as_much_of_another_draft_as_is_still_true_of_it(
    path: str, value: object, still_true: str
) -> None:
    answer, draft = Answer(CONFIG, "known"), CONFIG.with_value(path, value)
    assert all(answer.to(question, CONFIG) == "known" for question in ALL.values())
    assert " ".join(name for name, question in ALL.items() if answer.to(question, draft)) == still_true
