"""A change of settings can be undone, and done again."""

from PySide6.QtWidgets import QApplication

from qlora_studio.ui.state.draft import DraftStore
from qlora_studio.ui.state.draft_history import DraftHistory


def test_each_change_is_undone_in_turn_and_done_again(qapp: QApplication) -> None:
    draft = DraftStore()
    history = DraftHistory(draft)
    before = draft.config
    draft.set_value("lora.rank", 64)
    draft.set_values({"lora.alpha": 8, "training.epochs": 5.0})
    after = draft.config
    assert history.undo() == "LoRA alpha, Epochs"
    assert draft.config.lora.rank == 64
    assert history.undo() == "LoRA rank"
    assert draft.config == before
    assert history.undo() == ""
    assert history.redo() == "LoRA rank"
    assert history.redo() == "LoRA alpha, Epochs"
    assert draft.config == after


def test_a_change_after_an_undo_ends_what_could_be_done_again(qapp: QApplication) -> None:
    draft = DraftStore()
    history = DraftHistory(draft)
    draft.set_value("lora.rank", 64)
    history.undo()
    draft.set_value("lora.rank", 8)
    assert history.redo() == ""
    assert draft.config.lora.rank == 8


def test_the_card_that_was_chosen_is_not_undone_and_does_not_stand_in_the_way(qapp: QApplication) -> None:
    draft = DraftStore()
    history = DraftHistory(draft)
    draft.set_value("lora.rank", 64)
    draft.set_value("hardware.gpus", "cpu")
    assert history.undo() == "LoRA rank"
    assert draft.config.hardware.gpus == "cpu"
