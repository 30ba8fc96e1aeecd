"""What one incarnation of a server tells about itself, read defensively: every field may be absent or odd.

Sources: GET /version, /v1/models, /server_info?config_format=json (vLLM 0.11+, dev mode), vllm/config/*.py.
"""

import hashlib
import json
import re
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from sleepd.core.checksums import WEIGHT_CHECKER
from sleepd.core.question import COMPLETIONS, EMBEDDINGS, POOLING
from sleepd.core.seen import EngineFacts, Release

_BUILD = r"\+(?:cpu|xpu|tpu|cu\d+|rocm\d+(?:\.\d+)*)"
"""What vLLM's setup.py (get_vllm_version) adds for hardware other than its main CUDA, as a PEP 440 local version."""
_RELEASE = re.compile(rf"(\d+)\.(\d+)(?:\.(\d+))?(?:\.\d+)?(?:\.?(?:rc|post)\d+)?(?:{_BUILD})?")
"""Releases and their builds. Forks and development builds carry other suffixes and count as unknown."""

_CHECKPOINT = ("*.safetensors", "*.bin", "*.pt")
_HASHED = {
    "model_config": ("model", "revision", "dtype", "quantization", "max_model_len", "enforce_eager", "model_impl"),
    "parallel_config": ("tensor_parallel_size", "pipeline_parallel_size", "data_parallel_size"),
    "cache_config": ("cache_dtype",),
    "load_config": ("load_format",),
}
"""What a level 2 proof depends on; everything else in the dump changes with every start."""
_LOADS_ADAPTERS = "/v1/load_lora_adapter"
"""Served where VLLM_ALLOW_RUNTIME_LORA_UPDATING is set (vllm/entrypoints/serve/lora/api_router.py, 0.32)."""


def parse_release(version: str) -> Release | None:
    """(major, minor, patch), or None for anything that is not a plain release."""
    found = _RELEASE.fullmatch(version.strip())
    return (int(found[1]), int(found[2]), int(found[3] or 0)) if found else None


def facts_of(version: str, incarnation: str | None, models: Any, server_info: Any, openapi: Any = None) -> EngineFacts:
    """Return the facts in these answers; the last three are parsed JSON, None where not answered.

    `checkpoint_bytes` is not in them: whoever can wait for a disk measures `model_path`.
    """
    served, adapters, roots = _names(models)
    config = _table(_table(server_info), "vllm_config")
    model, parallel = _table(config, "model_config"), _table(config, "parallel_config")
    cache, load = _table(config, "cache_config"), _table(config, "load_config")
    path = _text(model, "model")
    asks_at = _asks_at(model, openapi)
    return EngineFacts(
        version=version,
        release=parse_release(version),
        incarnation=incarnation,
        served_names=served,
        lora_names=adapters,
        lora_roots=roots,
        loads_adapters=_loads_adapters(server_info, openapi, bool(adapters)),
        sleep_mode=_flag(model, "enable_sleep_mode"),
        tensor_parallel=_number(parallel, "tensor_parallel_size"),
        pipeline_parallel=_number(parallel, "pipeline_parallel_size"),
        data_parallel=_number(parallel, "data_parallel_size"),
        quantization=_text(model, "quantization") or None,
        kv_cache_dtype=_text(cache, "cache_dtype") or None,
        encoder_mode=_text(_table(model, "multimodal_config"), "mm_encoder_tp_mode"),
        mamba=cache.get("mamba_block_size") is not None,
        kv_connector=_text(_table(config, "kv_transfer_config"), "kv_connector"),
        speculative=config.get("speculative_config") is not None,
        lora=bool(adapters) or config.get("lora_config") is not None,
        load_format=_text(load, "load_format") or "auto",
        model_path=path,
        gpu_memory_utilization=_share(cache, "gpu_memory_utilization"),
        kv_cache_memory_bytes=_bytes(cache, "kv_cache_memory_bytes"),
        asks_at=asks_at,
        keep_alive_s=_seconds(_table(server_info, "vllm_env"), "VLLM_HTTP_TIMEOUT_KEEP_ALIVE", 5.0),
        weight_checker=WEIGHT_CHECKER in _table(openapi, "paths"),
        described=bool(model and parallel),
        arguments_hash=_hash(config),
    )


