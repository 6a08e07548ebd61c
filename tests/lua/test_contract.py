"""Each Lua file's header is compared with its body, the enum, the keys and a real run of its example."""

import ast
import re
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from reservasi.ledger import keys
from reservasi.ledger.answer_release import SETTLE_MARGIN_MS
from reservasi.ledger.lua.library import COMMANDS, DIRECTORY, SHARED, USED_LATER, read_library
from reservasi.ledger.wire import messages, stored_forms
from reservasi.model import APPLICANTS_MAX, Command, Confirm, Outcome, Release
from reservasi.settings import Settings
from tests.ledgers import OTHER_QUOTA, Ledger, claim, open_ledger, opening_set, quota_set

EXAMPLE_QUOTA = "p.o.s.20261201.0800.online"
EXAMPLE_ID = "abcd..."
OUTCOME_LINE = re.compile(r"^--   ([a-z_]+)(?:  +| *$)")
RETURNED = re.compile(r"(?:return \{\s*|describe(?:_opening)?\(call, )'([a-z_]+)'")


def _source(command: str) -> str:
    return (DIRECTORY / f"{command}.lua").read_text()


def _split(command: str) -> tuple[list[str], str]:
    """The header's lines, and the body without comments."""
    lines = _source(command).splitlines()
    end = next(at for at, line in enumerate(lines) if not line.startswith("--"))
    return lines[:end], "\n".join(line.partition(" -- ")[0] for line in lines[end:] if not line.startswith("--"))


def _documented(command: str) -> list[str]:
    """The outcomes that the header names, in its order."""
    header, _ = _split(command)
    start = next(at for at, line in enumerate(header) if line.startswith("-- Outcomes, in order of precedence"))
    outcomes = []
    for line in header[start + 1 :]:
        if not line.startswith("--   "):
            break
        matched = OUTCOME_LINE.match(line)
        assert matched, f"{command}: {line!r} names no outcome"
        outcomes.append(matched[1])
    return outcomes


def _returned(command: str) -> list[str]:
    """The outcomes that the body returns, in the order in which it can."""
    return list(dict.fromkeys(RETURNED.findall(_split(command)[1])))


def _lua_value(text: str) -> Any:
    """A Lua literal of nested arrays, numbers and texts."""
    return ast.literal_eval(text.replace("{", "[").replace("}", "]"))


def _example(command: str) -> tuple[list[Any], list[Any]]:
    header, _ = _split(command)
    start = next(at for at, line in enumerate(header) if line.startswith("-- Example: "))
    text = " ".join(line.removeprefix("--").strip() for line in header[start:])
    item, answer = text.removeprefix("Example: ").split(" -> ")
    return _lua_value(item), _lua_value(answer)


def _agrees(answer: Any, documented: Any) -> bool:
    """Whether an answer is the documented one; "..." at a text's end and moments stand for what differs each time."""
    if isinstance(documented, list):
        return (
            isinstance(answer, list)
            and len(answer) == len(documented)
            and all(_agrees(one, other) for one, other in zip(answer, documented, strict=True))
        )
    if isinstance(documented, str) and documented.endswith("...") and documented != EXAMPLE_ID:
        return isinstance(answer, str)
    if isinstance(documented, int) and documented > 1_000_000_000_000:
        return isinstance(answer, int) and answer > 1_000_000_000_000
    return bool(answer == documented)


def test_every_command_has_its_file_and_every_file_its_command() -> None:
    assert sorted(path.stem for path in DIRECTORY.glob("*.lua")) == sorted([*COMMANDS, *SHARED])
    assert set(messages.COMMAND_NAMES.values()) | {"snapshot", "own", "touch", "fence", "load"} == set(COMMANDS)
    for command in COMMANDS:
        body = _split(command)[1]
        registered = re.findall(r"register\('([a-z_]+)'|function_name = '@LIBRARY@_([a-z_]+)'", body)
        assert [one or other for one, other in registered] == [command]


@pytest.mark.parametrize("command", COMMANDS)
def test_a_header_names_purpose_item_and_example(command: str) -> None:
    header, _ = _split(command)
    assert re.match(rf"^-- {command}: \w.*[.;]", header[0])
    assert any(re.match(r"-- Items?: \{", line) for line in header)
    assert any(line.startswith("-- Example: ") for line in header)


@pytest.mark.parametrize("command", COMMANDS)
def test_documented_outcomes_are_the_returned_ones_in_the_same_order(command: str) -> None:
    documented = _documented(command)
    assert documented, "no outcome is documented"
    assert len(set(documented)) == len(documented)
    assert documented == _returned(command)


def test_all_outcomes_together_are_the_enum() -> None:
    assert "'fenced'" in _split("committing")[1]
    assert "'damaged'" in _split("shared")[1]
    everywhere = {outcome for command in COMMANDS for outcome in _documented(command)} | {"fenced", "damaged"}
    assert everywhere == {outcome.value for outcome in Outcome}


def test_shared_names_the_keys_in_the_order_in_which_they_are_sent() -> None:
    header, body = _split("shared")
    named = [
        (int(number), name)
        for line in header
        for number, name in re.findall(r"^--   KEYS\[(\d+)\] (\w+) +(?:hash|zset|stream|list) ", line)
    ]
    sent = keys.program_keys("p")
    assert [number for number, _ in named] == list(range(1, len(sent) + 1))
    assert [key.removeprefix("{p}:") for key in sent] == [name for _, name in named]
    assert f"KEY_COUNT = {len(sent)}" in body
    assert f"local FORM = '{stored_forms.FORM}'" in body
    assert f"local FORMER_FORM = '{stored_forms.FORMER_FORM}'" in body
    bound = re.findall(r"(\w+) = keys\[(\d+)\]", body)
    assert [(int(number), name) for name, number in bound] == named


