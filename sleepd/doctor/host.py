"""What kind of host it is, as whoever runs `sleepctl doctor` sees it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from sleepd.doctor.checks import CHECKS
from sleepd.doctor.findings import AS_ROOT, Finding, ok, warn

_NO_DRIVER = CHECKS["gpu.caller"].remedy


@dataclass(frozen=True, slots=True)
class HostKind:
    """`clock`: whether the kernel knows it to be right, None where it does not say. `unified`: the GPU that shares the
    host's memory, empty where none does, None where nothing tells what the GPUs are. `controllers`: other programs that
    let servers sleep. `orphans`: engines whose server is gone. `hides`: the kernel does not show all processes to
    whoever looked for those two."""

    clock: bool | None = True
    wsl: bool = False
    unified: str | None = ""
    controllers: Sequence[str] = ()
    orphans: Sequence[str] = ()
    hides: bool = False


def judge_kind(kind: HostKind) -> Iterator[Finding]:
    """The clock; then, where it is not what a server in a rack is, that."""
    if kind.clock:
        yield ok("host.clock", "synchronized")
    else:
        yield warn("host.clock", "the kernel does not say" if kind.clock is None else "it is not synchronized")
    if kind.wsl:
        yield warn("host.wsl", "WSL2: pinned memory is off in vLLM there unless asked for, and small; it is not tried")
    else:
        yield ok("host.wsl", "no WSL2")
    if kind.unified is None:
        yield warn("gpu.unified", "not known: no driver tells you which GPUs there are", advice=_NO_DRIVER)
    elif kind.unified:
        yield warn("gpu.unified", f"{kind.unified} shares the host's memory")
    else:
        yield ok("gpu.unified", "none is known that shares the host's")
    yield from _judge_others(kind)


def _judge_others(kind: HostKind) -> Iterator[Finding]:
    unseen = "not known: the kernel hides processes of others from you (hidepid)"
    if kind.controllers:
        yield warn("host.controllers", ", ".join(kind.controllers))
    elif kind.hides:
        yield warn("host.controllers", unseen, advice=AS_ROOT)
    else:
        yield ok("host.controllers", "none that is known")
    for orphan in kind.orphans:
        yield warn("gpu.orphans", f"{orphan}: its server is gone")
    if kind.hides:
        yield warn("gpu.orphans", unseen, advice=AS_ROOT)
    elif not kind.orphans:
        yield ok("gpu.orphans", "none without one")
