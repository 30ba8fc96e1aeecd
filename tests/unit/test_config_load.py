"""Layers, masking, places, and that every error comes at once, in words, at its line."""

import os
from pathlib import Path

import pytest

from sleepd.config.effective import PLAIN
from sleepd.config.errors import ConfigError
from sleepd.config.load import PACKAGED_DIR, load_config
from sleepd.config.settings import Config
from sleepd.core.rules import SLEEP_1, SLEEP_2, HostAvailableBelow, IdleFor, Threshold

MODEL = '[models.chat]\nurl = "http://127.0.0.1:8001"\ngpus = ["0"]\n'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "etc" / "conf.d").mkdir(parents=True)
    (tmp_path / "lib").mkdir()
    return tmp_path / "etc"


def load(folder: Path, environ: dict[str, str] | None = None, **files: str) -> Config:
    for name, text in files.items():
        where = folder if name == "sleepd" else folder / "conf.d"
        (where / f"{name}.toml").write_text(text)
    return load_config(folder, shipped_dir=folder.parent / "lib", environ=environ or {})


def errors(folder: Path, environ: dict[str, str] | None = None, **files: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(folder, environ, **files)
    return [str(problem).replace(f"{folder}/", "") for problem in caught.value.problems]


def one_error(folder: Path, text: str) -> str:
    found = errors(folder, sleepd=text)
    assert len(found) == 1, found
    return found[0]


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


def test_all_errors_come_at_once_in_the_order_of_files_and_lines(folder: Path) -> None:
    found = errors(
        folder,
        sleepd='[daemon]\npol_every = "1s"\n[gpu]\nmargin = "lots"\n[models.chat]\nurl = 5\n',
        zz="broken = [\n1,\n",
    )
    assert found == [
        "conf.d/zz.toml:2: not valid TOML: Invalid value",
        'sleepd.toml:2: unknown key "pol_every" in [daemon]; did you mean "poll_every"? Allowed: mode, on_stop, '
        "poll_every, state_dir",
        'sleepd.toml:4: [gpu] margin: wanted a size such as "24GiB" or "512MiB", found "lots"',
        "sleepd.toml:6: [models.chat] url: wanted a string, found 5",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[daemon]\nmode = "watch"\n', "sleepd.toml:2: [daemon] mode: wanted 'enforce' or 'observe', found \"watch\""),
        ("[gatway]\nlisten = []\n", 'sleepd.toml:1: unknown key "gatway"; did you mean "gateway"?'),
        ('[daemon]\npoll_every = "1 fortnight"\n', "sleepd.toml:2: [daemon] poll_every: wanted a duration such as"),
        ('[daemon]\npoll_every = "1ms"\n', 'sleepd.toml:2: [daemon] poll_every: wanted 0.1s to 1m, found "1ms"'),
        ("[daemon]\npoll_every = 1\n", "sleepd.toml:2: [daemon] poll_every: wanted a duration"),
        ('[daemon]\nstate_dir = "var"\n', "wanted an absolute path"),
        ('[api]\nmode = "888"\n', "wanted file permissions in octal"),
        ('[api.roles]\nviewer = ["two words"]\n', "wanted a user name"),
        (f'[api]\nsocket = "/{"x" * 120}"\n', "at most 107 bytes"),
        ('[gpu]\nbackend = "amd"\n', "sleepd.toml:2: [gpu] backend: wanted 'nvml' or 'none', found \"amd\""),
        ('[gpu]\nbackend = "none"\n', 'sleepd.toml:1: [gpu] capacity: is required for backend = "none"'),
        (f'[gpu]\nmargin = "{"9" * 400}GiB"\n', "wanted a size below"),
        ("[recovery]\nretries = 11\n", "wanted at most 10, found 11"),
        ("[recovery]\nretries = true\n", "wanted a whole number, found true"),
        ('[models.Chat]\nurl = "http://127.0.0.1:1"\n', "wanted a model name"),
        ('[models.qwen2.5]\nurl = "http://127.0.0.1:1"\n', 'must be quoted: [models."qwen2.5"]'),
        (MODEL + "gpus_x = 1\n", 'did you mean "gpus"?'),
        (MODEL.replace('["0"]', "[]"), 'wanted "auto" or a list of GPU indices'),
        (MODEL.replace('["0"]', '"auto"'), "is needed where there is neither unit nor cgroup"),
        (MODEL.replace("127.0.0.1", "10.1.1.1"), "sleepd.toml:2: [models.chat] url: wanted a loopback address"),
        (MODEL.replace("http://127.0.0.1:8001", "ftp://x"), 'wanted "http://127.0.0.1:PORT"'),
        (MODEL.replace("http://127.0.0.1:8001", "ftp://127.0.0.1:8001"), "https://HOST:PORT"),
        (MODEL.replace("8001", "99999"), 'wanted "http://127.0.0.1:PORT"'),
        (MODEL.replace("8001", "8001/v1"), "without a user, a path or a query"),
        (MODEL + 'unit = "x.service"\ncgroup = "y"\n', "sleepd.toml:5: [models.chat] cgroup: wanted unit or cgroup"),
        (MODEL + 'unit = "x.socket"\n', "wanted a systemd unit"),
        (MODEL + 'cgroup = "../x"\n', "wanted a path below cgroup_root"),
        (MODEL + "max_level = 3\n", "wanted at most 2, found 3"),
        (MODEL + "labels = { a = 1 }\n", "[models.chat.labels] a: wanted a string, found 1"),
        (
            MODEL + "[models.chat.rules]\nnap = false\n",
            'sleepd.toml:5: [models.chat.rules] nap: there is no rule "nap"',
        ),
        ("models = 3\n", "wanted tables [models.NAME]"),
        ('[models]\nurl = "unix:/x"\n', 'sleepd.toml:2: [models] url: wanted tables [models.NAME], found "unix:/x"'),
        (MODEL + MODEL, "sleepd.toml:4: not valid TOML: the table [models.chat] stands twice"),
        ("a = 1\na = 2\n", "sleepd.toml:2: not valid TOML: the key stands twice"),
        ("rules = 3\n", "wanted tables [[rules]], in double brackets, found 3"),
        ('[[rules]]\nname = "a"\n', "when: is missing"),
        ("api = 3\n", "sleepd.toml:1: api: wanted a table, found 3"),
    ],
)
def test_what_is_wrong_is_said_with_wanted_and_found(folder: Path, text: str, message: str) -> None:
    assert any(message in found for found in errors(folder, sleepd=text)), errors(folder, sleepd=text)


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ('when = { idel = "5m" }\nthen = { sleep = 1 }', 'unknown key "idel" in [rules.when]; did you mean "idle"?'),
        ('when = { for = "5m" }\nthen = { sleep = 1 }', "wanted at least one condition"),
        ('when = { idle = "5m", until = "5%" }\nthen = { sleep = 1 }', "found none: add requests_below"),
        ('when = { host_available_below = "9%", until = "5%" }\nthen = { sleep = 1 }', "must let go above it"),
        ('when = { host_available_below = "9%", until = "5GiB" }\nthen = { sleep = 1 }', "both sizes or both shares"),
        ('when = { host_available_below = "101%" }\nthen = { sleep = 1 }', "wanted a share"),
        ('when = { idle = "5m" }\nthen = { sleep = 3 }', "wanted 1 or 2, found 3"),
        ('when = { idle = "5m" }\nthen = { sleep = true }', "wanted 1 or 2, found true"),
        ('when = { idle = "5m" }\nthen = { stop = false }', "[rules.then] stop: wanted true, found false"),
        ('models = []\nwhen = { idle = "5m" }\nthen = { sleep = 1 }', "wanted at least one"),
        ('models = ["label:x"]\nwhen = { idle = "5m" }\nthen = { sleep = 1 }', 'wanted "chat-*"'),
        ('when = { idle = "5m" }\nthen = { sleep = 1 }\n[[rules]]\nname = "r"', "stands twice in this file"),
    ],
)
def test_rules_are_checked(folder: Path, rule: str, message: str) -> None:
    found = errors(folder, sleepd=f'{MODEL}[[rules]]\nname = "r"\n{rule}\n')
    assert any(message in error for error in found), found


