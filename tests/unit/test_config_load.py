"""Layers, masking, defaults, patterns, and what is loaded with a warning."""

from pathlib import Path

import pytest
from config_files import MODEL, errors, load

from sleepd.config.effective import PLAIN
from sleepd.config.errors import ConfigError
from sleepd.config.load import PACKAGED_DIR, load_config
from sleepd.core.rules import SLEEP_1, SLEEP_2, HostAvailableBelow, IdleFor, Threshold


def test_defaults_are_those_of_the_contract(folder: Path) -> None:
    config = load(folder, sleepd=MODEL)
    settings, service = config.settings, config.service
    assert (settings.poll_every_s, settings.gpu_margin_bytes, settings.host_reserve_bytes) == (1.0, 1 << 30, 8 << 30)
    assert (settings.retries, settings.stuck_after_s, settings.foreign_hold_down_s) == (3, None, 600.0)
    assert (str(service.state_dir), str(service.socket_path)) == ("/var/lib/sleepd", "/run/sleepd/sleepd.sock")
    assert service.socket_mode == 0o666
    assert dict(service.roles) == {"admin": ("root",), "operator": ("%sleepd",), "caller": (), "viewer": ("*",)}
    spec = settings.models["chat"]
    assert (spec.max_level, spec.priority, spec.min_awake_s, spec.pinned, spec.fenced) == (1, 0, 60.0, False, False)
    assert (spec.vram_bytes, spec.host_ram_bytes, spec.gpus) == (None, None, ("0",))


def test_shipped_rules_come_from_the_package_where_nothing_is_installed(folder: Path) -> None:
    (folder / "sleepd.toml").write_text(MODEL)
    config = load_config(folder, shipped_dir=folder / "absent", environ={})
    nap, pressure = config.settings.rules
    assert (nap.name, nap.conditions, nap.action, nap.applies_to) == ("nap", (IdleFor(300.0),), SLEEP_1, {"chat"})
    low, high = Threshold(share=0.10), Threshold(share=0.15)
    assert (pressure.conditions, pressure.action, pressure.for_s) == ((HostAvailableBelow(low, high),), SLEEP_2, 15.0)


def test_an_own_file_masks_the_shipped_one_of_the_same_name(folder: Path) -> None:
    (folder / "sleepd.toml").write_text(MODEL)
    (folder / "conf.d" / "10-idle.toml").symlink_to("/dev/null")
    config = load_config(folder, shipped_dir=folder / "absent", environ={})
    assert [rule.name for rule in config.settings.rules] == ["host-ram-pressure"]
    assert PACKAGED_DIR / "10-idle.toml" not in config.files


def test_later_layers_win_lists_replace_and_rules_accumulate(folder: Path) -> None:
    rule = '[[rules]]\nname = "nap"\nwhen = { idle = "%s" }\nthen = { sleep = 1 }\n'
    (folder.parent / "lib" / "10.toml").write_text('[gpu]\nmargin = "3GiB"\n' + rule % "5m")
    config = load(
        folder,
        sleepd=MODEL + '[gpu]\nmargin = "2GiB"\n[api.roles]\noperator = ["a", "b"]\n',
        a='[api.roles]\noperator = ["c"]\n' + rule.replace("nap", "late") % "1h",
        b='[models.chat]\npriority = 7\n[models.chat.labels]\nteam = "x"\n' + rule % "9m",
    )
    assert config.settings.gpu_margin_bytes == 2 << 30
    assert config.service.roles["operator"] == ("c",)
    assert [(r.name, r.conditions) for r in config.settings.rules] == [
        ("nap", (IdleFor(540.0),)),
        ("late", (IdleFor(3600.0),)),
    ]
    chat = config.settings.models["chat"]
    assert (chat.url, chat.priority, dict(chat.labels)) == ("http://127.0.0.1:8001", 7, {"team": "x"})


