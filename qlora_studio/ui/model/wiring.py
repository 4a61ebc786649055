"""Connects the Model page to the draft, the model's files, the catalogue and the download."""

from PySide6.QtCore import QObject

from qlora_studio.core.config.run_config import RunConfig
from qlora_studio.core.errors import StudioError
from qlora_studio.core.memory.estimator import estimate
from qlora_studio.core.memory.fit import judge
from qlora_studio.core.memory.gpu_catalogue import GPUS, find_gpu
from qlora_studio.core.memory.setup import setup_for
from qlora_studio.core.model.recommendation import with_recommendations
from qlora_studio.core.run.activity import Phase
from qlora_studio.core.run.job import DownloadJob
from qlora_studio.core.words import say
from qlora_studio.storage.models.catalogue import model_catalogue
from qlora_studio.storage.models.location import locate_model
from qlora_studio.storage.models.quantized_base import refused_as_stored
from qlora_studio.ui.kit.layouts import still
from qlora_studio.ui.memory.view import available_bytes
from qlora_studio.ui.model.local_wiring import LocalWiring
from qlora_studio.ui.model.page import ModelPage
from qlora_studio.ui.model.view import CatalogueLine, method_lines
from qlora_studio.ui.state.background import Background
from qlora_studio.ui.state.estimates import FoundModel
from qlora_studio.ui.state.studio import Studio
from qlora_studio.ui.window.main_window import MainWindow


class ModelWiring(QObject):
    """The Model page with what stands behind it."""

    def __init__(self, studio: Studio, window: MainWindow, page: ModelPage) -> None:
        super().__init__(window)
        self._studio, self._window, self._page = studio, window, page
        self._judged: tuple[RunConfig, int | None, int] | None = None
        self._local = LocalWiring(page.local, lambda: (studio.draft.config, *self._card()))
        self._catalogue = Background(self)
        self._catalogue.answered.connect(lambda answer: page.render_catalogue(*answer))
        studio.draft.changed.connect(page.render_config)
        studio.estimates.model_asked.connect(self._on_model_asked)
        studio.estimates.model_found.connect(self._on_model_found)
        studio.estimates.model_missing.connect(self._on_model_missing)
        studio.download.store.changed.connect(self._on_download_changed)
        studio.gpu.changed.connect(self._judge_catalogue)
        studio.estimates.estimated.connect(self._on_estimated)
        studio.settings_changed.connect(self._judge_catalogue)
        window.page_shown.connect(self._on_page_shown)
        page.source.source_requested.connect(self._on_source_requested)
        page.source.download_requested.connect(self._on_download_requested)
        page.source.download_stop_requested.connect(self._on_download_stop_requested)
        page.advice_requested.connect(self._on_advice_requested)
        page.continue_requested.connect(lambda: window.show_page("data"))

    def _on_page_shown(self, name: str) -> None:
        self._judge_catalogue()
        if name == self._page.name:
            self._local.look()

    def _on_source_requested(self, source: str, revision: str) -> None:
        self._page.clear_error()
        self._studio.draft.set_values({"model.source": source, "model.revision": revision})

    def _on_model_asked(self) -> None:
        self._page.clear_error()
        source = self._studio.draft.config.model.source
        self._page.render_model(None, None, say("The model's files are looked at …") if source else "")

    def _on_model_found(self, found: FoundModel) -> None:
        self._page.clear_error()
        with still(self._page):
            self._page.render_model(found.location, found.facts)

    def _on_model_missing(self, error: StudioError) -> None:
        self._page.render_model(None, None, say("Choose another one above, or one of the list below."))
        self._page.show_error(error)

    def _on_download_requested(self, source: str, revision: str) -> None:
        self._on_source_requested(source, revision)
        self._studio.download.start(self._studio.jobs_path, DownloadJob(source=source, revision=revision))

    def _on_download_stop_requested(self) -> None:
        self._studio.download.end()
        self._page.render_download(None)

    def _on_download_changed(self) -> None:
        state, job = self._studio.download.store.state, self._studio.download.job
        self._page.render_download(state, source=job.source if isinstance(job, DownloadJob) else "")
        if state.phase == Phase.FINISHED:
            self._studio.estimates.look_again()

    def _on_advice_requested(self) -> None:
        found = self._studio.estimates.found
        if found is not None and found.facts is not None:
            draft = self._studio.draft
            advised = with_recommendations(draft.config, found.facts.parameters)
            draft.propose(say("What is advised for this model"), advised)

    def _judge_catalogue(self) -> None:
        """Judge the catalogue for the card, beside the event loop; only while the page shows it, and once a config."""
        if self._window.current_page() is not self._page:
            return
        card, free = self._card()
        config, rows = self._studio.draft.config, self._studio.estimates.row_tokens
        if self._judged is None or self._judged[:2] != (config, rows) or abs(self._judged[2] - free) > free // 50:
            self._judged = (config, rows, free)
            self._local.judge()
            self._catalogue.ask(_judged_lines, config, rows, card, free)

    def _on_estimated(self) -> None:
        self._compare_methods()
        self._judge_catalogue()

    def _compare_methods(self) -> None:
        found = self._studio.estimates.found
        shape = found.facts.shape if found is not None and found.facts is not None else None
        estimate = self._studio.estimates.estimate
        if shape is None or estimate is None:
            self._page.render_methods(())
            return
        name, free = self._card()
        config, rows = self._studio.draft.config, self._studio.estimates.row_tokens
        setup = setup_for(config, shape, row_tokens=rows, gpu=find_gpu(name))
        self._page.render_methods(method_lines(shape, setup, free, estimate.context_bytes))

    def _card(self) -> tuple[str, int]:
        """Return the card's name and what a run can have of it; nothing and 0 where none is known."""
        assumed = self._studio.settings.assumed_gpu
        for spec in GPUS:
            if spec.name == assumed:
                return spec.name, spec.free_bytes
        sample = self._studio.gpu.sample
        free = available_bytes(sample) if sample is not None else None
        return (sample.name, free) if sample is not None and free else ("", 0)


def _judged_lines(config: RunConfig, rows: int | None, card: str, free: int) -> tuple[list[CatalogueLine], str]:
    lines, gpu = [], find_gpu(card)
    for model in model_catalogue():
        found = estimate(config, model.shape, row_tokens=rows, gpu=gpu)
        lines.append(
            CatalogueLine(
                id=model.id,
                title=model.title,
                parameters=model.parameters,
                licence=model.licence,
                gated=model.gated,
                template=model.template,
                needed_bytes=found.total_bytes,
                verdict=judge(found, free).verdict if card else None,
                here=locate_model(model.id).path is not None,
                date=model.date,
                refused=refused_as_stored(model),
            )
        )
    return lines, card
