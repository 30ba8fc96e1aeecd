"""A vLLM platform plugin for tests: the CPU platform, with a sleep mode that has a GPU's consequences.

vLLM finds it by the entry point next to this package when both are on PYTHONPATH, together with the repository's root
(for `sleepd.sim.ledger`). It is off unless $SLEEPD_LEDGER names a GPU ledger; `settings.py` lists the other variables.
Everything above the worker (HTTP, scheduler, engine core, executor and its tags) is vLLM's own, unchanged.
"""

import os

__all__ = ["name_platform"]


def name_platform() -> str | None:
    """The platform class for vLLM's entry point group `vllm.platform_plugins`; None leaves vLLM as it is."""
    return "gpulike.platform.GpuLikePlatform" if os.environ.get("SLEEPD_LEDGER") else None
