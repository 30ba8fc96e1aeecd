"""Replays of small traces on a small host, for tests."""

from collections.abc import Sequence
from pathlib import Path

from sleepd.config.load import PACKAGED_DIR
from sleepd.replay.hosts import Host
from sleepd.replay.learned import read_host
from sleepd.replay.policies.base import Policy
from sleepd.replay.shell import Replay
from sleepd.replay.stage import set_stage
from sleepd.replay.trace import Arrival, Trace

MONDAY_S = 1767571200.0
SMALL = """
[host]
ram = "128GiB"
[[gpus]]
memory = "80GiB"
[model_defaults]
awake = "36GiB"
sleep1 = "1s"
wake1 = "2s"
"""


def host_of(tmp_path: Path, text: str = SMALL) -> Host:
    path = tmp_path / "host.toml"
    path.write_text(text)
    return read_host(path)


def trace_of(*requests: tuple[float, str], tokens: tuple[int, int] = (100, 60)) -> Trace:
    return Trace(tuple(Arrival(at_s, model, *tokens) for at_s, model in requests))


def replay(
    tmp_path: Path,
    trace: Trace,
    config: str = "",
    *,
    host: str = SMALL,
    until_s: float | None = None,
    policy: Policy | None = None,
    judge_from_s: float = 0.0,
) -> Replay:
    """Play the trace with the shipped rules and this configuration over them; return what played it."""
    folder = tmp_path / "etc"
    folder.mkdir(exist_ok=True)
    (folder / "sleepd.toml").write_text(config)
    stage = set_stage(folder, host_of(tmp_path, host), trace.models, shipped_dir=PACKAGED_DIR)
    played = Replay(
        stage.settings,
        stage.host,
        stage.servers(),
        trace,
        start_wall_s=MONDAY_S,
        queue_limit=stage.queue_limit,
        policy=policy,
        judge_from_s=judge_from_s,
        end_s=until_s,
    )
    played.run()
    return played


def switches(played: Replay) -> Sequence[tuple[str, str, int]]:
    return [(s.what, s.model, s.level) for s in played.account.switches]
