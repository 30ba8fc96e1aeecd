"""What is counted of turns (docs/turns.md): how they ended, how long they lasted, how long each was waited for."""

from collections.abc import Iterable

from sleepd.core.life import State
from sleepd.core.model import CauseKind
from sleepd.core.record import AskKind, ModelRecord
from sleepd.core.records import TaskEnded
from sleepd.core.task import TaskKind
from sleepd.core.units import MonotonicS
from sleepd.core.world import World
from sleepd.obs.counts import Counts

FAMILY = "sleepd_model_turns_total"
OUTCOMES = ("idle", "finished", "kept", "in_vain")


class TurnCounts:
    """Counts of turns from the daemon's start on. Used on the loop's thread only."""

    def __init__(self, counts: Counts) -> None:
        self._counts = counts
        self._finishing: set[str] = set()
        """Whose gate is shut for another model, or was until it began to fall asleep for that."""

    def begin(self, names: Iterable[str]) -> None:
        """Let every model's turns be there before the first one ends; what is known of others is forgotten."""
        kept = set(names)
        self._finishing &= kept
        for name in kept:
            for outcome in OUTCOMES:
                self._counts.begin(FAMILY, name, outcome)

    def compare(self, name: str, old: ModelRecord | None, record: ModelRecord, mono_s: MonotonicS) -> None:
        """Count gates that were shut for another model and opened again."""
        if record.yields is not None:
            self._finishing.add(name)
        elif old is not None and old.yields is not None and record.life.state is State.AWAKE:
            self._finishing.discard(name)
            self._counts.add(FAMILY, name, "kept" if old.yields.until_s <= mono_s else "in_vain")

    def begun(self, before: World, world: World, mono_s: MonotonicS) -> None:
        """Count how long who is woken now was waited for, where turns of others came first."""
        for name, task in world.tasks.items():
            if name in before.tasks or task.kind not in (TaskKind.WAKE, TaskKind.START):
                continue
            record = before.models.get(name)
            if record is None or record.awaited is None or not record.awaited.after or name not in world.models:
                continue
            asked_s = [w.asked_s for w in record.waiters if w.ask is AskKind.WAKE and w.attended]
            if asked_s:
                self._counts.observe("sleepd_model_turn_wait_seconds", max(0.0, mono_s - min(asked_s)), name)

    def ended(self, world: World, ended: TaskEnded) -> None:
        """Count turns that ended in a sleep for another model."""
        task = ended.task
        name, record = task.model, world.models.get(task.model)
        if record is None or task.kind is not TaskKind.SLEEP or task.cause.kind is not CauseKind.VICTIM:
            return
        finished = name in self._finishing
        self._finishing.discard(name)
        if ended.done:
            self._counts.add(FAMILY, name, "finished" if finished else "idle")
            lasted_s = max(0.0, task.started_s - record.awake_since_s)
            self._counts.observe("sleepd_model_turn_seconds", lasted_s, name)
