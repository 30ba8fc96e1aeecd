"""The keys of [[rules]]: conditions, actions and what goes with them; and the whole tree."""

from typing import Annotated, Any

from pydantic import BeforeValidator, Field, WithJsonSchema

from sleepd.calendars import CalendarError, check_cron, parse_between, parse_days, parse_timezone, timezone_names
from sleepd.config.errors import did_you_mean, show
from sleepd.config.schema import (
    DAY_S,
    YEAR_S,
    ApiKeys,
    DaemonKeys,
    GatewayKeys,
    GpuKeys,
    GroupKeys,
    HistoryKeys,
    HostKeys,
    MetricsKeys,
    ModelKeys,
    RecoveryKeys,
    Section,
    TracingKeys,
    UiKeys,
    WebhookKeys,
)
from sleepd.config.values import (
    Lasts,
    Name,
    Pattern,
    RateValue,
    ShareValue,
    ThresholdValue,
    key,
    refuse,
    reword,
    text,
)


def _read_days(value: Any) -> frozenset[int]:
    if not isinstance(value, str):
        raise refuse(f'wanted weekdays by name such as "mon-fri" or "sat,sun", found {show(value)}')
    try:
        return parse_days(value)
    except CalendarError as error:
        raise reword(error, value) from None


def _read_between(value: Any) -> tuple[int, int]:
    if not isinstance(value, str):
        raise refuse(f'wanted hours such as "08:00-18:00" or "22:00-06:00", found {show(value)}')
    try:
        return parse_between(value)
    except CalendarError as error:
        raise reword(error, value) from None


def _read_cron(value: Any) -> str:
    if not isinstance(value, str):
        raise refuse(f'wanted a cron expression such as "55 7 * * mon-fri", found {show(value)}')
    try:
        check_cron(value)
    except CalendarError as error:
        raise refuse(str(error)) from None
    return " ".join(value.lower().split())


def _read_timezone(value: Any) -> str:
    wanted = 'wanted a time zone such as "Europe/Berlin" or "UTC"'
    if not isinstance(value, str) or not value:
        raise refuse(f"{wanted}, found {show(value)}")
    try:
        parse_timezone(value)
    except CalendarError:
        raise refuse(f"{wanted}, found {show(value)}{did_you_mean(value, timezone_names())}") from None
    return value


def _read_until(value: Any) -> str:
    if not isinstance(value, str):
        raise refuse(f'wanted where the threshold lets go such as "15%", "24GiB" or "4/min", found {show(value)}')
    return value


