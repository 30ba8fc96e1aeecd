"""Hours full of faults in virtual time: what is counted is what was recorded, nothing goes back, every page is one."""

from collections import Counter
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from sleepd.core.model import Settings
from sleepd.core.records import TaskEnded
from sleepd.core.turn import Turn
from sleepd.engine.published import Published
from sleepd.obs.beginnings import failures_of
from sleepd.obs.exposition import Page, write_page
from sleepd.obs.families import BY_NAME
from sleepd.obs.gauges import STATES, Moment, samples
from sleepd.obs.tally import Tally
from sleepd.sim.scenario.play import play_seed
from sleepd.sim.world import VirtualDaemon

PAGE_EVERY = 100
"""Turns between two pages."""


class Watched:
    """What one daemon's published turns brought, beside what is counted of them."""

    def __init__(self) -> None:
        self.tally, self.turns, self.pages = Tally(), 0, 0
        self.ended: Counter[str] = Counter()
        self.before: dict[Any, float] = {}
        self.begun: dict[str, set[tuple[str, ...]]] = {}
        self.settings: Settings | None = None

    def hear(self, daemon: VirtualDaemon, published: Published) -> None:
        self.tally.turned(published)
        self.turns += 1
        names = published.turn.world.models
        settings, self.settings = self.settings, published.turn.world.settings
        for name, record in names.items() if settings is not self.settings else ():
            self.begun.setdefault(name, set()).update(failures_of(record.spec))
        self.ended.update(
            r.task.kind.value for r in published.turn.records if isinstance(r, TaskEnded) and r.task.model in names
        )
        if self.turns % PAGE_EVERY == 0:
            self._read_page(daemon, published)

    def _read_page(self, daemon: VirtualDaemon, published: Published) -> None:
        self.tally.settle(published.now.mono_s)
        world = published.turn.world
        moment = Moment(world, published.now, 0.0, False, True, lambda name: 0, lambda name: 0)
        _, page = write_page(Page(samples(moment), self.tally.counts, {}), "")
        found: dict[Any, float] = {}
        for family in text_string_to_metric_families(page.decode()):
            for sample in family.samples:
                found[sample.name, frozenset(sample.labels.items())] = sample.value
        names = set(world.models)
        assert {dict(labels)["model"] for _, labels in found if "model" in dict(labels)} <= names | {""}
        for name in names:
            states = [found["sleepd_model_state", frozenset({("model", name), ("state", s)})] for s in STATES]
            assert sum(states) == 1, name
        for series, value in found.items():
            if (series[0].startswith("sleepd_") and BY_NAME.get(series[0]) is None) or series[0].endswith("_total"):
                assert value >= self.before.get(series, 0.0), series
                self.before[series] = value
        self.pages += 1


@pytest.mark.parametrize("seed", range(700, 704))
def test_what_is_counted_is_what_was_recorded(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    watched: dict[tuple[int, int], Watched] = {}
    publish = VirtualDaemon._publish

    def publish_and_tell(daemon: VirtualDaemon, turn: Turn, rejudged: tuple[str, ...]) -> None:
        before = daemon.world
        publish(daemon, turn, rejudged)
        # A daemon that died and began again counts anew.
        one = watched.setdefault((id(daemon), daemon._epoch), Watched())
        one.hear(daemon, Published(before, turn, daemon.now(), 0.0001))

    monkeypatch.setattr(VirtualDaemon, "_publish", publish_and_tell)
    play_seed(seed)
    assert sum(one.pages for one in watched.values()) > 0
    for one in watched.values():
        counted: Counter[str] = Counter()
        for labels, value in one.tally.counts.counters["sleepd_transitions_total"].items():
            counted[labels[1]] += int(value)
            if labels[-1] == "failed":
                assert labels[1:] in one.begun[labels[0]], f"{labels} is not there before it first counts"
        assert +counted == one.ended
