"""The public contract of the configuration, sentence by sentence: conditions and actions as they are written."""

from pathlib import Path

import pytest

from sleepd.core import rules as r
from sleepd.core.rules import Rate, Threshold
from tests.unit.contract_case import CHAT, GIB, NAP, OTHER, Case, conditions, rule, show

RULES = [
    Case(
        'models default ["*"]; globs, "!glob" excludes, "label:team=search"',
        f'{CHAT}labels = {{ team = "search" }}\n{OTHER}{NAP}models = ["label:team=search"]\n'
        + NAP.replace("nap", "b")
        + 'models = ["!ch*"]\n'
        + NAP.replace("nap", "c"),
        lambda c: [sorted(x.applies_to) for x in c.settings.rules] == [["chat"], ["other"], ["chat", "other"]],
    ),
    Case(
        "All conditions of one when must hold",
        rule('idle = "5m", level = 1, asleep = "2h"'),
        lambda c: set(conditions(c)) == {r.IdleFor(300.0), r.LevelIs(1), r.AsleepFor(7200.0)},
    ),
    Case(
        'requests_below = "2/min" with window = "10m"',
        rule('requests_below = "2/min", window = "30m"'),
        lambda c: conditions(c) == (r.RequestsBelow(Rate(2, 60.0), Rate(2, 60.0), 1800.0),),
    ),
    Case(
        "window default 10m",
        rule('requests_below = "2/min"'),
        lambda c: conditions(c) == (r.RequestsBelow(Rate(2, 60.0), Rate(2, 60.0), 600.0),),
    ),
    Case(
        "host_available_below (bytes or share)",
        rule('host_available_below = "8GiB", until = "9GiB"'),
        lambda c: conditions(c) == (r.HostAvailableBelow(Threshold(8 * GIB), Threshold(9 * GIB)),),
    ),
    Case(
        'host_pressure_above = "20%" (PSI some avg10)',
        rule('host_pressure_above = "20%", until = "5%"'),
        lambda c: conditions(c) == (r.HostPressureAbove(0.2, 0.05),),
    ),
    Case("host_pressure_above = 20%", rule('host_pressure_above = "8GiB"'), error="wanted a share"),
    Case(
        "unit_memory_above (bytes, or share of the tightest limit above the unit)",
        rule('unit_memory_above = "90%", until = "80%"'),
        lambda c: conditions(c) == (r.UnitMemoryAbove(Threshold(share=0.9), Threshold(share=0.8)),),
    ),
    Case(
        "gpu_free_below (any GPU of the model)",
        rule('gpu_free_below = "4GiB"'),
        lambda c: conditions(c) == (r.GpuFreeBelow(Threshold(4 * GIB), Threshold(4 * GIB)),),
    ),
    *(Case("level", rule(f"level = {n}"), lambda c, n=n: conditions(c) == (r.LevelIs(n),)) for n in (0, 1, 2)),
    Case("predicted_idle", rule('predicted_idle = "30m"'), lambda c: conditions(c) == (r.PredictedIdle(1800.0),)),
    Case(
        'days = "mon-fri", between = "08:00-18:00", timezone = "Europe/Berlin"',
        rule('days = "mon-fri", between = "08:00-18:00", timezone = "Europe/Berlin"', "keep_awake = true"),
        lambda c: conditions(c) == (r.During(frozenset(range(5)), 480, 1080, "Europe/Berlin"),),
    ),
    Case(
        "timezone (default the host's)",
        rule('days = "sat,sun"'),
        lambda c: conditions(c) == (r.During(frozenset({5, 6}), 0, 1440, ""),),
    ),
    Case("between past midnight", rule('between = "22:00-06:00"'), lambda c: conditions(c)[0].end_min == 1440 + 360),
    Case("between", rule('between = "8-18"'), error='between: wanted hours such as "08:00-18:00"'),
    Case("between", rule('between = "08:00-08:00"'), error="wanted hours that end after they begin"),
    Case("timezone", rule('days = "mon", timezone = "Mars/Base"'), error="timezone: wanted a time zone such as"),
    Case("Weekdays by name only", rule('days = "1-5"'), error="days: wanted weekdays by name"),
    Case("Weekdays by name only", rule('cron = "0 7 * * 1-5"'), error="wanted the weekday as mon-fri or *"),
    Case(
        'cron = "55 7 * * mon-fri"',
        rule('cron = "55 7 * * mon-fri"', "wake = true"),
        lambda c: conditions(c) == (r.CronDue("55 7 * * mon-fri", "", 600.0),),
    ),
    Case("cron", rule('cron = "0 24 * * *"'), error="the last value (24) is higher than the maximum value (23)"),
    Case("cron", rule('cron = "0 0 30 feb *"'), error="found a date that no year has"),
    Case(
        "within = how long a cron stays true (default 10m)",
        rule('cron = "55 7 * * *", within = "1h"', "wake = true"),
        lambda c: conditions(c)[0].within_s == 3600.0,
    ),
    Case("within", rule('idle = "5m", within = "1h"'), error="within: has nothing to apply to: it goes with cron"),
    Case(
        "for = how long the whole when must hold",
        rule('idle = "5m", for = "15s"'),
        lambda c: c.settings.rules[0].for_s == 15.0,
    ),
    Case(
        "until = where the rule's one threshold lets go",
        rule('requests_below = "2/min", until = "5/min"'),
        lambda c: conditions(c)[0].leave == Rate(5, 60.0),
    ),
    Case("until: the rule's one threshold", rule('idle = "5m", until = "15%"'), error="found none: add"),
    Case(
        "until: the rule's one threshold",
        rule('host_available_below = "5%", gpu_free_below = "5%", until = "15%"'),
        error="found 2 (host_available_below, gpu_free_below): write a rule each",
    ),
    Case("until", rule('host_available_below = "10%", until = "5%"'), error="the rule must let go above it"),
    Case("until", rule('unit_memory_above = "90%", until = "95%"'), error="the rule must let go below it"),
    Case(
        "budget: with predicted_idle and wake",
        rule('predicted_idle = "5m"', "wake = true", more='budget = "1h"'),
        lambda c: c.settings.rules[0].budget_s == 3600.0,
    ),
    *(
        Case("budget", rule(when, then, more='budget = "1h"'), error="budget: has nothing to apply to")
        for when, then in (('predicted_idle = "5m"', "sleep = 1"), ('cron = "55 7 * * *"', "wake = true"))
    ),
    Case("enabled", rule('idle = "5m"', more="enabled = false"), lambda c: c.settings.rules[0].enabled is False),
    Case("cooldown (default … 0)", rule('idle = "5m"'), lambda c: c.settings.rules[0].cooldown_s == 0.0),
    *(
        Case("cooldown (default 10m for memory rules)", rule(when), lambda c: c.settings.rules[0].cooldown_s == 600.0)
        for when in (
            'host_available_below = "9%"',
            'host_pressure_above = "9%"',
            'unit_memory_above = "9%"',
            'gpu_free_below = "9%"',
        )
    ),
    *(
        Case("Actions", rule('idle = "5m"', then), lambda c, a=action: c.settings.rules[0].action == a)
        for then, action in (
            ("sleep = 1", r.SLEEP_1),
            ("sleep = 2", r.SLEEP_2),
            ("stop = true", r.STOP),
            ("wake = true", r.WAKE),
            ("keep_awake = true", r.KEEP_AWAKE),
        )
    ),
    Case(
        "Actions",
        rule('idle = "5m"', "sleep = 1, wake = true"),
        error="wanted one of sleep = 1, sleep = 2, stop = true",
    ),
    *(
        Case("Class", rule(when, then), lambda c, k=kind: c.settings.rules[0].kind is k)
        for when, then, kind in (
            ('gpu_free_below = "9%"', "keep_awake = true", r.RuleClass.PRESSURE),
            ('idle = "5m", host_pressure_above = "9%"', "sleep = 2", r.RuleClass.PRESSURE),
            ('requests_below = "1/h"', "stop = true", r.RuleClass.IDLE),
            ('asleep = "9h"', "wake = true", r.RuleClass.WAKE),
            ('days = "mon"', "keep_awake = true", r.RuleClass.KEEP_AWAKE),
        )
    ),
]


@pytest.mark.parametrize("case", RULES, ids=lambda case: case.sentence[:60])
def test_the_contract(tmp_path: Path, case: Case) -> None:
    show(case, tmp_path)
