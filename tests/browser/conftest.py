"""One driver for all; each test has a window of its own, whose console must stay silent."""

from collections.abc import Iterator

import pytest

from tests.browser.stages import Crowd, Playground
from tests.browser.webdriver import Browser, Chromium, driving


@pytest.fixture(scope="session")
def chromium() -> Iterator[Chromium]:
    with driving() as found:
        yield found


@pytest.fixture
def browser(chromium: Chromium) -> Iterator[Browser]:
    with chromium.browser() as found:
        yield found
        found.go("about:blank")  # whatever it shows goes before it does


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Playground]:
    with Playground(tmp_path_factory.mktemp("demo")) as found:
        found.add(1)
        yield found


@pytest.fixture(scope="module")
def crowd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Crowd]:
    with Crowd(tmp_path_factory.mktemp("crowd")) as found:
        yield found
