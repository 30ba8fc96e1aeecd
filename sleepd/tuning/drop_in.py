"""A proposal as a file for /etc/sleepd/conf.d: rules for its timeouts, and the present ones off for the same models."""

from collections.abc import Iterator

from sleepd.config.toml_text import write_comment, write_key, write_value
from sleepd.tuning.rules import Nap
from sleepd.tuning.tuner import Proposal
from sleepd.tuning.wording import effect, stated


def write_drop_in(proposal: Proposal, source: str, when: str) -> str:
    """Return the file's text. `source`: what the requests were read from; `when`: the moment, for people."""
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
            lines += ["", *_rule(nap, models)]
    off = [(m, tuned) for m, tuned in proposal.models.items() if m in proposal.configured and tuned.replaced]
    for model, tuned in off:
        lines += ["", f"[models.{write_key(model)}.rules]"]
        lines += [f"{write_key(rule)} = false" for rule in tuned.replaced]
    return "\n".join(lines) + "\n"


def _rule(nap: Nap, models: tuple[str, ...]) -> Iterator[str]:
    yield "[[rules]]"
    yield f"name = {write_value(nap.name)}"
    yield f"models = {write_value(list(models))}"
    yield f"when = {{ idle = {write_value(nap.idle)} }}"
    yield f"then = {{ sleep = {nap.level} }}"
