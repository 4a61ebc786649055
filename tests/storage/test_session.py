"""The session that the next start takes up: kept whole, and one that cannot be read is told and set aside."""

from pathlib import Path

import pytest

from qlora_studio.core.config.run_config import RunConfig
from qlora_studio.storage.session import Place, Session, load_session, save_session

DRAFT = RunConfig().with_value("lora.rank", 48).with_value("data.mapping", {"prompt": "Frage", "completion": "a\nb"})
DAMAGED = [b"", b"\xff", b"[1]", b'{"draft": "lora = 7"}', b'{"draft": "version = 99"}', b'{"place": {"width": 0}}']
pytestmark = pytest.mark.usefixtures("studio_home")


def test_a_session_is_read_as_it_was_saved() -> None:
    place = Place(left=-1200, top=40, width=1300, height=800, maximized=True)
    session = Session(page="data", place=place, run="/runs/1").with_draft(DRAFT)
    for path in ("/a.csv", "/b.csv", "/a.csv"):
        session = session.with_recent(dataset=path)
    save_session(session)
    assert load_session() == session
    assert load_session().config() == DRAFT and load_session().recent_datasets == ("/a.csv", "/b.csv")


def test_without_a_session_nothing_is_set_up() -> None:
    assert load_session() == Session() and Session().config() is None
    assert Session().with_draft(RunConfig()).draft == ""


@pytest.mark.parametrize("data", DAMAGED, ids=repr)
def test_a_session_that_cannot_be_read_is_told_and_set_aside(studio_home: Path, data: bytes) -> None:
    studio_home.mkdir(exist_ok=True)
    (studio_home / "session.json").write_bytes(data)
    session = load_session()
    (kept,) = studio_home.glob("session.json.damaged-*")
    assert session.model_copy(update={"problem": ""}) == Session()
    assert "What was being set up last time cannot be taken up" in session.problem and kept.name in session.problem
    assert kept.read_bytes() == data
    save_session(session)
    assert not load_session().problem
