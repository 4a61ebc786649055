"""docs/COMMANDS.md and the parser name the same commands and the same options."""

import argparse
import re
from pathlib import Path

import pytest

from qlora_studio.cli.main import _parser

PAGE = (Path(__file__).parents[2] / "docs" / "COMMANDS.md").read_text(encoding="utf-8")
_OF_OTHERS = {"--torch-backend"}


def _commands(*argv: str) -> dict[str, argparse.ArgumentParser]:
    [found] = [action for action in _parser(argv)._actions if isinstance(action, argparse._SubParsersAction)]
    return dict(found.choices)


def _options(parser: argparse.ArgumentParser) -> set[str]:
    acts = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    within = [_options(act) for action in acts for act in action.choices.values()]
    own = {name for action in parser._actions for name in action.option_strings if name.startswith("--")}
    return own.union(*within)


def _section(title: str) -> dict[str, str]:
    """Return the rows of the table below a heading, by their first word."""
    text = PAGE.partition(f"{title}\n")[2].partition("\n## ")[0]
    return {name.split()[0]: row for name, row in re.findall(r"^\| `([^`]+)` \|(.*)\|$", text, re.MULTILINE)}


def test_every_command_is_on_the_page_and_the_other_way_round() -> None:
    assert set(_section("# Commands")) - {"--self-test"} == set(_commands())


def test_a_command_that_is_named_is_the_one_of_the_whole_parser_and_others_are_not_made_for_it() -> None:
    for name, parser in _commands().items():
        alone = _commands("--json", name, "--help", "train")
        assert alone[name].format_help() == parser.format_help()
        assert len(alone) <= 6
    assert _commands("--json", "unknown").keys() == _commands().keys()


def test_every_command_is_listed_with_its_options() -> None:
    shared = {"--help", "--json", "--details", "--quiet"}
    listed = {name: set(re.findall(r"--[\w-]+", row)) for name, row in _section("## Options").items()}
    assert listed == {name: _options(parser) - shared for name, parser in _commands().items()}


def test_what_the_page_says_of_json_is_said_of_every_command() -> None:
    text = PAGE.partition("## JSON\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (`[^|]+) \|", text, re.MULTILINE)
    named = {word.split()[0] for row in rows for word in re.findall(r"`([^`]+)`", row)}
    assert named - {"--self-test"} == set(_commands())


@pytest.mark.parametrize("option", sorted(set(re.findall(r"(?<![\w-])--[a-z][\w-]+", PAGE)) - _OF_OTHERS))
def test_every_option_that_the_page_speaks_of_exists(option: str) -> None:
    everywhere = _options(_parser()).union(*(_options(parser) for parser in _commands().values()))
    assert option in everywhere
