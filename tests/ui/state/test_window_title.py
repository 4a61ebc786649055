"""The window's title says how far the work is."""

from qlora_studio.ui.state.status import Status, window_title


def test_the_title_begins_with_how_far_the_run_is() -> None:
    assert window_title(Status("Training", "support-bot", share=0.524, busy=True)) == "52% · support-bot · QLoRA Studio"


def test_work_of_unknown_length_is_told_by_its_name_and_work_without_a_name_by_what_it_is() -> None:
    assert window_title(Status("Training", "support-bot", busy=True)) == "support-bot · QLoRA Studio"
    assert window_title(Status("Exporting", share=0.0, busy=True)) == "0% · Exporting · QLoRA Studio"


def test_a_window_at_rest_has_the_program_s_name() -> None:
    assert window_title(Status("Finished", "support-bot", share=1.0)) == "QLoRA Studio"
