"""Which model a body is for, read without parsing more of it than needed.

A whole small body is decoded partially: msgspec checks its syntax and makes objects only of the wanted members (0.8 µs
at 1 kB). A large one is looked through as it arrives: strings are skipped by searching for their end, so that 20 MB of
base64 cost some microseconds per read, and nothing is kept but the place.
"""

from __future__ import annotations

import json
import re
from typing import Any

import msgspec

from sleepd.gateway.errors import Refusal

NAME_LIMIT = 1024
"""Bytes of a member's name or of a model's that are looked at; longer ones are no model's."""


DEPTH_LIMIT = 1000
"""Of objects and arrays in each other: about where Python's own parser, the server's, gives up."""


class Wanted(msgspec.Struct, gc=False):
    """The members that matter here. Types are checked by us, so that an error says what was found."""

    model: Any = None
    stream: Any = None
    previous_response_id: Any = None


_decode = msgspec.json.Decoder(Wanted).decode


def read_json(body: bytes) -> Wanted:
    """Return the wanted members of a whole body. Raises Refusal where it is no JSON object."""
    try:
        return _decode(body)
    except msgspec.ValidationError:
        raise Refusal(400, "invalid_body", "wanted a JSON object, found another JSON value") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Refusal(400, "invalid_json", f"the body is not valid JSON: {error}") from None
    except RecursionError:
        raise _too_deep() from None


def _too_deep() -> Refusal:
    return Refusal(400, "invalid_json", "the body is nested too deeply")


class Scanner:
    """Looks for top-level members of a JSON object that arrives in pieces: `feed` them, then see `found`.

    It follows strings and nesting and judges nothing else: whether the rest is JSON is for the server to say. Where a
    member comes twice the first counts here and the last there; the name is then one that server does not have.
    Raises Refusal where it is nested too deeply.
    """

    __slots__ = ("_depth", "_escaped", "_in_string", "_is_key", "_kept", "_key", "_scalar", "found")

    def __init__(self) -> None:
        self.found = Wanted()
        self._depth = 0
        self._in_string = self._escaped = self._is_key = False
        self._kept: bytearray | None = None
        self._key = ""
        self._scalar = False

    def feed(self, piece: bytes) -> None:
        """Look through the next piece."""
        at, end = 0, len(piece)
        while at < end:
            at = self._string(piece, at) if self._in_string else self._structure(piece, at)

    def _string(self, piece: bytes, at: int) -> int:
        """Skip to behind the string's end, or to the end of the piece."""
        start = at
        if self._escaped:
            at += 1
            self._escaped = False
        end = piece.find(b'"', at) + 1
        if end and end - 2 >= at and piece[end - 2] == _BACKSLASH:
            rest = _REST_OF_STRING.match(piece, at)
            end = rest.end() if rest is not None else 0
        if end:
            self._keep(piece, start, end - 1)
            self._in_string = False
            self._end_string()
            return end
        self._keep(piece, start, len(piece))
        last = len(piece)
        while last > at and piece[last - 1] == _BACKSLASH:
            last -= 1
        self._escaped = (len(piece) - last) % 2 == 1
        return len(piece)

    def _keep(self, piece: bytes, start: int, stop: int) -> None:
        if self._kept is not None and len(self._kept) <= NAME_LIMIT:
            self._kept += piece[start : min(stop, start + NAME_LIMIT + 1)]

    def _end_string(self) -> None:
        kept, self._kept = self._kept, None
        if kept is None or len(kept) > NAME_LIMIT:
            return
        try:
            text = json.loads(b'"' + bytes(kept) + b'"')
        except ValueError:
            return
        if self._is_key:
            self._key = text
        elif self._key in ("model", "previous_response_id"):
            self._set(text)

    def _set(self, value: Any) -> None:
        if getattr(self.found, self._key) is None:
            setattr(self.found, self._key, value)
        self._key = ""

    def _structure(self, piece: bytes, at: int) -> int:
        """Go on to behind the next byte that means something outside of strings."""
        if self._depth > 1:
            # Whole strings, and brackets without others inside, are of no interest here: one search skips them all.
            at = _DEEPER.match(piece, at).end()  # type: ignore[union-attr]  # it matches the empty string too
        found = _STRUCTURE.search(piece, at)
        if found is None:
            return len(piece)
        byte = found.group()
        if byte == b'"':
            self._in_string = True
            self._is_key = self._depth == 1 and not self._scalar
            wanted = self._is_key or (self._depth == 1 and self._key in ("model", "previous_response_id"))
            self._kept = bytearray() if wanted else None
        elif byte in b"{[":
            self._depth += 1
            if self._depth > DEPTH_LIMIT:
                raise _too_deep()
            self._scalar = False if self._depth == 1 else self._scalar
        elif byte in b"}]":
            self._depth -= 1
        elif self._depth == 1:
            if byte == b":":
                self._scalar = True
            elif byte == b",":
                self._scalar, self._key = False, ""
            elif byte == b"t" and self._scalar and self._key == "stream":
                self._set(True)
        return found.end()


_BACKSLASH = ord("\\")
# Each group that gives nothing back (*+) may match nothing last: Python before 3.11.5 goes on from where its last round
# failed half-way, not from where that began (CPython gh-106052).
_REST_OF_STRING = re.compile(rb'(?s:[^"\\]++|\\.|)*+"')
_STRUCTURE = re.compile(rb'["{}\[\]:,t]')
_SHORT = rb'"[^"\\]{0,999}+(?:\\.[^"\\]{0,999}+|){0,99}+"'
"""A string worth skipping by pattern; the end of a long one is found 50 times as fast by searching for its quote."""
_FLAT = rb'(?s:[^"{}\[\]]++|' + _SHORT + rb"|)*+"
_DEEPER = re.compile(rb'(?s:[^"{}\[\]]++|' + _SHORT + rb"|\{" + _FLAT + rb"\}|\[" + _FLAT + rb"\]|)*+")
