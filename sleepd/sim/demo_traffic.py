"""Who uses the demo: callers that question models through the gateway, awake or not, and a batch job.

A caller speaks the OpenAI protocol, knows nothing of sleep, and checks each answer against what the right weights say:
weights that a level 2 sleep discarded and nobody reloaded would answer `!!!!` with status 200.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import aiohttp

from sleepd.core.units import GIB, Bytes, Seconds
from sleepd.sim.demo_stage import Stage
from sleepd.sim.vllm_generation import answer_token

SEED = 20
OPENING_S = 24.0
"""Nobody comes before: the level 2 check of the last server has its idle moment."""
BUSY_GAP_S, QUIET_GAP_S = (10.0, 36.0), (60.0, 70.0)
VISITS_BETWEEN_QUIET = 4

JOB_EVERY_S, JOB_FIRST_S, JOB_LASTS_S, JOB_RAMP_S, JOB_STEPS = 260.0, 80.0, 120.0, 12.0, 12
JOB_LEAVES_BYTES = 11 * GIB
"""Below a tenth of the demo's host RAM, where the shipped pressure rule starts to hold."""

QUESTIONS = (
    "What did the night shift report?",
    "Sum up the meeting in one line.",
    "Why does this test fail?",
    "Which invoice is still open?",
    "Translate: good morning.",
    "Name three risks of the plan.",
)


@dataclass(slots=True)
class Served:
    """What callers lived through; times in the demo's seconds."""

    waits_s: list[Seconds] = field(default_factory=list)
    """Of questions that found the model not awake: how long the gateway held them."""
    found_awake: int = 0
    right: int = 0
    wrong: int = 0
    unanswered: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    """By the code of the gateway's error."""


@dataclass(frozen=True, slots=True)
class Visit:
    """One caller: waits `after_s` behind the one before, then asks `questions` with pauses between."""

    after_s: Seconds
    model: str
    questions: tuple[tuple[str, int, Seconds], ...]
    """Question, tokens wanted, pause behind it."""


def plan_visits(models: tuple[str, ...]) -> Iterator[Visit]:
    """Yield callers without end, the same each time: busy spells, with quiet ones in which models nap."""
    dice = random.Random(SEED)
    last = models[-1]
    count = 0
    while True:
        quiet = count % VISITS_BETWEEN_QUIET == 0
        after_s = OPENING_S if count == 0 else dice.uniform(*(QUIET_GAP_S if quiet else BUSY_GAP_S))
        others = [model for model in models if model != last]
        model = dice.choice([*others, *others, last])
        asked = tuple(
            (dice.choice(QUESTIONS), dice.randrange(24, 97), dice.uniform(1.0, 6.0)) for _ in range(dice.randint(1, 3))
        )
        yield Visit(after_s, model, asked)
        last, count = model, count + 1


class Callers:
    """Carries out the visits: `async with Callers(stage, served) as callers`, then `await callers.come()`."""

    def __init__(self, stage: Stage, models: tuple[str, ...], served: Served) -> None:
        self._stage, self._models, self._served = stage, models, served

    async def __aenter__(self) -> "Callers":
        connector = aiohttp.UnixConnector(path=str(self._stage.gateway_path), limit=0)
        self._session = aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=None))
        return self

    async def __aexit__(self, *failure: object) -> None:
        await self._session.close()

    async def come(self) -> None:
        """Let callers come until cancelled. Raises what a visit did not expect: the demo then ends with it."""
        async with asyncio.TaskGroup() as group:
            for visit in plan_visits(self._models):
                await self._stage.clock.sleep(visit.after_s)
                group.create_task(self._visit(visit))

    async def _visit(self, visit: Visit) -> None:
        for question, tokens, pause_s in visit.questions:
            if not await self._question(visit.model, question, tokens):
                return
            await self._stage.clock.sleep(pause_s)

    async def _question(self, model: str, question: str, tokens: int) -> bool:
        """Ask as any OpenAI client does, and return whether it is worth going on."""
        body = {"messages": [{"role": "user", "content": question}], "model": model, "max_tokens": tokens}
        try:
            async with self._session.post("http://sleepd/v1/chat/completions", json=body) as response:
                answer = await response.json(content_type=None)
        except aiohttp.ClientError:
            self._served.unanswered += 1
            return False
        if "x-sleepd-waited-ms" not in response.headers:
            self._served.refused[answer["error"]["code"]] += 1
            return False
        waited_s = int(response.headers["x-sleepd-waited-ms"]) / 1000 * self._stage.speed
        if waited_s:
            self._served.waits_s.append(waited_s)
        else:
            self._served.found_awake += 1
        found = str(answer["choices"][0]["message"]["content"]) if response.status == 200 else ""
        if found == right_answer(model, question, tokens):
            self._served.right += 1
        else:
            self._served.wrong += 1
        return True


def right_answer(model: str, question: str, tokens: int) -> str:
    """What the model says when its weights are what the checkpoint holds."""
    return "".join(answer_token(model, question, n)[1] for n in range(tokens))


async def run_batch_job(stage: Stage) -> None:
    """Take host RAM until it is short, give it back, and come again, until cancelled."""
    await stage.clock.sleep(JOB_FIRST_S)
    while True:
        stage.take_ram(0)
        most = max(0, stage.host.available_bytes - JOB_LEAVES_BYTES)
        await _ramp(stage, 0, most)
        await stage.clock.sleep(JOB_LASTS_S)
        await _ramp(stage, most, 0)
        await stage.clock.sleep(JOB_EVERY_S - JOB_LASTS_S - 2 * JOB_RAMP_S)


async def _ramp(stage: Stage, start_bytes: Bytes, end_bytes: Bytes) -> None:
    for n in range(1, JOB_STEPS + 1):
        await stage.clock.sleep(JOB_RAMP_S / JOB_STEPS)
        stage.take_ram(start_bytes + (end_bytes - start_bytes) * n // JOB_STEPS)