def test_what_is_wrong_hides_nothing_beside_it(folder: Path) -> None:
    overrides = '[models.chat.rules]\nnop = false\nnap = { idle = "1h", then = 1 }\nlate = true\n'
    rule = '[[rules]]\nname = "nap"\nwhen = { idle = "5m" }\nthen = { sleep = 1 }\n'
    nop, nap, late = errors(folder, sleepd=MODEL + overrides + rule)
    assert nop.startswith('sleepd.toml:5: [models.chat.rules] nop: there is no rule "nop"')
    assert nap.startswith("sleepd.toml:6: column 22: unknown key")
    assert late.startswith("sleepd.toml:7: [models.chat.rules] late: wanted conditions such as")
    wrong = one_error(folder, '[gpu]\nbackend = "none"\ncapacity = { 0 = "80GiB", x = "1GiB" }\n')
    assert wrong.startswith("sleepd.toml:3: column 27: [gpu.capacity] x: wanted a GPU index")


def test_a_column_is_told_where_the_line_alone_does_not_say_which_key(folder: Path) -> None:
    rule = '[[rules]]\nname = "r"\nwhen = { idle = "5m", fro = "5m" }\nthen = { sleep = 3 }\n'
    when, then = errors(folder, sleepd=MODEL + rule)
    assert when.startswith('sleepd.toml:6: column 23: unknown key "fro" in [rules.when]; did you mean "for"?')
    assert then == "sleepd.toml:7: column 10: [rules.then] sleep: wanted 1 or 2, found 3"