def test_model_defaults_stand_in_and_labels_add_up(folder: Path) -> None:
    text = '[model_defaults]\nmax_level = 2\npinned = true\nlabels = { a = "1", b = "2" }\n'
    chat = load(folder, sleepd=text + MODEL + 'pinned = false\nlabels = { b = "3" }\n').settings.models["chat"]
    assert (chat.max_level, chat.pinned, dict(chat.labels)) == (2, False, {"a": "1", "b": "3"})


def test_the_environment_comes_last_and_is_checked(folder: Path) -> None:
    found = load(folder, {"SLEEPD__GPU__MARGIN": '"4GiB"', "SLEEPD__API__ROLES__ADMIN": '["x"]'}, sleepd=MODEL)
    assert (found.settings.gpu_margin_bytes, found.service.roles["admin"]) == (4 << 30, ("x",))
    section = "wanted SLEEPD__SECTION__KEY with SECTION one of"
    wanted = {
        ("SLEEPD__GPUS__X", "1"): section,
        ("SLEEPD__GPU", "1"): section,
        ("SLEEPD__GPU__MARGIN", "2GiB"): 'wanted one value as TOML writes it, found "2GiB"; strings need quotes',
        ("SLEEPD__HOST__RESERV", "'1B'"): 'unknown key "reserv" in [host]; did you mean "reserve"?',
    }
    found_by_name = dict(
        text.removeprefix("environment variable ").split(": ", 1) for text in errors(folder, dict(wanted.keys()))
    )
    assert len(found_by_name) == len(wanted)
    for (name, _), text in wanted.items():
        assert found_by_name[name].startswith(text)


def test_one_value_of_the_environment_cannot_smuggle_in_another(folder: Path) -> None:
    (found,) = errors(folder, {"SLEEPD__GPU__MARGIN": '"4GiB"\nother = 1'}, sleepd=MODEL)
    assert "wanted one value" in found


def test_a_remote_server_needs_a_word(folder: Path) -> None:
    text = MODEL.replace("127.0.0.1", "10.1.1.1")
    with pytest.raises(ConfigError, match="or set allow_exposed = true"):
        load(folder, sleepd=text)
    assert load(folder, sleepd=text + "allow_exposed = true\n").settings.models["chat"].url == "http://10.1.1.1:8001"


def test_patterns_choose_models(folder: Path) -> None:
    text = "".join(
        f'[models.{name}]\nurl = "http://127.0.0.1:{port}"\ngpus = [0]\nlabels = {{ team = "{team}" }}\n'
        for name, port, team in (("chat-a", 1, "x"), ("chat-b", 2, "y"), ("embed", 3, "x"))
    )
    rule = '[[rules]]\nname = "r{n}"\nmodels = {models}\nwhen = {{ idle = "5m" }}\nthen = {{ sleep = 1 }}\n'
    lists = ['["chat-*"]', '["!embed"]', '["label:team=x", "!chat-*"]', '["*", "!label:team=y"]', '["cat", "embed"]']
    config = load(folder, sleepd=text + "".join(rule.format(n=n, models=m) for n, m in enumerate(lists)))
    assert [sorted(r.applies_to) for r in config.settings.rules] == [
        ["chat-a", "chat-b"],
        ["chat-a", "chat-b"],
        ["embed"],
        ["chat-a", "embed"],
        ["embed"],
    ]
    (warning,) = config.warnings
    assert warning.message == '[rules] models: "cat" of rule r4 matches no model'
    assert warning.place.line == 1 + text.count("\n") + 4 * 5 + 2


def test_no_model_is_a_warning_and_no_folder_an_error(folder: Path) -> None:
    assert "no model is configured" in load(folder).warnings[0].message
    with pytest.raises(ConfigError, match="wanted a configuration directory, found nothing"):
        load_config(folder / "absent", environ={})
    (folder / "x").touch()
    with pytest.raises(ConfigError, match="found a file"):
        load_config(folder / "x", environ={})


