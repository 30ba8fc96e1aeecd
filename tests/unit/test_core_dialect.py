"""The recipe table, row by row, and why an engine may not sleep: each refusal by the fact it names."""

from dataclasses import fields, replace
from pathlib import Path

import pytest

from sleepd.core.dialect import (
    NEWEST_READ,
    RECIPES,
    Recipe,
    Remedy,
    capabilities,
    level1_unsafe,
    recipe_of,
    was_read,
)
from sleepd.core.plan import Verb, plan_wake
from sleepd.core.remedy import remedies_for
from sleepd.core.seen import EngineFacts, Release

RETRY, ONCE, STAGES = Remedy.RETRY, Remedy.RETRY_ONCE, Remedy.IN_STAGES
RESLEEP, WORKER_SLEEP, RESTART = Remedy.RESLEEP, Remedy.WORKER_SLEEP, Remedy.RESTART
WITHOUT_MODE, WITH_MODE = False, True
FENCED_ONLY, OPEN, NEVER = "fenced", "open", "never"
GIVE_UP = [RESTART]

# docs/architecture.md, "Recipes by release": level 1 · mode=wait · level 2 · what follows a failed step
ROWS = {
    "0.8": (FENCED_ONLY, WITHOUT_MODE, NEVER, {}),
    "0.10.2": (FENCED_ONLY, WITHOUT_MODE, FENCED_ONLY, {}),
    "0.17": (OPEN, WITH_MODE, FENCED_ONLY, {"reload": [ONCE, RESTART]}),
    "0.24": (OPEN, WITH_MODE, OPEN, {"reload": [ONCE, RESTART]}),
    "0.28": (
        OPEN,
        WITH_MODE,
        OPEN,
        {
            "sleep": [RESLEEP, RESTART],
            "wake": [RETRY, WORKER_SLEEP, RESTART],
            "weights": [RETRY, RESTART],
            "reload": [RETRY, RESTART],
            "kv": [RETRY, RESTART],
        },
    ),
    "0.31": (
        OPEN,
        WITH_MODE,
        OPEN,
        {
            "sleep": [RESLEEP, RESTART],
            "wake": [STAGES, WORKER_SLEEP, RESTART],
            "weights l1": [RETRY, WORKER_SLEEP, RESTART],
            "kv l1": [RETRY, RESLEEP, RESTART],
            "weights": [RETRY, RESTART],
            "reload": [RETRY, RESLEEP, RESTART],
            "reset": [RETRY, RESLEEP, RESTART],
            "kv": [RETRY, RESLEEP, RESTART],
        },
    ),
}
STEPS = {
    "sleep": (Verb.SLEEP_L1, 1),
    "wake": (Verb.WAKE, 1),
    "weights l1": (Verb.WAKE_WEIGHTS, 1),
    "kv l1": (Verb.WAKE_KV, 1),
    "weights": (Verb.WAKE_WEIGHTS, 2),
    "reload": (Verb.RELOAD, 2),
    "kv": (Verb.WAKE_KV, 2),
    "reset": (Verb.RESET_PREFIX, 2),
}
# Both sides of every boundary. What was not read, or cannot be, gets the strictest row.
RELEASES = [
    ((0, 8, 5), "0.8"),
    ((0, 10, 0), "0.8"),
    ((0, 10, 1), "0.8"),
    ((0, 10, 2), "0.10.2"),
    ((0, 11, 2), "0.10.2"),
    ((0, 16, 0), "0.10.2"),
    ((0, 17, 0), "0.17"),
    ((0, 23, 1), "0.17"),
    ((0, 24, 0), "0.24"),
    ((0, 27, 1), "0.24"),
    ((0, 28, 0), "0.28"),
    ((0, 30, 2), "0.28"),
    ((0, 31, 0), "0.31"),
    ((0, 33, 9), "0.31"),
    ((0, 34, 0), "0.8"),
    ((1, 0, 0), "0.8"),
    (None, "0.8"),
]


def facts_of(release: Release | None, **more: object) -> EngineFacts:
    version = "a fork" if release is None else ".".join(map(str, release))
    return replace(EngineFacts(version, release, "pst:1", described=True), **more)


def test_the_newest_release_read_is_the_last_that_is_not_strictest():
    assert recipe_of(NEWEST_READ) == recipe_of((0, 32))
    newer = recipe_of((NEWEST_READ[0], NEWEST_READ[1] + 1))
    assert newer == recipe_of(None) == replace(RECIPES[-1], sleep_mode_parameter=True)


def test_rows_are_ordered_and_the_last_one_holds_everything():
    since = [r.since for r in RECIPES]
    assert since == sorted(since, reverse=True)
    assert since[-1] == (0,)