def test_two_models_on_one_server_are_refused_naming_both(folder: Path) -> None:
    text = MODEL + '[models.other]\nurl = "http://localhost:8001/"\ngpus = ["0"]\n'
    found = one_error(folder, text)
    assert found.startswith("sleepd.toml:5: [models.other] url:")
    assert "also the url of model chat" in found
    assert "sleepd.toml:2" in found


def test_an_inherited_mistake_is_placed_where_it_was_written(folder: Path) -> None:
    found = one_error(folder, '[model_defaults]\nurl = "http://8.8.8.8:1"\n[models.a]\ngpus = ["0"]\n')
    assert found.startswith("sleepd.toml:2: [model_defaults] url:")
    assert found.endswith("(for model a)")


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


def test_files_that_are_no_text_are_named(folder: Path) -> None:
    (folder / "sleepd.toml").write_bytes(b"# ok\n\xff = 1\n")
    (folder / "conf.d" / "dir.toml").mkdir()
    (folder / "conf.d" / "gone.toml").symlink_to(folder / "nowhere")
    (folder / "conf.d" / "loop.toml").symlink_to("loop.toml")
    os.mkfifo(folder / "conf.d" / "pipe.toml")
    assert errors(folder) == [
        "conf.d/dir.toml: wanted a file, found something else",
        "conf.d/gone.toml: cannot be read: No such file or directory (a link to nowhere)",
        "conf.d/loop.toml: cannot be read: Too many levels of symbolic links",
        "conf.d/pipe.toml: wanted a file, found something else",
        "sleepd.toml:2: wanted UTF-8 text, found other bytes",
    ]


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


def test_a_folder_that_cannot_be_read_is_no_empty_one(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.listdir

    def refuse(path: Path) -> list[str]:
        if str(path).endswith("conf.d"):
            raise PermissionError(13, "Permission denied")
        return real(path)

    monkeypatch.setattr(os, "listdir", refuse)
    assert one_error(folder, MODEL) == "conf.d: cannot be read: Permission denied"


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
