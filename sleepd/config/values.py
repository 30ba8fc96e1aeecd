"""One value as it stands in a file: what is accepted, what it becomes, and the sentence where it is neither.

Each reader is a validator for the schema; what JSON Schema says of the written form stands beside it.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, TypeAlias

from pydantic import BeforeValidator, Field, GetCoreSchemaHandler, GetJsonSchemaHandler, WithJsonSchema
from pydantic_core import CoreSchema, PydanticCustomError
from pydantic_core.core_schema import no_info_before_validator_function

from sleepd.config.errors import show
from sleepd.core.rules import Rate, Threshold
from sleepd.core.units import UnitError, format_duration, parse_duration, parse_rate, parse_share, parse_size

MAX_BYTES = 1 << 50
UNIX_PATH_LIMIT = 107
"""Bytes of a unix socket's path: sun_path of unix(7) without its closing zero."""

MODEL_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")

_NUMBER = r"\d+(\.\d+)?"
DURATION_PATTERN = rf"^({_NUMBER}(ms|s|m|h|d|w))+$"
SIZE_PATTERN = rf"^{_NUMBER}\s*(B|KiB|MiB|GiB|TiB)$"
SHARE_PATTERN = rf"^{_NUMBER}%$"
RATE_PATTERN = rf"^{_NUMBER}/(s|min|h|d)$"
PATH_PATTERN = "^/"


def refuse(message: str) -> PydanticCustomError:
    """Return the error that carries our own sentence, untouched, through pydantic."""
    return PydanticCustomError("sleepd", "{sentence}", {"sentence": message})


def reword(error: ValueError, value: object) -> PydanticCustomError:
    """Keep what was wanted, and show what was found on one short line however long it is."""
    return refuse(f"{str(error).partition(', found ')[0]}, found {show(value)}")


def text(pattern: str = "", **more: Any) -> dict[str, Any]:
    """JSON Schema of a text."""
    return {"type": "string", **({"pattern": pattern} if pattern else {}), **more}


def read_duration(least_s: float, most_s: float) -> Callable[[Any], float]:
    def read(value: Any) -> float:
        if not isinstance(value, str):
            raise refuse(f'wanted a duration such as "90s", "5m" or "1h30m", found {show(value)}')
        try:
            seconds = parse_duration(value)
        except UnitError as error:
            raise reword(error, value) from None
        if not least_s <= seconds <= most_s:
            raise refuse(f"wanted {format_duration(least_s)} to {format_duration(most_s)}, found {show(value)}")
        return seconds

    return read


def read_size(value: Any) -> int:
    if not isinstance(value, str):
        raise refuse(f'wanted a size such as "24GiB" or "512MiB", found {show(value)}')
    try:
        size = parse_size(value)
    except UnitError as error:
        raise reword(error, value) from None
    except OverflowError:
        size = MAX_BYTES + 1
    if size > MAX_BYTES:
        raise refuse(f"wanted at most 1024TiB, found {show(value)}")
    return size


def read_threshold(value: Any) -> Threshold:
    wanted = f'wanted a size such as "24GiB" or a share such as "10%", found {show(value)}'
    if isinstance(value, str) and value.rstrip().endswith("%"):
        return Threshold(share=read_share(value))
    try:
        size = read_size(value)
    except PydanticCustomError:
        raise refuse(wanted) from None
    if size == 0:
        raise refuse(f"wanted more than zero, found {show(value)}")
    return Threshold(bytes_=size)


def read_share(value: Any) -> float:
    if not isinstance(value, str):
        raise refuse(f'wanted a share such as "20%", found {show(value)}')
    try:
        share = parse_share(value)
    except UnitError as error:
        raise reword(error, value) from None
    if share == 0:
        raise refuse(f"wanted more than 0%, found {show(value)}")
    return share


def read_rate(value: Any) -> Rate:
    if not isinstance(value, str):
        raise refuse(f'wanted a rate such as "2/min" or "1/h", found {show(value)}')
    try:
        count, per_s = parse_rate(value)
    except UnitError as error:
        raise reword(error, value) from None
    if count == 0:
        raise refuse(f"wanted more than zero, found {show(value)} (for no request at all there is idle)")
    return Rate(count, per_s)


def read_path(value: Any) -> str:
    if not isinstance(value, str) or not value.startswith("/") or "\0" in value:
        raise refuse(f"wanted an absolute path, found {show(value)}")
    return value


def read_optional_path(value: Any) -> str:
    return "" if value == "" else read_path(value)


def read_secret_path(value: Any) -> str:
    """A path to a secret. What was found is not shown: it may be the secret itself."""
    if not isinstance(value, str) or not (value == "" or value.startswith("/")) or "\0" in value:
        raise refuse("wanted the absolute path of a file that holds the key, found something else (not shown)")
    return value


def read_socket_path(value: Any) -> str:
    path = read_path(value)
    if len(path.encode(errors="replace")) > UNIX_PATH_LIMIT:
        raise refuse(f"wanted a socket path of at most {UNIX_PATH_LIMIT} bytes, found {len(path)}: {show(path)}")
    return path


def read_mode(value: Any) -> int:
    if not isinstance(value, str) or not re.fullmatch(r"0?[0-7]{3}", value, re.ASCII):
        raise refuse(f'wanted file permissions in octal such as "0660", found {show(value)}')
    return int(value, 8)


def read_role_entry(value: Any) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"\*|%?[^\s%*:,][^\s:,]*", value):
        raise refuse(f'wanted a user name, a group as "%group", or "*", found {show(value)}')
    return value


_GPU = re.compile(r"\d{1,3}|(GPU|MIG)-[\w/-]+", re.ASCII)


