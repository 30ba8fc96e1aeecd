"""`sleepd simulate` as a person or a script runs it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from sleepd.cli import daemon
from sleepd.replay.trace import read_trace, write_trace

SAMPLE = Path(__file__).parent / "data" / "eight-models-2d.csv.gz"
HOST = '[host]\nram = "256GiB"\n[[gpus]]\nmemory = "80GiB"\n'


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    monkeypatch.delenv("COLUMNS", raising=False)  # pytest-xdist sets it, and tables are cut to it
    for name, idle in (("five", "5m"), ("one", "1m")):
        (tmp_path / name).mkdir()
        rule = f'[[rules]]\nname = "nap"\nwhen = {{ idle = "{idle}" }}\nthen = {{ sleep = 1 }}\n'
        (tmp_path / name / "sleepd.toml").write_text(rule)
    (tmp_path / "host.toml").write_text(HOST)
    short = "seconds,model,prompt_tokens,output_tokens\n" + "".join(f"{200 * n},m,10,10\n" for n in range(1, 9))
    (tmp_path / "t.csv").write_text(short)
    with (tmp_path / "sample.csv").open("w") as file:
        write_trace(read_trace(SAMPLE).between(0.0, 8 * 3600.0).arrivals, file)
    return {name: str(tmp_path / name) for name in ("five", "one", "host.toml", "t.csv", "sample.csv", "page.html")}


def test_a_table_and_sentences(places: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    code = daemon.main(
        ["simulate", "--trace", places["t.csv"], "--config", places["five"], "--host", places["host.toml"]]
    )
    said = capsys.readouterr()
    lines = said.out.splitlines()
    assert (code, said.err) == (0, "")
    heads = "MODEL REQUESTS WAITED P50 P95 P99 MAX REFUSED WAKES L1/L2 AWAKE GPU GIB-H KWH HOST GIB-H"
    assert lines[0].split() == heads.split()
    assert lines[1].split()[:4] == ["m", "8", "12.5%", "1.5s"]
    assert "8 requests for 1 model in 26m40s, on 1 GPU, by the configuration in " in said.out
    assert "Note: 1 not in the configuration, played with the host's default size: m." in said.out


@pytest.mark.parametrize("columns", [64, 80])
def test_on_a_narrow_screen_waits_and_gib_hours_are_there(
    places: dict[str, str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.chdir(Path(places["one"]).parent)
    assert daemon.main(["simulate", "--trace", "t.csv", "--config", "five", "--compare", "one"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= columns
    heads = [line.split() for line in lines if "WAITED" in line]
    for head in heads:
        assert {"WAITED", "P95", "GPU", "GIB-H"} <= set(head)
    assert [line.split()[-1] for line in lines if line.startswith(("m ", "all "))] == ["14", "14"]


def test_two_configurations_side_by_side_and_a_page(places: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    command = ["simulate", "--trace", places["sample.csv"], "--config", places["five"], "--host", places["host.toml"]]
    code = daemon.main([*command, "--compare", places["one"], "--report", places["page.html"], "--json"])
    found = json.loads(capsys.readouterr().out)
    five, one = found["policies"][places["five"]]["total"], found["policies"][places["one"]]["total"]
    assert code == 0
    assert five["requests"] == one["requests"] == 411
    assert one["waited"] > five["waited"] > 0
    assert one["awake_gpu_gib_h"] < five["awake_gpu_gib_h"]
    page = Path(places["page.html"]).read_text()
    assert page.startswith("<!doctype html>")
    assert page.count("<svg") == 4
    assert "Side by side" in page
    assert "://" not in page.replace("http://www.w3.org", "")


def test_what_is_remarked_of_one_configuration_names_it(
    places: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    with (Path(places["one"]) / "sleepd.toml").open("a") as file:
        file.write('[models.m]\nurl = "http://127.0.0.1:8001"\ngpus = ["0"]\nmode = "observe"\n')
    command = ["simulate", "--trace", places["t.csv"], "--config", places["five"], "--host", places["host.toml"]]
    assert daemon.main([*command, "--compare", places["one"], "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["remarks"] == [
        f"of {places['five']}: 1 not in the configuration, played with the host's default size: m",
        f'of {places["one"]}: mode = "observe" is played as "enforce": what the rules would do',
    ]


def test_the_same_bytes_from_another_process_elsewhere(places: dict[str, str], tmp_path: Path) -> None:
    """Whatever the order of sets, the zone, the language, the folder, and with assertions left out."""
    with (tmp_path / "short.csv").open("w") as file:
        write_trace(read_trace(SAMPLE).between(0.0, 3 * 3600.0).arrivals, file)
    command = ["-m", "sleepd.cli.daemon", "simulate", "--trace", str(tmp_path / "short.csv"), "--config"]
    command += [places["one"], "--host", places["host.toml"], "--json", "--report", places["page.html"]]
    root = str(Path(__file__).parents[2])
    here: dict[str, str] = {"PYTHONHASHSEED": "1", "PYTHONPATH": root}
    there = {**here, "PYTHONHASHSEED": "2", "TZ": "Asia/Kolkata", "LC_ALL": "C", "PYTHONOPTIMIZE": "1"}
    said = []
    for environ, folder in ((here, root), (there, "/")):
        ran = subprocess.run([sys.executable, *command], capture_output=True, check=True, env=environ, cwd=folder)
        said.append((ran.stdout, ran.stderr, Path(places["page.html"]).read_bytes()))
    assert said[0] == said[1]
    assert json.loads(said[0][0])["policies"][places["one"]]["total"]["wakes"]["1"] > 20


def test_a_full_disk_behind_the_output_is_told(places: dict[str, str]) -> None:
    command = [sys.executable, "-m", "sleepd.cli.daemon", "simulate", "--trace", places["t.csv"]]
    with open("/dev/full", "w") as full:
        ran = subprocess.run([*command, "--config", places["one"]], stdout=full, stderr=subprocess.PIPE, text=True)
    assert (ran.returncode, ran.stderr) == (1, "sleepd: the output cannot be written: No space left on device\n")


@pytest.mark.parametrize(
    ("change", "wanted"),
    [
        ({"--trace": "none.csv"}, "none.csv: cannot be read: No such file or directory"),
        ({"--config": "none"}, "none: wanted a configuration directory, found nothing"),
        ({"--host": "none.toml"}, "none.toml: cannot be read: No such file or directory"),
        ({"--begin": "monday"}, "sleepd simulate: --begin: wanted a time such as 2026-01-05T00:00:00+00:00"),
        ({"--begin": "0001-01-01"}, "sleepd simulate: --begin: wanted a time from 1970 to 2199, found '0001-01-01'"),
        ({"--begin": "9999-12-31"}, "sleepd simulate: --begin: wanted a time from 1970 to 2199, found '9999-12-31'"),
        ({"--compare": "five/../five"}, "sleepd simulate: --compare: wanted another folder than --config, found"),
    ],
)
def test_bad_input_is_one_line_and_2(
    places: dict[str, str], capsys: pytest.CaptureFixture[str], change: dict[str, str], wanted: str
) -> None:
    change = {name: value.replace("five/", f"{places['five']}/") for name, value in change.items()}
    options = {"--trace": places["t.csv"], "--config": places["five"], "--host": places["host.toml"]} | change
    assert daemon.main(["simulate", *(word for pair in options.items() for word in pair)]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert wanted in said.err
    assert said.err.count("\n") == 1


def test_who_still_waits_at_the_end_is_told(places: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    Path(places["t.csv"]).write_text("seconds,model,prompt_tokens,output_tokens\n5,m,10,10\n")
    assert daemon.main(["simulate", "--trace", places["t.csv"], "--config", places["five"]]) == 0
    said = capsys.readouterr().out
    assert "0 of 0 served requests waited for a wake (0.0%); 1 still waited when the trace ended." in said


@pytest.mark.parametrize(
    ("report", "wanted"),
    [
        ("none/page.html", "sleepd simulate: --report: wanted a file in a folder, found no folder "),
        ("/dev/full", "sleepd simulate: /dev/full: cannot be written: No space left on device"),
    ],
)
def test_a_report_that_cannot_be_written_is_told(
    places: dict[str, str], capsys: pytest.CaptureFixture[str], report: str, wanted: str
) -> None:
    command = ["simulate", "--trace", places["t.csv"], "--config", places["five"], "--report", report]
    assert daemon.main(command) == 1
    said = capsys.readouterr()
    assert wanted in said.err
    assert ("GPU GIB-H" in said.out) is (report == "/dev/full")


def test_a_report_is_there_whole_or_not_at_all(
    places: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = Path(places["page.html"])
    page.write_text("last week's")
    monkeypatch.setattr("os.fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    command = ["simulate", "--trace", places["t.csv"], "--config", places["five"], "--report", str(page)]
    assert daemon.main(command) == 1
    assert "page.html: cannot be written: No space left on device" in capsys.readouterr().err
    assert page.read_text() == "last week's"
    assert [other.name for other in page.parent.glob(".*")] == []
