"""The recipe table, row by row, and why an engine may not sleep: each refusal by the fact it names."""

from dataclasses import replace

import pytest

from sleepd.core.dialect import NEWEST_READ, NO_RELOAD_FORMATS, RECIPES, Recipe, Remedy, capabilities, recipe_of
from sleepd.core.model import EngineFacts
from sleepd.core.plan import Verb, plan_wake
from sleepd.core.remedy import remedies_for

RETRY, RESLEEP, WORKER_SLEEP, RESTART = Remedy.RETRY, Remedy.RESLEEP, Remedy.WORKER_SLEEP, Remedy.RESTART
WITHOUT_MODE, WITH_MODE = False, True
FENCED_ONLY, OPEN, NEVER = "fenced", "open", "never"

# docs/architecture.md, "Recipes by release":
# level 1 · mode=wait · level 2 · failed sleep · failed wake · failed weights stage · failed reload · failed kv stage
ROWS = {
    "0.10": (FENCED_ONLY, WITHOUT_MODE, NEVER, [RESTART], [RESTART], [RESTART], [RESTART], [RESTART]),
    "0.16": (FENCED_ONLY, WITHOUT_MODE, NEVER, [RESTART], [RESTART], [RESTART], [RESTART], [RESTART]),
    "0.17": (OPEN, WITH_MODE, FENCED_ONLY, [RESTART], [RESTART], [RESTART], [RETRY, RESTART], [RESTART]),
    "0.24": (OPEN, WITH_MODE, OPEN, [RESTART], [RESTART], [RESTART], [RETRY, RESTART], [RESTART]),
    "0.28": (
        OPEN,
        WITH_MODE,
        OPEN,
        [RESLEEP, RESTART],
        [RETRY, WORKER_SLEEP, RESTART],
        [RETRY, RESTART],
        [RETRY, RESTART],
        [RETRY, RESTART],
    ),
    "0.31": (
        OPEN,
        WITH_MODE,
        OPEN,
        [RESLEEP, RESTART],
        [RETRY, WORKER_SLEEP, RESTART],
        [RETRY, RESTART],
        [RETRY, RESLEEP, RESTART],
        [RETRY, RESLEEP, RESTART],
    ),
}
# Both sides of every boundary. What was not read, or cannot be, gets the strictest row.
RELEASES = [
    ((0, 8), "0.10"),
    ((0, 10), "0.10"),
    ((0, 11), "0.16"),
    ((0, 16), "0.16"),
    ((0, 17), "0.17"),
    ((0, 23), "0.17"),
    ((0, 24), "0.24"),
    ((0, 27), "0.24"),
    ((0, 28), "0.28"),
    ((0, 30), "0.28"),
    ((0, 31), "0.31"),
    ((0, 33), "0.31"),
    ((0, 34), "0.10"),
    ((1, 0), "0.10"),
    (None, "0.10"),
]


def facts_of(release: tuple[int, int] | None, **more: object) -> EngineFacts:
    version = "a fork" if release is None else f"{release[0]}.{release[1]}.0"
    return replace(EngineFacts(version, release, "pst:1", described=True), **more)


def test_the_newest_release_read_is_the_last_that_is_not_strictest():
    assert recipe_of(NEWEST_READ) == recipe_of((0, 31))
    assert recipe_of((NEWEST_READ[0], NEWEST_READ[1] + 1)) == recipe_of(None) == RECIPES[-1]


def test_rows_are_ordered_and_the_last_one_holds_everything():
    since = [r.since for r in RECIPES]
    assert since == sorted(since, reverse=True)
    assert since[-1] == (0, 0)


@pytest.mark.parametrize(("release", "row"), RELEASES)
def test_a_release_gets_its_row(release, row):
    level1, mode, level2, *_ = ROWS[row]
    facts = facts_of(release)
    assert recipe_of(release).sleep_mode_parameter is mode
    for fenced in (True, False):
        caps = capabilities(facts, fenced=fenced)
        assert (not caps.level1_unsafe) is (level1 == OPEN or fenced)
        assert (not caps.level2_unsafe) is (level2 == OPEN or (level2 == FENCED_ONLY and fenced))


@pytest.mark.parametrize(("release", "row"), RELEASES)
def test_a_release_gets_its_remedies(release, row):
    *_, sleep, wake, weights, reload, kv = ROWS[row]
    facts = facts_of(release)
    assert list(remedies_for(Verb.SLEEP_L1, facts)) == sleep
    assert list(remedies_for(Verb.WAKE, facts)) == wake
    assert list(remedies_for(Verb.WAKE_WEIGHTS, facts)) == weights
    assert list(remedies_for(Verb.RELOAD, facts)) == reload
    assert list(remedies_for(Verb.WAKE_KV, facts)) == kv
    # It decides about the same memory as the kv stage: before it (0.24+) or right after it.
    assert list(remedies_for(Verb.RESET_PREFIX, facts)) == kv
    # Weights are gone or half gone: no release repairs that, and no worker call may try (unmapped buffers are read).
    assert list(remedies_for(Verb.SLEEP_L2, facts)) == [RESTART]
    assert list(remedies_for(Verb.RESLEEP_L2, facts)) == [RESTART]
    assert list(remedies_for(Verb.WORKER_SLEEP_L1, facts)) == [RESTART]


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda r: f"since {r.since[0]}.{r.since[1]}")
def test_every_remedy_list_ends_in_a_restart(recipe: Recipe):
    for name in ("failed_sleep_l1", "failed_wake_l1", "failed_weights", "failed_reload", "failed_kv"):
        assert getattr(recipe, name)[-1] is RESTART
    assert WORKER_SLEEP not in recipe.failed_weights, "level 2 by a worker call reads unmapped buffers"


