"""A served API of a daemon in words, whose socket sleepctl finds in its environment."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.unit.api_rig import FakeDaemon, serving


@pytest.fixture
async def daemon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[FakeDaemon]:
    fake = FakeDaemon()
    monkeypatch.setenv("SLEEPD_SOCKET", str(tmp_path / "s"))
    async with serving(fake, tmp_path / "s"):
        yield fake
