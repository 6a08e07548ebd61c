"""Finds where the body of a request that aiohttp reads may end, so that aiohttp gets no byte of the next request."""

from aiohttp import hdrs
from aiohttp.http_parser import RawRequestMessage

POSSIBLE_ENDS_MAX = 1000  # in one body
_EMPTY_LINE = b"\r\n\r\n"  # the end of every chunked body (RFC 9112, section 7.1)


class BodyEnd:
    """The possible ends of one body. aiohttp alone knows which of them is the end of a chunked body."""

    def __init__(self, message: RawRequestMessage) -> None:
        self._is_chunked = message.chunked
        self._found = 0
        self._missing_bytes = int(message.headers.get(hdrs.CONTENT_LENGTH, "0"))

    @property
    def is_too_far(self) -> bool:
        """Whether there were so many possible ends that the end is not looked for any longer."""
        return self._found > POSSIBLE_ENDS_MAX

    def next(self, data: bytes, at: int) -> int:
        """The first possible end after `at`, or what of `data` is before the end; `at` if more bytes are needed.

        Part of an empty line at the end of `data` is left over.
        """
        if not self._is_chunked:
            end = min(len(data), at + self._missing_bytes)
            self._missing_bytes -= end - at
            return end
        found = data.find(_EMPTY_LINE, at)
        if found >= 0:
            self._found += 1
            return found + len(_EMPTY_LINE)
        for part_bytes in range(len(_EMPTY_LINE) - 1, 0, -1):
            if data.endswith(_EMPTY_LINE[:part_bytes], at):
                return len(data) - part_bytes
        return len(data)
