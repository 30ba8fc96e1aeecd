"""The public contract of the configuration, sentence by sentence: files, layers, units of measure."""

import os
from pathlib import Path

import pytest

from sleepd.config.load import load_config
from sleepd.core import rules as r
from sleepd.core.rules import Threshold
from tests.unit.contract_case import CHAT, GIB, NAP, Case, conditions, margin, rule, show

LAYERS = [
    Case(
        "/usr/lib/sleepd/conf.d/*.toml, /etc/sleepd/sleepd.toml, /etc/sleepd/conf.d/*.toml, in this order",
        '[gpu]\nmargin = "2GiB"\n[host]\nreserve = "2GiB"\n',
        lambda c: (margin(c), c.settings.host_reserve_bytes, c.settings.retries) == (2 * GIB, 3 * GIB, 1),
        files={
            "lib/90.toml": '[gpu]\nmargin = "1GiB"\n[recovery]\nretries = 1\n',
            "conf.d/00.toml": '[host]\nreserve = "3GiB"\n',
        },
    ),
    Case(
        "each folder by name",
        shows=lambda c: margin(c) == 9 * GIB,
        files={"conf.d/2.toml": '[gpu]\nmargin = "9GiB"\n', "conf.d/10.toml": '[gpu]\nmargin = "3GiB"\n'},
    ),
    Case(
        "a file in /etc/sleepd/conf.d masks one of the same name in /usr/lib",
        CHAT,
        lambda c: c.settings.rules == (),
        files={"lib/10-idle.toml": NAP, "conf.d/10-idle.toml": ""},
    ),
    Case(
        "Later keys win",
        "[models.chat]\npriority = 1\n" + CHAT.replace("[models.chat]\n", ""),
        lambda c: (c.settings.models["chat"].priority, c.settings.models["chat"].gpus) == (2, ("0",)),
        files={"conf.d/a.toml": "[models.chat]\npriority = 2\n"},
    ),
    Case(
        "lists replace",
        CHAT.replace('["0"]', '["0", "1"]'),
        lambda c: c.settings.models["chat"].gpus == ("2",),
        files={"conf.d/a.toml": '[models.chat]\ngpus = ["2"]\n'},
    ),
    Case(
        "rules accumulate",
        CHAT + NAP,
        lambda c: [rule.name for rule in c.settings.rules] == ["nap", "late"],
        files={"conf.d/a.toml": NAP.replace("nap", "late")},
    ),
    Case(
        "a rule of the same name replaces",
        CHAT + NAP,
        lambda c: [x.conditions for x in c.settings.rules] == [(r.AwakeFor(60.0),)],
        files={"conf.d/a.toml": NAP.replace('idle = "5m"', 'awake = "1m"')},
    ),
    Case(
        "Unknown keys are errors", "[gpu]\nmargni = 1\n", error='unknown key "margni" in [gpu]; did you mean "margin"?'
    ),
    Case("Unknown keys are errors", "[gpus]\n", error='unknown key "gpus"; did you mean "gpu"?'),
    Case(
        "Environment SLEEPD__SECTION__KEY (TOML value syntax) covers the fixed sections",
        "[recovery]\nretries = 1\n",
        lambda c: (
            (c.settings.poll_every_s, c.service.socket_mode, c.service.gateway.queue_limit) == (2.0, 0o660, 7)
            and (margin(c), c.settings.host_reserve_bytes, c.settings.retries) == (4 * GIB, GIB, 2)
        ),
        environ={
            "SLEEPD__DAEMON__POLL_EVERY": '"2s"',
            "SLEEPD__API__MODE": "'0660'",
            "SLEEPD__GATEWAY__QUEUE": "7",
            "SLEEPD__GPU__MARGIN": '"4GiB"',
            "SLEEPD__HOST__RESERVE": '"1GiB"',
            "SLEEPD__RECOVERY__RETRIES": "2",
        },
    ),
    *(
        Case("anything else with that prefix is an error", environ={name: "1"}, error=f"environment variable {name}")
        for name in (
            "SLEEPD__HISTORY__KEEP",
            "SLEEPD__METRICS__LISTEN",
            "SLEEPD__MODELS__CHAT__URL",
            "SLEEPD__GPU",
            "SLEEPD__",
        )
    ),
    Case('Durations "90s" "5m" "1h30m"', rule('idle = "1h30m"'), lambda c: conditions(c) == (r.IdleFor(5400.0),)),
    Case('sizes "24GiB"', '[gpu]\nmargin = "24GiB"\n', lambda c: margin(c) == 24 * GIB),
    Case(
        'shares "10%"',
        rule('host_available_below = "10%"'),
        lambda c: conditions(c) == (r.HostAvailableBelow(Threshold(share=0.1), Threshold(share=0.1)),),
    ),
]


@pytest.mark.parametrize("case", LAYERS, ids=lambda case: case.sentence[:60])
def test_the_contract(tmp_path: Path, case: Case) -> None:
    show(case, tmp_path)


def test_with_config_dir_takes_the_place_of_etc(tmp_path: Path) -> None:
    """ "With --config DIR DIR takes the place of /etc/sleepd": masking and conf.d too."""
    (tmp_path / "conf.d").mkdir()
    (tmp_path / "conf.d" / "10-idle.toml").symlink_to(os.devnull)
    (tmp_path / "conf.d" / "x.toml").write_text(CHAT)
    config = load_config(tmp_path, environ={})
    assert [x.name for x in config.settings.rules] == ["host-ram-pressure"]
    assert list(config.settings.models) == ["chat"]


def test_the_shipped_rules_are_those_of_the_contract(tmp_path: Path) -> None:
    (tmp_path / "sleepd.toml").write_text(CHAT)
    nap, pressure = load_config(tmp_path, environ={}).settings.rules
    assert (nap.name, nap.conditions, nap.action, nap.applies_to) == ("nap", (r.IdleFor(300.0),), r.SLEEP_1, {"chat"})
    low = r.HostAvailableBelow(Threshold(share=0.10), Threshold(share=0.15))
    assert (pressure.conditions, pressure.for_s, pressure.action) == ((low,), 15.0, r.SLEEP_2)
