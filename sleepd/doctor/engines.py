"""What a server's release and arguments allow, by the recipe table: told alike to whoever asks it."""

from collections.abc import Iterator

from sleepd.core.dialect import counts_as, level1_unsafe, was_read
from sleepd.core.seen import EngineFacts
from sleepd.doctor.findings import Finding, fail, ok, warn
from sleepd.doctor.traps import traps_of

_SILENT = "it tells them from vLLM 0.11 on, with VLLM_SERVER_DEV_MODE=1; till then see docs/doctor.md, Known traps"
_PASSED_OVER = "use a release that docs/vllm.md says was read, or try each model with --try"


def judge_engine(about: str, facts: EngineFacts, *, fenced: bool) -> Iterator[Finding]:
    """Whether it may sleep, whether its release is known, and which traps it has."""
    yield _judge_release(about, facts)
    unsafe = level1_unsafe(facts, fenced=fenced)
    if unsafe:
        yield fail("model.sleep-mode", unsafe, about)
    elif facts.sleep_mode is None:
        yield warn("model.sleep-mode", "it does not tell whether it runs with --enable-sleep-mode", about)
    else:
        yield ok("model.sleep-mode", "it may sleep", about)
    yield from _judge_traps(about, facts)


def _judge_traps(about: str, facts: EngineFacts) -> Iterator[Finding]:
    traps = tuple(traps_of(facts))
    for trap in traps:
        yield warn("model.trap", f"{trap.entry}: {trap.what} ({trap.source})", about)
    if traps or not was_read(facts.release):
        return
    if facts.described:
        yield ok("model.trap", "none that is known", about)
    else:
        yield warn(
            "model.trap", "none of its release; arguments bring others, and it does not tell its own", about, _SILENT
        )


def _judge_release(about: str, facts: EngineFacts) -> Finding:
    told, release = f"vLLM {facts.version}", facts.release
    if release is None or not was_read(release):
        return warn("model.release", f"{told} was not read", about)
    if other := counts_as(release):
        return warn("model.release", f"{told} was not read: it counts as {other}", about, _PASSED_OVER)
    return ok("model.release", told, about)
