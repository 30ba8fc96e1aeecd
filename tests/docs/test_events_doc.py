"""docs/events.md says what the code tells: every kind of event, and what its data may hold."""

import ast
from pathlib import Path

from sleepd.core.event_kinds import KINDS
from sleepd.core.turn import Note
from sleepd.events_doc import events_page
from sleepd.sim.scenario.play import play
from sleepd.sim.scenario.script import draw_script

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "events.md"
TELLING = {"note", "Note", "_say"}
NOT_EVENTS = {"started"}
"""Told by the log alone."""


def kinds_in(path: Path) -> set[str]:
    """Every kind that is written in a call of something that tells."""
    found: set[str] = set()
    for call in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        name = getattr(call, "func", None)
        if isinstance(call, ast.Call) and (getattr(name, "id", "") or getattr(name, "attr", "")) in TELLING:
            found |= {str(part.value) for part in ast.walk(ast.Tuple(call.args[:2], ast.Load())) if _is_word(part)}
    return found


def _is_word(part: ast.AST) -> bool:
    return isinstance(part, ast.Constant) and isinstance(part.value, str) and part.value.isidentifier()


def test_the_page_is_what_the_generator_prints() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert page == events_page(page), "write it anew: python -m sleepd.events_doc docs/events.md"


def test_every_kind_that_is_told_is_in_the_table_and_no_other() -> None:
    folders = ("core", "engine", "service")
    told = set().union(*(kinds_in(path) for folder in folders for path in (ROOT / "sleepd" / folder).rglob("*.py")))
    missing = told - KINDS.keys() - NOT_EVENTS
    assert not missing, f"add to sleepd/core/event_kinds.py, then write docs/events.md anew: {sorted(missing)}"


def test_what_scenarios_tell_has_no_other_data() -> None:
    told: list[Note] = []
    for seed in (1, 4, 5, 12):
        play(draw_script(seed), tell=lambda stage, note: told.append(note))
    assert len({note.kind for note in told}) > 15
    for note in told:
        kind = KINDS[note.kind]
        if not kind.more:
            assert note.data.keys() <= kind.data.keys() | {"task", "cause"}, note
