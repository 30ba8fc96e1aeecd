"""What a simulated server says about itself: routes, models, configuration. None of it asks the engine."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from sleepd.sim import vllm_adapters, vllm_pooling
from sleepd.sim.dialects import Dialect
from sleepd.sim.vllm_types import EngineSpec

_ALWAYS: dict[str, tuple[str, ...]] = {
    "/load": ("GET",),
    "/version": ("GET",),
    "/health": ("GET",),
    "/metrics": ("GET",),
    "/metrics/": ("GET",),
    "/tokenize": ("POST",),
    "/v1/models": ("GET",),
    "/ping": ("GET", "POST"),
    "/invocations": ("POST",),
    "/v1/chat/completions": ("POST",),
    "/v1/completions": ("POST",),
    "/openapi.json": ("GET",),
}
_DEV: dict[str, tuple[str, ...]] = {
    "/reset_prefix_cache": ("POST",),
    "/server_info": ("GET",),
    "/sleep": ("POST",),
    "/wake_up": ("POST",),
    "/is_sleeping": ("GET",),
}
_PAUSE: dict[str, tuple[str, ...]] = {"/pause": ("POST",), "/resume": ("POST",), "/is_paused": ("GET",)}
_GENERATES = frozenset({"/v1/chat/completions", "/v1/completions"})
"""Not served where the model does something else (0.32, entrypoints/launchers/api_server/routers.py)."""
_UNLISTED = frozenset({"/openapi.json", "/metrics/"})


def routes_of(spec: EngineSpec, dialect: Dialect) -> dict[str, tuple[str, ...]]:
    """path -> methods. The dev routes exist only in dev mode; `--enable-sleep-mode` changes none of them."""
    served = dict(_ALWAYS)
    if spec.task != "generate":
        served = {path: methods for path, methods in served.items() if path not in _GENERATES}
        served |= vllm_pooling.routes_of(spec)
    if dialect.pause != "none" and not dialect.pause_needs_dev:
        served |= _PAUSE
    if spec.loads_adapters:
        served |= vllm_adapters.ROUTES
    if not spec.dev_mode:
        return served
    routes = served | _DEV
    if dialect.pause != "none":
        routes |= _PAUSE
    if dialect.has_collective_rpc:
        routes["/collective_rpc"] = ("POST",)
    if dialect.has_mm_reset:
        routes["/reset_mm_cache"] = ("POST",)
    if dialect.has_encoder_reset:
        routes |= {"/reset_encoder_cache": ("POST",), "/get_world_size": ("GET",)}
    if dialect.has_abort_requests:
        routes["/abort_requests"] = ("POST",)
    if dialect.has_weight_checker:
        routes["/weight_checker"] = ("POST",)
    if dialect.has_release_kv:
        routes["/release_kv_cache_memory"] = ("POST",)
    return routes


def openapi(spec: EngineSpec, dialect: Dialect) -> dict[str, Any]:
    """`/openapi.json`: the routes, and from 0.32 the query schema of `/sleep`."""
    paths: dict[str, Any] = {}
    for path, methods in routes_of(spec, dialect).items():
        if path not in _UNLISTED:
            paths[path] = {method.lower(): _operation(path, method) for method in methods}
    if dialect.json_bodies and "/sleep" in paths:
        level = {"type": "integer", "maximum": 2, "minimum": 0, "default": 1, "title": "Level"}
        mode = {"enum": ["abort", "wait", "keep"], "type": "string", "default": "abort", "title": "Mode"}
        paths["/sleep"]["post"]["parameters"] = [
            {"name": "level", "in": "query", "required": False, "schema": level},
            {"name": "mode", "in": "query", "required": False, "schema": mode},
        ]
    return {"openapi": "3.1.0", "info": {"title": "FastAPI", "version": "0.1.0"}, "paths": paths}


def _operation(path: str, method: str) -> dict[str, Any]:
    name = path.strip("/").replace("/", "_").replace(".", "_")
    return {
        "summary": name.replace("_", " ").title(),
        "operationId": f"{name}_{name}_{method.lower()}",
        "responses": {"200": {"description": "Successful Response", "content": {"application/json": {"schema": {}}}}},
    }


def models(spec: EngineSpec, wall_s: float, adapters: Mapping[str, str]) -> dict[str, Any]:
    """`/v1/models`: one card, and one for each LoRA adapter, by name with where it was loaded from; `created` is the
    moment of the call, as vLLM's is."""
    permission = {
        "id": f"modelperm-{hashlib.blake2b(spec.name.encode(), digest_size=8).hexdigest()}",
        "object": "model_permission",
        "created": int(wall_s),
        "allow_create_engine": False,
        "allow_sampling": True,
        "allow_logprobs": True,
        "allow_search_indices": False,
        "allow_view": True,
        "allow_fine_tuning": False,
        "organization": "*",
        "group": None,
        "is_blocking": False,
    }
    card = {
        "id": spec.name,
        "object": "model",
        "created": int(wall_s),
        "owned_by": "vllm",
        "root": spec.model_path or spec.name,
        "parent": None,
        "max_model_len": spec.max_model_len,
        "permission": [permission],
    }
    of_adapters = [
        card | {"id": name, "root": root, "parent": spec.name, "max_model_len": None} for name, root in adapters.items()
    ]
    return {"object": "list", "data": [card, *of_adapters]}