def test_shared_knows_the_limits_of_the_service() -> None:
    """What it remembers of places that came free is of use as long as some front may say "sold out" without them."""
    body = _split("shared")[1]
    few, said_ms = (int(re.findall(rf"local {name} = (\d+)", body)[0]) for name in ("FEW", "FREED_SAID_MS"))
    (stale_ms_max,) = [limit.le for limit in Settings.model_fields["view_stale_ms"].metadata if hasattr(limit, "le")]
    assert few == APPLICANTS_MAX
    assert said_ms > stale_ms_max + SETTLE_MARGIN_MS


@pytest.mark.parametrize("command", [command for command in COMMANDS if command in messages.COMMAND_NAMES.values()])
def test_the_item_has_as_many_fields_as_the_wire_sends(command: str) -> None:
    header, _ = _split(command)
    layout = re.sub(r"\([^)]*\)", "", next(line for line in header if re.match(r"-- Items?: \{", line)))
    depth_1 = re.sub(r"\{[^{}]*\}", "inner", layout.partition("{")[2].partition("}")[0])
    assert len(depth_1.split(",")) == len(_example(command)[0])


# What has happened before each example, so that it runs exactly as documented.
async def _nothing(_: Ledger) -> None:
    return


def _after(*commands: Command) -> Callable[[Ledger], Awaitable[None]]:
    async def prepare(ledger: Ledger) -> None:
        await ledger.run(*commands)

    return prepare


async def _before_sweep(ledger: Ledger) -> None:
    released = claim(quota=EXAMPLE_QUOTA)
    answers = await ledger.run(
        quota_set(EXAMPLE_QUOTA, return_min_ms=1, return_max_ms=1),
        quota_set(OTHER_QUOTA, hold_ms=1),
        released,
        Release(reservation_id=released.reservation_id),
        *(claim(quota=OTHER_QUOTA) for _ in range(3)),
    )
    await ledger.until(answers[-1].now_ms + 2)


async def _before_load(ledger: Ledger) -> None:
    await ledger.raw("fence", [["t..."]])


_created = quota_set(EXAMPLE_QUOTA)
_held = claim(quota=EXAMPLE_QUOTA, reservation_id=EXAMPLE_ID)
_confirmed = Confirm(reservation_id=EXAMPLE_ID)
PREPARED: dict[str, Callable[[Ledger], Awaitable[None]]] = {
    "own": _nothing,
    "touch": _nothing,
    "fence": _nothing,
    "load": _before_load,
    "claim": _after(_created),
    "confirm": _after(_created, _held),
    "release": _after(_created, _held),
    "cancel": _after(_created, _held, _confirmed),
    "find": _after(_created, _held, _confirmed),
    "set_quota": _after(_created, _held, _confirmed),
    "snapshot": _after(_created),
    "sweep": _before_sweep,
    "retire": _after(quota_set(EXAMPLE_QUOTA, date="2020-11-01", start="08:00", end="09:00"), _held, _confirmed),
    "set_opening": _after(opening_set("p-1")),
    "move_opening": _after(opening_set("p-1")),
    "retire_opening": _after(opening_set("p-1", opens_at_ms=1, ends_at_ms=2)),
    "join": _after(opening_set("p-1")),
    "admit": _after(opening_set("p-1")),
}


@pytest.mark.parametrize("command", COMMANDS)
async def test_the_example_runs_as_documented(command: str, valkey_url: str, program: str) -> None:
    item, documented = _example(command)
    async with open_ledger(valkey_url, program, owned=command != "own") as ledger:
        await PREPARED[command](ledger)
        outcome, _, _, _, answers, *_ = await ledger.raw(command, item if command == "claim" else [item])
    assert outcome == "done"
    assert _agrees(answers, [documented]), f"{answers} is not {documented}"


def test_a_command_in_a_block_of_its_own_is_used_by_no_other() -> None:
    bodies = {command: _split(command)[1] for command in COMMANDS}
    for command in set(COMMANDS) - set(USED_LATER):
        for name in re.findall(r"^local (?:function )?(\w+)", bodies[command], re.MULTILINE):
            using = [
                other
                for other, body in bodies.items()
                if re.search(rf"(?<![\w'.]){name}\b(?! *=)", body)
                and not re.search(rf"local (?:function )?[\w, ]*\b{name}\b", body)
            ]
            assert using == [], f"{name} of {command}.lua is used by {using}"


def test_the_library_is_named_after_its_content() -> None:
    library = read_library()
    assert library.source.startswith(f"#!lua name={library.name}\n")
    assert "@LIBRARY@" not in library.source
    assert library.function("claim") == f"{library.name}_claim"


def test_fields_are_looked_up_by_number(tmp_path: Path) -> None:
    assert not re.findall(r"\b[A-Z]{1,2}\.\w+", read_library().source)
    shutil.copytree(DIRECTORY, tmp_path, dirs_exist_ok=True)
    (tmp_path / "find.lua").write_text(_source("find").replace("return {", "local _ = call[Q.hedl] return {", 1))
    with pytest.raises(KeyError, match="hedl"):
        read_library(tmp_path)


@pytest.mark.parametrize(
    ("key_count", "extra"), [(11, ["0", b"\x90", ""]), (12, ["0", b"\x90"]), (12, ["0", b"\x90", "", "more"])]
)
async def test_a_call_with_other_counts_is_refused(ledger: Ledger, key_count: int, extra: list[Any]) -> None:
    before = await ledger.dump()
    for command in COMMANDS:
        sent = keys.program_keys(ledger.program)[:key_count]
        with pytest.raises(Exception, match="expected"):
            await ledger.client.fcall(read_library().function(command), key_count, *sent, *extra)
    assert await ledger.dump() == before
