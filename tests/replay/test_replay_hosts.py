"""Host descriptions, and the stage that is set with them."""

import json
from pathlib import Path
from typing import Any

import pytest

from sleepd.config.errors import ConfigError
from sleepd.config.load import PACKAGED_DIR
from sleepd.core.units import GIB
from sleepd.replay.learned import read_host
from sleepd.replay.stage import Stage, set_stage
from tests.replay.replays import host_of


def stage_of(tmp_path: Path, host: str, config: str, *models: str) -> Stage:
    folder = tmp_path / "etc"
    folder.mkdir(exist_ok=True)
    (folder / "sleepd.toml").write_text(config)
    return set_stage(folder, host_of(tmp_path, host), models, shipped_dir=PACKAGED_DIR)


def refusal(tmp_path: Path, host: str, config: str = "", *models: str) -> str:
    with pytest.raises(ConfigError) as raised:
        stage_of(tmp_path, host, config, *models)
    return str(raised.value).replace(f"{tmp_path}/", "")


def test_the_bundled_host_holds_what_an_ordinary_one_has() -> None:
    host = read_host(None)
    assert [gpu.total_bytes for gpu in host.gpus] == [80 * GIB] * 8
    assert host.costs("whatever") == host.default
    assert host.default.awake_bytes > host.default.backup_bytes > host.default.asleep_bytes


def test_what_a_file_leaves_out_is_as_bundled(tmp_path: Path) -> None:
    host = host_of(tmp_path, '[[gpus]]\nmemory = "24GiB"\n[models.big]\nawake = "20GiB"\nwake1 = "3s"\n')
    bundled = read_host(None)
    assert len(host.gpus) == 1
    assert (host.costs("big").awake_bytes, host.costs("big").wake1_s) == (20 * GIB, 3.0)
    assert host.costs("big").sleep1_s == bundled.default.sleep1_s
    assert (host.ram_bytes, host.used_bytes, host.watts) == (bundled.ram_bytes, bundled.used_bytes, bundled.watts)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ('[hots]\nram = "1GiB"', 'host.toml:1: unknown key "hots"; did you mean "host"'),
        ("[host]\nram = 64", 'host.toml:2: [host] ram: wanted a size such as "24GiB" or "512MiB", found 64'),
        ('[host]\nram = "4GiB"\nused = "8GiB"', "host.toml:3: [host] used: wanted less than ram"),
        ("gpus = []", "host.toml:1: gpus: wanted 1 to 64 tables [[gpus]] with memory"),
        ("[[gpus]]\nuuid = 'x'", "host.toml:1: [gpus] memory: is missing"),
        ('[models.a]\nwake1 = "0s"', "host.toml:2: [models.a] wake1: wanted 1ms to 1h"),
        ('[models.a]\nawake = "1GiB"', "host.toml:1: [models.a] asleep: wanted less than awake"),
        ("[model_defaults]\nslots = 0", "host.toml:2: [model_defaults] slots: wanted at least 1, found 0"),
        ("[power]\nbusy = 'much'", "host.toml:2: [power] busy:"),
        ("[host", "host.toml:1: not valid TOML"),
        ("[power]\nbusy = 10", "host.toml:1: power: wanted asleep, awake and busy in rising order"),
        (
            "[[gpus]]\nmemory = '8GiB'\nuuid = 'GPU-1'\n[[gpus]]\nmemory = '8GiB'",
            'host.toml:4: [gpus] uuid: wanted another for each GPU, found "GPU-1" again',
        ),
        (
            "[[gpus]]\nmemory = '80GiB'\n[models.a]\ngpus = 2",
            "host.toml:4: [models.a] gpus: wanted at most the 1 that [[gpus]] describes, found 2",
        ),
    ],
)
def test_what_is_wrong_is_told_with_its_line(tmp_path: Path, text: str, wanted: str) -> None:
    assert wanted in refusal(tmp_path, text, "", "a")


