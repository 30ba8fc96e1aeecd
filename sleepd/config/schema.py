"""The keys a configuration may have: type, default, meaning and an example of each.

Defaults stand as a file would write them. docs/configuration.md and sleepd.schema.json are generated from here.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

from sleepd.config.errors import show
from sleepd.config.values import (
    SIZE_TEXT,
    Cgroup,
    FileMode,
    Gpu,
    Lasts,
    Name,
    OptionalPath,
    Origin,
    Path,
    Pattern,
    RoleEntries,
    SecretPath,
    ServedName,
    Size,
    SocketPath,
    Unit,
    auto,
    auto_schema,
    key,
    read_gpus,
    read_size,
    refuse,
)

DAY_S, YEAR_S = 86_400, 31_536_000


class Section(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", arbitrary_types_allowed=True, frozen=True)


class DaemonKeys(Section):
    state_dir: Path = key("/var/lib/sleepd", "folder of the state database", "/srv/sleepd")
    poll_every: Annotated[float, Lasts(0.1, 60)] = key(
        "1s", "how often servers, GPUs and host memory are looked at; 0.1s to 1m", "500ms"
    )
    on_stop: Literal["leave", "wake"] = key(
        "leave", "what becomes of sleepers when the daemon is stopped for good", "wake"
    )
    mode: Literal["enforce", "observe"] = key(
        "enforce",
        '`"observe"`: rules are evaluated, explained and logged as "would"; requests and operators still act',
        "observe",
    )


class RoleKeys(Section):
    admin: RoleEntries = key(["root"], "reload, stop, and force", ["root", "alice"])
    operator: RoleEntries = key(["%sleepd"], "wake, sleep, hold, reserve, start, reset, pin", ["%ml-team"])
    caller: RoleEntries = key([], "the gate only", ["www-data"])
    viewer: RoleEntries = key(["*"], "look", ["%staff"])


class ApiKeys(Section):
    socket: SocketPath = key(
        "/run/sleepd/sleepd.sock", "path of the unix socket, at most 107 bytes", "/run/user/1000/sleepd.sock"
    )
    mode: FileMode = key("0666", "file permissions of the socket, in octal: who may connect", "0660")
    roles: RoleKeys = key({}, "who may do what, see below", {"admin": ["root"]})


class GatewayKeys(Section):
    listen: list[str] = key(
        [], "addresses to serve inference on: `HOST:PORT` or `unix:PATH`; `[]` is off", ["127.0.0.1:8800"]
    )
    socket_mode: FileMode = key("0660", "file permissions of its unix sockets, in octal", "0666")
    max_wait: Annotated[float, Lasts(1, DAY_S)] = key(
        "120s", "how long a request is held at most for its model; also per model", "5m"
    )
    queue: Annotated[int, Field(ge=1, le=1024)] = key(
        256, "held requests per model; more get 503 with Retry-After; 1 to 1024", 64
    )
    drain: Annotated[float, Lasts(1, DAY_S)] = key(
        "5m", "how long a model whose turn is over may finish running requests", "1m"
    )
    api_keys_file: SecretPath = key(
        "",
        "file of `name:key` lines, mode 0600, read again on reload; empty: no key is asked for, and only loopback and "
        "unix addresses may be listened on",
        "/etc/sleepd/keys",
    )
    cors_origins: list[Origin] = key(
        [],
        "origins whose pages may call; an open listener refuses foreign Host and Origin headers",
        ["https://chat.example.org"],
    )
    heartbeat: Annotated[float, Lasts(0, 3600)] = key(
        "15s",
        'how often a waiting stream hears a sign of life, headers held back till then; `"0s"`: never',
        "30s",
    )


class MetricsKeys(Section):
    listen: list[str] = key(
        [], "`HOST:PORT` and `unix:/PATH` (of `[api] mode`) for /metrics, /healthz and /readyz", ["127.0.0.1:9800"]
    )


class UiKeys(Section):
    enabled: bool = key(
        False,
        "show the page at `/ui` on the listeners of `on`, to who logs in with a token of `sleepctl ui-token`",
        True,
    )
    on: Annotated[list[Literal["metrics", "gateway"]], Field(min_length=1)] = key(
        ["metrics", "gateway"], "on the listeners of which sections, as far as they listen", ["metrics"]
    )
    origins: list[Origin] = key(
        [],
        "how browsers reach it where not as localhost or a loopback address, such as through a proxy that speaks "
        "`https://`",
        ["https://gpu1.example.org"],
    )
    session: Annotated[float, Lasts(60, 30 * DAY_S)] = key("12h", "how long a login lasts; 1m to 30d", "1h")


class GpuKeys(Section):
    backend: Literal["nvml", "none"] = key(
        "nvml",
        '`"none"`: only the declared bytes of managed models are counted, against `capacity`; their own word that they '
        "sleep is all the proof there is, and `vram` is required",
        "none",
    )
    margin: Size = key("1GiB", "bytes per GPU that are never given out", "512MiB")
    capacity: dict[Gpu, Size] = key(
        {}, 'bytes of each GPU; required for backend `"none"`, where it is all that is known', {"0": "80GiB"}
    )


class HostKeys(Section):
    reserve: Size = key("8GiB", "RAM that a level 1 backup may never eat into", "32GiB")
    proc_root: Path = key("/proc", "where the host's /proc is mounted", "/host/proc")
    cgroup_root: Path = key("/sys/fs/cgroup", "where the host's cgroups are mounted", "/host/cgroup")


class RecoveryKeys(Section):
    retries: Annotated[int, Field(ge=0, le=10)] = key(
        3, "how often a failed call is repeated, where the vLLM release allows it; 0 to 10", 1
    )
    restart_units: bool = key(
        True, "restart wedged, dead-but-active or failed units; never one that was stopped on purpose", False
    )
    max_restarts: Annotated[int, Field(ge=0, le=60)] = key(
        3, "restarts per hour and model, then it is failed until reset or proven awake anew; 0 to 60", 1
    )
    stuck_after: Annotated[float | Literal["auto"], Lasts(1, DAY_S, auto=True)] = key(
        "auto", 'when a control call counts as unanswered; `"auto"` is ten times what was learned, at least 5m', "10m"
    )
    late_drain: Annotated[float, Lasts(0, DAY_S)] = key(
        "30s",
        "how long direct traffic may keep a sleep waiting, when force or a waiting request asks for the room",
        "2m",
    )
    foreign_hold_down: Annotated[float, Lasts(0, 7 * DAY_S)] = key(
        "10m", "how long a model is left alone after somebody else slept, woke or restarted it", "1h"
    )


class HistoryKeys(Section):
    keep: Annotated[float, Lasts(3600, 10 * YEAR_S)] = key("30d", "how long history is kept; 1h to 10 years", "7d")


class TracingKeys(Section):
    endpoint: str = key(
        "",
        "where traces of wakes go, by OTLP over HTTP; empty: `OTEL_EXPORTER_OTLP_ENDPOINT`, and without that nowhere",
        "http://127.0.0.1:4318",
    )


class WebhookKeys(Section):
    url: str = Field(
        description="where events are sent, by POST; `https://`, or on this host `http://`",
        examples=["https://hooks.example.org/sleepd"],
    )
    secret_file: SecretPath = Field(
        description="file with the secret that signs them, mode 0600: `whsec_` and 24 to 64 bytes in base64",
        examples=["/etc/sleepd/alerts.secret"],
    )
    kinds: Annotated[list[str], Field(min_length=1)] = key(
        [
            "alarm",
            "answer_wrong",
            "failure",
            "foreign",
            "not_recordable",
            "reload_failed",
            "restart_left",
            "restart_wanted",
        ],
        "which events, by kind: [events.md](events.md#kinds)",
        ["failure", "state"],
    )
    models: Annotated[list[Pattern], Field(min_length=1)] = key(
        ["*"],
        "of which models, as in rules; events of no model are sent where all are meant",
        ["chat-*", "!chat-big"],
    )
    timeout: Annotated[float, Lasts(0.1, 60)] = key("10s", "how long the receiver may take; 100ms to 1m", "3s")


class GroupKeys(Section):
    models: Annotated[list[Name], Field(min_length=1)] = Field(
        description="names of configured models", examples=[["qwen3-32b", "gpt-oss-120b"]]
    )
    max_awake: Annotated[int, Field(ge=1)] = Field(
        description="how many of them may be awake at once; 1 or more", examples=[1]
    )


WRITTEN_GPUS = {
    "anyOf": [{"const": "auto"}, {"type": "array", "minItems": 1, "items": {"type": ["string", "integer"]}}]
}


def _read_override(value: Any) -> Any:
    if value is not False and not isinstance(value, dict):
        raise refuse(f'wanted conditions such as {{ idle = "1h" }} or false, found {show(value)}')
    return value


class ModelKeys(Section):
    """[model_defaults] and [models.X]."""

    url: str = key(
        "", "the server: `http://` or `https://` on a loopback address, or `unix:` and a path", "http://127.0.0.1:8001"
    )
    api_key_file: SecretPath = key(
        "", "file with the key to send, mode 0600, when the server has --api-key", "/etc/sleepd/chat.key"
    )
    ca_file: OptionalPath = key("", "certificates to trust for `https://`; empty: the host's", "/etc/ssl/own-ca.pem")
    allow_exposed: bool = key(
        False, "accept a `url` that is not loopback, although vLLM's control routes have no access control", True
    )
    unit: Unit = key(
        "",
        "its systemd service: where its processes are found, and what is started, stopped and restarted",
        "vllm@chat.service",
    )
    cgroup: Cgroup = key(
        "", "instead of `unit`: its cgroup below `cgroup_root`, globs allowed", "vllm.slice/vllm-chat.slice/*"
    )
    fenced: bool = key(False, "only this host's sleepd reaches the server; some releases may sleep only then", True)
    wake_direct: bool = key(True, "a direct connection that waits on a sleeper for more than 6 s wakes it", False)
    served_names: list[ServedName] = key(
        [], "more names that requests may use; those that the server lists count too", ["gpt-4o"]
    )
    gpus: Annotated[list[str] | Literal["auto"], BeforeValidator(read_gpus), WithJsonSchema(WRITTEN_GPUS)] = key(
        "auto",
        'nvidia-smi indices, UUIDs or MIG UUIDs; `"auto"`: where its processes hold memory. Required without `unit` '
        "and `cgroup`",
        ["0", "1"],
    )
    vram: Annotated[int | Literal["auto"], auto(read_size), auto_schema(SIZE_TEXT)] = key(
        "auto", 'bytes per GPU that a wake takes; `"auto"`: learned', "60GiB"
    )
    host_ram: Annotated[int | Literal["auto"], auto(read_size), auto_schema(SIZE_TEXT)] = key(
        "auto", 'bytes of a level 1 backup; `"auto"`: learned', "55GiB"
    )
    max_level: Annotated[int, Field(ge=0, le=2)] = key(
        1, "the deepest level that rules may choose: 0 (never), 1, or 2 once a checked level 2 cycle passed", 2
    )
    may_stop: bool = key(False, "rules may stop its unit", True)
    priority: Annotated[int, Field(ge=-1000, le=1000)] = key(0, "higher is put to sleep later; -1000 to 1000", 10)
    min_awake: Annotated[float, Lasts(0, 7 * DAY_S)] = key(
        "60s", "no rule or neighbour puts it to sleep sooner after a wake", "10m"
    )
    max_wait: Annotated[float | None, Lasts(1, DAY_S)] = Field(
        default=None,
        description="how long a request is held at most for it; not set: as in `[gateway]`",
        examples=["5m"],
    )
    pinned: bool = key(False, "never put to sleep except by force", True)
    prime: bool = key(False, "one sleep and wake when it comes up, so that later sleeps are fast", True)
    verify: Literal["auto", "before", "after", "off"] = key(
        "auto",
        'after a wake the known answer is asked for `"before"` or `"after"` requests are let in, or never (`"off"`); '
        '`"auto"`: before at level 2, after at level 1',
        "before",
    )
    mode: Literal["enforce", "observe"] | None = Field(
        default=None, description="as in `[daemon]`, for this model", examples=["observe"]
    )
    labels: dict[str, str] = key({}, "words for `label:` patterns of rules", {"team": "search"})
    rules: dict[str, Annotated[Any, BeforeValidator(_read_override)]] = key(
        {}, "by the name of a rule: conditions that differ for this model, or `false`", {"nap": {"idle": "1h"}}
    )
