"""Which rules tuned timeouts stand in for."""

from pathlib import Path

from sleepd.config.load import PACKAGED_DIR, load_config
from sleepd.tuning.curves import NEVER
from sleepd.tuning.rules import replaced_rules, timeout_now

RULES = """
[models.a]
url = "http://127.0.0.1:8001"
gpus = ["0"]
[models.b]
url = "http://127.0.0.1:8002"
gpus = ["0"]
rules = { nap = false, slow = false }
[[rules]]
name = "slow"
when = { idle = "2m", for = "1m" }
then = { sleep = 2 }
[[rules]]
name = "night"
when = { idle = "1m", between = "20:00-06:00" }
then = { sleep = 1 }
[[rules]]
name = "foreseen"
when = { predicted_idle = "1m" }
then = { sleep = 1 }
"""


def test_plain_timeouts_alone_are_replaced(tmp_path: Path) -> None:
    (tmp_path / "sleepd.toml").write_text(RULES)
    settings = load_config(tmp_path, shipped_dir=PACKAGED_DIR).settings
    assert (replaced_rules(settings, "a"), timeout_now(settings, "a")) == (("nap", "slow"), (180.0, 2))
    assert (replaced_rules(settings, "b"), timeout_now(settings, "b")) == ((), (NEVER, 1))
