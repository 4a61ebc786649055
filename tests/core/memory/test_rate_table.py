"""The predicted rates in docs/MEMORY.md are those that the program predicts."""

from pathlib import Path

from tests.benchmarks import rates


def test_the_table_of_predicted_rates_is_what_its_command_prints() -> None:
    page = Path(__file__).parents[3] / "docs" / "MEMORY.md"
    assert "\n".join(rates.lines()) in page.read_text("utf-8")
