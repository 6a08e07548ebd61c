"""A bug in own, fence, load or touch is found by the test of `test_loading.py` that stands beside it."""

from collections.abc import Awaitable, Callable
from typing import TypeAlias

import msgspec
import pytest

from loadtest.checker.mutants import Edit, Mutant, mutated
from reservasi.errors import ItemDamaged
from tests import ledgers
from tests.lua import test_loading as tests

Case: TypeAlias = Callable[[ledgers.Ledger], Awaitable[None]]


class Bug(msgspec.Struct, frozen=True):
    """One change of a library, and the test that must fail with it."""

    name: str
    found_by: Case
    edit: Edit


def _bug(name: str, found_by: Case, file: str, old: str, new: str) -> Bug:
    return Bug(name, found_by, Edit(file, old, new))


def repeated(step: str) -> Case:
    """The test that repeats this step's batch."""
    return lambda ledger: tests.test_a_batch_may_be_repeated(step, ledger)


def not_begun(step: str) -> Case:
    """The test that loads without a beginning."""
    return lambda ledger: tests.test_nobody_loads_what_they_did_not_begin(step, ledger)


BUGS = (
    _bug("owns-elsewhere", tests.test_nobody_owns_what_is_elsewhere, "own", "if not is_where_seen or not", "if not"),
    _bug(
        "owns-half-loaded",
        tests.test_nobody_owns_what_is_half_loaded,
        "own",
        " and redis.call('HEXISTS', call.key.meta, 'loading') == 0",
        "",
    ),
    _bug("owns-another-form", tests.test_nobody_owns_another_form, "own", "not has_other_form(call) and ", ""),
    _bug(
        "owns-under-an-old-epoch", tests.test_nobody_owns_what_is_elsewhere, "own", " or new_epoch <= actual_epoch", ""
    ),
    _bug(
        "owns-as-empty-what-is-not",
        tests.test_nobody_owns_as_empty_what_only_lost_its_place,
        "own",
        " or (epoch == 0 and not is_empty(call))",
        "",
    ),
    _bug(
        "empties-what-was-loaded",
        tests.test_a_beginning_that_is_repeated_empties_nothing,
        "load",
        "is_done = has_begun or begin_loading",
        "is_done = begin_loading",
    ),
    _bug(
        "owns-and-leaves-the-fence",
        tests.test_nobody_loads_what_was_owned_after_their_fence,
        "own",
        "  redis.call('HDEL', call.key.meta, 'fence')\n",
        "",
    ),
    _bug(
        "fences-nothing",
        tests.test_a_fence_lets_nobody_sell_and_keeps_all,
        "fence",
        "item[1], 'run_id', form_of(call) .. ':')",
        "item[1])",
    ),
    _bug(
        "makes-another-form-ours",
        tests.test_a_fence_around_another_form_does_not_make_it_ours,
        "fence",
        "form_of(call) .. ':'",
        "FORM .. ':'",
    ),
    _bug(
        "forgets-who-fenced",
        tests.test_a_fence_around_nothing_says_so,
        "fence",
        "'fence', item[1], 'run_id'",
        "'run_id'",
    ),
    _bug(
        "fences-at-no-place",
        tests.test_a_fence_lets_nobody_sell_and_keeps_all,
        "fence",
        "call.seq, epoch_of(call)",
        "0, tonumber(call.epoch)",
    ),
    _bug(
        "loads-for-anybody",
        tests.test_nobody_loads_what_they_did_not_fence,
        "load",
        "is_done = marks[1] == token",
        "is_done = true",
    ),
    _bug("loads-what-was-not-begun", not_begun("own"), "load", " and (has_begun or step == 'begin')", ""),
    _bug(
        "loads-on-in-another-run",
        tests.test_nobody_loads_on_in_another_run_of_the_server,
        "load",
        "return token .. '@' .. server_run_id()",
        "return token",
    ),
    _bug(
        "begins-in-another-epoch",
        tests.test_nobody_begins_elsewhere,
        "load",
        "if epoch_of(call) ~= row[1] or",
        "if",
    ),
    _bug("begins-at-another-seq", tests.test_nobody_begins_elsewhere, "load", " or call.seq ~= row[2]", ""),
    _bug("begins-in-another-history", tests.test_nobody_begins_elsewhere, "load", " or call.chain ~= row[3]", ""),
    _bug(
        "keeps-persons-when-it-begins",
        tests.test_to_begin_empties_all_but_who_was_counted,
        "load",
        "key.reservations, key.persons,",
        "key.reservations,",
    ),
    _bug(
        "keeps-the-journal-when-it-begins",
        tests.test_to_begin_empties_all_but_who_was_counted,
        "load",
        "key.tombstones, key.journal,",
        "key.tombstones,",
    ),
    _bug(
        "keeps-openings-when-it-begins",
        tests.test_to_begin_empties_all_but_who_was_counted,
        "load",
        "key.names, key.openings",
        "key.names",
    ),
    _bug(
        "marks-no-beginning",
        tests.test_what_is_loaded_is_there,
        "load",
        "'loading', loading_mark(token), 'seq'",
        "'seq'",
    ),
    _bug("empties-a-quota-again", repeated("quotas"), "load", "  if get_quota(call, id) then\n    return\n  end\n", ""),
    _bug(
        "loads-another-version",
        tests.test_what_is_loaded_is_there,
        "load",
        "packed_terms], quota[Q.version] = limits",
        "packed_terms] = limits",
    ),
    _bug(
        "counts-again", repeated("live"), "load", "  if get_reservation(call, id) then\n    return false\n  end\n", ""
    ),
    _bug(
        "holds-for-ever",
        tests.test_what_falls_due_after_the_load_is_swept,
        "load",
        "    set_timer(call, quota_id, quota, row[5], id)\n",
        "",
    ),
    _bug(
        "holds-past-the-closing",
        tests.test_a_loaded_hold_ends_with_the_closing_of_its_quota,
        "load",
        "    note_closing(call, quota_id, quota)\n",
        "",
    ),
    _bug(
        "counts-no-holds",
        tests.test_what_is_loaded_is_there,
        "load",
        "    quota[Q.held] = quota[Q.held] + #persons\n",
        "",
    ),
    _bug(
        "counts-no-confirmations",
        tests.test_what_is_loaded_is_there,
        "load",
        "    quota[Q.confirmed] = quota[Q.confirmed] + #persons\n",
        "",
    ),
    _bug(
        "loads-nobody",
        tests.test_what_is_loaded_is_there,
        "load",
        "call.persons[person], call.changed_persons[person] = id, true",
        "local _ = person",
    ),
    _bug(
        "remembers-for-ever",
        tests.test_what_falls_due_after_the_load_is_swept,
        "load",
        "    call.entombed[#call.entombed + 1] = row[1]\n",
        "call.entombed = {}\n",
    ),
    _bug(
        "returns-again",
        repeated("returns"),
        "load",
        "redis.call('ZSCORE', call.key.timers, timer_of(quota, at, what))",
        "false",
    ),
    _bug(
        "never-returns",
        tests.test_what_falls_due_after_the_load_is_swept,
        "load",
        "  set_timer(call, quota_id, quota, at, what)\n",
        "",
    ),
    _bug(
        "sells-what-is-to-return",
        tests.test_what_is_loaded_is_there,
        "load",
        "  quota[Q.returning] = quota[Q.returning] + places\n",
        "",
    ),
    _bug(
        "writes-none-that-ended",
        tests.test_what_is_loaded_is_there,
        "load",
        "    commit(call)\n",
        "    if step ~= 'ended' then\n      commit(call)\n    end\n",
    ),
    _bug(
        "owns-the-loaded-under-an-old-epoch",
        tests.test_what_is_loaded_is_owned_only_under_a_new_epoch,
        "load",
        "if epoch <= epoch_of(call) then",
        "if false then",
    ),
    _bug(
        "owns-the-loaded-at-the-beginning",
        tests.test_what_is_loaded_is_there,
        "load",
        "take_up(call, epoch, seq, chain)",
        "take_up(call, epoch, 0, chain)",
    ),
    _bug(
        "forgets-that-all-places-came-back",
        tests.test_every_place_of_a_loaded_ledger_counts_as_one_that_came_back,
        "load",
        "  note_freed(call, call.key.quotas)\n",
        "",
    ),
    _bug(
        "owns-and-goes-on-loading",
        tests.test_what_is_loaded_is_owned_only_under_a_new_epoch,
        "load",
        "'HDEL', call.key.meta, 'loading', 'fence'",
        "'HDEL', call.key.meta, 'x'",
    ),
    _bug(
        "touches-nothing",
        tests.test_a_touch_writes_and_changes_nothing_that_is_sold,
        "touch",
        "redis.pcall('HINCRBY', call.key.meta, 'touched', '1')",
        "1",
    ),
)


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name)
async def test_a_bug_is_found(bug: Bug, monkeypatch: pytest.MonkeyPatch, valkey_url: str, program: str) -> None:
    # No rule of the checker applies: it never sees a ledger between two owners.
    library = mutated(Mutant(bug.name, frozenset(), (bug.edit,)))
    monkeypatch.setattr(ledgers, "read_library", lambda: library)
    async with ledgers.open_ledger(valkey_url, program) as ledger:
        with pytest.raises((AssertionError, ItemDamaged)):
            await bug.found_by(ledger)
