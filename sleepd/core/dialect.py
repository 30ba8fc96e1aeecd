"""What a vLLM release can do, and what may be done about its failures: the recipe table, as data.

Sources: vLLM's source by release, read for 0.8.5 to 0.33 (docs/vllm.md). An unknown, unparsable or forked version
gets the strictest row. A new release is a new row, never an `if`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

from sleepd.core.frozen import replace
from sleepd.core.seen import EngineFacts, Release


class Remedy(StrEnum):
    """What the recipe allows after a failed call. Tried in order; after the last, the engine needs a restart."""

    RETRY = "the same call again"
    RETRY_ONCE = "the same call once more"
    IN_STAGES = "the same wake again, in stages"
    RESLEEP = "repeat the sleep, keeping requests"
    WORKER_SLEEP = "put half-woken memory back by a worker call"
    RESTART = "restart the engine"


@dataclass(frozen=True, slots=True)
class Recipe:
    """One row: capabilities of a range of releases (first release included) and its remedies per failed step.

    `failed_weights_l1` and `failed_kv_l1` are the stages of a level 1 wake (only after a bare one failed),
    `failed_weights`, `failed_reload`, `failed_reset` and `failed_kv` the steps of a level 2 wake. `failed_reset` also
    stands for the emptying of the prefix cache that `reset_prefix_after_wake` demands.
    """

    since: Release
    sleep_needs_fence: bool
    sleep_mode_parameter: bool
    level2: bool
    level2_needs_fence: bool
    held_when_partial: bool
    level0_discards: bool
    """`/sleep?level=0` discards everything, buffers included (up to 0.16): no reload brings those back."""
    reset_prefix_after_wake: bool
    checksums: bool
    """It can work out the checksums of its weights (0.32+, where the route is listed)."""
    failed_sleep_l1: tuple[Remedy, ...]
    failed_wake_l1: tuple[Remedy, ...]
    failed_weights_l1: tuple[Remedy, ...]
    failed_kv_l1: tuple[Remedy, ...]
    failed_weights: tuple[Remedy, ...]
    failed_reload: tuple[Remedy, ...]
    failed_reset: tuple[Remedy, ...]
    failed_kv: tuple[Remedy, ...]


_R = Remedy
_GIVE_UP = (_R.RESTART,)

_STRICTEST = Recipe(
    since=(0,),
    sleep_needs_fence=True,
    sleep_mode_parameter=False,
    level2=False,
    level2_needs_fence=True,
    held_when_partial=False,
    level0_discards=True,
    reset_prefix_after_wake=True,
    checksums=False,
    failed_sleep_l1=_GIVE_UP,
    failed_wake_l1=_GIVE_UP,
    failed_weights_l1=_GIVE_UP,
    failed_kv_l1=_GIVE_UP,
    failed_weights=_GIVE_UP,
    failed_reload=_GIVE_UP,
    # It moves no memory, so it may be sent again in every release.
    failed_reset=(_R.RETRY, _R.RESTART),
    failed_kv=_GIVE_UP,
)
# Each row says only what its release changed. 0.10.1 was not read: it counts as 0.10.0.
_FROM_0_10_2 = replace(_STRICTEST, since=(0, 10, 2), level2=True, reset_prefix_after_wake=False)
_FROM_0_17 = replace(
    _FROM_0_10_2,
    since=(0, 17),
    sleep_needs_fence=False,
    sleep_mode_parameter=True,
    level0_discards=False,
    failed_reload=(_R.RETRY_ONCE, _R.RESTART),
)
_FROM_0_24 = replace(_FROM_0_17, since=(0, 24), level2_needs_fence=False, held_when_partial=True)
_FROM_0_28 = replace(
    _FROM_0_24,
    since=(0, 28),
    failed_sleep_l1=(_R.RESLEEP, _R.RESTART),
    failed_wake_l1=(_R.RETRY, _R.WORKER_SLEEP, _R.RESTART),
    failed_weights=(_R.RETRY, _R.RESTART),
    failed_reload=(_R.RETRY, _R.RESTART),
    failed_kv=(_R.RETRY, _R.RESTART),
)
_FROM_0_31 = replace(
    _FROM_0_28,
    since=(0, 31),
    failed_wake_l1=(_R.IN_STAGES, _R.WORKER_SLEEP, _R.RESTART),
    failed_weights_l1=(_R.RETRY, _R.WORKER_SLEEP, _R.RESTART),
    failed_kv_l1=(_R.RETRY, _R.RESLEEP, _R.RESTART),
    failed_reload=(_R.RETRY, _R.RESLEEP, _R.RESTART),
    failed_reset=(_R.RETRY, _R.RESLEEP, _R.RESTART),
    failed_kv=(_R.RETRY, _R.RESLEEP, _R.RESTART),
)
_FROM_0_32 = replace(_FROM_0_31, since=(0, 32), checksums=True)

_UNREAD = replace(_STRICTEST, sleep_mode_parameter=True)
"""The strictest row, but for `mode`: releases up to 0.16 ignore it, and from 0.17 on its default ends requests."""

RECIPES: tuple[Recipe, ...] = (_FROM_0_32, _FROM_0_31, _FROM_0_28, _FROM_0_24, _FROM_0_17, _FROM_0_10_2, _STRICTEST)
OLDEST_READ: Release = (0, 8, 5)
NEWEST_READ: Release = (0, 33)
"""The newest release whose source was read; later ones get the strictest row until theirs was."""
PASSED_OVER: Mapping[Release, str] = {(0, 10, 1): "0.10.0", (0, 21): "0.20", (0, 25): "0.24", (0, 29): "0.28"}
"""Releases between those that were read, each with the one it counts as. 0.23 and 0.27 were read for what calls do and
what a failed one leaves, which is what a row says."""


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What may be done to one engine. The `unsafe` texts name the fact that forbids it; empty means allowed."""

    level2_unsafe: str
    cure_unsafe: str
    """Why a reload does not make up for what somebody else may have done, where there is no known answer to compare."""
    held_when_partial: bool
    reset_prefix_after_wake: bool
    checksums: bool


