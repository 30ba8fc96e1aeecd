"""How vLLM's sleep mode behaves, release by release, as rows of flags.

A row says what one range of releases does; code asks flags, never version numbers. A new release is a new row.
Sources: vLLM source of the releases named in each row (entrypoints, v1/engine/core.py, v1/executor/abstract.py,
device_allocator/cumem.py); the 0.32 row was also recorded from a running server.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Dialect:
    """What one range of vLLM releases answers and does. `first` and `last` are minor numbers of 0.x, inclusive."""

    family: str
    first: int
    last: int
    # the scheduler
    pauses_scheduler_on_sleep: bool
    """`/sleep` takes `mode` and stops scheduling before it touches memory (0.17+, v1/engine/core.py)."""
    any_wake_resumes: bool
    """Each `/wake_up`, even a partial or mistagged one, starts the scheduler again (0.17-0.23, core.py:694)."""
    pause_refuses_new: bool
    """After `/pause` with abort or wait new requests get 503 instead of waiting (0.33, core.py:1796)."""
    # the memory
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
    partial_wake_shows_awake: bool
    """The `vllm:engine_sleep_state` gauge shows awake after a partial wake (up to 0.30)."""
    keeps_adapters: bool
    """LoRA adapters have a memory pool of their own that level 2 keeps (0.33, lora_model_runner_mixin.py)."""
    has_operation_metrics: bool
    """`vllm:sleep_mode_operation*` series exist (0.32+)."""


_OLDEST = Dialect(
    family="0.16",
    first=8,
    last=16,
    pauses_scheduler_on_sleep=False,
    any_wake_resumes=False,
    pause_refuses_new=False,
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
    partial_wake_shows_awake=True,
    keeps_adapters=False,
    has_operation_metrics=False,
)
_V17 = replace(
    _OLDEST,
    family="0.22",
    first=17,
    last=17,
    pauses_scheduler_on_sleep=True,
    any_wake_resumes=True,
    zero_level_only_pauses=True,
)
_V18 = replace(_V17, first=18, last=23, bad_level_status=400, json_errors=True)
_V24 = replace(_V18, family="0.24", first=24, last=25, any_wake_resumes=False)
_V26 = replace(_V24, first=26, last=27, reset_reports_success=True, has_abort_requests=True)
_V28 = replace(_V26, family="0.28", first=28, last=30, reentrant_blocks=True, restores_buffers_with_weights=True)
_V31 = replace(
    _V28,
    family="0.31",
    first=31,
    last=31,
    resleeps_partially_awake=True,
    has_release_kv=True,
    partial_wake_shows_awake=False,
)
_V32 = replace(_V31, family="0.32", first=32, last=32, json_bodies=True, has_operation_metrics=True)
_V33 = replace(_V32, first=33, last=33, pause_refuses_new=True, keeps_adapters=True)

DIALECTS: tuple[Dialect, ...] = (_OLDEST, _V17, _V18, _V24, _V26, _V28, _V31, _V32, _V33)

_RELEASE = re.compile(r"v?0\.(\d+)(?:\D|$)")


def dialect_of(version: str) -> Dialect:
    """The row that holds `version`, suffixes such as `rc1` or `+cpu` ignored. Raises ValueError when no row does."""
    found = _RELEASE.match(version)
    minor = int(found[1]) if found else -1
    for row in DIALECTS:
        if row.first <= minor <= row.last:
            return row
    oldest, newest = DIALECTS[0].first, DIALECTS[-1].last
    raise ValueError(f"no simulated vLLM speaks version {version!r}: wanted 0.{oldest} to 0.{newest}, such as 0.32.0")