def _asks_at(model: Mapping[str, Any], openapi: Any) -> str:
    """The route that answers the known question. Newer releases list the routes of what their model does and no other
    (vllm/entrypoints/launchers/api_server/routers.py, 0.32), older ones all; with --disable-fastapi-docs there is no
    list. Then the model's own description decides."""
    listed = _table(openapi, "paths")
    pools = _text(model, "runner") in ("pooling", "draft") or model.get("pooler_config") is not None
    if not pools and (COMPLETIONS in listed or not listed):
        return COMPLETIONS
    chosen = (POOLING, EMBEDDINGS) if COMPLETIONS in listed else (EMBEDDINGS, POOLING)
    return next((route for route in chosen if route in listed), "") if listed else POOLING


def with_models(facts: EngineFacts, models: Any) -> EngineFacts:
    """The facts with the names that are listed now; the same object where nothing changed."""
    served, adapters, roots = _names(models)
    if (served, adapters, roots) == (facts.served_names, facts.lora_names, facts.lora_roots):
        return facts
    return replace(facts, served_names=served, lora_names=adapters, lora_roots=roots, lora=facts.lora or bool(adapters))


def _loads_adapters(server_info: Any, openapi: Any, lists_any: bool) -> bool:
    """Whether adapters may come and go as it runs; where it tells neither routes nor environment, if it lists any."""
    listed, told = _table(openapi, "paths"), _table(server_info, "vllm_env")
    if _LOADS_ADAPTERS in listed or told.get("VLLM_ALLOW_RUNTIME_LORA_UPDATING") in (True, 1, "1", "True", "true"):
        return True
    return lists_any and not listed and not told


def _names(models: Any) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
    """(served names, LoRA adapters, where these were loaded from): a card with a parent is an adapter."""
    cards = _table(models).get("data")
    served: list[str] = []
    adapters: dict[str, str] = {}
    for card in cards if isinstance(cards, list) else []:
        if not isinstance(card, Mapping) or not isinstance(card.get("id"), str):
            continue
        if card.get("parent"):
            adapters[card["id"]] = _text(card, "root")
        else:
            served.append(card["id"])
    return tuple(served), tuple(adapters), tuple(adapters.values())


def _table(value: Any, key: str | None = None) -> Mapping[str, Any]:
    found = value.get(key) if key is not None and isinstance(value, Mapping) else value
    return found if isinstance(found, Mapping) else {}


def _text(table: Mapping[str, Any], key: str) -> str:
    value = table.get(key)
    return value if isinstance(value, str) else ""


def _number(table: Mapping[str, Any], key: str) -> int:
    value = table.get(key)
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 1 else 1


def _bytes(table: Mapping[str, Any], key: str) -> int | None:
    value = table.get(key)
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None


def _share(table: Mapping[str, Any], key: str) -> float | None:
    value = table.get(key)
    return float(value) if isinstance(value, int | float) and 0 < value <= 1 else None


def _seconds(table: Mapping[str, Any], key: str, default: float) -> float:
    value = table.get(key)
    # JSON's numbers may be larger than any float, and Python reads Infinity.
    if isinstance(value, bool) or not isinstance(value, int | float):
        return default
    return float(value) if 0 < value <= sys.float_info.max else default


def _flag(table: Mapping[str, Any], key: str) -> bool | None:
    value = table.get(key)
    return value if isinstance(value, bool) else None


def checkpoint_bytes(model_path: str) -> int | None:
    """Return the bytes of the checkpoint's weight files, where they lie in a directory this daemon can read.

    Waits for the disk, on a hung mount for ever.
    """
    if not model_path.startswith("/"):
        return None
    for pattern in _CHECKPOINT:
        try:
            total = sum(f.stat().st_size for f in Path(model_path).glob(pattern))
        except OSError:
            return None
        if total:
            return total
    return None


def _hash(config: Mapping[str, Any]) -> str:
    chosen = {section: {key: _table(config, section).get(key) for key in keys} for section, keys in _HASHED.items()}
    text = json.dumps(chosen, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