def recipe_of(release: Release | None) -> Recipe:
    """The row of a release; the strictest for None and for releases newer than any that was read, with the guard that
    does no harm to those that do not know it."""
    if not was_read(release):
        return _UNREAD
    return next(r for r in RECIPES if release is not None and release >= r.since)


def was_read(release: Release | None) -> bool:
    """Whether a release lies between the oldest and the newest whose source was read, so that it has a row."""
    return release is not None and release >= OLDEST_READ and release[: len(NEWEST_READ)] <= NEWEST_READ


def counts_as(release: Release) -> str:
    """The release whose row one has that was passed over; empty of all others."""
    return next((other for one, other in PASSED_OVER.items() if release[: len(one)] == one), "")


_HYBRID = "reading a hybrid's weights anew may change what it says (vLLM #48284), and no answer of it is known"


def capabilities(facts: EngineFacts, *, fenced: bool) -> Capabilities:
    """Say what may be done to an engine of these facts; `fenced`: only this host's sleepd reaches it."""
    recipe = recipe_of(facts.release)
    unsafe = level2_unsafe(facts, fenced=fenced)
    lost = (
        f"level 0 of vLLM {facts.version} discards what a reload does not bring back" if recipe.level0_discards else ""
    )
    return Capabilities(
        level2_unsafe=unsafe,
        cure_unsafe=unsafe or lost or _HYBRID * facts.mamba,
        held_when_partial=recipe.held_when_partial,
        reset_prefix_after_wake=recipe.reset_prefix_after_wake,
        checksums=recipe.checksums and facts.weight_checker,
    )


def remedies(facts: EngineFacts, failed: tuple[Remedy, ...], *, by_workers: bool) -> tuple[Remedy, ...]:
    """The remedies of a row for this engine: with several ranks a call that failed on some of them may leave them out
    of step (vllm/v1/executor/multiproc_executor.py), so only a restart is left. `by_workers`: ranks carry it out."""
    if by_workers and has_ranks(facts):
        return _GIVE_UP
    return failed


