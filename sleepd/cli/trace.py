"""Requests of the past as a trace: one line each, `seconds,model,prompt_tokens,output_tokens`.

History knows how many requests a minute had, not when in it they came: they are spread evenly over it. Tokens are the
minute's, divided by the requests that finished in it; where none finished, the model's average stands for them.
"""

from __future__ import annotations

from sleepd.cli.columns import wall_s

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from sleepd.wire.history_shapes import MinuteRequests

HEAD = "seconds,model,prompt_tokens,output_tokens"
MINUTE_S = 60.0


class Trace:
    """`guessed`: requests whose tokens nobody counted."""

    __slots__ = ("guessed", "models", "requests", "text")

    def __init__(self, text: str, requests: int, models: int, guessed: int) -> None:
        self.text, self.requests, self.models, self.guessed = text, requests, models, guessed


class _Model:
    """One model's counts so far. A request is counted where the gateway let it in and where the server finished it:
    together those that came are the larger of both sums, as direct ones are seen by the server alone."""

    __slots__ = ("came", "finished", "let_in", "mean", "output_tokens", "prompt_tokens")

    def __init__(self) -> None:
        self.came = self.let_in = self.finished = self.prompt_tokens = self.output_tokens = 0
        self.mean = (0.0, 0.0)

    def add(self, row: MinuteRequests) -> int:
        """Return how many requests came in this minute."""
        self.let_in += row["requests"]
        self.finished += row["finished"]
        came = max(self.let_in, self.finished) - self.came
        self.came += came
        return came

    def learn(self, row: MinuteRequests) -> None:
        self.finished += row["finished"]
        self.prompt_tokens += row["prompt_tokens"]
        self.output_tokens += row["output_tokens"]


def trace_of(rows: Sequence[MinuteRequests]) -> Trace:
    """Return the trace of these rows; the first minute begins at second 0."""
    means = _means(rows)
    models: dict[str, _Model] = {}
    arrivals: list[tuple[float, str, int, int]] = []
    ordered = sorted(rows, key=lambda row: row["minute"])
    begin_s = int(wall_s(ordered[0]["minute"])) if ordered else 0
    guessed = 0
    for row in ordered:
        name, at_s = row["model"], int(wall_s(row["minute"])) - begin_s
        count = models.setdefault(name, _Model()).add(row)
        known = row["finished"] > 0
        guessed += 0 if known or name in means else count
        prompt, output = (
            (row["prompt_tokens"] / row["finished"], row["output_tokens"] / row["finished"])
            if known
            else means.get(name) or means.get("", (0.0, 0.0))
        )
        prompts, outputs = _shared(prompt * count, count), _shared(output * count, count)
        arrivals += [
            (at_s + (index + 0.5) * MINUTE_S / count, name, prompts[index], outputs[index]) for index in range(count)
        ]
    arrivals.sort()
    lines = [HEAD, *(f"{at_s:.3f},{name},{prompt},{output}" for at_s, name, prompt, output in arrivals)]
    return Trace("\n".join(lines) + "\n", len(arrivals), len({name for _, name, _, _ in arrivals}), guessed)


def _means(rows: Sequence[MinuteRequests]) -> dict[str, tuple[float, float]]:
    """Prompt and output tokens of an average request, by model; under the empty name that of all."""
    sums: dict[str, _Model] = {}
    for row in rows:
        for name in (row["model"], ""):
            sums.setdefault(name, _Model()).learn(row)
    return {
        name: (found.prompt_tokens / found.finished, found.output_tokens / found.finished)
        for name, found in sums.items()
        if found.finished
    }


def _shared(total: float, count: int) -> list[int]:
    """The total as whole numbers that differ by one at most."""
    whole = round(total)
    return [whole * (index + 1) // count - whole * index // count for index in range(count)]
