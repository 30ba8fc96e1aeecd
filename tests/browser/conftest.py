"""One window for all, which forgets between tests who was logged in and what was chosen."""

from collections.abc import Iterator

import pytest

from tests.browser.stages import Crowd, Playground
from tests.browser.webdriver import Browser, driving


@pytest.fixture(scope="session")
def window() -> Iterator[Browser]:
    with driving() as chromium, chromium.browser() as found:
        yield found


@pytest.fixture
def browser(window: Browser) -> Iterator[Browser]:
    yield window
    window.run("localStorage.clear()")
    window.go("about:blank")  # before what it shows goes
    window.chrome("Network.clearBrowserCookies")
    window.chrome("Emulation.setEmulatedMedia", features=[])
    window.complaints()


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Playground]:
    with Playground(tmp_path_factory.mktemp("demo")) as found:
        found.add(1)
        yield found


@pytest.fixture(scope="module")
def crowd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Crowd]:
    with Crowd(tmp_path_factory.mktemp("crowd")) as found:
        yield found
