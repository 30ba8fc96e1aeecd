"""The servers under test. `real_vllm` (an object with `url` and `name`) comes from the tests of the real vLLM."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio

from tests.contract.under_test import Client, VllmUnderTest, fake_vllm


@pytest.fixture(scope="module", params=["fake", pytest.param("real", marks=pytest.mark.vllm)])
def vllm(request: pytest.FixtureRequest) -> Iterator[VllmUnderTest]:
    """A vLLM 0.32 for one module of tests."""
    if request.param == "real":
        real = request.getfixturevalue("real_vllm")
        yield VllmUnderTest(real.url, real.name)
        return
    with fake_vllm() as server:
        yield server


@pytest_asyncio.fixture
async def client(vllm: VllmUnderTest) -> AsyncIterator[Client]:
    """A client of a server that is awake, answers right, and is left so."""
    async with vllm.session() as client:
        yield client
        if await client.is_sleeping():
            await client.post("/wake_up?tags=weights")
            await client.rpc("reload_weights")
            await client.post("/wake_up")
        assert not await client.is_sleeping()
