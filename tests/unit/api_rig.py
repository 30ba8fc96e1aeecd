"""A daemon in words only: a real World behind the API's protocol, without engine, servers or GPUs."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

from sleepd.api.access import Peer, Role
from sleepd.api.daemon import Ask, EventsRead, NotAwake, ReloadOutcome, UiToken
from sleepd.api.ring import EventRing
from sleepd.api.server import ApiServer, start_api
from sleepd.core.commands import Answer, AnswerKind
from sleepd.core.footprint import Footprint
from sleepd.core.life import Life, State, Weights
from sleepd.core.model import Cause, CauseKind, Failure, Known, ModelSpec, Now, Settings
from sleepd.core.plan import Plan, Verb, step_of
from sleepd.core.record import AskKind, Hold, LastWake, ModelRecord, Waiter
from sleepd.core.records import TaskEnded
from sleepd.core.rehearse import PlannedGpu, PlannedStay, PlannedStep, PlannedVictim, WakePlan
from sleepd.core.reports import ConditionReport, Explanation, NextAction, RuleReport
from sleepd.core.reservation import Reservation
from sleepd.core.seen import EngineFacts, GpuSeen, HostSeen, ModelSeen
from sleepd.core.task import Task, TaskKind
from sleepd.core.turn import Note
from sleepd.core.units import GIB
from sleepd.core.victims import Offer
from sleepd.core.wishes import HoldAsked, HoldEnded, ReservationAsked, ReservationEnded
from sleepd.core.world import World
from sleepd.doctor.findings import Finding, ok, warn
from sleepd.history.found import Bucket, MinuteRow, Page, Report, Span, Totals, VramRow
from sleepd.history.rows import Counts, Interval, Result, Spent, Transition, bucket_of
from sleepd.history.timeline import GpuLine, Timeline

WALL_S = 1_767_225_600.0  # 2026-01-01T00:00:00Z
MONO_S = 5_000.0
GPU = "GPU-11111111-2222-3333-4444-555555555555"
FACTS = EngineFacts("0.28.1", (0, 28), "1")
CAUSE = Cause(CauseKind.OPERATOR, "alice (uid 1000)")
OPEN_ROLES = {"admin": ["root"], "operator": ["%sleepd"], "caller": [], "viewer": ["*"]}


def record(
    name: str, state: State, weights: Weights, *, idle_s: float, running: int = 0, **more: object
) -> ModelRecord:
    """Return a record on GPU 0 with a learned footprint: 60GiB awake, 2GiB of them left asleep."""
    seen = Known(ModelSeen(FACTS, running=running, waiting=0, pids=(77,)), MONO_S - 1, MONO_S - 1)
    base = ModelRecord(
        ModelSpec(name, f"http://127.0.0.1:{8000 + len(name)}", unit=f"vllm@{name}.service"),
        Life(state, weights),
        since_s=MONO_S - idle_s,
        since_wall_s=WALL_S - idle_s,
        seen=seen,
        facts=FACTS,
        last_active_s=MONO_S - idle_s,
        placed_on=(GPU,),
        footprint=Footprint(
            freed={GPU: (58 * GIB,)}, asleep={GPU: 2 * GIB}, backups=(50 * GIB,), durations={"wake1": (4.2,)}
        ),
    )
    return replace(base, **more)  # type: ignore[arg-type]


def make_world() -> World:
    """Return four models in the states an operator meets, one GPU, a host with RAM to spare, one running task."""
    waiter = Waiter(1, AskKind.WAKE, CAUSE, MONO_S, MONO_S + 60)
    failure = Failure("wake_refused", "POST /wake_up answered 500: CUDA out of memory", "wake")
    records = [
        record("qwen3-32b", State.AWAKE, Weights.LOADED, idle_s=250.0),
        record("chat", State.WAKING, Weights.OFFLOADED, idle_s=3.0, waiters=(waiter,)),
        record("embed", State.ASLEEP_L1, Weights.OFFLOADED, idle_s=7400.0, last_wake=LastWake(4.2, "wake 1", True)),
        record("gpt-oss-120b", State.FAILED, Weights.DOUBTFUL, idle_s=90.0, failure=failure),
    ]
    plan = Plan((step_of(Verb.WAKE), step_of(Verb.PROBE)))
    task = Task(7, "chat", TaskKind.WAKE, 1, CAUSE, plan, MONO_S - 3, cursor=1)
    gpus = (GpuSeen(GPU, 0, 80 * GIB, 14 * GIB, {77: 60 * GIB}),)
    return World(
        Settings({r.spec.name: r.spec for r in records}),
        {r.spec.name: r for r in records},
        {"chat": task},
        gpus=Known(gpus, MONO_S, MONO_S),
        host=Known(HostSeen(512 * GIB, 300 * GIB, 0.01), MONO_S, MONO_S),
    )


class FakeHistory:
    """A history with one row of each kind; `refuse` is raised instead."""

    def __init__(self) -> None:
        self.refuse: Exception | None = None
        self.asked: list[Span] = []

    async def page(self, span: Span, limit: int, after: str) -> Page:
        self._hear(span)
        asleep = Interval("chat", "asleep", 1, "offloaded", WALL_S - 900, None, "rule", "nap", 6, 58 * GIB)
        found = Interval("chat", "awake", 0, "loaded", WALL_S - 2000, WALL_S - 900)
        wake = Transition(
            *(7, "chat", "wake", 1, "request", "gateway", WALL_S - 4, WALL_S, Result.DONE, "awake", ("embed",)),
            *(3, 4.1),
        )
        refused = Transition(
            *(8, "chat", "sleep", 1, "rule", "nap", WALL_S - 99, WALL_S - 98, Result.FAILED, "failed: no answer")
        )
        minutes = (MinuteRow(int(WALL_S) - 960, "chat", Counts(3, 2, 1400, 300)),)
        vram = (VramRow(int(WALL_S) - 960, GPU, "", 62 * GIB), VramRow(int(WALL_S) - 960, GPU, "chat", 60 * GIB))
        states = () if after else (found, asleep)
        return Page(states, minutes, () if after else (wake, refused), vram, "" if after else "-".join("1234567890"))

    async def buckets(self, span: Span, step_s: int) -> tuple[Bucket, ...]:
        self._hear(span)
        spent = Spent(1800.0, 1700.0, 100.0, 0.0, 1700.0 * 58 * GIB, 2, 1, 1, 3.6e5)
        return (Bucket(int(WALL_S) - 3600, "chat", Counts(30, 29, 21000, 4400), spent),)

    async def timeline(self, span: Span, step_s: int) -> Timeline:
        self._hear(span)
        runs = ((0, "awake", ""), (1100, "asleep 1", "rule nap"))
        gpus = (GpuLine(GPU, ((0, 60 * GIB), (1100, 2 * GIB))),)
        return Timeline(WALL_S - 2000, WALL_S, step_s, (("chat", runs),), gpus)

    async def report(self, span: Span) -> Report:
        self._hear(span)
        chat = Totals(Counts(300, 290, 210_000, 44_000), Spent(9e4, 8e4, 99.0, 5.0, 8e4 * 58 * GIB, 9, 1, 2, 3.6e6))
        chat.waits = {bucket_of(4.0): 8, bucket_of(9.0): 1}
        nap = Totals(spent=Spent(asleep_s=8e4, given_back=8e4 * 58 * GIB, wakes=9, failures=1), waits=chat.waits)
        embed = Totals(spent=Spent(awake_s=1.7e5))
        return Report(span, int(WALL_S) - 90_000, {"chat": chat, "embed": embed}, {"rule nap": nap}, {GPU: 7.2e6})

    def _hear(self, span: Span) -> None:
        self.asked.append(span)
        if self.refuse is not None:
            raise self.refuse


class FakeDaemon:
    """Answers with what `answers` holds for a model, else DONE; a model in `never` keeps its callers waiting."""

    def __init__(self, world: World | None = None) -> None:
        self.world = make_world() if world is None else world
        self.started_wall_s = WALL_S - 3600
        self.ring = EventRing("e1", limit=5)
        self.asked: list[Ask] = []
        self.gate_asked: list[tuple[str, float]] = []
        self.withdrawn: list[str] = []
        self.answers: dict[str, Answer] = {}
        self.never: set[str] = set()
        self.heard, self.left = asyncio.Event(), asyncio.Event()
        self.outcome = ReloadOutcome(("models.chat: priority 0 → 1",))
        self.wall_offset_s = 0.0
        slept = Task(6, "embed", TaskKind.SLEEP, 1, CAUSE, Plan((step_of(Verb.SLEEP_L1),)), MONO_S - 50, cursor=1)
        self.ended = [TaskEnded(slept, "asleep at level 1", WALL_S - 40, 10.0, True)]
        self.detached: list[tuple[str, int]] = []
        self.history = FakeHistory()
        self.has_page = True

    def now(self) -> Now:
        return Now(MONO_S, WALL_S + self.wall_offset_s)

    def in_flight(self, model: str) -> int:
        return self.world.models[model].in_flight

    def queued(self, model: str) -> int:
        return 0

    async def ask(self, make: Callable[[int], Ask]) -> Answer:
        wish = make(41 + len(self.asked))
        self.asked.append(wish)
        self.heard.set()
        if isinstance(wish, HoldAsked | HoldEnded):
            return self._hold(wish)
        if isinstance(wish, ReservationAsked | ReservationEnded):
            return await self._reserve(wish)
        if wish.model in self.never:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                self.withdrawn.append(wish.model)
                self.left.set()
                raise
        return self.answers.get(wish.model, Answer(wish.waiter, AnswerKind.DONE, task_id=7, waited_s=4.25, level=0))

    def _hold(self, wish: HoldAsked | HoldEnded) -> Answer:
        """Holds stand in the world, as the API reads them there; nothing else of the core's rules is played."""
        if isinstance(wish, HoldAsked) and wish.model in self.answers:
            return self.answers[wish.model]
        models = {
            n: replace(r, holds=tuple(h for h in r.holds if h.id != wish.id)) for n, r in self.world.models.items()
        }
        if isinstance(wish, HoldAsked):
            ttl_s, held = wish.ttl_s, models[wish.model]
            ends = None if ttl_s is None else ttl_s
            hold = Hold(
                *(wish.id, wish.uid, wish.who, wish.reason, WALL_S, ttl_s),
                None if ends is None else MONO_S + ends,
                None if ends is None else WALL_S + ends,
                wish.waiter if ends is None else None,
            )
            models[wish.model] = replace(held, holds=(*held.holds, hold))
        self.world = replace(self.world, models=models)
        return Answer(wish.waiter, AnswerKind.DONE)

    async def _reserve(self, wish: ReservationAsked | ReservationEnded) -> Answer:
        """Reservations stand at once; one whose id is in `never` waits for room, one in `answers` is answered so."""
        others = {i: r for i, r in self.world.reservations.items() if i != wish.id}
        if isinstance(wish, ReservationEnded):
            self.world = replace(self.world, reservations=others)
            return Answer(wish.waiter, AnswerKind.DONE)
        stream = wish.waiter if wish.ttl_s is None else None
        kept = Reservation(
            *(wish.id, wish.who, (GPU,), wish.bytes_per_gpu),
            uid=wish.uid,
            reason=wish.reason,
            gpus=wish.gpus,
            since_wall_s=WALL_S,
            ttl_s=wish.ttl_s,
            until_wall_s=None if wish.ttl_s is None else WALL_S + wish.ttl_s,
            stream=stream,
        )
        if wish.id in self.never:
            waits = replace(kept, granted=False, waits_for="chat to fall asleep", until_wall_s=None)
            self.world = replace(self.world, reservations={**others, wish.id: waits})
            async with asyncio.timeout(30):
                while wish.id in self.never:  # noqa: ASYNC110 - a test's thread takes it out
                    await asyncio.sleep(0.01)
        if wish.id in self.answers:
            self.world = replace(self.world, reservations=others)
            return self.answers[wish.id]
        self.world = replace(self.world, reservations={**others, wish.id: kept})
        return Answer(wish.waiter, AnswerKind.DONE)

    def detach_reservation(self, reservation_id: str, stream: int) -> None:
        self.detached.append((reservation_id, stream))
        self.left.set()

    async def process_tree(self, pid: int) -> tuple[int, ...]:
        return (pid, pid + 1)

    async def ask_gate(self, model: str, who: str, wait_s: float) -> NotAwake | None:
        self.gate_asked.append((model, wait_s))
        refused = self.answers.get(model)
        return None if refused is None else NotAwake(refused.problem, refused.detail, refused.retry_s)

    def detach_hold(self, hold_id: str, stream: int) -> None:
        self.detached.append((hold_id, stream))
        self.left.set()

    def plan_of_wake(self, model: str) -> WakePlan:
        offer = Offer("qwen3-32b", 2, {GPU: 58 * GIB}, 0, 2400.0, 0.14, 14.0)
        return WakePlan(
            model,
            "wake",
            1,
            (PlannedVictim(offer, {GPU: 58 * GIB}),),
            (PlannedStay("chat", "4.7s felt, frees 45GiB"), PlannedStay("code", "it woke recently", 12.5)),
            (PlannedGpu(GPU, 0, 20 * GIB, GIB, 58 * GIB, 40 * GIB),),
            (PlannedStep("wake", 4.2), PlannedStep("reset prefix cache", None)),
            chosen="cheapest of what 2 could give; 3.6s felt",
            sleep_s=0.14,
            eta_s=4.34,
            measured=True,
        )

    def explain(self, model: str) -> Explanation:
        conditions = (
            ConditionReport("idle", "5m", "4m10s", False, 50.0),
            ConditionReport("host_available_below", "10%", "not read yet", None),
        )
        rules = (RuleReport("nap", "sleep 1", conditions, False, 50.0),)
        protections = ("awake for 40s of its min_awake 1m",)
        coming = NextAction("nap", "sleep 1", 50.0)
        return Explanation(model, "awake", 0, self.reason(model), rules, protections, "stays awake", coming)

    def reason(self, model: str) -> str:
        return f"{model} is as it is because the rig says so, at some length"

    def next_action(self, model: str) -> NextAction | None:
        return NextAction("nap", "sleep 1", 50.0) if model == "qwen3-32b" else None

    def eta_s(self, model: str) -> float | None:
        return 4.2 if model == "embed" else None

    def read_events(self, since_id: str | None) -> EventsRead:
        return self.ring.read(since_id)

    async def wait_events(self, last_id: str) -> None:
        await self.ring.wait(last_id)

    async def metrics(self, accept: str) -> tuple[str, bytes]:
        return ("text/plain; version=0.0.4; charset=utf-8", b"# HELP rig rig\n# TYPE rig gauge\nrig 1.0\n")

    def let_in(self, peer: Peer, role: Role, ttl_s: float) -> UiToken | None:
        return UiToken("a-token", role, WALL_S + ttl_s, ("http://127.0.0.1:9800/ui",)) if self.has_page else None

    async def examine(self) -> tuple[Finding, ...]:
        return (warn("model.unit", "it has no unit", "chat"), ok("daemon.mode", "enforce: rules act"))

    async def reload(self) -> ReloadOutcome:
        return self.outcome

    def note(self, text: str, model: str = "chat") -> None:
        self.ring.append(Note("state", model, text, {"level": 1}), WALL_S)


@asynccontextmanager
async def serving(
    daemon: FakeDaemon, path: Path, roles: Mapping[str, list[str]] = OPEN_ROLES, mode: int = 0o666
) -> AsyncIterator[ApiServer]:
    server = await start_api(daemon, socket_path=path, socket_mode=mode, roles=roles)
    try:
        yield server
    finally:
        await server.close()


async def _serve_forever(path: Path) -> None:
    """For a look by eye: a server whose clock runs."""
    daemon = FakeDaemon()
    daemon.note("fell asleep at level 1: rule nap")
    daemon.wall_offset_s = time.time() - WALL_S
    shift = daemon.wall_offset_s
    models = {n: replace(r, since_wall_s=r.since_wall_s + shift) for n, r in daemon.world.models.items()}
    daemon.world = replace(daemon.world, models=models)
    async with serving(daemon, path):
        await asyncio.Event().wait()


if __name__ == "__main__":
    import sys

    asyncio.run(_serve_forever(Path(sys.argv[1])))