def has_ranks(facts: EngineFacts) -> bool:
    return facts.tensor_parallel > 1 or facts.pipeline_parallel > 1 or facts.data_parallel > 1


def level1_unsafe(facts: EngineFacts, *, fenced: bool) -> str:
    """The fact that forbids every sleep of this engine, as a sentence; empty where nothing does."""
    recipe = recipe_of(facts.release)
    if facts.sleep_mode is False:
        return "the server runs without --enable-sleep-mode: restart it with that"
    if facts.kv_connector and _before(facts, (0, 33)):
        return f"its KV connector {facts.kv_connector} does not survive a sleep before vLLM 0.33"
    if recipe.sleep_needs_fence and not fenced:
        why = "dies" if was_read(facts.release) else "is not known to this sleepd and may die"
        return f"vLLM {facts.version} {why} of a request while asleep; set fenced = true if only sleepd reaches it"
    return ""


def _before(facts: EngineFacts, release: Release) -> bool:
    """Whether the engine's release is older than this one, or not known."""
    return facts.release is None or facts.release < release


def level2_unsafe(facts: EngineFacts, *, fenced: bool) -> str:
    """Level 2 is for engines, not releases: the first fact that forbids it here, as a sentence; empty: nothing does."""
    return level1_unsafe(facts, fenced=fenced) or next(_against_level2(recipe_of(facts.release), facts, fenced), "")


def _against_level2(recipe: Recipe, facts: EngineFacts, fenced: bool) -> Iterator[str]:
    if not recipe.level2:
        yield f"vLLM {facts.version} cannot restore weights over HTTP reliably"
    if recipe.level2_needs_fence and not fenced:
        yield f"vLLM {facts.version} resumes before the weights are back"
    if not facts.described:
        yield "the server does not describe itself (/server_info)"
    if facts.incarnation is None:
        yield "restarts of the server cannot be told apart"
    if not facts.asks_at:
        yield "the model answers no question that could prove the reload"
    if facts.lora and _before(facts, (0, 33)):
        yield "LoRA adapters are lost at level 2 before vLLM 0.33"
    if facts.speculative:
        yield "a reload does not bring back draft weights"
    if facts.quantization is not None and _before(facts, (0, 16)):
        yield f"a reload does not quantize ({facts.quantization}) anew before vLLM 0.16"
    if (facts.kv_cache_dtype or "").startswith("fp8") and _before(facts, (0, 12)):
        yield "scales of an fp8 KV cache are lost at level 2 before vLLM 0.12"
    if not _is_read_again(facts):
        yield f"load format {facts.load_format} cannot be reloaded"
    if _is_unreadable(facts):
        yield f"its checkpoint {facts.model_path} cannot be read here, so a reload may fail"
    if facts.pipeline_parallel > 1:
        yield "pipeline parallelism"
    if facts.data_parallel > 1:
        yield "data parallelism"


def _is_unreadable(facts: EngineFacts) -> bool:
    """A checkpoint named by its path that holds no weight files for us. One named by its repository is in a cache of
    the server's own, and only the checked cycle tells."""
    return facts.model_path.startswith("/") and facts.checkpoint_bytes is None


_NEVER_READ_AGAIN = frozenset(
    {
        "bitsandbytes",
        "dummy",
        "gguf",
        "ipc_cache",
        "modelexpress",
        "runai_streamer_sharded",
        "sharded_state",
        "tensorizer",
    }
)
"""Formats whose loader has no get_all_weights: vLLM raises at a reload of them, and the blank weights stay (0.32,
model_loader/*.py and model_loader/reload/inplace.py)."""


def _is_read_again(facts: EngineFacts) -> bool:
    # Of the streamer's releases before 0.32 one was seen to refuse, and which were the first that do not was not read.
    return facts.load_format not in _NEVER_READ_AGAIN and (
        facts.load_format != "runai_streamer" or not _before(facts, (0, 32))
    )
