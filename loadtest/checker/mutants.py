"""Would the checker notice? The ledger's library with one bug at a time, and which rule finds it.

Each mutant is an edit of the Lua source: a text that must be there exactly once, so that a change of the library which
would make a mutant mean nothing breaks it loudly. `python -m loadtest.checker.mutants [NAME ...]` prints the table;
exit code 1 when a mutant escaped or the unchanged library did not come out clean.
"""

import argparse
import asyncio
import secrets
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import msgspec

from loadtest.checker.rules import Rule, Violation
from loadtest.checker.trials import Stores, own_stores
from reservasi.ledger.lua.library import DIRECTORY, Library, read_library

HALTED_S = 0.5  # how long a recorder that cannot go on is waited for
UNCHANGED = "(unchanged)"


class EditFailed(Exception):
    """The library has changed: the mutant's old text is not there exactly once."""


class Edit(msgspec.Struct, frozen=True):
    """One change of one source file."""

    file: str  # without .lua
    old: str
    new: str


class Mutant(msgspec.Struct, frozen=True):
    """A library with a bug, and the rules of which at least one must find it."""

    name: str
    rules: frozenset[Rule]
    edits: tuple[Edit, ...]
    halts: bool = False  # the recorder goes no further, as it should


def _mutant(name: str, rules: set[Rule], *edits: tuple[str, str, str], halts: bool = False) -> Mutant:
    return Mutant(name, frozenset(rules), tuple(Edit(*edit) for edit in edits), halts)


