"""What a server's release and arguments allow, by the recipe table: told alike to whoever asks it."""

from collections.abc import Iterator

from sleepd.core.dialect import level1_unsafe, was_read
from sleepd.core.seen import EngineFacts
from sleepd.doctor.findings import Finding, fail, ok, warn
from sleepd.doctor.traps import traps_of


def judge_engine(about: str, facts: EngineFacts, *, fenced: bool) -> Iterator[Finding]:
    """Whether it may sleep, whether its release is known, and which traps it has."""
    told = f"vLLM {facts.version}"
    if was_read(facts.release):
        yield ok("model.release", told, about)
    else:
        yield warn("model.release", f"{told} was not read", about)
    unsafe = level1_unsafe(facts, fenced=fenced)
    if unsafe:
        yield fail("model.sleep-mode", unsafe, about)
    elif facts.sleep_mode is None:
        yield warn("model.sleep-mode", "it does not tell whether it runs with --enable-sleep-mode", about)
    else:
        yield ok("model.sleep-mode", "it may sleep", about)
    for trap in traps_of(facts):
        yield warn("model.trap", f"{trap.entry}: {trap.what} ({trap.source})", about)
