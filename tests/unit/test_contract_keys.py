"""The public contract of the configuration, sentence by sentence: keys of the fixed sections and of models."""

from pathlib import Path

import pytest

from sleepd.core import rules as r
from sleepd.core.model import Group, Mode, OnStop, Verify
from tests.unit.contract_case import CHAT, GIB, NAP, OTHER, Case, show

KEYS = [
    Case(
        'on_stop = "leave" # or "wake"',
        '[daemon]\non_stop = "wake"\n',
        lambda c: c.settings.on_stop is OnStop.WAKE,
    ),
    Case('on_stop = "leave"', shows=lambda c: c.settings.on_stop is OnStop.LEAVE),
    Case(
        'mode = "enforce" # or "observe" … Also per model',
        f'[daemon]\nmode = "observe"\n{CHAT}mode = "enforce"\n{OTHER}',
        lambda c: [c.settings.models[n].mode for n in ("chat", "other")] == [Mode.ENFORCE, Mode.OBSERVE],
    ),
    Case("mode", '[daemon]\nmode = "dry"\n', error="[daemon] mode: wanted 'enforce' or 'observe', found \"dry\""),
    Case("mode = 0666 # who may connect", '[api]\nmode = "0600"\n', lambda c: c.service.socket_mode == 0o600),
    Case(
        "by peer credentials: a user name, %group or *",
        '[api.roles]\ncaller = ["www-data", "%web"]\n',
        lambda c: (
            c.service.roles
            == {"admin": ("root",), "operator": ("%sleepd",), "caller": ("www-data", "%web"), "viewer": ("*",)}
        ),
    ),
    Case(
        'listen = ["127.0.0.1:8800", "unix:/run/sleepd/gateway.sock"]; [] = off',
        '[gateway]\nlisten = ["127.0.0.1:8800", "[::1]:8800", "unix:/run/g.sock"]\n',
        lambda c: (
            [(x.host, x.port, x.path) for x in c.service.gateway.listen]
            == [("127.0.0.1", 8800, ""), ("::1", 8800, ""), ("", 0, "/run/g.sock")]
        ),
    ),
    Case(
        "max_wait: a request is held at most this long for its model; also per model",
        f'[gateway]\nmax_wait = "30s"\n{CHAT}max_wait = "9s"\n{OTHER}',
        lambda c: [c.settings.models[n].max_wait_s for n in ("chat", "other")] == [9.0, 30.0],
    ),
    Case(
        'api_keys_file "" = open: then only loopback and unix listeners',
        '[gateway]\nlisten = ["0.0.0.0:8800"]\n',
        error='[gateway] listen: wanted a loopback or unix address, found "0.0.0.0:8800"',
    ),
    Case(
        "api_keys_file: one name:key a line",
        '[gateway]\nlisten = ["0.0.0.0:8800"]\napi_keys_file = "@keys"\n',
        lambda c: c.service.gateway.listen[0].is_local is False,
        files={"keys": "# who\nalice:0123456789abcdef\n\nbob:fedcba9876543210\n"},
    ),
    Case(
        "one name:key a line",
        '[gateway]\napi_keys_file = "@keys"\n',
        error="keys:2: wanted name:key with a key of 8 to 256",
        files={"keys": "alice:0123456789abcdef\nsecretwithoutname\n"},
    ),
    Case(
        "mode 0600",
        '[gateway]\napi_keys_file = "@loose"\n',
        error="found 0644: others can read it; chmod 600",
        files={"loose": "alice:0123456789abcdef\n"},
    ),
    Case('heartbeat "0s" = none', '[gateway]\nheartbeat = "0s"\n', lambda c: c.service.gateway.heartbeat_s == 0.0),
    Case(
        "the gateway's keys",
        '[gateway]\nsocket_mode = "0666"\nqueue = 9\ndrain = "9m"\ncors_origins = ["https://x.org"]\n',
        lambda c: (
            (c.service.gateway.socket_mode, c.service.gateway.queue_limit, c.service.gateway.drain_s)
            == (0o666, 9, 540.0)
            and (c.service.gateway.cors_origins, c.settings.turn_drain_s) == (("https://x.org",), 540.0)
        ),
    ),
    Case(
        "metrics listen: over TCP",
        '[metrics]\nlisten = ["127.0.0.1:9800"]\n',
        lambda c: c.service.metrics_listen[0].port == 9800,
    ),
    Case(
        "metrics listen: and over a unix socket",
        '[metrics]\nlisten = ["unix:/run/m"]\n',
        lambda c: c.service.metrics_listen[0].path == "/run/m",
    ),
    Case(
        "metrics listen: open to others",
        '[metrics]\nlisten = ["0.0.0.0:9800"]\n',
        lambda c: "0.0.0.0:9800 reads there which models run here" in str(c.warnings),
    ),
    Case(
        'capacity { "0" = "80GiB" }, required for "none"',
        '[gpu]\nbackend = "none"\ncapacity = { "0" = "80GiB" }\n' + CHAT + 'vram = "30GiB"\n',
        lambda c: (c.service.gpu.backend, c.service.gpu.capacity_bytes) == ("none", {"0": 80 * GIB}),
    ),
    Case(
        "capacity, required for none", '[gpu]\nbackend = "none"\n', error='capacity: is required for backend = "none"'
    ),
    Case(
        "[recovery]",
        '[recovery]\nrestart_units = false\nmax_restarts = 1\nstuck_after = "7m"\nlate_drain = "9s"\n',
        lambda c: (
            (c.settings.restart_units, c.settings.max_restarts) == (False, 1)
            and (c.settings.stuck_after_s, c.settings.late_drain_s) == (420.0, 9.0)
        ),
    ),
    Case('keep = "30d"', '[history]\nkeep = "7d"\n', lambda c: c.service.history_keep_s == 7 * 86400.0),
    Case(
        "[model_defaults] takes every key of [models.X]",
        '[model_defaults]\nprime = true\nverify = "off"\nlabels = { a = "b" }\ngpus = ["3"]\n'
        '[models.chat]\nurl = "unix:/x"\n',
        lambda c: (
            (c.settings.models["chat"].prime, c.settings.models["chat"].verify) == (True, Verify.OFF)
            and (c.settings.models["chat"].labels, c.settings.models["chat"].gpus) == ({"a": "b"}, ("3",))
        ),
    ),
    Case(
        "[groups.big] models, max_awake",
        f'{CHAT}{OTHER}[groups.big]\nmodels = ["chat", "other"]\nmax_awake = 1\n',
        lambda c: c.settings.groups == (Group("big", frozenset({"chat", "other"}), 1),),
    ),
    Case(
        "groups", f'{CHAT}[groups.g]\nmodels = ["cat"]\nmax_awake = 1\n', error='no model "cat"; did you mean "chat"?'
    ),
    Case(
        "groups", f'{CHAT}[groups.g]\nmodels = ["chat"]\nmax_awake = 0\n', error="max_awake: wanted at least 1, found 0"
    ),
    Case(
        "names match [a-z0-9][a-z0-9._-]{0,62}", '[models.Chat]\nurl = "unix:/x"\n', error="wanted a model name of a-z"
    ),
    Case(
        "a name with a dot must be quoted, and check says so",
        '[models.qwen2.5-7b]\nurl = "unix:/x"\ngpus = ["0"]\n',
        error='a name with a dot must be quoted: [models."qwen2.5-7b"]',
    ),
    Case(
        "url http://127.0.0.1:8001 or unix:/run/vllm/qwen3-32b.sock",
        '[models.a]\nurl = "unix:/run/a.sock"\ngpus = ["0"]\n',
        lambda c: c.settings.models["a"].url == "unix:/run/a.sock",
    ),
    Case(
        "Not loopback: an error unless allow_exposed = true",
        CHAT.replace("127.0.0.1", "10.0.0.1"),
        error="or set allow_exposed = true",
    ),
    Case(
        "Not loopback: an error unless allow_exposed = true",
        CHAT.replace("127.0.0.1", "10.0.0.1") + "allow_exposed = true\n",
        lambda c: c.settings.models["chat"].allow_exposed,
    ),
    Case(
        "api_key_file: what to send when the server has --api-key",
        CHAT + 'api_key_file = "@key"\n',
        lambda c: c.settings.models["chat"].api_key_file.endswith("/key"),
        files={"key": "sk-0123456789\n"},
    ),
    Case("api_key_file", CHAT + 'api_key_file = "sk-secret"\n', error="found something else (not shown)"),
    Case("ca_file", CHAT + 'ca_file = "@key"\n', error="wanted PEM certificates", files={"key": "no certificate\n"}),
    Case(
        "unit … cgroup instead of unit",
        '[models.a]\nurl = "unix:/x"\nunit = "a.service"\ncgroup = "b"\n',
        error="cgroup: wanted unit or cgroup, found both",
    ),
    Case(
        "cgroup below cgroup_root",
        '[models.a]\nurl = "unix:/x"\ncgroup = "../b"\n',
        error="wanted a path below cgroup_root",
    ),
    Case(
        "fenced, wake_direct, served_names, may_stop, prime",
        CHAT + 'fenced = true\nwake_direct = false\nserved_names = ["gpt-4o"]\nmay_stop = true\nprime = true\n',
        lambda c: (
            (c.settings.models["chat"].fenced, c.settings.models["chat"].wake_direct) == (True, False)
            and (c.settings.models["chat"].served_names, c.settings.models["chat"].may_stop) == (("gpt-4o",), True)
        ),
        warns="may_stop: has no effect without a unit",
    ),
    Case(
        "served_names: duplicates in files are errors",
        f'{CHAT}served_names = ["x"]\n{OTHER}served_names = ["x"]\n',
        error='[models.other] served_names: wanted a name of one model, found "x": it belongs to chat',
    ),
    Case(
        "served_names: duplicates in files are errors",
        f'{CHAT}served_names = ["other"]\n{OTHER}',
        error="it belongs to other",
    ),
    Case(
        "gpus: required when there is neither unit nor cgroup",
        '[models.a]\nurl = "unix:/x"\n',
        error="gpus: is needed where there is neither unit nor cgroup",
    ),
    Case(
        "gpus: nvidia-smi indices, UUIDs or MIG UUIDs",
        CHAT.replace('["0"]', '["1", "GPU-4f0e-1", "MIG-77aa"]'),
        lambda c: c.settings.models["chat"].gpus == ("1", "GPU-4f0e-1", "MIG-77aa"),
    ),
    Case(
        "vram and host_ram auto, or bytes",
        CHAT + 'vram = "24GiB"\nhost_ram = "auto"\n',
        lambda c: (c.settings.models["chat"].vram_bytes, c.settings.models["chat"].host_ram_bytes) == (24 * GIB, None),
    ),
    *(
        Case(
            "max_level: 0, 1 or 2",
            f"{CHAT}max_level = {level}\n",
            lambda c, n=level: c.settings.models["chat"].max_level == n,
        )
        for level in (0, 1, 2)
    ),
    Case("max_level: 0, 1 or 2", CHAT + "max_level = 3\n", error="wanted at most 2, found 3"),
    *(
        Case('verify = "auto"', f'{CHAT}verify = "{word}"\n', lambda c, w=word: c.settings.models["chat"].verify == w)
        for word in Verify
    ),
    Case(
        '[models.X.rules] nap = { idle = "1h" } changes that rule\'s conditions for this model',
        f'{CHAT}{OTHER}{NAP}[models.chat.rules]\nnap = {{ idle = "1h" }}\n',
        lambda c: (
            {x.applies_to: x.conditions for x in c.settings.rules}
            == {frozenset({"chat"}): (r.IdleFor(3600.0),), frozenset({"other"}): (r.IdleFor(300.0),)}
        ),
    ),
    Case(
        "nap = false exempts it",
        f"{CHAT}{OTHER}{NAP}[models.chat.rules]\nnap = false\n",
        lambda c: [x.applies_to for x in c.settings.rules] == [frozenset({"other"})],
    ),
    Case(
        "[models.X.rules] over [model_defaults]",
        f"[model_defaults]\nrules = {{ nap = false }}\n{CHAT}{OTHER}{NAP}[models.chat.rules]\nnap = {{}}\n",
        lambda c: [x.applies_to for x in c.settings.rules] == [frozenset({"chat"})],
    ),
    Case(
        "[models.X.rules]", f"{CHAT}{NAP}[models.chat.rules]\nnpa = false\n", error='no rule "npa"; did you mean "nap"?'
    ),
]


@pytest.mark.parametrize("case", KEYS, ids=lambda case: case.sentence[:60])
def test_the_contract(tmp_path: Path, case: Case) -> None:
    show(case, tmp_path)