NO_STOP = ("confirm", "  stop_timer(call, quota, reservation[R.deadline], id)\n", "")
MUTANTS = (
    _mutant(
        "oversells-by-one",
        {Rule.OVERSOLD},
        ("claim", "return room >= places", "return room + 1 >= places"),
    ),
    _mutant(
        "never-sells-the-last-place",
        {Rule.ANSWER_DIFFERS},
        ("claim", "return room >= places", "return room > places"),
    ),
    _mutant(
        "loses-released-places",
        {Rule.COUNTS_DIFFER},
        ("timers", "    quota[Q.held] = less(quota[Q.held], places)\n    stop_timer", "    stop_timer"),
    ),
    _mutant(
        "confirms-twice",
        {Rule.REPLAY_DIFFERS},
        ("confirm", "  if was_confirmed then", "  if reservation[R.state] == '' then"),
        ("confirm", "  if reservation[R.state] ~= HELD then", "  if reservation[R.state] == CANCELLED then"),
    ),
    _mutant(
        "ignores-who-has-a-place",
        {Rule.TWO_LIVE},
        ("claim", "  local id = get_live_id(call, person)\n", "  local id\n"),
    ),
    _mutant(
        "asks-only-for-the-first-person",
        {Rule.TWO_LIVE},
        ("claim", "seen[person] and number or has_live_reservation(call, person, number)", "seen[person] and number"),
    ),
    _mutant(
        "forgets-who-has-a-place",
        {Rule.PERSONS_DIFFER},
        ("committing", "  call_in_chunks('HSET', call.key.persons, call.held_persons)\n", ""),
    ),
    _mutant(
        "expires-what-is-confirmed",
        {Rule.REPLAY_DIFFERS},
        NO_STOP,
        ("timers", "return reservation[R.state] == HELD\n    and (", "return ("),
        ("timers", "  if reservation[R.state] ~= HELD then -- it may", "  if false then -- it may"),
        ("timers", "    or places_of(reservation) > quota[Q.held] or not is_sound", "    or not is_sound"),
    ),
    _mutant("leaves-a-confirmed-deadline", {Rule.TIMER_DIFFERS}, NO_STOP),
    _mutant(
        "confirms-after-the-deadline",
        {Rule.TIME_DIFFERS},
        ("confirm", "  if is_overdue(call, reservation) then", "  if false then"),
    ),
    _mutant(
        "expires-early",
        {Rule.TIME_DIFFERS},
        ("timers", "and (reservation[R.deadline] <= call.now", "and (reservation[R.deadline] <= call.now + 8000000"),
    ),
    _mutant(
        "holds-for-ever",
        {Rule.TIME_DIFFERS},
        ("claim", "call.now + terms[T.hold]", "call.now + 100 * terms[T.hold]"),
    ),
    _mutant(
        "holds-past-the-closing",
        {Rule.TIME_DIFFERS},
        ("claim", "if closes_at > 0 and closes_at < deadline then", "if false then"),
    ),
    _mutant(
        "confirms-after-an-earlier-closing",
        {Rule.TIME_DIFFERS},
        ("timers", "return closes_at > 0 and closes_at < deadline and closes_at or deadline", "return deadline"),
    ),
    _mutant(
        "revives-holds-with-a-later-closing",
        {Rule.TIME_DIFFERS},
        ("set_quota", "if current and has_closed(call, current) then", "if false then"),
    ),
    _mutant(
        "keeps-the-person-who-cancelled",
        {Rule.PERSONS_DIFFER},
        ("timers", "    call.changed_persons[reservation[index]] = true\n", ""),
    ),
    _mutant(
        "returns-twice",
        {Rule.OVERSOLD, Rule.TIME_DIFFERS},
        (
            "timers",
            "return places > 0 and places <= quota[Q.returning] and 'return' or 'damaged'",
            "return 'return'",
        ),
        ("timers", "'LIMIT', integer(already), integer(most)", "'LIMIT', '0', integer(most)"),
    ),
    _mutant("returns-at-once", {Rule.TIME_DIFFERS}, ("timers", "call.now + terms[T.return_min]", "call.now")),
    _mutant(
        "never-returns",
        {Rule.COUNTS_DIFFER},
        (
            "timers",
            "  set_timer(call, quota_id, quota, at, '+' .. integer(call.seq + 1)",
            "  local _ = ('+' .. call.seq",
        ),
    ),
    _mutant(
        "reserves-again-on-a-replay",
        {Rule.TIME_DIFFERS, Rule.ANSWER_CHANGED},
        ("claim", "local known = call.reservations[id] and", "local known = call.reservations[0] and"),
    ),
    _mutant(
        "answers-a-replay-with-the-present",
        {Rule.ANSWER_CHANGED},
        ("claim", "known[R.held_seq], known, HELD)", "known[R.held_seq], known)"),
    ),
    _mutant(
        "compares-no-fingerprint",
        {Rule.ANSWER_DIFFERS},
        ("claim", "if known and known[R.fingerprint] ~= fingerprint then", "if false then"),
    ),
    _mutant("ignores-closed", {Rule.TIME_DIFFERS}, ("claim", "if terms[T.closed] == 1 or", "if")),
    _mutant(
        "ignores-not-open", {Rule.TIME_DIFFERS}, ("claim", "if terms[T.opens_at] > call.now then", "if false then")
    ),
    _mutant("cancels-too-late", {Rule.TIME_DIFFERS}, ("cancel", "if last_moment > 0 and", "if false and")),
    _mutant(
        "takes-an-import-for-somebody",
        {Rule.REPLAY_DIFFERS},
        ("set_quota", "if actor == IMPORT_ACTOR and", "if false and"),
    ),
    _mutant("sets-below-taken", {Rule.OVERSOLD}, ("set_quota", "if wanted[T.capacity] < taken then", "if false then")),
    _mutant(
        "journals-no-confirmation",
        {Rule.REPLAY_DIFFERS},
        ("confirm", "record(call, { 'c', id, quota_id, places, payment_reference })", "call.seq"),
    ),
    _mutant(
        "skips-a-seq",
        {Rule.JOURNAL_GAP},
        (
            "shared",
            "local events, seq = call.events, call.seq + 1\n",
            "local events, seq = call.events, call.seq + 2\n",
        ),
        halts=True,
    ),
    _mutant(
        "chains-to-nothing",
        {Rule.JOURNAL_GAP},
        ("committing", "    call.chain .. ':' .. call.epoch .. ':' ..", "    ':' .. call.epoch .. ':' .."),
        halts=True,
    ),
    _mutant(
        "loses-an-entry",
        {Rule.JOURNAL_GAP},
        (
            "committing",
            "    local added = redis.pcall(\n      'XADD', call.key.journal,",
            "    local added = #call.events > 1 and redis.pcall(\n      'XADD', call.key.journal,",
        ),
        halts=True,
    ),
    _mutant(
        "retires-what-is-not-over",
        {Rule.TIME_DIFFERS},
        ("retire", "if not is_over(call, id, quota, ends_at) then", "if false then"),
    ),
    _mutant("retires-with-places-taken", {Rule.REPLAY_DIFFERS}, ("retire", "if taken > 0 then", "if false then")),
    _mutant("retires-in-silence", {Rule.REPLAY_DIFFERS}, ("retire", "record(call, { 't', id })", "call.seq")),
    _mutant(
        "retires-reservations-of-others",
        {Rule.REPLAY_DIFFERS, Rule.COUNTS_DIFFER},
        ("retire", "== CONFIRMED and reservation[R.number] == quota[Q.number]", "== CONFIRMED"),
    ),
    _mutant(
        "retires-an-opening-that-goes-on",
        {Rule.OPENING_WRONG},
        ("retire_opening", "if not is_over(call, opening) then", "if false then"),
    ),
    _mutant(
        "retires-an-opening-in-silence",
        {Rule.REPLAY_DIFFERS, Rule.OPENING_DIFFERS},
        ("retire_opening", "record(call, { 'u', id })", "call.seq"),
    ),
    _mutant(
        "moves-the-mark-back",
        {Rule.REPLAY_DIFFERS},
        ("admit", "math.max(mark, math.min(mark + steps, last))", "math.min(steps, last)"),
    ),
    _mutant(
        "draws-again",
        {Rule.REPLAY_DIFFERS},
        ("openings", "  if opening[O.drawn] == 1 then\n    return true", "  if false then\n    return true"),
    ),
    _mutant(
        "lets-two-openings-cover-a-quota",
        {Rule.REPLAY_DIFFERS},
        ("openings", "  if left == '' then\n    return true", "  if left == '' then\n    return false"),
    ),
    _mutant(
        "moves-an-opening-without-its-quotas",
        {Rule.OPENING_WRONG},
        ("move_opening", "  elseif #quotas > 0 then", "  elseif false then"),
    ),
    _mutant(
        "calls-off-and-leaves-quotas-open",
        {Rule.OPENING_WRONG},
        (
            "move_opening",
            "    change_quotas(call, quotas, T.closed, 1, by)",
            "    change_quotas(call, {}, T.closed, 1, by)",
        ),
    ),
    _mutant(
        "moves-what-was-called-off",
        {Rule.OPENING_WRONG},
        ("move_opening", "  if current[O.cancelled] == 1 then", "  if false then"),
    ),
    _mutant(
        "lets-a-quota-leave-its-opening",
        {Rule.OPENING_WRONG},
        ("set_quota", "  if kept_by then", "  if false then"),
    ),
    _mutant(
        "lets-the-end-come-while-it-is-paused",
        {Rule.OPENING_WRONG},
        ("set_opening", "  if lost > 0 then", "  if false then"),
    ),
    _mutant(
        "answers-with-the-seq-before",
        {Rule.ANSWER_DIFFERS},
        ("claim", "    return { 'held', seq, HELD,", "    return { 'held', seq - 1, HELD,"),
        ("claim", "  end\n  return seq, deadline\n", "  end\n  return seq - 1, deadline\n"),
    ),
    _mutant(
        "refuses-for-the-past",
        {Rule.ORDER_DIFFERS},
        ("claim", "return { 'sold_out', call.seq, remaining", "return { 'sold_out', call.seq - 1, remaining"),
    ),
)


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What the checker said of one library."""

    name: str
    expected: frozenset[Rule]  # none: it has no bug
    found: tuple[Violation, ...]

    @property
    def rules(self) -> list[Rule]:
        """The rules that were broken, those that were expected first."""
        found = {violation.rule for violation in self.found}
        return sorted(found, key=lambda rule: (rule not in self.expected, rule))

    @property
    def is_right(self) -> bool:
        """Whether the bug was found, or nothing where there is none."""
        return bool(self.expected.intersection(self.rules)) if self.expected else not self.found


def mutated(mutant: Mutant, directory: Path = DIRECTORY) -> Library:
    """The library with the mutant's bug.

    Raises:
        EditFailed: the source is not as the mutant expects it.
    """
    with tempfile.TemporaryDirectory(prefix="rv-mutant-") as made:
        copy = Path(made)
        shutil.copytree(directory, copy, dirs_exist_ok=True)
        for edit in mutant.edits:
            path = copy / f"{edit.file}.lua"
            source = path.read_text()
            if source.count(edit.old) != 1:
                raise EditFailed(f"{mutant.name}: {edit.file}.lua has {source.count(edit.old)} times {edit.old!r}")
            path.write_text(source.replace(edit.old, edit.new))
        return read_library(copy)


async def judge_mutant(stores: Stores, mutant: Mutant | None, seed: int = 0) -> Verdict:
    """Play one trial with the mutant's library, or with the unchanged one."""
    program = f"m-{secrets.token_hex(4)}"
    if mutant is None:
        found = await stores.judge(read_library(), program, seed=seed)
        return Verdict(name=UNCHANGED, expected=frozenset(), found=found)
    timeout_s = HALTED_S if mutant.halts else None
    found = await stores.judge(mutated(mutant), program, seed=seed, recorded_timeout_s=timeout_s)
    return Verdict(name=mutant.name, expected=mutant.rules, found=found)


