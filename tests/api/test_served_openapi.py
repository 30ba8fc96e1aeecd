"""The served API keeps what its OpenAPI document promises: schemathesis makes requests of it, right and wrong ones."""

import asyncio
import threading
from collections.abc import Iterator

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, assume, given, settings
from schemathesis import Case, GenerationMode

from sleepd.api.fields import parse_moment
from sleepd.api.openapi import describe, operation_id
from sleepd.api.route import Route
from sleepd.api.routes import ROUTES
from tests.api.unix_session import unix_session
from tests.unit.api_rig import WALL_S, FakeDaemon, serving

EXAMPLES = 20
SCHEMA = schemathesis.openapi.from_dict(describe(ROUTES))
MODES = (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[requests.Session]:
    """A session to a served API, in a thread of its own."""
    path, loop, stop = tmp_path_factory.mktemp("api") / "s", asyncio.new_event_loop(), asyncio.Event()
    ready = threading.Event()

    async def serve() -> None:
        async with serving(FakeDaemon(), path):
            ready.set()
            await stop.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    try:
        assert ready.wait(20)
        with unix_session(str(path)) as made:
            yield made
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(20)
        loop.close()


def test_the_document_that_is_served_is_valid(session: requests.Session) -> None:
    document = session.get("http://localhost/openapi.json").json()
    assert document == describe(ROUTES)
    SCHEMA.validate()
    met = {(found.ok().method.upper(), found.ok().path) for found in SCHEMA.get_all_operations()}
    assert met == {(route.method, route.path) for route in ROUTES}


def _is_backwards(case: Case) -> bool:
    """Whether it asks for a span that ends before it begins, which no schema can tell."""
    query = case.query or {}
    begin, end = (parse_moment(str(query[name])) if query.get(name) else None for name in ("from", "to"))
    return (WALL_S if end is None else end) <= (float("-inf") if begin is None else begin)


@pytest.mark.parametrize("mode", MODES, ids=lambda mode: mode.value)
@pytest.mark.parametrize("route", [route for route in ROUTES if not route.endless], ids=operation_id)
def test_every_operation_keeps_the_document(session: requests.Session, route: Route, mode: GenerationMode) -> None:
    operation = SCHEMA[route.path][route.method]
    if mode is GenerationMode.NEGATIVE and not (route.fields or route.query or "{" in route.path):
        assert not list(operation.iter_parameters())  # nothing that could be wrong
        return

    known = {"name": "embed"} if mode is GenerationMode.POSITIVE and "{name}" in route.path else None

    @settings(
        max_examples=EXAMPLES,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(operation.as_strategy(generation_mode=mode, path_parameters=known))
    def meet(case: Case) -> None:
        # A stream that is asked for has no end to wait for.
        assume(not (isinstance(case.body, dict) and case.body.get("attach")))
        assume(not _is_backwards(case))
        case.call_and_validate(base_url="http://localhost", session=session)

    meet()
