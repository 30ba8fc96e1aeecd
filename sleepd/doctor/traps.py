"""Traps of vLLM releases that no call of sleepd's can avoid, as data. Numbers are those of docs/failure-modes.md."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from sleepd.core.seen import EngineFacts, Release


@dataclass(frozen=True, slots=True)
class Trap:
    """What goes wrong in releases from `since` on and before `until` (None: in all that were read), where `applies`."""

    entry: str
    since: Release
    until: Release | None
    what: str
    source: str
    applies: Callable[[EngineFacts], bool] = lambda facts: True


TRAPS: tuple[Trap, ...] = (
    Trap(
        "F21",
        (0, 14),
        (0, 16),
        "weights may stay in GPU memory through a sleep",
        "vLLM #32714, fixed by #32947",
    ),
    Trap(
        "F21",
        (0,),
        None,
        "on ROCm memory was seen to stay taken through a sleep; sleepd reads NVIDIA's driver alone",
        "vLLM #37533, #43022, #46203",
        lambda facts: "+rocm" in facts.version,
    ),
    Trap(
        "F41",
        (0,),
        None,
        "with a quantized KV cache, layers with a state of their own (Mamba, DeltaNet) were seen to fail each wake",
        "vLLM #41564, fixed by #41602, seen again in #49237",
        lambda facts: facts.mamba and (facts.kv_cache_dtype or "").startswith("fp8"),
    ),
    Trap(
        "F42",
        (0, 31),
        None,
        "weights that other processes share (ipc_cache without copies) must not be put to sleep",
        "vLLM 0.31, vllm/entrypoints/cli/preload.py",
        lambda facts: facts.load_format == "ipc_cache",
    ),
    Trap(
        "F47",
        (0,),
        None,
        "pipeline parallelism was seen to fail after some sleeps, with /health at 200",
        "vLLM #45519",
        lambda facts: facts.pipeline_parallel > 1,
    ),
    Trap(
        "F48",
        (0,),
        (0, 33),
        "data parallel ranks may fall out of step in a sleep",
        "vLLM #24879, #51481, #52914",
        lambda facts: facts.data_parallel > 1,
    ),
    Trap(
        "F50",
        (0,),
        (0, 10, 2),
        "an engine that is killed is not noticed: its server stays up, and requests hang",
        "vLLM #21728",
    ),
    Trap(
        "F54",
        (0, 10, 1),
        (0, 14),
        "code that a model repository brings along may run though trust_remote_code is off",
        "CVE-2026-22807, GHSA-2pc9-4j83-qjmr",
    ),
)


def traps_of(facts: EngineFacts) -> Iterator[Trap]:
    """Return the traps of this engine; none where its release is not known: `model.release` says that."""
    release = facts.release
    if release is None:
        return
    for trap in TRAPS:
        if trap.since <= release and (trap.until is None or release < trap.until) and trap.applies(facts):
            yield trap
