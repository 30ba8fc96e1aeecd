"""One digest of what /weight_checker says, whatever else comes instead."""

import pytest

from sleepd.adapters.vllm_facts import facts_of
from sleepd.core.checksums import read_checksums
from sleepd.core.dialect import capabilities

SUMS = {"dp0:pp0:pcp0:tp0:a": "00", "dp0:pp0:pcp0:tp0:b": "01"}


def test_the_digest_is_of_names_and_sums_in_any_order() -> None:
    known = read_checksums({"checksums": SUMS})
    assert len(known) == 64
    assert read_checksums({"checksums": dict(reversed(SUMS.items()))}) == known
    assert read_checksums({"checksums": {**SUMS, "dp0:pp0:pcp0:tp0:b": "02"}}) != known
    assert read_checksums({"checksums": {"dp0:pp0:pcp0:tp0:a": "00"}}) != known


@pytest.mark.parametrize("odd", [None, [], {}, {"checksums": {}}, {"checksums": []}, {"checksums": {"a": 1}}, "x"])
def test_anything_else_is_no_digest(odd: object) -> None:
    assert read_checksums(odd) == ""


@pytest.mark.parametrize(
    ("version", "routes", "takes"),
    [
        ("0.32.0", ("/weight_checker",), True),
        ("0.33.1", ("/weight_checker",), True),
        ("0.32.0", ("/sleep",), False),
        ("0.31.2", ("/weight_checker",), False),
        ("0.99.0", ("/weight_checker",), False),
    ],
)
def test_who_can_tell_checksums(version: str, routes: tuple[str, ...], takes: bool) -> None:
    facts = facts_of(version, "pst:1", None, None, {"paths": {route: {} for route in routes}})
    assert capabilities(facts, fenced=True).checksums is takes
