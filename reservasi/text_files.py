"""Text files as saved by editors: UTF-8, with or without the byte order mark of Windows."""

import codecs

from reservasi.errors import ConfigurationError

_BYTE_ORDER_MARK = codecs.BOM_UTF8
_UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


class NotUtf8(ConfigurationError):
    """A file has another encoding; `line` is the first wrong line, 0 for the whole file."""

    def __init__(self, line: int, message: str) -> None:
        self.line = line
        super().__init__(message)


def without_byte_order_mark(content: bytes) -> bytes:
    """The content of a UTF-8 file without its byte order mark.

    Raises:
        NotUtf8: it is UTF-16, as some editors and shells of Windows save it.
    """
    if content.startswith(_UTF_16) or content[:2].count(0) == 1:  # UTF-16 without a mark: every other byte is zero
        raise NotUtf8(0, "is saved as UTF-16 (`Unicode`): save it as UTF-8")
    return content.removeprefix(_BYTE_ORDER_MARK)


def decode_text(content: bytes) -> str:
    """The text of a UTF-8 file.

    Raises:
        NotUtf8: it is in another encoding.
    """
    try:
        return without_byte_order_mark(content).decode("utf-8")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise NotUtf8(line, "is not UTF-8 text: save it as UTF-8") from error