@pytest.mark.parametrize(("release", "row"), RELEASES)
def test_a_release_gets_its_row(release, row):
    level1, mode, level2, *_ = ROWS[row]
    facts = facts_of(release)
    # Without one the default ends requests from 0.17 on, and earlier releases ignore it: who is not known gets it.
    assert recipe_of(release).sleep_mode_parameter is (mode or not was_read(release))
    for fenced in (True, False):
        caps = capabilities(facts, fenced=fenced)
        assert (not level1_unsafe(facts, fenced=fenced)) is (level1 == OPEN or fenced)
        assert (not caps.level2_unsafe) is (level2 == OPEN or (level2 == FENCED_ONLY and fenced))


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize(("release", "row"), RELEASES)
def test_a_release_gets_its_remedies(release, row, step):
    verb, level = STEPS[step]
    # The emptying of a cache moves no memory: it may be sent again wherever it is sent.
    expected = ROWS[row][3].get(step, [RETRY, RESTART] if step == "reset" else GIVE_UP)
    assert list(remedies_for(verb, facts_of(release), level)) == expected


@pytest.mark.parametrize("verb", [Verb.SLEEP_L2, Verb.RESLEEP_L2, Verb.WORKER_SLEEP_L1])
@pytest.mark.parametrize("release", [r for r, _ in RELEASES])
def test_nothing_repairs_a_failed_level_2_sleep_or_a_failed_repair(release, verb):
    """Weights are gone or half gone, and no worker call may try (unmapped buffers are read)."""
    assert list(remedies_for(verb, facts_of(release), 2)) == GIVE_UP


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda r: "since " + ".".join(map(str, r.since)))
def test_every_remedy_list_ends_in_a_restart(recipe: Recipe):
    lists = [f.name for f in fields(recipe) if f.name.startswith("failed_")]
    assert len(lists) == len(STEPS)
    for name in lists:
        assert getattr(recipe, name)[-1] is RESTART
    assert WORKER_SLEEP not in recipe.failed_weights, "level 2 by a worker call reads unmapped buffers"


@pytest.mark.parametrize("axis", ["tensor_parallel", "pipeline_parallel", "data_parallel"])
@pytest.mark.parametrize("verb", [Verb.SLEEP_L1, Verb.WAKE, Verb.WAKE_WEIGHTS, Verb.RELOAD, Verb.WAKE_KV])
def test_with_several_ranks_only_a_restart_is_left(axis, verb):
    assert remedies_for(verb, facts_of((0, 32), **{axis: 2}), 2) == (RESTART,)


def test_a_cache_is_emptied_again_whatever_the_ranks():
    """The scheduler empties it, no rank takes part (v1/engine/core.py)."""
    assert remedies_for(Verb.RESET_PREFIX, facts_of((0, 32), tensor_parallel=2), 2)[0] is RETRY


@pytest.mark.parametrize(
    ("release", "held", "reset_last"),
    [
        ((0, 10, 0), False, True),
        ((0, 10, 2), False, False),
        ((0, 23), False, False),
        ((0, 24), True, False),
        (None, False, True),
    ],
)
def test_how_a_partial_wake_behaves(release, held, reset_last):
    caps = capabilities(facts_of(release), fenced=True)
    assert caps.held_when_partial is held
    assert caps.reset_prefix_after_wake is reset_last


def _verbs(level: int, release: Release | None, *, doubtful: bool = False, known: bool = True) -> list[Verb]:
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
    assert _verbs(1, (0, 10, 0)) == [Verb.WAKE, Verb.RESET_PREFIX]
    assert _verbs(1, (0, 10, 2)) == _verbs(1, (0, 32)) == [Verb.WAKE]
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
        ({"model_path": "/models/gone"}, "/models/gone cannot be read here"),
        *(
            ({"load_format": name}, f"load format {name} cannot be reloaded")
            for name in (
                "bitsandbytes",
                "dummy",
                "gguf",
                "ipc_cache",
                "modelexpress",
                "runai_streamer_sharded",
                "sharded_state",
                "tensorizer",
            )
        ),
    ],
)
def test_level_2_is_refused_by_the_fact_that_forbids_it(change, named):
    allowed = facts_of((0, 32))
    assert capabilities(allowed, fenced=False).level2_unsafe == ""
    assert named in capabilities(replace(allowed, **change), fenced=False).level2_unsafe


@pytest.mark.parametrize(("release", "safe"), [((0, 31), False), ((0, 32), True)])
def test_streamed_weights_are_reloaded_from_the_release_on_of_which_that_was_read(release, safe):
    """An earlier one was seen to answer 500, "Model reloading with `runai_streamer` format", and then nonsense."""
    streamed = facts_of(release, load_format="runai_streamer")
    assert (capabilities(streamed, fenced=True).level2_unsafe == "") is safe


