"""Servers that behave as a host description says: what each holds, how long its calls take, what its pages tell."""

from collections import deque
from collections.abc import Sequence

from sleepd.core.footprint import Footprint, sized_by
from sleepd.core.life import Life, State, Weights
from sleepd.core.orders import PROBE_PROMPT
from sleepd.core.plan import SLEEPS, WAKES, Verb
from sleepd.core.records import ModelSaved
from sleepd.core.seen import (
    Activity,
    CallCount,
    ControlCounts,
    EngineFacts,
    Fingerprint,
    GpuSeen,
    GpusSeen,
    HostSeen,
    ModelSeen,
    SleepGauge,
)
from sleepd.core.units import Bytes, Seconds, WallS
from sleepd.replay.hosts import Costs, Host
from sleepd.replay.trace import Arrival

RELEASE = (0, 33, 0)
KNOWN_ANSWER = ("six", "seven", "eight")
QUESTION = Activity(prompt_tokens=24, generation_tokens=len(KNOWN_ANSWER), requests_done=1)
"""What one known question moves of a server's counters."""
_SHARES = {Verb.WAKE_WEIGHTS: 0.1, Verb.RELOAD: 0.8, Verb.WAKE_KV: 0.1}
"""Of a whole level 2 wake, by its calls: reading the weights anew is most of it."""
_MOMENT_S: Seconds = 0.002
_GAUGES = {0: SleepGauge.AWAKE, 1: SleepGauge.OFFLOADED, 2: SleepGauge.DISCARDED}


class Server:
    """One server: a process that never fails. `level` 0 is awake; on the way there the memory is held already."""

    def __init__(self, name: str, pid: int, costs: Costs, gpus: tuple[str, ...], level: int) -> None:
        self.name, self.pid, self.costs, self.gpus, self.level = name, pid, costs, gpus, level
        self.holds = False
        """Its weights and cache lie on its GPUs: awake, falling asleep, or being woken."""
        self.pinned = level == 1
        """It made a backup; host RAM comes back from no wake."""
        self.running = 0
        self.waiting: deque[Arrival] = deque()
        """Requests inside the server beyond its slots."""
        self._tokens = [0, 0, 0]
        self._control = [1, 0, 0]
        self.facts = EngineFacts(
            version=".".join(map(str, RELEASE)),
            release=RELEASE,
            incarnation=f"simulated:{pid}",
            served_names=(name,),
            sleep_mode=True,
            tensor_parallel=len(gpus),
            described=True,
            model_path=name,
            checkpoint_bytes=costs.backup_bytes,
        )

    @property
    def in_flight(self) -> int:
        return self.running + len(self.waiting)

    def call_s(self, verb: Verb) -> Seconds:
        """Seconds from a call to its answer."""
        if verb in SLEEPS:
            return self.costs.sleep_s(2 if verb is Verb.SLEEP_L2 else 1)
        if verb is Verb.WAKE:
            return self.costs.wake1_s
        if verb in (Verb.FINGERPRINT, Verb.PROBE):
            return self.costs.request_s(QUESTION.prompt_tokens, QUESTION.generation_tokens, self.running)
        return _SHARES.get(verb, 0.0) * self.costs.wake2_s or _MOMENT_S

    def begin_call(self, verb: Verb) -> None:
        """The call is out: a wake takes its memory from now on."""
        if verb in WAKES:
            self.holds = True

    def end_call(self, verb: Verb) -> None:
        """The call was carried out and answered with success."""
        if verb in SLEEPS:
            self.level, self.holds = 2 if verb is Verb.SLEEP_L2 else 1, False
            self.pinned = self.pinned or self.level == 1
            self._control[0] += 1
        elif verb in WAKES:
            self.level = self.level if verb is Verb.WAKE_WEIGHTS else 0
            self._control[1] += 1
        elif verb is Verb.RELOAD:
            self._control[2] += 1

    def count(self, prompt_tokens: int, output_tokens: int) -> None:
        """A request was served, or a question of ours."""
        self._tokens[0] += prompt_tokens
        self._tokens[1] += output_tokens
        self._tokens[2] += 1

    def see(self, *, ask_sleeping: bool) -> ModelSeen:
        """What its pages tell at this moment."""
        slept, woken, reloaded = (CallCount(ok=count) for count in self._control)
        return ModelSeen(
            facts=self.facts,
            is_sleeping=self.level > 0 if ask_sleeping else None,
            running=self.running,
            waiting=len(self.waiting),
            activity=Activity(*self._tokens),
            control=ControlCounts(slept, woken, reloaded),
            gauge=_GAUGES[self.level],
            pids=(self.pid,),
        )

    def saved(self, wall_s: WallS) -> ModelSaved:
        """What a daemon remembers that has managed this server before: it sleeps, and what it takes was learned."""
        costs, gives = self.costs, self.costs.awake_bytes - self.costs.asleep_bytes
        asleep = dict.fromkeys(self.gpus, costs.asleep_bytes)
        sampled = dict.fromkeys(self.gpus, (costs.asleep_bytes,))
        learned = Footprint(
            freed=dict.fromkeys(self.gpus, (gives,)),
            taken=dict.fromkeys(self.gpus, (gives,)),
            residual={"1": sampled, "2": sampled},
            awake=dict.fromkeys(self.gpus, costs.awake_bytes),
            asleep=asleep,
            first_residual={"1": asleep, "2": asleep},
            sleeps=1,
            backups=(costs.backup_bytes,),
            host_pinned=self.pinned,
            pinned_bytes=costs.backup_bytes if self.pinned else 0,
            durations={
                "sleep1": (costs.sleep1_s,),
                "sleep2": (costs.sleep2_s,),
                "wake1": (costs.wake1_s,),
                "wake2": (costs.wake2_s,),
                "reload": (self.call_s(Verb.RELOAD),),
            },
            under=sized_by(self.facts),
        )
        level1 = self.level == 1
        return ModelSaved(
            name=self.name,
            life=Life(State.ASLEEP_L1, Weights.OFFLOADED) if level1 else Life(State.ASLEEP_L2, Weights.BLANK),
            incarnation=self.facts.incarnation,
            control=self.see(ask_sleeping=False).control,
            since_wall_s=wall_s,
            last_active_wall_s=wall_s,
            fingerprint=Fingerprint(PROBE_PROMPT, KNOWN_ANSWER, prompt_tokens=QUESTION.prompt_tokens),
            footprint=learned,
            failure=None,
            check_failed="",
            checking=False,
            frees_nothing=False,
        )


def see_gpus(host: Host, servers: Sequence[Server]) -> GpusSeen:
    """The host's GPUs with what each server holds on them."""
    held: dict[str, dict[int, Bytes]] = {gpu.uuid: {} for gpu in host.gpus}
    for server in servers:
        for uuid in server.gpus:
            held[uuid][server.pid] = server.costs.awake_bytes if server.holds else server.costs.asleep_bytes
    return tuple(
        GpuSeen(gpu.uuid, gpu.index, gpu.total_bytes, max(0, gpu.total_bytes - sum(held[gpu.uuid].values())), by_pid)
        for gpu, by_pid in ((gpu, held[gpu.uuid]) for gpu in host.gpus)
    )


def see_ram(host: Host, servers: Sequence[Server]) -> HostSeen:
    """The host's RAM with the backups in it."""
    pinned = sum(server.costs.backup_bytes for server in servers if server.pinned)
    return HostSeen(host.ram_bytes, max(0, host.ram_bytes - host.used_bytes - pinned))
