"""How vLLM's sleep mode behaves, release by release, as rows of flags.

A row says what one range of releases does; code asks flags, never version numbers. A new release is a new row.
Sources: vLLM source of the releases named in each row (entrypoints, v1/engine/core.py, v1/executor/abstract.py,
device_allocator/cumem.py); the 0.32 row was also recorded from a running server.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from sleepd.core.frozen import replace


@dataclass(frozen=True, slots=True)
class Dialect:
    """What one range of vLLM releases answers and does, from `since` (minor, patch of 0.x) to the next row."""

    family: str
    since: tuple[int, int]
    # the routes
    has_uds: bool
    """`--uds` (0.10.2+)."""
    has_collective_rpc: bool
    """`/collective_rpc` (0.10.2+): without it nothing restores a level 2 sleeper."""
    has_mm_reset: bool
    """`/reset_mm_cache` (0.11.2+)."""
    has_encoder_reset: bool
    """`/reset_encoder_cache` and `/get_world_size` (0.16+)."""
    pause: Literal["none", "frontend", "engine"]
    """Where `/pause` lives: nowhere (up to 0.11), in the API process (0.12-0.16), in the engine (0.17+)."""
    pause_needs_dev: bool
    """`/pause` is one of the dev routes (0.16+); before, everybody may pause."""
    pause_takes_mode: bool
    """`/pause?mode=` (0.16+); before, `wait_for_inflight_requests`."""
    has_json_config: bool
    """`/server_info?config_format=json` (0.11+)."""
    has_env_in_info: bool
    """`/server_info` holds `vllm_env` (0.14+)."""
    health_asks_engine: bool
    """`/health` is 503 once the engine is dead (0.9+)."""
    notices_killed_core: bool
    """A SIGKILL of the engine core ends the server (0.10.2+); before, requests hang and `/health` stays 200."""
    # the scheduler
    pauses_scheduler_on_sleep: bool
    """`/sleep` takes `mode` and stops scheduling before it touches memory (0.17+, v1/engine/core.py)."""
    any_wake_resumes: bool
    """Each `/wake_up`, even a partial or mistagged one, starts the scheduler again (0.17-0.23, core.py:694)."""
    pause_refuses_new: bool
    """After `/pause` with abort or wait new requests get 503 instead of waiting (0.33, core.py:1796)."""
    sleep_resets_prefix_cache: bool
    """Sleeping empties the prefix cache (0.10.2+); before, hits after the wake read what is no longer there."""
    # the memory
    reload_requantizes: bool
    """`reload_weights` processes quantized weights anew (0.16+); before, the model is wrong afterwards."""
    keeps_kv_scales: bool
    """The scales of an fp8 KV cache survive level 2 (0.12+)."""
    reentrant_blocks: bool
    """The allocator skips blocks already in the wanted state, so failed calls can be repeated (0.28+, cumem.py)."""
    restores_buffers_with_weights: bool
    """Level 2's saved buffers wait for the weights tag; before 0.28 any wake writes them, mapped or not."""
    resleeps_partially_awake: bool
    """`/sleep` looks at the weights tag only, so it re-sleeps a half-woken engine (0.31+)."""
    zero_level_only_pauses: bool
    """`level=0` pauses (0.17+); before, it discards everything, buffers included."""
    # what the server says
    json_bodies: bool
    """`/sleep` and `/wake_up` answer JSON and check their query (0.32+); before: empty 200, any integer level."""
    bad_level_status: int
    """Status for a `level` that is no integer: 500 up to 0.17, 400 from 0.18."""
    json_errors: bool
    """A failed engine call answers a JSON error (0.18+); before: text/plain `Internal Server Error`."""
    reset_reports_success: bool
    """`/reset_prefix_cache` says `{"success": bool}` (0.26+); before: empty 200, also when it failed."""
    has_abort_requests: bool
    has_release_kv: bool
    has_sleep_gauge: bool
    """`vllm:engine_sleep_state` exists (0.11.2+)."""
    has_waiting_reasons: bool
    """`vllm:num_requests_waiting_by_reason` exists (0.20+)."""
    kv_usage: tuple[str, ...]
    """The names of the KV cache's usage: `gpu_cache_usage_perc` up to 0.11.0, `kv_cache_usage_perc` from 0.9.2."""
    end_reasons: tuple[str, ...]
    """How requests may be counted as ended: `error` from 0.13, `repetition` from 0.17."""
    partial_wake_shows_awake: bool
    """The `vllm:engine_sleep_state` gauge shows awake after a partial wake (up to 0.30)."""
    keeps_adapters: bool
    """LoRA adapters have a memory pool of their own that level 2 keeps (0.33, lora_model_runner_mixin.py)."""
    has_weight_checker: bool
    """`/weight_checker`, one of the dev routes (0.32+, entrypoints/rl/online/api_router.py)."""
    has_operation_metrics: bool
    """`vllm:sleep_mode_operation*` series exist (0.32+)."""


