"""`sleepctl doctor --try MODEL`: one sleep and one wake through the daemon, and the GPUs' bytes before and after."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sleepd.client import ApiProblem, Client, DaemonUnreachable
from sleepd.core.units import Bytes, format_duration
from sleepd.doctor.findings import Finding, fail, ok
from sleepd.doctor.trial import judge_trial

if TYPE_CHECKING:
    from typing import Any


def try_sleep(client: Client, name: str) -> list[Finding]:
    """Put an awake model to sleep, compare its GPUs' free bytes by the daemon's readings, and wake it again, whatever
    came of the sleep. A sleeper is left alone. Waits for both, ten minutes each at most."""
    try:
        before = client.status().body
        model = _find(before, name)
        if model is None:
            return [fail("try.sleep", "not tried: no model is named so", name)]
        if model["state"] != "awake":
            return [fail("try.sleep", f"not tried: it is {model['state']}; wake it first", name)]
    except (ApiProblem, DaemonUnreachable) as error:
        return [fail("try.sleep", f"not tried: {error}", name)]
    try:
        slept = _sleep(client, name, before, model)
    except KeyboardInterrupt:
        # Whoever has seen enough has not asked for a model that stays asleep.
        client.wake(name, wait=False)
        raise
    return [slept, _wake(client, name)]


def _sleep(client: Client, name: str, before: Any, model: Any) -> Finding:
    try:
        client.sleep(name)
        after = client.status().body
    except (ApiProblem, DaemonUnreachable) as error:
        return fail("try.sleep", str(error), name)
    uuids = {gpu["uuid"] for gpu in model["gpus"]}
    held = [gpu["awake_bytes"] for gpu in model["gpus"]]
    return judge_trial(
        name,
        before_bytes=_free(before, uuids),
        after_bytes=_free(after, uuids),
        held_bytes=sum(held) if held and all(bytes_ is not None for bytes_ in held) else None,
    )


def _wake(client: Client, name: str) -> Finding:
    try:
        waited_s = client.wake(name).body["waited_s"]
    except (ApiProblem, DaemonUnreachable) as error:
        return fail("try.wake", str(error), name)
    return ok("try.wake", f"awake after {format_duration(waited_s)}" if waited_s else "it is awake", name)


def _find(status: Any, name: str) -> Any:
    return next((model for model in status["models"] if model["name"] == name), None)


def _free(status: Any, uuids: set[str]) -> Bytes:
    return sum(gpu["free_bytes"] for gpu in status["gpus"] if gpu["uuid"] in uuids)
