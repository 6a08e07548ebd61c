"""Reads a program file, or refuses all of it with every finding named by line and field."""

import re
import tomllib
from pathlib import Path
from typing import Any

import msgspec

from reservasi.errors import FileFinding, ProgramFileError, UnreadableFile
from reservasi.programs.checks import Draft, check
from reservasi.programs.lines import line_of, lines_of
from reservasi.programs.program import Holidays, Office, OpeningRule, Policies, Program
from reservasi.programs.structure import Fault, faults, tidied
from reservasi.text_files import NotUtf8, decode_text

FILE_BYTES_MAX = 1_048_576
FINDINGS_MAX = 100  # the most findings that a person can work through at once

_TOML_PLACE = re.compile(r" \(at (?:line (\d+), column \d+|end of document)\)$")


def read_program(path: Path) -> Program:
    """Read a program from a TOML file.

    Raises:
        ProgramFileError: the file cannot be read or has an error; it holds up to `FINDINGS_MAX` findings, ordered by
            line.
    """
    text = _read_text(path)
    try:
        data = tomllib.loads(text)
        lines = lines_of(text)
    except RecursionError as error:
        raise _refused(path, 0, "TOML", "the file is nested too deeply") from error
    except ValueError as error:  # TOMLDecodeError, and plain ValueError, such as for a number with thousands of digits
        raise _refused(path, *_syntax_finding(str(error), text)) from error
    data = tidied(data, Program)
    program_faults = list(faults(data, Program, ""))
    program_faults += check(_draft(data, program_faults))
    if program_faults:
        raise ProgramFileError(str(path), _findings(program_faults, lines))
    return msgspec.convert(data, Program)


def _read_text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        raise UnreadableFile(str(path), f"cannot be read: {error.strerror}") from error
    if len(content) > FILE_BYTES_MAX:
        raise UnreadableFile(str(path), f"is larger than {FILE_BYTES_MAX} bytes")
    try:
        return decode_text(content)
    except NotUtf8 as error:
        if not error.line:
            raise UnreadableFile(str(path), str(error)) from error
        raise _refused(path, error.line, "file", str(error)) from error


def _refused(path: Path, line: int, field: str, message: str) -> ProgramFileError:
    return ProgramFileError(str(path), [FileFinding(line=line, field=field, message=message)])


def _syntax_finding(message: str, text: str) -> tuple[int, str, str]:
    """Line, field and message of an error of `tomllib`; the field is the key on that line, if there is one."""
    place = _TOML_PLACE.search(message)
    all_lines = text.splitlines() or [""]
    if place is None:
        return 0, "TOML", message
    line = int(place[1]) if place[1] else len(all_lines)
    written = all_lines[line - 1] if line <= len(all_lines) else ""
    key = written.partition("=")[0].strip() if "=" in written else ""
    return line, key or "TOML", message[: place.start()]


def _findings(program_faults: list[Fault], lines: dict[str, int]) -> list[FileFinding]:
    once = dict.fromkeys(program_faults)  # an error in an office may appear for each of its quotas
    findings = [FileFinding(line=line_of(lines, path), field=path, message=message) for path, message in once]
    findings.sort(key=lambda finding: finding.line)
    if len(findings) > FINDINGS_MAX:
        rest = FileFinding(line=0, field="file", message=f"{len(findings) - FINDINGS_MAX} more findings are not shown")
        return [*findings[:FINDINGS_MAX], rest]
    return findings


def _draft(data: dict[str, Any], known_faults: list[Fault]) -> Draft:
    """The well-formed parts of the file, for the checks of their meaning."""
    broken = [path for path, _ in known_faults]

    def part(path: str, value: Any, expected: Any) -> Any:
        if value is None or any(_within(fault, path) for fault in broken):
            return None
        return msgspec.convert(value, expected)

    offices = _tables(data.get("offices")) or []
    read = {number: part(f"offices[{number}]", raw, Office) for number, raw in enumerate(offices)}
    return Draft(
        timezone=part("timezone", data.get("timezone"), str),
        policies=part("policies", data.get("policies"), Policies),
        opening=part("opening", data.get("opening"), OpeningRule),
        holidays=part("holidays", data.get("holidays"), Holidays),
        offices={}
        if "offices" in broken
        else {number: office for number, office in read.items() if office is not None},
        office_ids=_ids(data.get("offices")) or [],
        service_ids=_ids(data.get("services")),
        channel_ids=_ids(data.get("channels")),
    )


def _within(fault: str, path: str) -> bool:
    """Whether the fault lies at `path` or below it."""
    return fault == path or fault.startswith((f"{path}.", f"{path}["))


def _tables(value: object) -> list[Any] | None:
    return value if isinstance(value, list) else None


def _ids(value: object) -> list[str | None] | None:
    """The ids of a list of tables, in order; None for a table without an id."""
    tables = _tables(value)
    if tables is None:
        return None
    ids = [table.get("id") if isinstance(table, dict) else None for table in tables]
    return [one if isinstance(one, str) else None for one in ids]