_REASONS = ("stop", "length", "abort")
_OLDEST = Dialect(
    family="0.10",
    since=(8, 0),
    has_uds=False,
    has_collective_rpc=False,
    has_mm_reset=False,
    has_encoder_reset=False,
    pause="none",
    pause_needs_dev=True,
    pause_takes_mode=False,
    has_json_config=False,
    has_env_in_info=False,
    health_asks_engine=False,
    notices_killed_core=False,
    pauses_scheduler_on_sleep=False,
    any_wake_resumes=False,
    pause_refuses_new=False,
    sleep_resets_prefix_cache=False,
    reload_requantizes=False,
    keeps_kv_scales=False,
    keeps_adapters=False,
    reentrant_blocks=False,
    restores_buffers_with_weights=False,
    resleeps_partially_awake=False,
    zero_level_only_pauses=False,
    json_bodies=False,
    bad_level_status=500,
    json_errors=False,
    reset_reports_success=False,
    has_abort_requests=False,
    has_release_kv=False,
    has_sleep_gauge=False,
    has_waiting_reasons=False,
    kv_usage=("vllm:gpu_cache_usage_perc",),
    end_reasons=_REASONS,
    partial_wake_shows_awake=True,
    has_weight_checker=False,
    has_operation_metrics=False,
)
_V9 = replace(_OLDEST, since=(9, 0), health_asks_engine=True)
_V9_2 = replace(_V9, since=(9, 2), kv_usage=("vllm:gpu_cache_usage_perc", "vllm:kv_cache_usage_perc"))
_V10_2 = replace(
    _V9_2,
    family="0.11",
    since=(10, 2),
    has_uds=True,
    has_collective_rpc=True,
    notices_killed_core=True,
    sleep_resets_prefix_cache=True,
)
_V11 = replace(_V10_2, since=(11, 0), has_json_config=True)
_V11_2 = replace(_V11, since=(11, 2), has_mm_reset=True, has_sleep_gauge=True, kv_usage=("vllm:kv_cache_usage_perc",))
_V12 = replace(_V11_2, family="0.12", since=(12, 0), pause="frontend", pause_needs_dev=False, keeps_kv_scales=True)
_V13 = replace(_V12, since=(13, 0), end_reasons=(*_REASONS, "error"))
_V14 = replace(_V13, since=(14, 0), has_env_in_info=True)
_V16 = replace(
    _V14,
    family="0.16",
    since=(16, 0),
    has_encoder_reset=True,
    pause_needs_dev=True,
    pause_takes_mode=True,
    reload_requantizes=True,
)
_V17 = replace(
    _V16,
    family="0.22",
    since=(17, 0),
    pause="engine",
    pauses_scheduler_on_sleep=True,
    any_wake_resumes=True,
    zero_level_only_pauses=True,
    end_reasons=(*_REASONS, "error", "repetition"),
)
_V18 = replace(_V17, since=(18, 0), bad_level_status=400, json_errors=True)
_V20 = replace(_V18, since=(20, 0), has_waiting_reasons=True)
_V24 = replace(_V20, family="0.24", since=(24, 0), any_wake_resumes=False)
_V26 = replace(_V24, since=(26, 0), reset_reports_success=True, has_abort_requests=True)
_V28 = replace(_V26, family="0.28", since=(28, 0), reentrant_blocks=True, restores_buffers_with_weights=True)
_V31 = replace(
    _V28,
    family="0.31",
    since=(31, 0),
    resleeps_partially_awake=True,
    has_release_kv=True,
    partial_wake_shows_awake=False,
)
_V32 = replace(
    _V31, family="0.32", since=(32, 0), json_bodies=True, has_weight_checker=True, has_operation_metrics=True
)
_V33 = replace(_V32, since=(33, 0), pause_refuses_new=True, keeps_adapters=True)

_BEFORE_17 = (_OLDEST, _V9, _V9_2, _V10_2, _V11, _V11_2, _V12, _V13, _V14, _V16)
DIALECTS: tuple[Dialect, ...] = (*_BEFORE_17, _V17, _V18, _V20, _V24, _V26, _V28, _V31, _V32, _V33)
OLDEST_MINOR, NEWEST_MINOR = 8, 33

_RELEASE = re.compile(r"v?0\.(\d+)(?:\.(\d+))?(?:\D|$)")


def dialect_of(version: str) -> Dialect:
    """The row that holds `version`, suffixes such as `rc1` or `+cpu` ignored. Raises ValueError when no row does."""
    found = _RELEASE.match(version)
    release = (int(found[1]), int(found[2] or 0)) if found else (-1, 0)
    if not OLDEST_MINOR <= release[0] <= NEWEST_MINOR:
        wanted = f"wanted 0.{OLDEST_MINOR} to 0.{NEWEST_MINOR}, such as 0.32.0"
        raise ValueError(f"no simulated vLLM speaks version {version!r}: {wanted}")
    return next(row for row in reversed(DIALECTS) if row.since <= release)
