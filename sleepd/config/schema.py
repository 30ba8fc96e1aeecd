"""The keys a configuration may have, with their types and limits. One model per section, `None` meaning not set.

What a later version will understand is an unknown key here: nothing is accepted that nothing acts on.
"""

import re
from collections.abc import Callable
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError

from sleepd.config.errors import show
from sleepd.core.rules import Threshold
from sleepd.core.units import UnitError, format_duration, parse_duration, parse_share, parse_size

MAX_BYTES = 1 << 50
UNIX_PATH_LIMIT = 107
"""Bytes of a unix socket's path: sun_path of unix(7) without its closing zero."""

MODEL_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")


def refuse(message: str) -> PydanticCustomError:
    """Return the error that carries our own sentence, untouched, through pydantic."""
    return PydanticCustomError("sleepd", "{sentence}", {"sentence": message})


def _reword(error: UnitError, value: str) -> PydanticCustomError:
    """Keep what was wanted, and show what was found on one short line however long it is."""
    return refuse(f"{str(error).partition(', found ')[0]}, found {show(value)}")


def _duration(least_s: float, most_s: float) -> Callable[[Any], float]:
    def read(value: Any) -> float:
        if not isinstance(value, str):
            raise refuse(f'wanted a duration such as "90s", "5m" or "1h30m", found {show(value)}')
        try:
            seconds = parse_duration(value)
        except UnitError as error:
            raise _reword(error, value) from None
        if not least_s <= seconds <= most_s:
            raise refuse(f"wanted {format_duration(least_s)} to {format_duration(most_s)}, found {show(value)}")
        return seconds

    return read


def _read_size(value: Any) -> int:
    if not isinstance(value, str):
        raise refuse(f'wanted a size such as "24GiB" or "512MiB", found {show(value)}')
    try:
        size = parse_size(value)
    except UnitError as error:
        raise _reword(error, value) from None
    except OverflowError:
        size = MAX_BYTES + 1
    if size > MAX_BYTES:
        raise refuse(f"wanted at most 1024TiB, found {show(value)}")
    return size


def _read_threshold(value: Any) -> Threshold:
    if isinstance(value, str) and value.rstrip().endswith("%"):
        try:
            return Threshold(share=parse_share(value))
        except UnitError as error:
            raise _reword(error, value) from None
    try:
        return Threshold(bytes_=_read_size(value))
    except PydanticCustomError:
        raise refuse(f'wanted a size such as "24GiB" or a share such as "10%", found {show(value)}') from None


def _auto(read: Callable[[Any], Any]) -> BeforeValidator:
    """Let the word "auto" through, everything else to `read`."""
    return BeforeValidator(lambda value: value if value == "auto" else read(value))


def _read_path(value: Any) -> str:
    if not isinstance(value, str) or not value.startswith("/") or "\0" in value:
        raise refuse(f"wanted an absolute path, found {show(value)}")
    return value


def _read_socket_path(value: Any) -> str:
    path = _read_path(value)
    if len(path.encode(errors="replace")) > UNIX_PATH_LIMIT:
        raise refuse(f"wanted a socket path of at most {UNIX_PATH_LIMIT} bytes, found {len(path)}: {show(path)}")
    return path


def _read_mode(value: Any) -> int:
    if not isinstance(value, str) or not re.fullmatch(r"0?[0-7]{3}", value, re.ASCII):
        raise refuse(f'wanted file permissions in octal such as "0660", found {show(value)}')
    return int(value, 8)


def _read_role_entry(value: Any) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"\*|%?[^\s%*:,][^\s:,]*", value):
        raise refuse(f'wanted a user name, a group as "%group", or "*", found {show(value)}')
    return value


def _read_gpus(value: Any) -> Any:
    items = value if isinstance(value, list) else None
    if value == "auto":
        return "auto"
    wanted = 'wanted "auto" or a list of GPU indices or UUIDs such as ["0"]'
    if not items:
        raise refuse(f"{wanted}, found {show(value)}")
    named = [str(item) for item in items if (isinstance(item, (str, int)) and not isinstance(item, bool))]
    if len(named) != len(items) or not all(re.fullmatch(r"\d{1,3}|(GPU|MIG)-[\w/-]+", n, re.ASCII) for n in named):
        raise refuse(f"{wanted}, found {show(value)}")
    if len(set(named)) != len(named):
        raise refuse(f"wanted each GPU once, found {show(value)}")
    return named


def _read_unit(value: Any) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"|[\w:.@\\-]+\.service", value, re.ASCII):
        raise refuse(f'wanted a systemd unit such as "vllm@chat.service", found {show(value)}')
    return value


def _read_cgroup(value: Any) -> str:
    if not isinstance(value, str) or "\0" in value or ".." in value.split("/"):
        raise refuse(f'wanted a path below cgroup_root such as "/system.slice/vllm.service", found {show(value)}')
    return value.lstrip("/")