def _read_level(*levels: int) -> BeforeValidator:
    def read(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or value not in levels:
            words = [str(level) for level in levels]
            raise refuse(f"wanted {', '.join(words[:-1])} or {words[-1]}, found {show(value)}")
        return value

    return BeforeValidator(read)


def _read_true(value: Any) -> bool:
    if value is not True:
        raise refuse(f"wanted true, found {show(value)}; leave it out where it is not wanted")
    return True


def condition(meaning: str, example: Any) -> Any:
    return Field(default=None, description=meaning, examples=[example])


Hours = Annotated[
    tuple[int, int] | None,
    BeforeValidator(_read_between),
    WithJsonSchema(text(r"^\d{1,2}:\d\d\s*-\s*\d{1,2}:\d\d$")),
]
AnyLevel = Annotated[int | None, _read_level(0, 1, 2), WithJsonSchema({"enum": [0, 1, 2]})]
SleepLevel = Annotated[int | None, _read_level(1, 2), WithJsonSchema({"enum": [1, 2]})]
OnlyTrue = Annotated[bool | None, BeforeValidator(_read_true), WithJsonSchema({"const": True})]
Days = Annotated[frozenset[int] | None, BeforeValidator(_read_days), WithJsonSchema(text())]
Cron = Annotated[str | None, BeforeValidator(_read_cron), WithJsonSchema(text())]
Timezone = Annotated[str | None, BeforeValidator(_read_timezone), WithJsonSchema(text())]
Until = Annotated[str | None, BeforeValidator(_read_until), WithJsonSchema(text())]


class WhenKeys(Section):
    idle: Annotated[float | None, Lasts(1, YEAR_S)] = condition("no request for this long", "5m")
    asleep: Annotated[float | None, Lasts(1, YEAR_S)] = condition("asleep for this long", "12h")
    awake: Annotated[float | None, Lasts(1, YEAR_S)] = condition("awake for this long", "1h")
    requests_below: RateValue | None = condition("fewer requests than this within `window`", "2/min")
    window: Annotated[float, Lasts(10, DAY_S)] = key("10m", "what `requests_below` looks back on; 10s to 1d", "30m")
    host_available_below: ThresholdValue | None = condition(
        "the host's available RAM is below this size or share", "10%"
    )
    host_pressure_above: ShareValue | None = condition(
        "the host's memory pressure (PSI *some*, 10 s average) is above this share", "20%"
    )
    unit_memory_above: ThresholdValue | None = condition(
        "the memory of the model's unit, without reclaimable file pages, is above this size, or share of the tightest "
        "limit above the unit",
        "90%",
    )
    gpu_free_below: ThresholdValue | None = condition(
        "free memory of any GPU of the model is below this size or share", "4GiB"
    )
    level: AnyLevel = condition("asleep at this level; 0 is awake", 1)
    days: Days = condition("today is one of these weekdays, by name", "mon-fri")
    between: Hours = condition(
        "the local time is between these, the end excluded; past midnight it belongs to the day it began",
        "22:00-06:00",
    )
    cron: Cron = condition(
        "a moment of this cron expression came, no longer than `within` ago; weekdays by name", "55 7 * * mon-fri"
    )
    timezone: Timezone = Field(
        default=None,
        description="the time zone of `days`, `between` and `cron`; not set: the host's",
        examples=["Europe/Berlin"],
    )
    predicted_idle: Annotated[float | None, Lasts(1, YEAR_S)] = condition(
        "no request is expected for this long; in a rule with `wake` or `keep_awake`: one is expected within it",
        "5m",
    )
    for_: Annotated[float, Lasts(0, 7 * DAY_S)] = Field(
        alias="for",
        default="0s",
        validate_default=True,
        description="how long the whole `when` must hold",
        examples=["15s"],
    )
    until: Until = Field(
        default=None,
        description="where the rule's one threshold lets go again; not set: at the threshold",
        examples=["15%"],
    )
    within: Annotated[float, Lasts(1, DAY_S)] = key(
        "10m", "how long a moment of `cron` stays true; tried again until achieved", "30m"
    )


class ThenKeys(Section):
    sleep: SleepLevel = condition("1: weights stay in host RAM; 2: weights are discarded and reloaded on wake", 1)
    stop: OnlyTrue = condition("stop its unit", True)
    wake: OnlyTrue = condition("wake it", True)
    keep_awake: OnlyTrue = condition("no idle rule puts it to sleep", True)


class RuleKeys(Section):
    name: Name = Field(description="the rule's name; a later rule of the same name replaces it", examples=["nap"])
    models: Annotated[list[Pattern], Field(min_length=1)] = key(
        ["*"],
        'globs; `"!glob"` excludes; `"label:team=search"` by label. One that matches no model is a warning',
        ["chat-*", "!chat-big"],
    )
    when: dict[str, Any] = Field(description="the conditions, see below; at least one", examples=[{"idle": "5m"}])
    then: ThenKeys = Field(description="the action, see below; exactly one", examples=[{"sleep": 1}])
    enabled: bool = key(True, "`false`: shown, never acted on", False)
    cooldown: Annotated[float | None, Lasts(0, 7 * DAY_S)] = Field(
        default=None,
        description="how long the rule rests for a model after it acted; not set: 10m with a memory threshold, else 0",
        examples=["1h"],
    )
    budget: Annotated[float | None, Lasts(60, DAY_S)] = Field(
        default=None,
        description="with `predicted_idle` and `wake`: how long a day its wakes may keep one model awake before a "
        "request comes, then none until midnight; not set: no limit",
        examples=["1h"],
    )


class Tree(Section):
    """A whole configuration, all layers merged."""

    daemon: DaemonKeys = DaemonKeys()
    api: ApiKeys = ApiKeys()
    gateway: GatewayKeys = GatewayKeys()
    metrics: MetricsKeys = MetricsKeys()
    gpu: GpuKeys = GpuKeys()
    host: HostKeys = HostKeys()
    recovery: RecoveryKeys = RecoveryKeys()
    history: HistoryKeys = HistoryKeys()
    tracing: TracingKeys = TracingKeys()
    ui: UiKeys = UiKeys()
    webhooks: dict[Name, WebhookKeys] = Field(default={})
    model_defaults: ModelKeys = ModelKeys()
    groups: dict[Name, GroupKeys] = Field(default={})
    models: dict[Name, ModelKeys] = Field(default={})
    rules: list[RuleKeys] = Field(default=[])


FIXED_SECTIONS = ("daemon", "api", "gateway", "gpu", "host", "recovery")
"""The sections that environment variables may set."""
