"""Finds the line of each field in a TOML file, which `tomllib` does not report.

Only for text that `tomllib` accepted: the scanner does not validate. Paths are written as in findings, such as
`offices[0].hours.fri.open`.
"""

import bisect
import re
import tomllib

_BLANK = re.compile(r"(?:[ \t\n]|#[^\n]*)*")
_SPACE = re.compile(r"[ \t]*")
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_STRING = re.compile(
    r'"""(?:\\.|[^\\])*?"{3,5}' + r"|'''.*?'{3,5}" + r'|"(?:\\.|[^"\\\n])*"' + r"|'[^'\n]*'",
    re.DOTALL,
)
_SCALAR = re.compile(r"[^,\]}#\n]+")  # numbers, booleans, dates; a space may stand between date and time


def lines_of(text: str) -> dict[str, int]:
    """The 1-based line of every table, field and array item in `text`, by path.

    Raises:
        ValueError: the text is not TOML.
        RecursionError: it is nested too deeply.
    """
    return _Scanner(text.replace("\r\n", "\n")).scan()


def line_of(lines: dict[str, int], path: str) -> int:
    """The line of `path`, or of the nearest enclosing part if the file does not have it; 0 for the whole file."""
    while path:
        if path in lines:
            return lines[path]
        path = path[: max(path.rfind("."), path.rfind("["), 0)]
    return 0


class _Scanner:
    """One pass over a text."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._breaks = [match.start() for match in re.finditer("\n", text)]
        self._lines: dict[str, int] = {}
        self._items: dict[str, int] = {}  # arrays of tables: number of tables so far

    def scan(self) -> dict[str, int]:
        table = ""
        self._take(_BLANK)
        while self._at < len(self._text):
            if self._peek() == "[":
                table = self._header()
            else:
                self._field(table)
            self._take(_BLANK)
        return self._lines

    def _header(self) -> str:
        """Read a `[table]` or `[[array.of.tables]]` header and return the path of the fields below it."""
        line = self._line()
        brackets = 2 if self._text.startswith("[[", self._at) else 1
        self._at += brackets
        keys = self._keys()
        self._at += brackets
        path = ""
        for number, key in enumerate(keys, start=1):
            path = _below(path, key)
            self._lines.setdefault(path, line)
            if brackets == 2 and number == len(keys):
                self._items[path] = self._items.get(path, 0) + 1
            if path in self._items:
                path = f"{path}[{self._items[path] - 1}]"
                self._lines.setdefault(path, line)
        return path

    def _field(self, table: str) -> None:
        line = self._line()
        path = table
        for key in self._keys():
            path = _below(path, key)
            self._lines.setdefault(path, line)
        self._expect("=")
        self._take(_SPACE)
        self._value(path)

    def _value(self, path: str) -> None:
        if self._peek() == "[":
            self._array(path)
        elif self._peek() == "{":
            self._inline_table(path)
        elif self._peek() in "\"'":
            self._must_take(_STRING)
        else:
            self._must_take(_SCALAR)

    def _array(self, path: str) -> None:
        self._at += 1
        self._take(_BLANK)
        item = 0
        while self._peek() != "]":
            item_path = f"{path}[{item}]"
            self._lines.setdefault(item_path, self._line())
            self._value(item_path)
            item += 1
            self._separator("]")
        self._at += 1

    def _inline_table(self, path: str) -> None:
        self._at += 1
        self._take(_BLANK)
        while self._peek() != "}":
            self._field(path)
            self._separator("}")
        self._at += 1

    def _separator(self, end: str) -> None:
        self._take(_BLANK)
        if self._peek() != end:
            self._expect(",")
            self._take(_BLANK)

    def _keys(self) -> list[str]:
        """Read a dotted key, up to the character after it."""
        keys = []
        while True:
            self._take(_SPACE)
            if self._peek() in "\"'":
                keys.append(str(tomllib.loads(f"key = {self._must_take(_STRING)}")["key"]))
            else:
                keys.append(self._must_take(_BARE_KEY))
            self._take(_SPACE)
            if self._peek() != ".":
                return keys
            self._at += 1

    def _line(self) -> int:
        return bisect.bisect_left(self._breaks, self._at) + 1

    def _peek(self) -> str:
        if self._at >= len(self._text):
            raise ValueError(f"the text ends within a value (line {self._line()})")
        return self._text[self._at]

    def _expect(self, mark: str) -> None:
        if self._peek() != mark:
            raise ValueError(f"expected {mark} (line {self._line()})")
        self._at += 1

    def _take(self, pattern: re.Pattern[str]) -> str:
        match = pattern.match(self._text, self._at)
        if match is None:
            return ""
        self._at = match.end()
        return match[0]

    def _must_take(self, pattern: re.Pattern[str]) -> str:
        taken = self._take(pattern)
        if not taken:
            raise ValueError(f"unexpected {self._peek()} (line {self._line()})")
        return taken


def _below(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key