@pytest.mark.parametrize("axis", ["tensor_parallel", "pipeline_parallel", "data_parallel"])
@pytest.mark.parametrize("verb", [Verb.SLEEP_L1, Verb.WAKE, Verb.WAKE_WEIGHTS, Verb.RELOAD, Verb.WAKE_KV])
def test_with_several_ranks_only_a_restart_is_left(axis, verb):
    assert remedies_for(verb, facts_of((0, 32), **{axis: 2})) == (RESTART,)


@pytest.mark.parametrize(
    ("release", "held", "reset_last"),
    [
        ((0, 10), False, True),
        ((0, 11), False, False),
        ((0, 23), False, False),
        ((0, 24), True, False),
        (None, False, True),
    ],
)
def test_how_a_partial_wake_behaves(release, held, reset_last):
    caps = capabilities(facts_of(release), fenced=True)
    assert caps.held_when_partial is held
    assert caps.reset_prefix_after_wake is reset_last


def _verbs(level: int, release: tuple[int, int] | None, *, doubtful: bool = False, known: bool = True) -> list[Verb]:
    caps = capabilities(facts_of(release), fenced=True)
    return [s.verb for s in plan_wake(level, caps, doubtful=doubtful, known=known).steps]


def test_the_prefix_cache_is_reset_before_the_kv_stage_where_the_scheduler_is_still_held():
    first, last = [Verb.WAKE_WEIGHTS, Verb.RELOAD], [Verb.PROBE]
    assert _verbs(2, (0, 24)) == [*first, Verb.RESET_PREFIX, Verb.WAKE_KV, *last]
    assert _verbs(2, (0, 23)) == [*first, Verb.WAKE_KV, Verb.RESET_PREFIX, *last]


def test_a_level_2_wake_is_always_followed_by_a_known_answer():
    for release in [r for r, _ in RELEASES]:
        assert _verbs(2, release)[-1] is Verb.PROBE
        assert _verbs(2, release, known=False)[-1] is Verb.FINGERPRINT


def test_a_level_1_wake_is_bare_and_probed_only_in_doubt():
    assert _verbs(1, (0, 10)) == [Verb.WAKE, Verb.RESET_PREFIX]
    assert _verbs(1, (0, 11)) == _verbs(1, (0, 32)) == [Verb.WAKE]
    assert _verbs(1, (0, 32), doubtful=True) == [Verb.WAKE, Verb.PROBE]
    assert _verbs(1, (0, 32), doubtful=True, known=False) == [Verb.WAKE]


# --- what forbids a level ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"described": False}, "does not describe itself"),
        ({"incarnation": None}, "restarts of the server cannot be told apart"),
        ({"asks_at": ""}, "answers no question"),
        ({"lora": True}, "LoRA adapters are lost"),
        ({"speculative": True}, "draft weights"),
        ({"pipeline_parallel": 2}, "pipeline parallelism"),
        ({"data_parallel": 2}, "data parallelism"),
        ({"sleep_mode": False}, "without --enable-sleep-mode"),
        *(({"load_format": name}, f"load format {name} cannot be reloaded") for name in sorted(NO_RELOAD_FORMATS)),
    ],
)
def test_level_2_is_refused_by_the_fact_that_forbids_it(change, named):
    allowed = facts_of((0, 32))
    assert capabilities(allowed, fenced=False).level2_unsafe == ""
    assert named in capabilities(replace(allowed, **change), fenced=False).level2_unsafe


def test_lora_survives_level_2_from_0_33():
    assert capabilities(facts_of((0, 33), lora=True), fenced=False).level2_unsafe == ""


def test_level_2_between_0_17_and_0_23_says_that_it_resumes_too_early():
    assert "resumes before the weights are back" in capabilities(facts_of((0, 22)), fenced=False).level2_unsafe


@pytest.mark.parametrize("release", [(0, 16), (0, 34), None])
def test_what_forbids_level_1_forbids_level_2_in_the_same_words(release):
    caps = capabilities(facts_of(release), fenced=False)
    assert "fenced = true" in caps.level1_unsafe
    assert caps.level2_unsafe == caps.level1_unsafe


@pytest.mark.parametrize("release", [(0, 16), (0, 34), None])
def test_behind_a_fence_level_2_stays_forbidden_where_no_recipe_was_read(release):
    caps = capabilities(facts_of(release), fenced=True)
    assert caps.level1_unsafe == ""
    assert "cannot restore weights over HTTP reliably" in caps.level2_unsafe


def test_no_sleep_mode_forbids_every_level_whatever_the_fence():
    caps = capabilities(facts_of((0, 32), sleep_mode=False), fenced=True)
    assert "--enable-sleep-mode" in caps.level1_unsafe
    assert capabilities(facts_of((0, 32), sleep_mode=None), fenced=True).level1_unsafe == ""
