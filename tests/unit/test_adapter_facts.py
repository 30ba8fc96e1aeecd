"""What a server tells about itself: recorded answers, odd ones, and anything."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sleepd.adapters.vllm_facts import checkpoint_bytes, facts_of, parse_release
from sleepd.core.question import COMPLETIONS, EMBEDDINGS, POOLING

DATA = Path(__file__).parents[1] / "adapters" / "data"
INFO: dict[str, Any] = json.loads((DATA / "server-info-0.32.0.json").read_text())
MODELS = {"object": "list", "data": [{"id": "tiny-a", "object": "model", "parent": None}]}


def with_model(**keys: Any) -> dict[str, Any]:
    config = INFO["vllm_config"]
    return {"vllm_config": {**config, "model_config": {**config["model_config"], **keys}}}


@pytest.mark.parametrize(
    ("version", "release"),
    [
        ("0.32.0", (0, 32, 0)),
        ("0.8.5.post1", (0, 8, 5)),
        ("0.24.0rc1", (0, 24, 0)),
        ("0.10.2", (0, 10, 2)),
        ("0.32.0+cpu", (0, 32, 0)),
        ("1.0", (1, 0, 0)),
        ("0.32.1.dev3+g1234", None),
        ("0.9.0+rocm", None),
        ("nightly", None),
        ("", None),
    ],
)
def test_only_plain_releases_have_a_row(version: str, release: tuple[int, ...] | None) -> None:
    assert parse_release(version) == release


def test_recorded_answers() -> None:
    facts = facts_of("0.32.0", "pst:1.00", MODELS, INFO)
    assert (facts.release, facts.incarnation, facts.served_names) == ((0, 32, 0), "pst:1.00", ("tiny-a",))
    assert (facts.sleep_mode, facts.described, facts.asks_at) == (False, True, COMPLETIONS)
    assert (facts.tensor_parallel, facts.pipeline_parallel, facts.data_parallel) == (1, 1, 1)
    assert (facts.gpu_memory_utilization, facts.load_format, facts.quantization) == (0.92, "auto", None)
    assert (facts.lora, facts.speculative, facts.checkpoint_bytes) == (False, False, None)


def test_how_its_encoder_is_split_is_read_where_it_has_one() -> None:
    def mode(told: Any) -> str:
        return facts_of("0.32.0", None, None, with_model(multimodal_config=told)).encoder_mode

    assert (mode({"mm_encoder_tp_mode": "data"}), mode({"mm_encoder_tp_mode": None}), mode(None)) == ("data", "", "")


def test_nothing_told_means_nothing_known() -> None:
    facts = facts_of("0.32.0", None, None, None)
    assert not facts.described
    assert (facts.sleep_mode, facts.served_names) == (None, ())


def test_a_card_with_a_parent_is_an_adapter() -> None:
    cards = {"data": [{"id": "base"}, {"id": "sql", "parent": "base"}, {"id": 3}, "odd"]}
    facts = facts_of("0.32.0", None, cards, INFO)
    assert (facts.served_names, facts.lora_names, facts.lora) == (("base",), ("sql",), True)


@pytest.mark.parametrize(
    ("info", "listed", "cards", "comes_and_goes"),
    [
        (INFO, {"paths": {"/v1/load_lora_adapter": {}}}, 0, True),
        (INFO | {"vllm_env": {"VLLM_ALLOW_RUNTIME_LORA_UPDATING": True}}, None, 0, True),
        (INFO | {"vllm_env": {"VLLM_ALLOW_RUNTIME_LORA_UPDATING": False}}, None, 1, False),
        (INFO, {"paths": {"/v1/models": {}}}, 1, False),
        (None, None, 1, True),
        (None, None, 0, False),
    ],
)
def test_whether_adapters_come_and_go(info: Any, listed: Any, cards: int, comes_and_goes: bool) -> None:
    models = {"data": [{"id": "base"}, *[{"id": "sql", "parent": "base", "root": "/x"}] * cards]}
    assert facts_of("0.32.0", None, models, info, listed).loads_adapters is comes_and_goes


@pytest.mark.parametrize(
    "keys", [{"runner": "pooling"}, {"runner": "draft"}, {"pooler_config": {"pooling_type": "CLS"}}]
)
def test_what_does_not_generate_is_asked_for_its_vector(keys: dict[str, Any]) -> None:
    assert facts_of("0.32.0", None, MODELS, with_model(**keys)).asks_at == POOLING


@pytest.mark.parametrize(
    ("listed", "keys", "asks_at"),
    [
        ((COMPLETIONS,), {}, COMPLETIONS),
        ((COMPLETIONS, EMBEDDINGS, POOLING), {}, COMPLETIONS),
        ((COMPLETIONS, EMBEDDINGS, POOLING), {"runner": "pooling"}, POOLING),
        ((COMPLETIONS, EMBEDDINGS), {"runner": "pooling"}, EMBEDDINGS),
        ((EMBEDDINGS, POOLING), {}, EMBEDDINGS),
        ((POOLING,), {}, POOLING),
        (("/v1/audio/transcriptions",), {}, ""),
        ((), {}, COMPLETIONS),
    ],
)
def test_the_question_goes_where_the_server_says_it_answers(
    listed: tuple[str, ...], keys: dict[str, Any], asks_at: str
) -> None:
    listing = {"paths": {route: {"post": {}} for route in listed}}
    assert facts_of("0.32.0", None, MODELS, with_model(**keys), listing).asks_at == asks_at


def test_the_arguments_hash_changes_with_what_a_proof_depends_on_and_nothing_else() -> None:
    def told(info: Any) -> str:
        return facts_of("0.32.0", None, MODELS, info).arguments_hash

    assert told(INFO) == told({**INFO, "system_env": {"uptime": 5}})
    assert told(INFO) != told(with_model(dtype="torch.bfloat16"))
    assert told(INFO) != told(with_model(model="models/tiny-b"))


def test_checkpoint_bytes_are_summed_where_they_can_be_read(tmp_path: Path) -> None:
    (tmp_path / "model-1.safetensors").write_bytes(b"x" * 1000)
    (tmp_path / "model-2.safetensors").write_bytes(b"x" * 24)
    (tmp_path / "pytorch_model.bin").write_bytes(b"x" * 999)
    assert checkpoint_bytes(str(tmp_path)) == 1024


@pytest.mark.parametrize("make", ["missing", "empty", "vanishing"])
def test_a_checkpoint_that_cannot_be_read_is_unknown(tmp_path: Path, make: str) -> None:
    path = tmp_path / "model"
    if make != "missing":
        path.mkdir()
    if make == "vanishing":
        (path / "model.safetensors").symlink_to(tmp_path / "gone")
    assert checkpoint_bytes(str(path)) is None


_ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
_SECTION = st.dictionaries(
    st.sampled_from(
        ["model", "runner", "enable_sleep_mode", "tensor_parallel_size", "gpu_memory_utilization", "load_format"]
    ),
    _ANY,
)
_CONFIG = st.fixed_dictionaries(
    {},
    optional=dict.fromkeys(
        ("model_config", "parallel_config", "cache_config", "load_config", "lora_config"), _ANY | _SECTION
    ),
)


@given(_ANY | st.fixed_dictionaries({"data": _ANY}), _ANY | st.fixed_dictionaries({"vllm_config": _ANY | _CONFIG}))
def test_no_json_raises(models: Any, info: Any) -> None:
    facts = facts_of("0.32.0", None, models, info)
    assert facts.tensor_parallel >= 1
    assert facts.gpu_memory_utilization is None or 0 < facts.gpu_memory_utilization <= 1
    assert facts.arguments_hash


@pytest.mark.parametrize(
    "told", [pytest.param(10**400, id="no-float"), float("inf"), float("nan"), -1, 0, True, "5", None]
)
def test_a_keep_alive_that_there_cannot_be_is_the_default(told: Any) -> None:
    assert facts_of("0.32.0", None, None, {"vllm_env": {"VLLM_HTTP_TIMEOUT_KEEP_ALIVE": told}}).keep_alive_s == 5.0
