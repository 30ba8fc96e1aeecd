"""A simulated service manager in virtual time: units that start, stop, fail, restart by themselves, and hang.

It keeps to what systemd does (systemd.service(5)): Restart=always after RestartSec, a start limit, SIGKILL after
TimeoutStopSec, jobs that wait for what they order. Where a unit kills only its main process, what that leaves behind
stays in its cgroup and keeps its GPU memory.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from sleepd.core.model import Known, Missing, MissingReason, Reading
from sleepd.core.unit import JobEnd, Ordered, UnitOrder, UnitSeen
from sleepd.core.units import Seconds, WallS
from sleepd.sim.virtual_time import VirtualTime

BUS_S = 0.002
JOB_S = 0.05
RESTART_SEC: Seconds = 8.0
STOP_SEC: Seconds = 0.5
TIMEOUT_STOP_SEC: Seconds = 40.0
LIMIT_BURST, LIMIT_INTERVAL_S = 5, 30.0
"""So many starts within the interval, then the unit fails until the interval is over."""

Then = Callable[[Ordered], None]


@dataclass(slots=True)
class SimUnit:
    """One unit. `begin` makes its process and returns the pid (0: it ended at once); `end` kills the process."""

    name: str
    begin: Callable[[], int]
    end: Callable[[int], None]
    restarts: bool = True
    active: str = "inactive"
    sub: str = "dead"
    result: str = "success"
    job: str = ""
    pid: int = 0
    starts: int = 0
    left: set[int] = field(default_factory=set)
    """Processes that outlived the main one."""
    started_at: list[Seconds] = field(default_factory=list)
    load_s: Seconds = 2.0
    fails: int = 0
    """So many of its next starts end at once."""
    hangs: bool = False
    """Its next stop takes until SIGKILL."""
    forbidden: bool = False
    """Nobody may start or stop it: no polkit rule."""
    left_wall_s: float = 0.0
    epoch: int = 0
    """Every start, stop and death makes what was under way void."""
    waits: list[Then] = field(default_factory=list)
    """Who waits for the end of its stop."""
    starts_waiting: list[Then] = field(default_factory=list)
    """Who wants it started once its stop is over."""

    def seen(self) -> UnitSeen:
        pids = {*self.left, *((self.pid,) if self.pid else ())}
        return UnitSeen(
            active=self.active,
            sub=self.sub,
            result=self.result,
            invocation=f"{self.starts:032x}" if self.starts else "",
            main_pid=self.pid,
            control_group=f"/system.slice/{self.name}",
            job=self.job,
            pids=tuple(sorted(pids)) if self.active != "active" else (),
            left_wall_s=self.left_wall_s if self.active != "active" else 0.0,
        )


class SimManager:
    """Every unit of the simulated host, by name."""

    def __init__(self, time: VirtualTime) -> None:
        self._time = time
        self.units: dict[str, SimUnit] = {}
        self.gone = False
        """There is no bus."""
        self.wall_s: Callable[[], WallS] = time.now
        """The host's wall clock."""
        self.ordered: Callable[[str, UnitOrder], None] = lambda unit, order: None
        """Hears what the daemon orders, before it is done."""

    # what the daemon asks

    def look(self, unit: str, then: Callable[[Reading[UnitSeen]], None]) -> None:
        asked_s = self._time.now()

        def answer() -> None:
            if self.gone:
                then(Missing(MissingReason.NO_MANAGER, "no system bus", asked_s))
            elif unit not in self.units:
                then(Known(UnitSeen(load="not-found"), asked_s, self._time.now()))
            else:
                then(Known(self.units[unit].seen(), asked_s, self._time.now()))

        self._time.call_later(BUS_S, answer)

    def order(self, name: str, order: UnitOrder, timeout_s: Seconds, then: Then) -> None:
        """Do as told; `then` gets how the job ended, `timeout_s` later at most."""
        done = False

        def once(ordered: Ordered) -> None:
            nonlocal done
            if not done:
                done = True
                pending.cancel()
                self._time.call_later(BUS_S, lambda: then(ordered))

        pending = self._time.call_later(timeout_s, lambda: once(Ordered(JobEnd.UNANSWERED, "the job still runs")))
        unit = self.units.get(name)
        if self.gone or unit is None:
            once(Ordered(JobEnd.UNREACHABLE, "no system bus"))
        elif unit.forbidden:
            once(Ordered(JobEnd.NOT_PERMITTED, "no polkit rule"))
        else:
            self.ordered(name, order)
            self._do(unit, order, once)

    def _do(self, unit: SimUnit, order: UnitOrder, then: Then) -> None:
        if order is UnitOrder.KILL:
            self._kill_left(unit)
            then(Ordered(JobEnd.DONE))
        elif order is UnitOrder.STOP:
            self.stop(unit, then)
        else:
            self.start(unit, then)

    # what systemd does

    def start(self, unit: SimUnit, then: Then = lambda ordered: None) -> None:
        """A start job: nothing where it runs, waiting where it stops, refused where it is over its limit."""
        if unit.active == "active":
            then(Ordered(JobEnd.DONE))
        elif unit.active == "deactivating":
            unit.job = "start"
            unit.starts_waiting.append(then)
            unit.waits = _cancelled(unit.waits)
        elif not self._within_limit(unit):
            unit.active, unit.sub, unit.result = "failed", "failed", "start-limit-hit"
            then(Ordered(JobEnd.FAILED, "start-limit-hit"))
        else:
            self._begin(unit, then)

    def stop(self, unit: SimUnit, then: Then = lambda ordered: None) -> None:
        """A stop job: at once where nothing runs, else SIGTERM, and SIGKILL of all that is left."""
        if unit.active in ("inactive", "failed"):
            then(Ordered(JobEnd.DONE))
            return
        unit.waits.append(then)
        if unit.active == "deactivating":
            unit.job = "stop"
            unit.starts_waiting = _cancelled(unit.starts_waiting)
            return
        unit.epoch += 1
        epoch = unit.epoch
        if unit.active == "active":
            unit.left_wall_s = self.wall_s()
        unit.active, unit.sub, unit.job = "deactivating", "stop-sigterm", "stop"
        after_s, hung = (TIMEOUT_STOP_SEC, True) if unit.hangs and unit.pid else (STOP_SEC, False)
        unit.hangs = False

        def ended() -> None:
            if unit.epoch == epoch:
                self._end(unit, "timeout" if hung else "success")

        self._time.call_later(after_s, ended)

    def died(self, unit: SimUnit, pid: int) -> None:
        """Its main process ended by itself: what is left of the cgroup is killed, and it starts again or fails."""
        if unit.pid != pid or unit.active == "deactivating":
            return
        unit.pid = 0
        unit.epoch += 1
        unit.left_wall_s = self.wall_s()
        if unit.restarts:
            self._kill_left(unit)
            unit.active, unit.sub, unit.result = "activating", "auto-restart", "exit-code"
            epoch = unit.epoch
            self._time.call_later(RESTART_SEC, lambda: self._restart(unit, epoch))
        else:
            unit.active, unit.sub, unit.result = "failed", "failed", "exit-code"

    def _restart(self, unit: SimUnit, epoch: int) -> None:
        if unit.epoch != epoch:
            return
        if self._within_limit(unit):
            self._begin(unit, lambda ordered: None)
        else:
            unit.active, unit.sub, unit.result = "failed", "failed", "start-limit-hit"

    def _within_limit(self, unit: SimUnit) -> bool:
        unit.started_at = [s for s in unit.started_at if self._time.now() - s < LIMIT_INTERVAL_S]
        return len(unit.started_at) < LIMIT_BURST

    def _begin(self, unit: SimUnit, then: Then) -> None:
        """As Type=exec: the job is done once the process runs, long before it answers."""
        unit.epoch += 1
        epoch = unit.epoch
        unit.starts += 1
        unit.left_wall_s = 0.0
        unit.started_at.append(self._time.now())
        unit.active, unit.sub, unit.result, unit.job = "active", "running", "success", ""
        self._time.call_later(JOB_S, lambda: then(Ordered(JobEnd.DONE)))

        def loaded() -> None:
            if unit.epoch != epoch:
                return
            if unit.fails > 0:
                unit.fails -= 1
                self.died(unit, unit.pid)
                return
            unit.pid = unit.begin()
            if not unit.pid:
                self.died(unit, 0)

        self._time.call_later(unit.load_s, loaded)

    def _end(self, unit: SimUnit, result: str) -> None:
        unit.epoch += 1
        pid, unit.pid = unit.pid, 0
        if pid:
            unit.end(pid)
        self._kill_left(unit)
        unit.active, unit.sub = ("inactive", "dead") if result == "success" else ("failed", "failed")
        unit.result, unit.job = result, ""
        waits, unit.waits = unit.waits, []
        for then in waits:
            then(Ordered(JobEnd.DONE))
        starts, unit.starts_waiting = unit.starts_waiting, []
        for then in starts:
            self.start(unit, then)

    def _kill_left(self, unit: SimUnit) -> None:
        left, unit.left = unit.left, set()
        for pid in left:
            unit.end(pid)


def _cancelled(waiting: list[Then]) -> list[Then]:
    """A job that another one takes the place of: whoever waits for it is told. Nobody waits then."""
    for then in waiting:
        then(Ordered(JobEnd.CANCELED, "another job took its place"))
    return []