def test_a_hybrids_weights_are_read_anew_only_where_its_answer_can_be_compared():
    """Reloading a hybrid's own weights was seen to change its answers (F38): the checked cycle alone decides."""
    caps = capabilities(facts_of((0, 32), mamba=True), fenced=True)
    assert caps.level2_unsafe == ""
    assert "hybrid" in caps.cure_unsafe
    assert capabilities(facts_of((0, 32)), fenced=True).cure_unsafe == ""


def test_lora_survives_level_2_from_0_33():
    assert capabilities(facts_of((0, 33), lora=True), fenced=False).level2_unsafe == ""


def test_level_2_between_0_17_and_0_23_says_that_it_resumes_too_early():
    assert "resumes before the weights are back" in capabilities(facts_of((0, 22)), fenced=False).level2_unsafe


@pytest.mark.parametrize("release", [(0, 16), (0, 34), None])
def test_what_forbids_level_1_forbids_level_2_in_the_same_words(release):
    facts = facts_of(release)
    assert "fenced = true" in level1_unsafe(facts, fenced=False)
    assert capabilities(facts, fenced=False).level2_unsafe == level1_unsafe(facts, fenced=False)


@pytest.mark.parametrize("release", [(0, 10, 1), (0, 34), None])
def test_behind_a_fence_level_2_stays_forbidden_where_no_recipe_was_read(release):
    facts = facts_of(release)
    assert level1_unsafe(facts, fenced=True) == ""
    assert "cannot restore weights over HTTP reliably" in capabilities(facts, fenced=True).level2_unsafe


def test_no_sleep_mode_forbids_every_level_whatever_the_fence():
    assert "--enable-sleep-mode" in level1_unsafe(facts_of((0, 32), sleep_mode=False), fenced=True)
    assert level1_unsafe(facts_of((0, 32), sleep_mode=None), fenced=True) == ""


# --- facts that forbid a level only in some releases --------------------------------------------------------------

BELOW = [
    # the fact, the first release where it no longer matters, what is said before
    ({"lora": True}, (0, 33, 0), "LoRA adapters are lost"),
    ({"quantization": "fp8"}, (0, 16, 0), "does not quantize (fp8) anew"),
    ({"kv_cache_dtype": "fp8_e4m3"}, (0, 12, 0), "scales of an fp8 KV cache"),
    ({"kv_connector": "NixlConnector"}, (0, 33, 0), "its KV connector NixlConnector does not survive"),
]


@pytest.mark.parametrize(("change", "release", "named"), BELOW)
def test_a_fact_forbids_level_2_below_its_release(change, release, named):
    older = (release[0], release[1] - 1, 2)
    assert named in capabilities(facts_of(older, **change), fenced=True).level2_unsafe
    assert capabilities(facts_of(release, **change), fenced=True).level2_unsafe == ""
    assert capabilities(facts_of(older), fenced=True).level2_unsafe == ""


def test_a_kv_connector_forbids_level_1_too_until_0_33():
    assert "KV connector" in level1_unsafe(facts_of((0, 32), kv_connector="LMCache"), fenced=True)
    assert level1_unsafe(facts_of((0, 33), kv_connector="LMCache"), fenced=True) == ""


def test_a_checkpoint_that_is_read_and_one_named_by_its_repository_may_be_reloaded():
    read = facts_of((0, 32), model_path="/models/here", checkpoint_bytes=1 << 30)
    named = facts_of((0, 32), model_path="org/name")
    assert [capabilities(f, fenced=False).level2_unsafe for f in (read, named)] == ["", ""]


# --- the table as it is told --------------------------------------------------------------------------------------

WORDS = {
    RETRY: "again",
    ONCE: "once more",
    STAGES: "stages",
    RESLEEP: "re-sleep",
    WORKER_SLEEP: "worker sleep",
    RESTART: "restart",
}


def _told(recipe: Recipe) -> str:
    def words(failed: tuple[Remedy, ...]) -> str:
        return ", ".join(WORDS[r] for r in failed)

    staged = STAGES in recipe.failed_wake_l1
    stages = f"{words(recipe.failed_weights_l1)} · {words(recipe.failed_kv_l1)}" if staged else "–"
    cells = (
        ".".join(map(str, recipe.since)),
        "fenced" if recipe.sleep_needs_fence else "yes",
        "no" if not recipe.level2 else "fenced" if recipe.level2_needs_fence else "yes",
        words(recipe.failed_sleep_l1),
        words(recipe.failed_wake_l1),
        stages,
        words(recipe.failed_weights),
        words(recipe.failed_reload),
        words(recipe.failed_reset),
        words(recipe.failed_kv),
    )
    return f"| {' | '.join(cells)} |"


def test_the_documented_table_is_the_table():
    text = (Path(__file__).parents[2] / "docs" / "architecture.md").read_text()
    assert "\n".join(_told(r) for r in reversed(RECIPES)) in text