def is_gpu(text: str) -> bool:
    """Whether it has the form of a GPU's index or UUID."""
    return _GPU.fullmatch(text) is not None


def read_gpu(value: Any) -> str:
    if not isinstance(value, str) or not is_gpu(value):
        raise refuse(f'wanted a GPU index or UUID such as "0" or "GPU-…", found {show(value)}')
    return value


def read_gpus(value: Any) -> Any:
    items = value if isinstance(value, list) else None
    if value == "auto":
        return "auto"
    wanted = 'wanted "auto" or a list of GPU indices or UUIDs such as ["0"]'
    if not items:
        raise refuse(f"{wanted}, found {show(value)}")
    named = [str(item) for item in items if (isinstance(item, (str, int)) and not isinstance(item, bool))]
    if len(named) != len(items) or not all(_GPU.fullmatch(name) for name in named):
        raise refuse(f"{wanted}, found {show(value)}")
    if len(set(named)) != len(named):
        raise refuse(f"wanted each GPU once, found {show(value)}")
    return named


def read_unit(value: Any) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"|[\w:.@\\-]+\.service", value, re.ASCII):
        raise refuse(f'wanted a systemd unit such as "vllm@chat.service", found {show(value)}')
    return value


def read_cgroup(value: Any) -> str:
    if not isinstance(value, str) or "\0" in value or ".." in value.split("/"):
        raise refuse(f'wanted a path below cgroup_root such as "/system.slice/vllm.service", found {show(value)}')
    return value.lstrip("/")


def read_pattern(value: Any) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"!?(label:[^=]+=.+|(?!label:)[^!\s]+)", value):
        raise refuse(f'wanted "chat-*", "!chat-*" or "label:team=search", found {show(value)}')
    return value


def read_name(value: Any) -> str:
    if not isinstance(value, str) or not MODEL_NAME.fullmatch(value):
        raise refuse(f"wanted a name of a-z, 0-9, '.', '_', '-', at most 63 of them, found {show(value)}")
    return value


def read_served_name(value: Any) -> str:
    if not isinstance(value, str) or not value.strip() or len(value) > 256 or not value.isprintable():
        raise refuse(f"wanted a name as clients send it, at most 256 characters, found {show(value)}")
    return value


def read_origin(value: Any) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"https?://[\w.\[\]:-]+", value, re.ASCII):
        raise refuse(f'wanted an origin such as "https://chat.example.org", found {show(value)}')
    return value.lower()


def auto(read: Callable[[Any], Any]) -> BeforeValidator:
    """Let the word "auto" through, everything else to `read`."""
    return BeforeValidator(lambda value: value if value == "auto" else read(value))


def auto_schema(written: dict[str, Any]) -> WithJsonSchema:
    return WithJsonSchema({"anyOf": [{"const": "auto"}, written]})


DURATION_TEXT, SIZE_TEXT = text(DURATION_PATTERN), text(SIZE_PATTERN)
THRESHOLD_TEXT = {"anyOf": [SIZE_TEXT, text(SHARE_PATTERN)]}


@dataclass(frozen=True, slots=True)
class Lasts:
    """The annotation of a duration within these bounds; with `auto`, the word "auto" too."""

    least_s: float
    most_s: float
    auto: bool = False

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        read = read_duration(self.least_s, self.most_s)
        accepts = (lambda value: value if value == "auto" else read(value)) if self.auto else read
        return no_info_before_validator_function(accepts, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {"anyOf": [{"const": "auto"}, DURATION_TEXT]} if self.auto else dict(DURATION_TEXT)


Size: TypeAlias = Annotated[int, BeforeValidator(read_size), WithJsonSchema(SIZE_TEXT)]
ThresholdValue: TypeAlias = Annotated[Threshold, BeforeValidator(read_threshold), WithJsonSchema(THRESHOLD_TEXT)]
ShareValue: TypeAlias = Annotated[float, BeforeValidator(read_share), WithJsonSchema(text(SHARE_PATTERN))]
RateValue: TypeAlias = Annotated[Rate, BeforeValidator(read_rate), WithJsonSchema(text(RATE_PATTERN))]
Path: TypeAlias = Annotated[str, BeforeValidator(read_path), WithJsonSchema(text(PATH_PATTERN))]
OptionalPath: TypeAlias = Annotated[str, BeforeValidator(read_optional_path), WithJsonSchema(text("^(/|$)"))]
SecretPath: TypeAlias = Annotated[str, BeforeValidator(read_secret_path), WithJsonSchema(text("^(/|$)"))]
SocketPath: TypeAlias = Annotated[str, BeforeValidator(read_socket_path), WithJsonSchema(text(PATH_PATTERN))]
FileMode: TypeAlias = Annotated[int, BeforeValidator(read_mode), WithJsonSchema(text("^0?[0-7]{3}$"))]
RoleEntries: TypeAlias = list[Annotated[str, BeforeValidator(read_role_entry)]]
Gpu: TypeAlias = Annotated[str, BeforeValidator(read_gpu)]
Unit: TypeAlias = Annotated[str, BeforeValidator(read_unit)]
Cgroup: TypeAlias = Annotated[str, BeforeValidator(read_cgroup)]
Pattern: TypeAlias = Annotated[str, BeforeValidator(read_pattern)]
Name: TypeAlias = Annotated[str, BeforeValidator(read_name), WithJsonSchema(text(f"^{MODEL_NAME.pattern}$"))]
ServedName: TypeAlias = Annotated[str, BeforeValidator(read_served_name)]
Origin: TypeAlias = Annotated[str, BeforeValidator(read_origin)]


def key(default: Any, meaning: str, example: Any = None) -> Any:
    """One key: its default as a file would write it, its meaning for people, an example of it in TOML."""
    return Field(default=default, validate_default=True, description=meaning, examples=[example])
