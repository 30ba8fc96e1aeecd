"""Which model a multipart form is for, read as the form arrives, with the parser that vLLM's own server uses."""

from __future__ import annotations

from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import MultipartParser, parse_options_header

from sleepd.gateway.errors import Refusal
from sleepd.gateway.peek import NAME_LIMIT, Wanted


class FormScanner:
    """Looks for the field `model` of a form: `feed` it the body's pieces, then see `found`. Raises Refusal."""

    __slots__ = ("_field", "_header", "_kept", "_parser", "found")

    def __init__(self, content_type: bytes) -> None:
        kind, options = parse_options_header(content_type)
        boundary = options.get(b"boundary")
        if kind != b"multipart/form-data" or not boundary:
            raise Refusal(400, "invalid_body", "wanted a body of type multipart/form-data with a boundary")
        self.found = Wanted()
        self._field, self._header, self._kept = b"", b"", bytearray()
        # Every callback begins with what it is given; names as python-multipart has them.
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._begin_part,
                "on_part_data": self._take_data,
                "on_part_end": self._end_part,
                "on_header_begin": self._begin_header,
                "on_header_field": self._take_header_name,
                "on_header_value": self._take_header_value,
                "on_header_end": self._end_header,
            },
        )

    def feed(self, piece: bytes) -> None:
        """Look through the next piece."""
        try:
            self._parser.write(piece)
        except MultipartParseError as error:
            raise Refusal(400, "invalid_body", f"the form cannot be read: {error}") from None

    def _begin_part(self) -> None:
        self._field = b""

    def _begin_header(self) -> None:
        self._header = b""
        self._kept.clear()

    def _take_header_name(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _take_header_value(self, data: bytes, start: int, end: int) -> None:
        if len(self._kept) <= NAME_LIMIT:
            self._kept += data[start:end]

    def _end_header(self) -> None:
        if self._header.lower() == b"content-disposition":
            _, options = parse_options_header(bytes(self._kept))
            self._field = b"" if b"filename" in options else options.get(b"name", b"")
        self._kept.clear()

    def _take_data(self, data: bytes, start: int, end: int) -> None:
        if self._field == b"model" and len(self._kept) <= NAME_LIMIT:
            self._kept += data[start:end]

    def _end_part(self) -> None:
        if self._field == b"model" and self.found.model is None and len(self._kept) <= NAME_LIMIT:
            self.found.model = self._kept.decode(errors="replace")
        self._kept.clear()
