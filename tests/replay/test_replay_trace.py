"""Traces: what is read, and the one sentence with file and line for whatever is none."""

import gzip
import os
from io import StringIO
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sleepd.cli.trace import HEAD as WRITTEN_HEAD
from sleepd.cli.trace import trace_of
from sleepd.replay.trace import HEAD, Arrival, Trace, TraceError, read_trace, write_trace

SAMPLE = Path(__file__).parent / "data" / "eight-models-2d.csv.gz"
ARRIVALS = st.lists(
    st.builds(
        Arrival,
        st.integers(0, 10**9).map(lambda ms: ms / 1000),
        st.sampled_from(("a", "b.c", "0_d-e")),
        st.integers(0, 10**7),
        st.integers(0, 10**7),
    ),
    min_size=1,
)


def read(tmp_path: Path, text: str | bytes) -> Trace:
    path = tmp_path / "t.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_trace(path)


def told(tmp_path: Path, text: str | bytes) -> str:
    with pytest.raises(TraceError) as raised:
        read(tmp_path, text)
    sentence = str(raised.value)
    assert "\n" not in sentence
    return sentence.removeprefix(f"{tmp_path}/")


def test_plain_and_gzipped_alike(tmp_path: Path) -> None:
    text = f"{HEAD}\r\n0.5,a,10,2\r\n\r\n7,b,0,0\r\n"
    wanted = Trace((Arrival(0.5, "a", 10, 2), Arrival(7.0, "b", 0, 0)))
    assert read(tmp_path, text) == wanted
    assert read(tmp_path, b"\xef\xbb\xbf" + text.encode()) == wanted
    assert read(tmp_path, gzip.compress(text.encode())) == wanted
    quoted = '"seconds","model","prompt_tokens","output_tokens"\n"0.5","a","10","2"\n7,"b",0,0\n'
    assert read(tmp_path, quoted) == wanted


@pytest.mark.parametrize(
    ("lines", "wanted"),
    [
        ("", "t.csv:1: wanted the columns seconds,model,prompt_tokens,output_tokens in the first line, found nothing"),
        ("seconds,model,prompt_tokens,output_token", 'found the unknown column "output_token"; did you mean'),
        ("seconds,prompt_tokens,model,output_tokens", "t.csv:1: wanted the columns"),
        (HEAD, "t.csv:2: wanted at least one request below the line of columns, found none"),
        (f"{HEAD}\n5,a,1,1\n4.9,a,1,1", "t.csv:3: seconds: wanted times in order, found 4.9 after 5; sort the file"),
        (f"{HEAD}\nnan,a,1,1", "t.csv:2: seconds: wanted 0 to"),
        (f"{HEAD}\n-1,a,1,1", "t.csv:2: seconds: wanted 0 to"),
        (f"{HEAD}\n1e300,a,1,1", "t.csv:2: seconds: wanted 0 to"),
        (f"{HEAD}\nsoon,a,1,1", 't.csv:2: seconds: wanted a number, found "soon"'),
        (f"{HEAD}\n1,A b,1,1", "t.csv:2: model: wanted a model name of a-z"),
        (f"{HEAD}\n1,a,-1,1", 't.csv:2: prompt_tokens: wanted a whole number from 0 to 10000000, found "-1"'),
        (f"{HEAD}\n1,a,1,1.5", 't.csv:2: output_tokens: wanted a whole number from 0 to 10000000, found "1.5"'),
        (f"{HEAD}\n1,a,1", f"t.csv:2: wanted 4 fields ({HEAD}), found 3"),
        (f"{HEAD}\n1,a,1,1,1", f"t.csv:2: wanted 4 fields ({HEAD}), found 5"),
        (f"{HEAD}\n1,{'a' * 5000},1,1", "t.csv:2: wanted 4 fields"),
        (
            f"{HEAD}\n1,a,1,1\r2,a,1,1\r",
            't.csv:2: wanted one request a line, found a line that breaks within itself: "1,a',
        ),
        (f'{HEAD}\n1,"a,1,1\n', f't.csv:2: wanted 4 fields ({HEAD}), found 2: "1,"a,1,1"'),
        (HEAD.encode() + b"\n1,a,1,1\n2,\xff,1,1", "t.csv:3: wanted UTF-8 text, found other bytes"),
        (
            gzip.compress(f"{HEAD}\n1,a,1,1\n".encode(), mtime=0)[:-9],
            "wanted a whole gzip file, found one that is cut off",
        ),
        (gzip.compress(f"{HEAD}\n1,a,1,1\n".encode(), mtime=0)[:12] + b"junk" * 9, "t.csv:"),
    ],
)
def test_what_is_none_is_told_in_one_sentence(tmp_path: Path, lines: str | bytes, wanted: str) -> None:
    assert wanted in told(tmp_path, lines)


@pytest.mark.parametrize("packed", [False, True])
def test_a_pipe_will_do(packed: bool) -> None:
    text = f"{HEAD}\n0.5,a,10,2\n".encode()
    reading, writing = os.pipe()
    with open(writing, "wb") as there:
        there.write(gzip.compress(text) if packed else text)
    with open(reading, "rb") as here:
        assert read_trace(Path(f"/dev/fd/{here.fileno()}")) == Trace((Arrival(0.5, "a", 10, 2),))


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match=r"nothing\.csv: cannot be read: No such file or directory"):
        read_trace(tmp_path / "nothing.csv")
    with pytest.raises(TraceError, match="cannot be read: Is a directory"):
        read_trace(tmp_path)


@given(ARRIVALS)
def test_what_is_written_is_read(tmp_path_factory: pytest.TempPathFactory, arrivals: list[Arrival]) -> None:
    trace = Trace(tuple(sorted(arrivals)))
    text = StringIO()
    write_trace(trace.arrivals, text)
    assert read(tmp_path_factory.mktemp("t"), text.getvalue()) == trace


def test_what_history_writes_is_read(tmp_path: Path) -> None:
    minutes = [
        {"model": model, "minute": f"2026-01-01T00:{n:02}:00.000Z", "requests": n, "finished": n}
        | {"prompt_tokens": 7 * n, "output_tokens": 3 * n}
        for n in range(1, 30)
        for model in ("b", "a")
    ]
    written = trace_of(minutes)  # type: ignore[arg-type]
    assert WRITTEN_HEAD == HEAD
    trace = read(tmp_path, written.text)
    assert (len(trace.arrivals), len(trace.models)) == (written.requests, written.models)
    again = StringIO()
    write_trace(trace.arrivals, again)
    assert again.getvalue() == written.text


def test_a_part_of_a_trace_begins_at_zero() -> None:
    trace = read_trace(SAMPLE)
    part = trace.between(86400.0, 2 * 86400.0).of(("model-04",))
    assert part.models == ("model-04",)
    first = next(a for a in trace.arrivals if a.model == "model-04" and a.at_s >= 86400.0)
    assert part.arrivals[0] == first._replace(at_s=first.at_s - 86400.0)
