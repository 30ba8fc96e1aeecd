"""`sleepctl reserve` tells what it waits for, once each, also where nobody can tell how much is missing."""

from argparse import Namespace

import pytest

from sleepd.cli.reserve import reserve
from sleepd.client import ApiProblem

GIB = 1 << 30


class Waiting:
    """A client whose reservation says each of `words` in turn and is refused then."""

    def __init__(self, missing_bytes: int | None, *words: str) -> None:
        self.missing_bytes, self.words = missing_bytes, words

    def reserve(self, *_asked, on_progress, **_options):
        index = None if self.missing_bytes is None else 0
        gpu = {"uuid": "0", "index": index, "left_bytes": None, "missing_bytes": self.missing_bytes}
        for words in self.words:
            on_progress({"gpus": [gpu], "bytes_per_gpu": 60 * GIB, "granted": False, "waits_for": words})
        raise ApiProblem(503, {"detail": "no room"}, "")


def told(client: Waiting, capsys: pytest.CaptureFixture[str]) -> list[str]:
    asked = {"end": None, "ttl": None, "id": "job", "gpu": ["0"], "vram": 60 * GIB, "timeout": 9, "reason": ""}
    assert reserve(client, Namespace(**asked, cmd=["true"])) == 125
    return [line for line in capsys.readouterr().err.splitlines() if "waiting" in line]


def test_a_countdown_is_told_once_and_another_reason_again(capsys):
    rests = [f"chat: it woke recently: min_awake leaves {left}" for left in ("1m", "59s", "9.5s")]
    assert told(Waiting(53 * GIB, *rests, "chat to fall asleep"), capsys) == [
        "sleepctl: waiting for 60GiB on GPU 0: for chat: it woke recently: min_awake leaves 1m, 53GiB to go",
        "sleepctl: waiting for 60GiB on GPU 0: for chat to fall asleep, 53GiB to go",
    ]


def test_gpus_that_cannot_be_read_are_told(capsys):
    words = "a reading of GPU memory (install the NVIDIA driver)"
    assert told(Waiting(None, words, words), capsys) == [f"sleepctl: waiting for 60GiB on GPU 0: for {words}"]


def test_room_that_is_there_is_not_waited_for_aloud(capsys):
    assert told(Waiting(0, "a fresh reading of GPU memory"), capsys) == []
