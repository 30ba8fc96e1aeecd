"""What a vLLM release can do, and what may be done about its failures: the recipe table, as data.

Sources: vLLM's source by release, read for 0.8.5 to 0.33 (docs/vllm.md). An unknown, unparsable or forked version
gets the strictest row. A new release is a new row, never an `if`.
"""

from dataclasses import dataclass, replace
from enum import StrEnum

from sleepd.core.model import EngineFacts


class Remedy(StrEnum):
    """What the recipe allows after a failed call. Tried in order; after the last, the engine needs a restart."""

    RETRY = "the same call again"
    RESLEEP = "repeat the sleep, keeping requests"
    WORKER_SLEEP = "put half-woken memory back by a worker call"
    RESTART = "restart the engine"


@dataclass(frozen=True, slots=True)
class Recipe:
    """One row: capabilities of a range of releases (first release included) and its remedies per failed step."""

    since: tuple[int, int]
    sleep_needs_fence: bool
    sleep_mode_parameter: bool
    level2: bool
    level2_needs_fence: bool
    held_when_partial: bool
    reset_prefix_after_wake: bool
    failed_sleep_l1: tuple[Remedy, ...]
    failed_wake_l1: tuple[Remedy, ...]
    failed_weights: tuple[Remedy, ...]
    failed_reload: tuple[Remedy, ...]
    failed_kv: tuple[Remedy, ...]


_R = Remedy
_GIVE_UP = (_R.RESTART,)

_STRICTEST = Recipe(
    since=(0, 0),
    sleep_needs_fence=True,
    sleep_mode_parameter=False,
    level2=False,
    level2_needs_fence=True,
    held_when_partial=False,
    reset_prefix_after_wake=True,
    failed_sleep_l1=_GIVE_UP,
    failed_wake_l1=_GIVE_UP,
    failed_weights=_GIVE_UP,
    failed_reload=_GIVE_UP,
    failed_kv=_GIVE_UP,
)
# Each row says only what its release changed.
_FROM_0_11 = replace(_STRICTEST, since=(0, 11), reset_prefix_after_wake=False)
_FROM_0_17 = replace(
    _FROM_0_11,
    since=(0, 17),
    sleep_needs_fence=False,
    sleep_mode_parameter=True,
    level2=True,
    failed_reload=(_R.RETRY, _R.RESTART),
)
_FROM_0_24 = replace(_FROM_0_17, since=(0, 24), level2_needs_fence=False, held_when_partial=True)
_FROM_0_28 = replace(
    _FROM_0_24,
    since=(0, 28),
    failed_sleep_l1=(_R.RESLEEP, _R.RESTART),
    failed_wake_l1=(_R.RETRY, _R.WORKER_SLEEP, _R.RESTART),
    failed_weights=(_R.RETRY, _R.RESTART),
    failed_kv=(_R.RETRY, _R.RESTART),
)
_FROM_0_31 = replace(
    _FROM_0_28,
    since=(0, 31),
    failed_reload=(_R.RETRY, _R.RESLEEP, _R.RESTART),
    failed_kv=(_R.RETRY, _R.RESLEEP, _R.RESTART),
)

RECIPES: tuple[Recipe, ...] = (_FROM_0_31, _FROM_0_28, _FROM_0_24, _FROM_0_17, _FROM_0_11, _STRICTEST)
NEWEST_READ = (0, 33)
"""The newest release whose source was read; later ones get the strictest row until theirs was."""


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What may be done to one engine. The `unsafe` texts name the fact that forbids a level; empty means allowed."""

    recipe: Recipe
    level1_unsafe: str
    level2_unsafe: str
    held_when_partial: bool
    reset_prefix_after_wake: bool


def recipe_of(release: tuple[int, int] | None) -> Recipe:
    """The row of a release; the strictest for None and for releases newer than any that was read."""
    if release is None or release > NEWEST_READ:
        return _STRICTEST
    return next(r for r in RECIPES if release >= r.since)


def capabilities(facts: EngineFacts, *, fenced: bool) -> Capabilities:
    """Say what may be done to an engine of these facts; `fenced`: only this host's sleepd reaches it."""
    recipe = recipe_of(facts.release)
    return Capabilities(
        recipe=recipe,
        level1_unsafe=_level1_unsafe(recipe, facts, fenced),
        level2_unsafe=_level2_unsafe(recipe, facts, fenced),
        held_when_partial=recipe.held_when_partial,
        reset_prefix_after_wake=recipe.reset_prefix_after_wake,
    )


def remedies(recipe: Recipe, facts: EngineFacts, failed: tuple[Remedy, ...]) -> tuple[Remedy, ...]:
    """The remedies of a row for this engine: with several ranks a partial failure may leave them out of step
    (vllm/v1/executor/multiproc_executor.py), so only a restart is left."""
    if facts.tensor_parallel > 1 or facts.pipeline_parallel > 1 or facts.data_parallel > 1:
        return _GIVE_UP
    return failed


def _level1_unsafe(recipe: Recipe, facts: EngineFacts, fenced: bool) -> str:
    if facts.sleep_mode is False:
        return "the server runs without --enable-sleep-mode: restart it with that"
    if recipe.sleep_needs_fence and not fenced:
        unread = facts.release is None or facts.release > NEWEST_READ
        why = "is not known to this sleepd and may die" if unread else "dies"
        return f"vLLM {facts.version} {why} of a request while asleep; set fenced = true if only sleepd reaches it"
    return ""


def _level2_unsafe(recipe: Recipe, facts: EngineFacts, fenced: bool) -> str:
    """Level 2 is for engines, not releases: name the first fact that forbids it here."""
    checks = (
        (bool(_level1_unsafe(recipe, facts, fenced)), _level1_unsafe(recipe, facts, fenced)),
        (not recipe.level2, f"vLLM {facts.version} cannot restore weights over HTTP reliably"),
        (recipe.level2_needs_fence and not fenced, f"vLLM {facts.version} resumes before the weights are back"),
        (not facts.described, "the server does not describe itself (/server_info)"),
        (facts.incarnation is None, "restarts of the server cannot be told apart"),
        (not facts.asks_at, "the model answers no question that could prove the reload"),
        (facts.lora and (facts.release or (0, 0)) < (0, 33), "LoRA adapters are lost at level 2 before vLLM 0.33"),
        (facts.speculative, "a reload does not bring back draft weights"),
        (facts.load_format in NO_RELOAD_FORMATS, f"load format {facts.load_format} cannot be reloaded"),
        (facts.pipeline_parallel > 1, "pipeline parallelism"),
        (facts.data_parallel > 1, "data parallelism"),
    )
    return next((text for forbidden, text in checks if forbidden), "")


NO_RELOAD_FORMATS = frozenset({"dummy", "tensorizer", "runai_streamer_sharded", "sharded_state"})
"""Formats whose loader has no get_all_weights: vLLM does not implement a reload for them (0.16+ model_loader)."""
