"""Every error comes at once, in words, at its line."""

import os
from pathlib import Path

import pytest
from config_files import MODEL, errors, one_error


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


def test_a_folder_that_cannot_be_read_is_no_empty_one(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.listdir

    def refuse(path: Path) -> list[str]:
        if str(path).endswith("conf.d"):
            raise PermissionError(13, "Permission denied")
        return real(path)

    monkeypatch.setattr(os, "listdir", refuse)
    assert one_error(folder, MODEL) == "conf.d: cannot be read: Permission denied"
