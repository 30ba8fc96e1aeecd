"""docs/states.md says what the tables say."""

import re
import subprocess
import sys
from pathlib import Path

from sleepd.core.life import REQUIRES, STATES, WEIGHTS, Fact, State
from sleepd.states_doc import FACT_MEANS, STATE_MEANS, states_page

PAGE = Path(__file__).parents[2] / "docs" / "states.md"


def test_the_page_is_what_the_generator_prints():
    wanted = "written anew: python -m sleepd.states_doc > docs/states.md"
    printed = subprocess.run([sys.executable, "-m", "sleepd.states_doc"], capture_output=True, text=True, check=True)
    assert PAGE.read_text(encoding="utf-8") == printed.stdout == states_page(), wanted


def test_every_state_and_fact_is_explained():
    assert set(STATE_MEANS) == set(State)
    assert set(FACT_MEANS) == set(Fact)
    assert len(set(FACT_MEANS.values())) == len(Fact)


def test_the_diagram_draws_every_arrow_of_the_table_and_no_other():
    drawn = set()
    for start, end, facts in re.findall(r"^    (\w+) --> (\w+): (.+)$", PAGE.read_text(encoding="utf-8"), re.M):
        drawn |= {(start, fact, end) for fact in facts.split(", ")}
    assert drawn == {(s.value, f.value, to.value) for s, row in STATES.items() for f, to in row.items()}


def test_the_tables_have_a_row_for_everything():
    page = PAGE.read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \|", page, re.M)
    assert rows == [*State, *WEIGHTS, *REQUIRES, *Fact]
