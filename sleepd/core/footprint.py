"""What transitions of a model cost in bytes and seconds: learned of one incarnation, with the model's as prior."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias, TypeVar

from sleepd.core.frozen import replace
from sleepd.core.seen import EngineFacts
from sleepd.core.units import Bytes, Seconds

SAMPLES = 5
"""How many samples of each kind are remembered; what is needed is their maximum."""

STEP = "step "
"""What the durations of single steps are called: this and the step."""

N = TypeVar("N")
ByGpu: TypeAlias = Mapping[str, tuple[Bytes, ...]]
"""Samples by GPU uuid, oldest first, the last five."""


EXPECTED_SHARE = 0.5
"""Of what a model holds awake, at the least expected back from a sleep: context, graphs and NCCL keep 0.4 to 6 GiB."""


@dataclass(frozen=True, slots=True)
class Footprint:
    """Bytes are per GPU uuid, or of the host; tuples hold the last five samples, oldest first.

    `freed` is what sleeps gave back; `taken` the most that a wake held above what it held asleep, `reloaded` the same
    while weights were read anew. `residual` is what sleeps left behind, by level ("1", "2"). `durations` go by "sleep1"
    "sleep1_first" "sleep2" "wake1" "wake2" "reload", and by the single steps of wakes.
    """

    freed: ByGpu = field(default_factory=dict)
    taken: ByGpu = field(default_factory=dict)
    reloaded: ByGpu = field(default_factory=dict)
    residual: Mapping[str, ByGpu] = field(default_factory=dict)
    awake: Mapping[str, Bytes] = field(default_factory=dict)
    asleep: Mapping[str, Bytes] = field(default_factory=dict)
    first_residual: Mapping[str, Mapping[str, Bytes]] = field(default_factory=dict)
    """What the first sleep of each level of this incarnation left behind: what growth is measured against."""
    sleeps: int = 0
    """Proven sleeps of this incarnation."""
    backups: tuple[Bytes, ...] = ()
    """Host bytes that first level 1 sleeps took, one sample an incarnation."""
    host_pinned: bool = False
    """This incarnation made a whole backup already; its pinned blocks stay until the process ends (vLLM #16663)."""
    pinned_bytes: Bytes = 0
    """What was seen to be pinned by this incarnation, a backup that failed half-way included."""
    durations: Mapping[str, tuple[Seconds, ...]] = field(default_factory=dict)
    under: str = ""
    """The `sized_by` of the server it was learned of."""

    @property
    def host_bytes(self) -> Bytes | None:
        """Host bytes of a backup, or None where none was measured."""
        return max(self.backups, default=None)

    def need(self, uuid: str, level: int = 1) -> Bytes | None:
        """Bytes a wake from this level takes on this GPU at its highest; None where none was measured as a whole: the
        peak of a reload alone leaves out the KV cache that follows."""
        samples = [*self.freed.get(uuid, ()), *self.taken.get(uuid, ())]
        if samples and level == 2:
            samples += self.reloaded.get(uuid, ())
        return max(samples, default=None)

    def given_back(self, *, stopped: bool = False) -> dict[str, Bytes]:
        """By GPU uuid, what a model gives back while it is asleep, or stopped; nothing where that was not measured."""
        if stopped and self.awake:
            return dict(self.awake)
        back = {uuid: samples[-1] for uuid, samples in self.freed.items() if samples}
        both = self.awake.keys() & self.asleep.keys()
        return back | {uuid: max(0, self.awake[uuid] - self.asleep[uuid]) for uuid in both}

    def shortfall(self) -> tuple[Bytes, Bytes] | None:
        """(what the last sleep gave back, what the model held before it) where that is less than half: with that many
        weights or so much of its KV cache left, it sleeps in name only. None where it is more, or not measured."""
        back = self.given_back()
        if not self.sleeps or not self.awake or not self.awake.keys() <= back.keys():
            return None
        held, freed = sum(self.awake.values()), sum(back[uuid] for uuid in self.awake)
        return (freed, held) if freed < EXPECTED_SHARE * held else None

    def last_s(self, key: str) -> Seconds | None:
        """How long this took the last time."""
        samples = self.durations.get(key)
        return samples[-1] if samples else None

    def over(self, prior: "Footprint") -> "Footprint":
        """This one where it has samples, the prior elsewhere; what a new process has not (pins, growth) is its own."""
        levels = (*prior.residual, *self.residual)
        return replace(
            self,
            freed={**prior.freed, **self.freed},
            taken={**prior.taken, **self.taken},
            reloaded={**prior.reloaded, **self.reloaded},
            residual={k: {**prior.residual.get(k, {}), **self.residual.get(k, {})} for k in levels},
            awake={**prior.awake, **self.awake},
            asleep={**prior.asleep, **self.asleep},
            backups=self.backups or prior.backups,
            durations={**prior.durations, **self.durations},
        )

    def retired(self, prior: "Footprint") -> "Footprint":
        """The prior of the next incarnation: the samples of this one after those of the earlier ones."""
        levels = (*prior.residual, *self.residual)
        return Footprint(
            under=self.under,
            freed=_joined(prior.freed, self.freed),
            taken=_joined(prior.taken, self.taken),
            reloaded=_joined(prior.reloaded, self.reloaded),
            residual={k: _joined(prior.residual.get(k, {}), self.residual.get(k, {})) for k in levels},
            awake={**prior.awake, **self.awake},
            asleep={**prior.asleep, **self.asleep},
            backups=kept(prior.backups, *self.backups),
            durations=_joined(prior.durations, self.durations),
        )


def kept(samples: tuple[N, ...], *more: N) -> tuple[N, ...]:
    """The last five samples."""
    return (*samples, *more)[-SAMPLES:]


def added(samples: Mapping[str, tuple[N, ...]], more: Mapping[str, N]) -> dict[str, tuple[N, ...]]:
    """The samples with one more where there is one."""
    return {**samples, **{key: kept(samples.get(key, ()), value) for key, value in more.items()}}


def _joined(old: Mapping[str, tuple[N, ...]], new: Mapping[str, tuple[N, ...]]) -> dict[str, tuple[N, ...]]:
    return {key: kept(old.get(key, ()), *new.get(key, ())) for key in (*old, *new)}


def sized_by(facts: EngineFacts) -> str:
    """What a server's bytes depend on: a prior learned under other arguments says nothing about this process."""
    kv = f"{facts.gpu_memory_utilization} {facts.kv_cache_memory_bytes}"
    ranks = f"{facts.tensor_parallel}x{facts.pipeline_parallel}x{facts.data_parallel}"
    return f"{facts.version} {facts.model_path} {facts.arguments_hash} {kv} {ranks}"