def test_the_samples_are_valid(folder: Path) -> None:
    (folder.parent / "lib").rmdir()  # the shipped rules are those of the package
    etc = Path(__file__).parents[2] / "etc"
    sample = (etc / "sleepd.toml").read_text()
    uncommented = "\n".join(line.removeprefix("# ") if " = " in line else line for line in sample.splitlines())
    models = (etc / "conf.d" / "models.toml.example").read_text()
    plain = load(folder, sleepd=sample, models=models)
    assert plain.warnings == ()
    assert sorted(plain.settings.models) == ["embed", "qwen2.5-7b", "qwen3-32b"]
    assert {line.strip("[]") for line in uncommented.splitlines() if line.startswith("[")} >= set(PLAIN)
    assert load(folder, sleepd=uncommented, models=models).settings == plain.settings
    assert load(folder, sleepd=uncommented, models=models).service == plain.service
    foresight = load(folder, models=models, foresight=(etc / "conf.d" / "foresight.toml.example").read_text())
    assert foresight.warnings == ()
    assert [rule.name for rule in foresight.settings.rules if rule.foresees] == ["nap", "nap", "wake-ahead"]


def test_a_byte_order_mark_and_hidden_files_change_nothing(folder: Path) -> None:
    (folder / "sleepd.toml").write_text("\ufeff" + MODEL)
    (folder / "conf.d" / ".#half.toml").write_text("half [")  # an editor's lock
    assert list(load_config(folder, environ={}).settings.models) == ["chat"]


def _crowd(count: int, more: str, *, each: str = "") -> str:
    models = [
        f'[models.m{n}]\nurl = "http://127.0.0.1:{8000 + n}"\ngpus = ["0"]\n{each.format(n=n)}' for n in range(count)
    ]
    return more + "".join(models)


GROUP = '[groups.big]\nmodels = ["m0", "m1", "m2", "m3"]\nmax_awake = {places}\n'


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (_crowd(4, GROUP.format(places=1)), "would wait 3m or more"),
        (_crowd(4, '[model_defaults]\nmin_awake = "30s"\n' + GROUP.format(places=1)), ""),
        (_crowd(4, '[model_defaults]\nmin_awake = "40s"\n' + GROUP.format(places=1)), "would wait 2m or more"),
        (_crowd(4, '[model_defaults]\nmax_wait = "5m"\n' + GROUP.format(places=1)), ""),
        (_crowd(4, GROUP.format(places=2)), ""),
        (_crowd(4, '[model_defaults]\nmin_awake = "2m"\n' + GROUP.format(places=2)), "would wait 2m or more"),
        (_crowd(4, GROUP.format(places=1), each="priority = {n}\n"), "a request for m0 would wait 3m"),
        (_crowd(4, GROUP.format(places=1), each='max_wait = "{n}h"\n').replace('"0h"', '"1s"'), ""),
        (_crowd(4, ""), ""),
    ],
    ids=["four", "short turns", "just too long", "patience", "two places", "long turns", "ranks", "patient", "unknown"],
)
def test_models_whose_turns_are_too_long_for_all_to_be_served_are_warned_of(folder: Path, text: str, told: str) -> None:
    """Three others' turns of a minute each, and nobody waits for more than two. How many fit on a GPU by the bytes that
    are learned later is nobody's guess here."""
    warnings = [w.message for w in load(folder, sleepd=text).warnings]
    assert len(warnings) == bool(told), warnings
    assert all(told in w and w.startswith("[groups.big] max_awake: of 4 models only") for w in warnings)


@pytest.mark.parametrize(("vram", "told"), [("40GiB", "only 1 at a time"), ("39GiB", ""), ("90GiB", "")])
def test_a_declared_gpu_that_holds_too_few_of_its_models_at_once_is_warned_of(
    folder: Path, vram: str, told: str
) -> None:
    gpu = '[gpu]\nbackend = "none"\ncapacity = { "0" = "80GiB" }\nmargin = "1GiB"\n'
    config = load(folder, sleepd=_crowd(4, gpu, each=f'vram = "{vram}"\n'))
    assert [told in w.message and w.message.startswith("[gpu.capacity] 0: ") for w in config.warnings] == [True] * bool(
        told
    )