def server_info(spec: EngineSpec, dialect: Dialect, *, as_json: bool) -> dict[str, Any]:
    """`/server_info`: the configuration as text, or as JSON with `config_format=json` (0.11.0+); and the environment
    (0.14+)."""
    told = _configuration(spec, as_json=as_json and dialect.has_json_config)
    return told if dialect.has_env_in_info else {"vllm_config": told["vllm_config"]}


def _configuration(spec: EngineSpec, *, as_json: bool) -> dict[str, Any]:
    model = spec.model_path or spec.name
    if not as_json:
        text = (
            f"model='{model}', speculative_config=None, tokenizer='{model}', max_seq_len={spec.max_model_len}, "
            f"load_format=auto, tensor_parallel_size={spec.tensor_parallel_size}, pipeline_parallel_size=1, "
            f"data_parallel_size=1, quantization=None, served_model_name={spec.name}"
        )
        return {"vllm_config": text, "vllm_env": _env(spec), "system_env": {}}
    config: dict[str, Any] = {
        "model_config": {
            "model": model,
            "runner": "auto",
            "tokenizer": model,
            "trust_remote_code": False,
            "dtype": "torch.bfloat16",
            "seed": 0,
            "revision": None,
            "max_model_len": spec.max_model_len,
            "quantization": spec.quantization,
            "enforce_eager": False,
            "served_model_name": spec.name,
            "enable_sleep_mode": spec.sleep_mode,
            "sleep_mode_backend": "cumem",
            "multimodal_config": None,
            "pooler_config": None if spec.task == "generate" else {"pooling_type": "LAST"},
        },
        "cache_config": {
            "block_size": 16,
            "gpu_memory_utilization": 0.92,
            "cache_dtype": spec.kv_cache_dtype,
            "enable_prefix_caching": True,
            "num_gpu_blocks": spec.kv_bytes // 2**20,
            "kv_cache_memory_bytes": spec.kv_bytes,
        },
        "parallel_config": {
            "pipeline_parallel_size": 1,
            "tensor_parallel_size": spec.tensor_parallel_size,
            "data_parallel_size": 1,
            "data_parallel_rank": 0,
            "distributed_executor_backend": "mp" if spec.tensor_parallel_size > 1 else "uni",
            "world_size": spec.tensor_parallel_size,
            "_api_process_count": 1,
        },
        "scheduler_config": {
            "runner_type": "generate" if spec.task == "generate" else "pooling",
            "max_num_seqs": spec.max_num_seqs,
            "policy": "fcfs",
        },
        "device_config": {"device": "cuda"},
        "load_config": {"load_format": "auto", "download_dir": None, "ignore_patterns": ["original/**/*"]},
        "lora_config": {"max_loras": max(1, len(spec.adapters))} if spec.adapters or spec.loads_adapters else None,
        "speculative_config": None,
        "kv_transfer_config": None,
    }
    return {"vllm_config": config, "vllm_env": _env(spec), "system_env": {}}


def _env(spec: EngineSpec) -> dict[str, Any]:
    return {
        "VLLM_SERVER_DEV_MODE": spec.dev_mode,
        "VLLM_SLEEP_WHEN_IDLE": False,
        "VLLM_API_KEY": None,
        "VLLM_ALLOW_RUNTIME_LORA_UPDATING": spec.loads_adapters,
    }