def show(verdicts: Sequence[Verdict]) -> int:
    """Print the table; the exit code."""
    width = max(len(verdict.name) for verdict in verdicts)
    for verdict in verdicts:
        said = ", ".join(verdict.rules) or "nothing"
        print(f"{verdict.name:<{width}}  {said}" if verdict.is_right else f"{verdict.name:<{width}}  WRONG: {said}")
    wrong = [verdict for verdict in verdicts if not verdict.is_right]
    for verdict in wrong:
        for violation in verdict.found[:5]:
            print(f"  {verdict.name}: {violation}")
    print(f"{len(verdicts) - len(wrong)} of {len(verdicts)} judged rightly")
    return 1 if wrong else 0


async def _judge_all(mutants: Sequence[Mutant]) -> list[Verdict]:
    async with own_stores() as stores:
        return await asyncio.gather(*(judge_mutant(stores, mutant) for mutant in (None, *mutants)))


def main(arguments: Sequence[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m loadtest.checker.mutants", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="only these mutants")
    names = parser.parse_args(arguments).names
    if unknown := set(names) - {mutant.name for mutant in MUTANTS}:
        parser.error(f"no such mutant: {', '.join(sorted(unknown))}")
    return show(asyncio.run(_judge_all([mutant for mutant in MUTANTS if not names or mutant.name in names])))


if __name__ == "__main__":
    sys.exit(main())