def _read_pattern(value: Any) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"!?(label:[^=]+=.+|(?!label:)[^!\s]+)", value):
        raise refuse(f'wanted "chat-*", "!chat-*" or "label:team=search", found {show(value)}')
    return value


def _read_name(value: Any) -> str:
    if not isinstance(value, str) or not MODEL_NAME.fullmatch(value):
        raise refuse(f"wanted a name of a-z, 0-9, '.', '_', '-', at most 63 of them, found {show(value)}")
    return value


Size: TypeAlias = Annotated[int, BeforeValidator(_read_size)]
ThresholdValue: TypeAlias = Annotated[Threshold, BeforeValidator(_read_threshold)]
Path: TypeAlias = Annotated[str, BeforeValidator(_read_path)]
RoleEntries: TypeAlias = list[Annotated[str, BeforeValidator(_read_role_entry)]]
Name: TypeAlias = Annotated[str, BeforeValidator(_read_name)]


class Section(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", arbitrary_types_allowed=True, frozen=True)


class DaemonKeys(Section):
    state_dir: Path = "/var/lib/sleepd"
    poll_every: Annotated[float, BeforeValidator(_duration(0.1, 60))] = 1.0


class RoleKeys(Section):
    admin: RoleEntries = ["root"]
    operator: RoleEntries = ["%sleepd"]
    caller: RoleEntries = []
    viewer: RoleEntries = ["*"]


class ApiKeys(Section):
    socket: Annotated[str, BeforeValidator(_read_socket_path)] = "/run/sleepd/sleepd.sock"
    mode: Annotated[int, BeforeValidator(_read_mode)] = 0o666
    roles: RoleKeys = RoleKeys()


class GpuKeys(Section):
    backend: Literal["nvml"] = "nvml"
    margin: Size = 1 << 30


class HostKeys(Section):
    reserve: Size = 8 << 30
    proc_root: Path = "/proc"
    cgroup_root: Path = "/sys/fs/cgroup"


class RecoveryKeys(Section):
    retries: Annotated[int, Field(ge=0, le=10)] = 3
    stuck_after: Annotated[float | Literal["auto"], _auto(_duration(1, 86_400))] = "auto"
    foreign_hold_down: Annotated[float, BeforeValidator(_duration(0, 604_800))] = 600.0


class ModelKeys(Section):
    """[model_defaults] and [models.X]: what is None was not written there."""

    url: str | None = None
    unit: Annotated[str | None, BeforeValidator(_read_unit)] = None
    cgroup: Annotated[str | None, BeforeValidator(_read_cgroup)] = None
    gpus: Annotated[list[str] | Literal["auto"] | None, BeforeValidator(_read_gpus)] = None
    vram: Annotated[int | Literal["auto"] | None, _auto(_read_size)] = None
    host_ram: Annotated[int | Literal["auto"] | None, _auto(_read_size)] = None
    max_level: Annotated[int | None, Field(ge=0, le=2)] = None
    priority: Annotated[int | None, Field(ge=-1000, le=1000)] = None
    min_awake: Annotated[float | None, BeforeValidator(_duration(0, 604_800))] = None
    pinned: bool | None = None
    fenced: bool | None = None
    labels: dict[str, str] | None = None
    allow_exposed: bool | None = None


class WhenKeys(Section):
    idle: Annotated[float | None, BeforeValidator(_duration(1, 31_536_000))] = None
    host_available_below: ThresholdValue | None = None
    for_: Annotated[float, BeforeValidator(_duration(0, 604_800)), Field(alias="for")] = 0.0
    until: ThresholdValue | None = None


def _read_sleep_level(value: Any) -> Any:
    if isinstance(value, bool) or value not in (1, 2):
        raise refuse(f"wanted 1 or 2, found {show(value)}")
    return value


class ThenKeys(Section):
    sleep: Annotated[int, BeforeValidator(_read_sleep_level)]


class RuleKeys(Section):
    name: Name
    models: Annotated[list[Annotated[str, BeforeValidator(_read_pattern)]], Field(min_length=1)] = ["*"]
    when: WhenKeys
    then: ThenKeys


class Tree(Section):
    """A whole configuration, all layers merged."""

    daemon: DaemonKeys = DaemonKeys()
    api: ApiKeys = ApiKeys()
    gpu: GpuKeys = GpuKeys()
    host: HostKeys = HostKeys()
    recovery: RecoveryKeys = RecoveryKeys()
    model_defaults: ModelKeys = ModelKeys()
    models: dict[Name, ModelKeys] = {}
    rules: list[RuleKeys] = []


FIXED_SECTIONS = ("daemon", "api", "gpu", "host", "recovery")
"""The sections that environment variables may set."""