def test_models_of_the_trace_alone_get_the_default_size_and_the_emptiest_gpu(tmp_path: Path) -> None:
    host = '[[gpus]]\nmemory = "80GiB"\n[[gpus]]\nmemory = "80GiB"\n[model_defaults]\nawake = "30GiB"\n'
    config = '[models.mine]\nurl = "http://127.0.0.1:8001"\ngpus = ["1"]\npriority = 3\n'
    stage = stage_of(tmp_path, host, config, "mine", "b", "a", "c")
    assert stage.added == ("a", "b", "c")
    assert stage.gpus_of == {"mine": ("GPU-1",), "a": ("GPU-0",), "b": ("GPU-0",), "c": ("GPU-1",)}
    assert stage.settings.models["mine"].priority == 3
    assert {name for rule in stage.settings.rules for name in rule.applies_to} == {"mine", "a", "b", "c"}
    assert "3 not in the configuration" in stage.remarks[0]


def test_what_the_configuration_declares_of_a_model_holds_where_the_host_says_nothing(tmp_path: Path) -> None:
    config = '[models.{0}]\nurl = "http://127.0.0.1:80{1}"\ngpus = ["0"]\nvram = "60GiB"\nhost_ram = "50GiB"\n'
    both = config.format("a", "01") + config.format("b", "02")
    stage = stage_of(tmp_path, '[[gpus]]\nmemory = "80GiB"\n[models.b]\nawake = "40GiB"\n', both, "a", "b")
    told = [(costs.awake_bytes // GIB, costs.backup_bytes // GIB) for costs in map(stage.host.costs, ("a", "b"))]
    assert told == [(61, 50), (40, 16)]
    gpu = {"uuid": "GPU-a", "awake_bytes": None, "asleep_bytes": 2 * GIB, "need_bytes": 60 * GIB}
    assert host_of(tmp_path, json.dumps(status(gpus=[gpu]))).costs("m").awake_bytes == 62 * GIB


def test_models_of_the_host_that_nobody_asks_for_are_named(tmp_path: Path) -> None:
    described = '[models.a]\nawake = "40GiB"\n[models."Org/B"]\nawake = "40GiB"\n'
    assert stage_of(tmp_path, described, "", "a", "b").remarks == (
        "1 not in the configuration, played with the host's default size: b",
        "1 not in the configuration, played as the host describes: a",
        "1 of the host are neither in the configuration nor in the trace: Org/B",
    )


def test_what_is_played_otherwise_is_said(tmp_path: Path) -> None:
    rule = '[[rules]]\nname = "retire"\nwhen = { asleep = "1d" }\nthen = { stop = true }\n'
    stage = stage_of(tmp_path, "", f'[daemon]\nmode = "observe"\n{rule}', "a")
    assert "mode" in stage.remarks[1]
    assert "unit" in stage.remarks[2]
    assert stage.settings.models["a"].mode.value == "enforce"


def test_a_host_that_cannot_hold_all_asleep_is_refused(tmp_path: Path) -> None:
    gpu = '[[gpus]]\nmemory = "80GiB"\n'
    told = refusal(tmp_path, f'[host]\nram = "64GiB"\nused = "0B"\n{gpu}', "", "a", "b", "c", "d")
    assert told == (
        "etc: the backups of all 4 models take 64GiB, more than 64GiB of host RAM can hold above [host] reserve;"
        " declare more [host] ram, or set max_level = 2"
    )
    told = refusal(tmp_path, f'{gpu}[model_defaults]\nasleep = "30GiB"\n', "", "a", "b", "c")
    assert told == "etc: the 3 models on GPU 0 hold 90GiB asleep, which is more than its 80GiB"
    told = refusal(tmp_path, '[[gpus]]\nmemory = "24GiB"\n', "", "a", "b")
    assert told == "\n".join(
        f"etc: GPU 0 has room for 22GiB of model {name} while all others sleep, and awake it holds 36GiB;"
        " describe yours with --host FILE"
        for name in ("a", "b")
    )
    config = '[models.a]\nurl = "http://127.0.0.1:8001"\ngpus = ["3"]\n'
    told = refusal(tmp_path, gpu, config, "a")
    assert told == (
        "etc: gpus of model a: wanted GPUs of the host that is played (0), found 3; describe yours with --host FILE"
    )


def status(**changes: object) -> dict[str, Any]:
    gpu = {"uuid": "GPU-a", "index": 0, "awake_bytes": 30 * GIB, "asleep_bytes": 2 * GIB, "need_bytes": None}
    model = {"name": "m", "level": 1, "eta_s": 3.5, "host_ram_bytes": 20 * GIB, "gpus": [gpu]}
    model["last_wake"] = {"seconds": 9.0, "action": "wake", "ok": True}
    return {
        "models": [{**model, **changes}],
        "gpus": [{"uuid": "GPU-a", "index": 0, "total_bytes": 80 * GIB}],
        "host": {"total_bytes": 256 * GIB, "available_bytes": 200 * GIB},
    }


def test_a_status_tells_what_was_learned(tmp_path: Path) -> None:
    host = host_of(tmp_path, json.dumps(status()))
    assert [(gpu.uuid, gpu.total_bytes) for gpu in host.gpus] == [("GPU-a", 80 * GIB)]
    assert (host.ram_bytes, host.used_bytes) == (256 * GIB, 36 * GIB)
    costs = host.costs("m")
    assert (costs.awake_bytes, costs.asleep_bytes, costs.backup_bytes) == (30 * GIB, 2 * GIB, 20 * GIB)
    assert (costs.wake1_s, costs.wake2_s) == (3.5, host.default.wake2_s)
    assert host.places_of == {"m": ("GPU-a",)}
    awake = host_of(tmp_path, json.dumps(status(level=0, eta_s=0.0))).costs("m")
    assert awake.wake1_s == 9.0
    deep = host_of(tmp_path, json.dumps(status(level=2, eta_s=30.0))).costs("m")
    assert (deep.wake1_s, deep.wake2_s) == (host.default.wake1_s, 30.0)


def test_a_status_of_a_model_that_nothing_is_known_of(tmp_path: Path) -> None:
    host = host_of(tmp_path, json.dumps(status(gpus=[], host_ram_bytes=None, last_wake=None, level=None, eta_s=None)))
    assert host.costs("m") == host.default


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("{", "found neither (Expecting property name"),
        ('{"a":' + "[" * 100_000, "found neither (objects within objects without end)"),
        ("{}", "; gpus: is missing"),
        ('{"gpus": 3}', "; gpus: wanted a list, found 3"),
        (json.dumps(status(eta_s=-5)), "; [models] eta_s: wanted at least 0.0, found -5"),
        (json.dumps(status(eta_s="soon")), '; [models] eta_s: Input should be a valid number, found "soon"'),
        (json.dumps(status(host_ram_bytes="2GiB")), '; [models] host_ram_bytes: wanted a whole number, found "2GiB"'),
        (json.dumps(status(gpus=[{"uuid": "GPU-a", "awake_bytes": -1, "asleep_bytes": 0}])), "awake_bytes: wanted at"),
        (
            json.dumps(status()).replace(str(80 * GIB), "null"),
            "; [gpus] total_bytes: wanted a whole number, found None",
        ),
        (json.dumps(status()).replace(str(80 * GIB), "NaN"), "; [gpus] total_bytes: wanted a whole number, found nan"),
        (
            json.dumps(status()).replace(str(256 * GIB), '"much"'),
            '; [host] total_bytes: wanted a whole number, found "much"',
        ),
        (json.dumps({**status(), "gpus": []}), "; gpus: wanted at least one GPU in the status, found none"),
        (
            json.dumps({**status(), "gpus": 2 * status()["gpus"]}),
            "; [gpus] uuid: wanted another for each GPU, found one",
        ),
    ],
)
def test_a_status_that_is_none_says_what_is_wrong_with_it(tmp_path: Path, text: str, found: str) -> None:
    told = refusal(tmp_path, text)
    assert told.startswith("host.toml: wanted a description in TOML, or what sleepctl status --json prints")
    assert found in told
