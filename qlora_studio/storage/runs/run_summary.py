"""What lists say of a run, by its settings and its events alone. Who works there, or trusts it, is asked elsewhere."""

from pydantic import BaseModel, ConfigDict

from qlora_studio.core.bounds import Amount, Count, Energy, Moment, Number, Words
from qlora_studio.core.config.run_config import RunConfig
from qlora_studio.core.errors import FailureKind
from qlora_studio.core.run.activity import Phase
from qlora_studio.core.run.events import AdapterContinued, Evaluated, Failed, ModelLoaded
from qlora_studio.core.run.run_state import RunState


class RunSummary(BaseModel):
    """`name`, `source` and `rank` are of the settings; `damage` says what of the events could not be read."""

    model_config = ConfigDict(frozen=True, strict=True)

    name: Words
    source: Words
    rank: Count
    phase: Phase
    failure_kind: FailureKind | None
    step: Count
    total_steps: Count
    evaluation_loss: Number | None
    last_event: Moment
    adapter_path: Words
    parent: Words
    parameters: Amount
    text_model: Words
    energy: Energy | None
    energy_before: Energy | None
    damage: Words

    def as_state(self) -> RunState:
        """Return a state that amounts to the same, from which later events are folded on."""
        model = ModelLoaded(
            architecture="",
            parameters=self.parameters,
            trainable=0,
            footprint_bytes=0,
            quantization="",
            compute_dtype="",
            optimizer="",
            device="",
            target_modules=[],
            text_model=self.text_model,
        )
        return RunState(
            phase=self.phase,
            failure=Failed(kind=self.failure_kind, message="") if self.failure_kind else None,
            step=self.step,
            total_steps=self.total_steps,
            evaluation=Evaluated(step=0, loss=self.evaluation_loss, perplexity=None),
            last_event=self.last_event,
            adapter_path=self.adapter_path,
            parent=AdapterContinued(parent=self.parent) if self.parent else None,
            model=model,
            energy=self.energy,
            energy_before=self.energy_before,
        )


def summary_of(config: RunConfig, state: RunState, damage: str) -> RunSummary:
    """Return what lists say of a run."""
    return RunSummary(
        name=config.name,
        source=config.model.source,
        rank=config.lora.rank,
        phase=state.phase,
        failure_kind=state.failure_kind,
        step=state.step,
        total_steps=state.total_steps,
        evaluation_loss=state.evaluation.loss if state.evaluation else None,
        last_event=state.last_event,
        adapter_path=state.adapter_path,
        parent=state.parent.words if state.parent else "",
        parameters=state.model.parameters if state.model else 0,
        text_model=state.model.text_model if state.model else "",
        energy=state.energy,
        energy_before=state.energy_before,
        damage=damage,
    )
