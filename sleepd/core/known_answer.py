"""What an engine is known by: answers to one fixed question, compared as far as they are certain."""

from collections.abc import Mapping
from itertools import zip_longest
from math import fsum, isfinite, sqrt

from sleepd.core.frozen import replace
from sleepd.core.model import Verify
from sleepd.core.record import ModelRecord
from sleepd.core.seen import CallCount, EngineFacts, Fingerprint, KnownAnswer

BASE = ""
"""The name under which the base model's answer stands beside those of its LoRA adapters."""
LEAST_COSINE = 0.99
"""Vectors of one question by the same weights differ by rounding alone, far less than this; noise is near 0."""
SAME_COSINE = 0.999
"""Two vectors taken one after the other must agree this well to be known by."""

TAKEN_RUNS = 2
"""How often a question is asked whose answer is to be remembered."""

NOISE_TOKENS = 4
"""So many of the same token in a row answer nothing."""

UPDATED = "somebody else gave it other weights than those of its checkpoint"
NEVER_TAKEN = "somebody slept or woke it before a known answer was taken"


def may_take_answer(record: ModelRecord) -> bool:
    """Whether what it says now may be remembered as known: it answers questions, and nobody ever touched its memory."""
    if record.fingerprint is not None or record.facts is None or not record.facts.asks_at:
        return False
    return record.control is not None and not record.control.any()


def retakes_adapters(record: ModelRecord) -> bool:
    """Whether answers of LoRA adapters are taken before each sleep: where they are loaded, replaced and unloaded as the
    server runs, nobody else knows which there are, and what they say now is what they must say again. Not of one that
    was not compared since it woke."""
    if record.fingerprint is None or record.facts is None or record.spec.verify is Verify.OFF or record.unverified:
        return False
    return record.facts.loads_adapters and bool(record.fingerprint.answer)


def roots_of(facts: EngineFacts) -> dict[str, str]:
    """From where each adapter that is listed was loaded; "" where that is not told."""
    return dict(zip_longest(facts.lora_names, facts.lora_roots[: len(facts.lora_names)], fillvalue=""))


def still_listed(known: Fingerprint, facts: EngineFacts) -> Fingerprint:
    """The known answers without those of adapters that were unloaded since, or are another's by now."""
    if not facts.loads_adapters or not known.adapters:
        return known
    roots = roots_of(facts)
    kept = {name: said for name, said in known.adapters.items() if roots.get(name) == known.roots.get(name, "")}
    return known if len(kept) == len(known.adapters) else replace(known, adapters=kept)


def agreed(first: KnownAnswer, second: KnownAnswer) -> KnownAnswer:
    """What two runs of the same question have in common: nothing, where they disagree from the start."""
    if first.vector or second.vector:
        return first if cosine(first.vector, second.vector) >= SAME_COSINE else KnownAnswer()
    same = 0
    for a, b in zip(first.tokens, second.tokens, strict=False):
        if a != b:
            break
        same += 1
    return KnownAnswer(first.tokens[:same])


def is_same(found: KnownAnswer, known: KnownAnswer) -> bool:
    """Whether the answers agree as far as both go: each is cut where its runner-up came close, which may shift."""
    if known.vector:
        return cosine(found.vector, known.vector) >= LEAST_COSINE
    both = min(len(found.tokens), len(known.tokens))
    return both > 0 and found.tokens[:both] == known.tokens[:both]


def is_noise(answer: KnownAnswer) -> bool:
    """Whether it is what engines without their weights or buffers say: one token over and over. The question counts
    on, so nobody in their right mind answers it so."""
    return len(answer.tokens) >= NOISE_TOKENS and len(set(answer.tokens)) == 1


def differing(found: Mapping[str, KnownAnswer], known: Fingerprint) -> tuple[str, ...]:
    """Under which names another answer came than the known one. An adapter that was unloaded since answers nothing
    and tells nothing; the base model must answer."""
    wrong = [] if is_same(found.get(BASE, KnownAnswer()), known.base) else [BASE]
    wrong += [name for name, answer in known.adapters.items() if name in found and not is_same(found[name], answer)]
    return tuple(wrong)


def cosine(a: tuple[float, ...], b: tuple[float, ...]) -> float:
    """Between -1 and 1; -1 where the lengths differ, a length is 0 or a number is not finite."""
    if len(a) != len(b) or not a or not all(isfinite(x) for x in (*a, *b)):
        return -1.0
    lengths = sqrt(fsum(x * x for x in a)) * sqrt(fsum(y * y for y in b))
    return fsum(x * y for x, y in zip(a, b, strict=True)) / lengths if lengths else -1.0


def has_other_weights(record: ModelRecord) -> bool:
    """Whether somebody gave it weights that reading its checkpoint anew would lose."""
    return record.control is not None and record.control.update != CallCount()
