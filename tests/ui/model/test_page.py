"""The Model page: four ways to name a model, and what its files say of it."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from PySide6.QtCore import Qt
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication, QLabel

from qlora_studio.core.config.run_config import RunConfig
from qlora_studio.core.errors import FailureKind
from qlora_studio.core.memory.estimator import estimate
from qlora_studio.core.memory.fit import FitVerdict
from qlora_studio.core.memory.setup import setup_for
from qlora_studio.core.quantity import GIB
from qlora_studio.core.run.events import Failed, PhaseChanged, Progressed, WorkerStarted
from qlora_studio.core.run.run_state import RunState, reduce
from qlora_studio.storage.models.location import ModelLocation, locate_model, model_facts
from qlora_studio.ui.model.page import ModelPage
from qlora_studio.ui.model.view import CatalogueLine, four_bit_text, method_lines
from tests.core.memory.qlora_article import article_shapes

LEFT = Qt.MouseButton.LeftButton
STARTER = RunConfig().with_value("model.source", "starter")


def texts(page: ModelPage) -> str:
    return "\n".join(label.text() for label in page.findChildren(QLabel) if label.isVisibleTo(page))


@pytest.fixture
def page(qapp: QApplication) -> ModelPage:
    page = ModelPage()
    page.resize(900, 800)
    page.show()
    return page


@pytest.fixture
def chosen(page: ModelPage, starter_gguf: Path) -> ModelPage:
    location = locate_model("starter")
    page.render_config(STARTER)
    page.render_model(location, model_facts(location))
    return page


def shown(page: ModelPage) -> list[str]:
    return [page.catalogue.index(row, 0).data() for row in range(page.catalogue.rowCount())]


def line(name: str, parameters: int, verdict: FitVerdict | None) -> CatalogueLine:
    return CatalogueLine(f"maker/{name}", name, parameters, "apache-2.0", False, "chatml", parameters, verdict)


def test_the_starter_model_takes_one_click(page: ModelPage) -> None:
    asked: list[tuple[str, str]] = []
    page.source.source_requested.connect(lambda source, revision: asked.append((source, revision)))
    QTest.mouseClick(page.source.use_starter, LEFT)
    assert asked == [("starter", "")]


def test_a_name_that_is_being_typed_stays_in_sight_where_another_model_comes(chosen: ModelPage) -> None:
    asked: list[str] = []
    source = chosen.source
    source.source_requested.connect(lambda name, _revision: asked.append(name))
    chosen.activateWindow()
    QTest.mouseClick(source.kinds["hub"], LEFT)
    source.hub_id.setFocus()
    QTest.keyClicks(source.hub_id, "Qwen/Qw")
    location = locate_model("starter")
    chosen.render_model(location, model_facts(location))  # its files were looked at again
    other = ModelLocation("hub", "maker/other", None)
    chosen.render_model(other, None)
    assert source.hub_id.isVisible() and source.hub_id.text() == "Qwen/Qw" and asked == []
    QTest.keyClick(source.hub_id, Qt.Key.Key_Escape)
    assert source.hub_id.text() == "maker/other" and asked == []
    QTest.keyClicks(source.hub_id, "2")
    QTest.keyClick(source.hub_id, Qt.Key.Key_Return)
    assert asked == ["maker/other2"]


def test_the_way_that_the_user_turned_to_stays_until_another_model_is_chosen(chosen: ModelPage) -> None:
    location, source = locate_model("starter"), chosen.source
    QTest.mouseClick(source.kinds["folder"], LEFT)
    chosen.render_model(None, None)  # its files are looked at again
    chosen.render_model(location, model_facts(location))
    assert source.folder.isVisible()
    chosen.render_model(ModelLocation("hub", "maker/other", None), None)
    assert source.hub_id.isVisible()


def test_a_folder_that_is_only_looked_at_is_not_asked_for(chosen: ModelPage) -> None:
    asked: list[str] = []
    source = chosen.source
    source.folder.set_text("/models/a")
    source.source_requested.connect(lambda name, _revision: asked.append(name))
    chosen.activateWindow()
    QTest.mouseClick(source.kinds["folder"], LEFT)
    source.folder.line.setFocus()
    source.folder.line.clearFocus()
    assert asked == []
    QTest.keyClick(source.folder.line, Qt.Key.Key_Return)
    assert asked == ["/models/a"]


def test_a_hub_id_is_typed_and_downloaded(page: ModelPage) -> None:
    asked: list[tuple[str, ...]] = []
    page.source.source_requested.connect(lambda *told: asked.append(("look", *told)))
    page.source.download_requested.connect(lambda *told: asked.append(("download", *told)))
    QTest.mouseClick(page.source.kinds["hub"], LEFT)
    QTest.keyClicks(page.source.hub_id, "Qwen/Qwen3-0.6B")
    QTest.keyClicks(page.source.revision, "main")
    QTest.keyClick(page.source.hub_id, Qt.Key.Key_Return)
    QTest.mouseClick(page.source.download, LEFT)
    assert asked == [("look", "Qwen/Qwen3-0.6B", "main"), ("download", "Qwen/Qwen3-0.6B", "main")]


@pytest.mark.parametrize("kind", ["folder", "gguf"])
def test_a_folder_or_file_is_named_by_its_path(page: ModelPage, kind: str, tmp_path: Path) -> None:
    asked: list[str] = []
    page.source.source_requested.connect(lambda source, _revision: asked.append(source))
    QTest.mouseClick(page.source.kinds[kind], LEFT)
    field = getattr(page.source, kind)
    QTest.keyClicks(field.line, str(tmp_path))
    QTest.keyClick(field.line, Qt.Key.Key_Return)
    assert asked == [str(tmp_path)]


def test_the_files_of_the_model_are_told_in_words(chosen: ModelPage) -> None:
    shown = dict(chosen.grid.facts())
    assert shown["Parameters"] == "134,515,008"
    assert shown["Context"] == "8,192 tokens"
    assert shown["Layers"] == "30 of width 576"
    assert "134.5 M parameters" in texts(chosen)
    assert "It has a chat template" in texts(chosen)
    assert "less." in chosen.four_bit.text()
    assert chosen.continue_button.isEnabled()


def test_the_template_is_shown_on_demand_as_plain_text(chosen: ModelPage) -> None:
    assert not chosen.template.isVisibleTo(chosen)
    QTest.mouseClick(chosen.template_button, LEFT)
    assert "<|im_start|>" in chosen.template.toPlainText()
    assert chosen.template.isVisibleTo(chosen)


def test_advice_is_offered_only_where_the_settings_differ_from_it(chosen: ModelPage) -> None:
    asked: list[bool] = []
    chosen.advice_requested.connect(lambda: asked.append(True))
    assert not chosen.take_advice.isVisibleTo(chosen)
    chosen.render_config(STARTER.with_value("lora.rank", 64))
    assert "rank 16, learning rate 2e-4" in chosen.advice.text()
    QTest.mouseClick(chosen.take_advice, LEFT)
    assert asked == [True]


def test_a_model_that_is_not_there_is_said_in_words_and_not_continued_with(page: ModelPage) -> None:
    page.render_config(RunConfig().with_value("model.source", "maker/none"))
    page.render_model(ModelLocation("hub", "maker/none", None), None)
    assert not page.continue_button.isEnabled()
    assert "not on this computer yet" in texts(page)
    assert page.source.download.text() == "Download"


def test_a_model_of_the_catalogue_says_what_it_takes_before_it_is_downloaded(page: ModelPage) -> None:
    qwen = "Qwen/Qwen3-0.6B"  # 596,049,920 parameters: 1.19 GB in 16 bits
    config = RunConfig().with_value("model.source", qwen)
    page.render_config(config)
    page.render_model(ModelLocation("hub", qwen, None), None)
    facts = dict(page.grid.facts())
    assert facts["Download"] == "about 1.1 GiB" and page.grid.isVisible()
    page.render_config(config.with_value("training.max_length", 8192))
    assert dict(page.grid.facts())["Graphics memory"] != facts["Graphics memory"]
    page.render_model(ModelLocation("hub", "nobody/knows-it", None), None)
    assert not page.grid.isVisible()
    stored = ModelLocation("hub", "openai/gpt-oss-20b", None)
    page.render_model(stored, None)
    assert "stored in MXFP4" in dict(page.grid.facts())["Download"]


def test_a_download_shows_how_far_it_is_and_why_it_failed(page: ModelPage) -> None:
    stopped: list[bool] = []
    page.source.download_stop_requested.connect(lambda: stopped.append(True))
    page.source.show_kind("hub")
    state = RunState()
    for event in (
        WorkerStarted(job="download", studio="0", pid=1),
        PhaseChanged(phase="downloading"),
        Progressed(what="download", done=1 << 30, total=4 << 30, unit="bytes"),
    ):
        state = reduce(state, event)
    page.render_download(state, source="some/model")
    page.source.hub_id.setText("another/one")
    assert "1.0 GiB of 4.0 GiB of some/model" in texts(page), "whatever was written into the field meanwhile"
    QTest.mouseClick(page.source.stop, LEFT)
    assert stopped == [True]
    page.render_download(reduce(state, Failed(kind=FailureKind.MODEL_NOT_FOUND, message="The hub does not know it.")))
    assert page.notice.message.text() == "The hub does not know it." and page.notice.isVisibleTo(page)
    assert page.source.download.isVisibleTo(page)


def test_the_catalogue_is_judged_filtered_and_chosen_from(page: ModelPage) -> None:
    asked: list[str] = []
    page.source.source_requested.connect(lambda source, _revision: asked.append(source))
    lines = [
        line("small", 10**9, FitVerdict.FITS),
        line("middle", 10**10, FitVerdict.TIGHT),
        line("large", 10**11, FitVerdict.NO),
    ]
    page.render_catalogue(lines, "RTX 4090")
    assert [page.catalogue.index(row, 3).data() for row in range(3)] == ["fits", "tight", "too large"]
    assert not page.use_selected.isEnabled()
    QTest.keyClicks(page.search, "mid")
    assert page.catalogue.rowCount() == 1
    page.table.selectRow(0)
    QTest.mouseClick(page.use_selected, LEFT)
    assert asked == ["maker/middle"]


def test_what_fits_comes_first_then_the_newest_then_the_largest(page: ModelPage) -> None:
    fits, no = FitVerdict.FITS, FitVerdict.NO
    lines = [
        replace(line("old", 8 * 10**9, fits), date="2024-07"),
        replace(line("new, small", 10**9, fits), date="2026-03"),
        replace(line("new, large", 9 * 10**9, fits), date="2026-03"),
        replace(line("newest", 10**11, no), date="2026-04"),
    ]
    page.render_catalogue(lines, "RTX 4090")
    assert shown(page) == ["new, large", "new, small", "old", "newest"]
    page.render_catalogue([replace(item, verdict=None) for item in lines], "")
    assert shown(page) == ["newest", "new, large", "new, small", "old"]


def test_what_is_not_trained_as_it_is_stored_says_so_and_stands_last(page: ModelPage) -> None:
    lines = [replace(line("packed", 10**9, FitVerdict.FITS), refused="FP8"), line("large", 10**11, FitVerdict.NO)]
    page.render_catalogue(lines, "RTX 4090")
    assert shown(page) == ["large", "packed"]
    assert page.catalogue.index(1, 3).data() == "stored in FP8"


@pytest.mark.parametrize(
    ("words", "left"), [("2026", ["b"]), ("MIT a", ["a"]), ("gemma", []), ("maker", ["b", "a"]), ("chatml 2024", ["a"])]
)
def test_the_filter_looks_at_names_licences_templates_and_dates(page: ModelPage, words: str, left: list[str]) -> None:
    first = replace(line("a", 10**9, None), date="2024-07", licence="mit")
    page.render_catalogue([first, replace(line("b", 10**9, None), date="2026-03")], "")
    page.search.setText(words)
    assert shown(page) == left


def test_without_a_card_the_catalogue_is_listed_without_a_verdict(page: ModelPage) -> None:
    page.render_catalogue([line("small", 10**9, None)], "")
    assert page.catalogue.index(0, 3).data() == "–"
    assert "Choose a card in Settings" in texts(page)


def test_what_four_bits_save_is_said_with_both_sizes(chosen: ModelPage) -> None:
    assert "of weights become" in four_bit_text(model_facts(locate_model("starter")))


def test_a_base_that_is_stored_quantized_is_told(page: ModelPage, tiny_llama: Path, tmp_path: Path) -> None:
    folder = tmp_path / "Qwen3-8B-AWQ"
    shutil.copytree(tiny_llama, folder)
    config = json.loads((folder / "config.json").read_text()) | {"quantization_config": {"quant_method": "awq"}}
    (folder / "config.json").write_text(json.dumps(config))
    location = locate_model(str(folder))
    page.render_model(location, model_facts(location))
    assert "Stored quantized (AWQ), so it is not trained. Choose the original in 16 bits, Qwen/Qwen3-8B" in texts(page)


def test_the_qlora_row_of_the_comparison_is_the_estimate_of_the_run_itself() -> None:
    shape, config = article_shapes()["13B"], RunConfig()
    found = estimate(config, shape)
    full, lora, qlora = method_lines(shape, setup_for(config, shape), 24 * GIB, found.context_bytes)
    assert qlora.total_bytes == found.total_bytes
    assert (full.fit, lora.fit, qlora.fit) == ("too large", "too large", "fits")
    assert full.total_bytes > 6 * lora.total_bytes > 12 * qlora.total_bytes


def test_the_comparison_is_shown_for_the_chosen_model_and_not_without_one(qapp: QApplication) -> None:
    page = ModelPage()
    shape = article_shapes()["7B"]
    page.render_methods(method_lines(shape, setup_for(RunConfig(), shape), 0, 0))
    assert [page.methods.row(index).fit for index in range(page.methods.rowCount())] == ["–", "–", "–"]
    assert not page._methods.isHidden()
    page.render_methods(())
    assert page._methods.isHidden()


@pytest.mark.parametrize(
    ("source", "kind"), [("/gone/a-model", "folder"), ("/gone/model.gguf", "gguf"), ("maker/unknown", "hub")]
)
def test_of_a_model_that_is_not_found_its_own_name_is_shown_and_not_that_it_is_here(
    chosen: ModelPage, source: str, kind: str
) -> None:
    chosen.render_config(RunConfig().with_value("model.source", source))
    chosen.render_model(None, None, "There is no such model.")
    assert chosen.source.kinds[kind].isChecked()
    assert chosen.source._fields()[kind].text() == source
    assert "On this computer" not in texts(chosen) and "not on this computer yet" not in texts(chosen)
    assert not chosen.continue_button.isEnabled()
