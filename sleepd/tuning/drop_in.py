"""A proposal as a file for /etc/sleepd/conf.d: rules for its timeouts, and the present ones off for the same models."""

from collections.abc import Collection, Iterator
from itertools import count

from sleepd.config.toml_text import write_comment, write_key, write_value
from sleepd.core.model import Settings
from sleepd.tuning.rules import Nap, replaced_rules
from sleepd.tuning.tuner import Proposal
from sleepd.tuning.wording import effect, stated


def write_drop_in(proposal: Proposal, beside: Settings, source: str, when: str) -> str:
    """Return the file's text. `beside`: what all other files say, whose names are left to them and whose timeouts are
    switched off; `source`: what the requests were read from; `when`: the moment, for people."""
    taken = {rule.name for rule in beside.rules}
    left = sorted(proposal.models.keys() - proposal.configured)
    lines = [
        *write_comment(f"Written by sleepd tune on {when}, from {source}; asked for: {stated(proposal.target)}."),
        *(line for sentence in effect(proposal) for line in write_comment(sentence)),
        *(write_comment(f"Not in the configuration, so not here: {', '.join(left)}.") if left else ()),
        *write_comment("After a change: sleepd check, then sleepctl reload. To go back, delete this file."),
    ]
    for nap in proposal.naps:
        models = tuple(model for model in nap.models if model in proposal.configured)
        if models:
            lines += ["", *_rule(nap, models, _free(nap.name, taken))]
    for model in sorted(proposal.configured):
        if off := replaced_rules(beside, model):
            lines += ["", f"[models.{write_key(model)}.rules]"]
            lines += [f"{write_key(rule)} = false" for rule in off]
    return "\n".join(lines) + "\n"


def _free(name: str, taken: Collection[str]) -> str:
    """The name, with a number behind it where somebody else's rule has it."""
    numbered = (f"{name}-{number}" for number in count(2))
    return name if name not in taken else next(other for other in numbered if other not in taken)


def _rule(nap: Nap, models: tuple[str, ...], name: str) -> Iterator[str]:
    yield "[[rules]]"
    yield f"name = {write_value(name)}"
    yield f"models = {write_value(list(models))}"
    yield f"when = {{ idle = {write_value(nap.idle)} }}"
    yield f"then = {{ sleep = {nap.level} }}"
