"""own, fence and load: who may have a ledger, from where, and that what is loaded is what the rows say.

Each test is asked of libraries with bugs as well: see `test_loading_mutants.py`.
"""

from typing import Any

import pytest

from reservasi.ledger import keys
from reservasi.ledger.wire import messages, stored_forms
from reservasi.model import Find, Outcome, State, Sweep
from tests.ledgers import OTHER_QUOTA, QUOTA, Ledger, claim, opening_set, quota_set, terms

TOKEN = "token"
FAR_MS = 4_000_000_000_000
GONE_MS = 1

QUOTAS = [[QUOTA, 3, messages.encode_terms(terms(10))], [OTHER_QUOTA, 1, messages.encode_terms(terms(5))]]
HELD = ["held", QUOTA, "h", "f", FAR_MS, 4, 4, "", ["ani", "budi"]]
OVERDUE = ["overdue", QUOTA, "h", "f", GONE_MS, 5, 5, "", ["cici"]]
CONFIRMED = ["confirmed", OTHER_QUOTA, "c", "f", FAR_MS, 6, 7, "PAY-1", ["dedi"]]
RELEASED = ["released", QUOTA, "r", "f", FAR_MS, 8, 9, "", ["eka"], GONE_MS]
RETURNS = [[QUOTA, 9, 2, GONE_MS], [QUOTA, 10, 1, FAR_MS]]
CONTENTS: dict[str, list[Any]] = {
    "quotas": QUOTAS,
    "live": [HELD, OVERDUE, CONFIRMED],
    "ended": [RELEASED],
    "returns": RETURNS,
}


async def ask(ledger: Ledger, command: str, *item: Any) -> list[Any]:
    """The one answer to one item."""
    outcome, _, _, _, answers = await ledger.raw(command, [list(item)])
    assert outcome == "done"
    answer: list[Any] = answers[0]
    return answer


async def load(ledger: Ledger, step: str, *rows: list[Any], token: str = TOKEN) -> list[Any]:
    return await ask(ledger, "load", token, step, list(rows))


async def position_of(ledger: Ledger) -> list[Any]:
    """Where the ledger is."""
    at = (await ledger.connection.meta(5.0)).position
    return [at.epoch, at.seq, at.chain]


def moved(at: list[Any]) -> list[Any]:
    """The answer to whoever must not have a ledger that is there."""
    epoch, seq, chain = at
    return ["moved", seq, epoch, chain]


async def is_fenced(ledger: Ledger) -> bool:
    outcome, *_ = await ledger.raw("find", [["nobody"]], epoch=(await position_of(ledger))[0])
    return bool(outcome == "fenced")


async def sold(ledger: Ledger) -> list[Any]:
    """Sell something, so that there is something to lose; where that is."""
    await ledger.run(quota_set(), claim(), opening_set("p-1"))
    return await position_of(ledger)


async def begun(ledger: Ledger) -> None:
    """Fenced, emptied and to be loaded."""
    await sold(ledger)
    await ask(ledger, "fence", TOKEN)
    assert (await load(ledger, "begin", await position_of(ledger)))[0] == "loaded"


async def filled(ledger: Ledger) -> None:
    """Loaded with everything, and sold from under epoch 2."""
    await begun(ledger)
    for step, rows in CONTENTS.items():
        assert await load(ledger, step, *rows) == ["loaded", 0, len(rows)]
    assert await load(ledger, "own", [2, 10, "c" * 40]) == ["loaded", 10, 1]


async def test_every_place_of_a_loaded_ledger_counts_as_one_that_came_back(ledger: Ledger) -> None:
    """What the records did not have is forgotten, and a view of the ledger before still counts it."""
    await begun(ledger)
    await load(ledger, "quotas", *QUOTAS)
    loaded_ms = await ledger.now_ms() + 2
    await ledger.until(loaded_ms)
    await load(ledger, "own", [2, 10, "c" * 40])
    answer = await ledger.one(claim())
    assert loaded_ms <= answer.freed_at_ms <= answer.now_ms


# -- fence -----------------------------------------------------------------------------------------------------------


async def test_a_fence_lets_nobody_sell_and_keeps_all(ledger: Ledger) -> None:
    epoch, seq, chain = await sold(ledger)
    before = await ledger.dump()
    assert not await is_fenced(ledger)
    assert await ask(ledger, "fence", TOKEN) == ["fenced", seq, epoch, chain]
    assert await is_fenced(ledger)
    after = await ledger.dump()
    meta = keys.meta(ledger.program).encode()
    assert before.pop(meta) != after.pop(meta)
    assert before == after
    assert await ask(ledger, "own", epoch, seq, chain, 2) == ["owned", seq]
    assert not await is_fenced(ledger)


async def test_a_fence_around_another_form_does_not_make_it_ours(ledger: Ledger) -> None:
    at = await sold(ledger)
    await ledger.client.hset(keys.meta(ledger.program), "run_id", "another:run")
    assert (await ask(ledger, "fence", TOKEN))[0] == "fenced"
    assert await ask(ledger, "own", *at, 2) == moved(at)


async def test_a_fence_around_nothing_says_so(ledger: Ledger) -> None:
    await ledger.client.delete(keys.meta(ledger.program))
    assert await ask(ledger, "fence", TOKEN) == ["fenced", 0, 0, ""]
    assert await load(ledger, "begin", [0, 0, ""]) == ["loaded", 0, 1]


# -- who may own -----------------------------------------------------------------------------------------------------


async def test_nobody_owns_what_is_elsewhere(ledger: Ledger) -> None:
    at = epoch, seq, chain = await sold(ledger)
    before = await ledger.dump()
    for elsewhere in ([epoch, seq - 1, chain], [epoch, seq, "another"], [epoch + 1, seq, chain], [0, 0, ""]):
        assert await ask(ledger, "own", *elsewhere, 9) == moved(at)
    for not_new in (0, epoch):
        assert await ask(ledger, "own", *at, not_new) == moved(at)
    assert await ledger.dump() == before


async def test_nobody_owns_as_empty_what_only_lost_its_place(ledger: Ledger) -> None:
    await sold(ledger)
    await ledger.client.delete(keys.meta(ledger.program))
    assert await ask(ledger, "own", 0, 0, "", 1) == ["moved", 0, 0, ""]


async def test_nobody_owns_another_form(ledger: Ledger) -> None:
    at = await sold(ledger)
    await ledger.client.hset(keys.meta(ledger.program), "run_id", "another:run")
    assert await ask(ledger, "own", *at, 2) == moved(at)


async def test_nobody_owns_what_is_half_loaded(ledger: Ledger) -> None:
    await begun(ledger)
    await load(ledger, "quotas", *QUOTAS)
    at = await position_of(ledger)
    assert await ask(ledger, "own", *at, 2) == moved(at)
    assert await is_fenced(ledger)


# -- who may load ----------------------------------------------------------------------------------------------------


async def test_nobody_loads_what_they_did_not_fence(ledger: Ledger) -> None:
    at = await sold(ledger)
    before = await ledger.dump()
    assert await load(ledger, "begin", at) == moved(at)
    assert await ledger.dump() == before
    await ask(ledger, "fence", TOKEN)
    await ask(ledger, "fence", "another")
    assert await load(ledger, "begin", at) == moved(at)
    assert await load(ledger, "begin", at, token="another") == ["loaded", 0, 1]


async def test_nobody_loads_what_was_owned_after_their_fence(ledger: Ledger) -> None:
    at = await sold(ledger)
    await ask(ledger, "fence", TOKEN)
    await ask(ledger, "own", *at, 2)
    at = await position_of(ledger)
    assert await load(ledger, "begin", at) == moved(at)
    assert not await is_fenced(ledger)


async def test_a_beginning_that_is_repeated_empties_nothing(ledger: Ledger) -> None:
    await begun(ledger)
    await load(ledger, "own", [2, 0, ""])  # a ledger of no changes: where it is says nothing about what it has
    await ask(ledger, "fence", TOKEN)
    at = await position_of(ledger)
    assert at == [2, 0, ""]
    assert await load(ledger, "begin", at) == ["loaded", 0, 1]
    await load(ledger, "quotas", *QUOTAS)
    before = await ledger.dump()
    assert await load(ledger, "begin", at) == ["loaded", 0, 1]
    assert await ledger.dump() == before


async def test_nobody_begins_elsewhere(ledger: Ledger) -> None:
    at = epoch, seq, chain = await sold(ledger)
    await ask(ledger, "fence", TOKEN)
    before = await ledger.dump()
    for elsewhere in ([epoch + 1, seq, chain], [epoch, seq + 1, chain], [epoch, seq, "another"]):
        assert await load(ledger, "begin", elsewhere) == moved(at)
    assert await ledger.dump() == before


@pytest.mark.parametrize("step", [*CONTENTS, "own"])
async def test_nobody_loads_what_they_did_not_begin(step: str, ledger: Ledger) -> None:
    at = await sold(ledger)
    await ask(ledger, "fence", TOKEN)
    before = await ledger.dump()
    rows = CONTENTS.get(step, [[2, 10, "c"]])
    assert await load(ledger, step, *rows) == moved(at)
    assert await ledger.dump() == before


@pytest.mark.parametrize("step", [*CONTENTS, "own"])
async def test_nobody_loads_on_when_another_has_fenced(step: str, ledger: Ledger) -> None:
    await begun(ledger)
    await ask(ledger, "fence", "another")
    at, before = await position_of(ledger), await ledger.dump()
    rows = CONTENTS.get(step, [[2, 10, "c"]])
    assert await load(ledger, step, *rows) == moved(at)
    assert await ledger.dump() == before
    assert await load(ledger, "begin", at, token="another") == ["loaded", 0, 1]


async def test_nobody_loads_on_in_another_run_of_the_server(ledger: Ledger) -> None:
    run_id = (await ledger.connection.meta(5.0)).run_id
    await begun(ledger)
    meta = keys.meta(ledger.program)
    mark = await ledger.client.hget(meta, "loading")
    assert isinstance(mark, bytes)
    assert mark.decode() == f"{TOKEN}@{stored_forms.FORM}:{run_id}"
    await ledger.client.hset(meta, "loading", f"{TOKEN}@{stored_forms.FORM}:{'f' * 40}")
    assert (await load(ledger, "quotas", *QUOTAS))[0] == "moved"


# -- what is loaded --------------------------------------------------------------------------------------------------


async def test_to_begin_empties_all_but_who_was_counted(ledger: Ledger) -> None:
    await sold(ledger)
    await ledger.run(*(opening_set(f"p-{number}") for number in (2, 3)))
    await begun(ledger)
    left = {key.decode().rpartition(":")[2] for key in await ledger.dump()}
    assert left <= {"meta", "arrived"}
    assert await position_of(ledger) == [1, 0, ""]


async def test_what_was_interrupted_is_begun_anew(ledger: Ledger) -> None:
    await begun(ledger)
    await load(ledger, "quotas", *QUOTAS)
    assert await ask(ledger, "fence", "another") == ["fenced", 0, 1, ""]
    assert await load(ledger, "begin", [1, 0, ""], token="another") == ["loaded", 0, 1]
    assert {key.decode().rpartition(":")[2] for key in await ledger.dump()} <= {"meta", "arrived"}


async def test_what_is_loaded_is_there(ledger: Ledger) -> None:
    await filled(ledger)
    assert await position_of(ledger) == [2, 10, "c" * 40]
    assert await ledger.counts() == (3, 0, 3)
    assert await ledger.counts(OTHER_QUOTA) == (0, 1, 0)
    assert {quota.id: quota.counts.version for quota in (await ledger.snapshot()).quotas} == {QUOTA: 3, OTHER_QUOTA: 1}
    states = {"held": State.HELD, "overdue": State.EXPIRED, "confirmed": State.CONFIRMED, "released": State.RELEASED}
    for id_, state in states.items():
        assert (await ledger.one(Find(reservation_id=id_))).state is state
    for person in ("ani", "budi", "dedi"):
        assert (await ledger.one(claim([person]))).outcome is Outcome.DUPLICATE_APPLICANT
    assert (await ledger.one(claim(["eka"]))).outcome is Outcome.HELD


async def test_a_loaded_hold_ends_with_the_closing_of_its_quota(ledger: Ledger) -> None:
    await begun(ledger)
    await load(ledger, "quotas", [QUOTA, 3, messages.encode_terms(terms(10, closes_at_ms=GONE_MS))])
    await load(ledger, "live", HELD)
    await load(ledger, "own", [2, 10, "c" * 40])
    assert (await ledger.one(Find(reservation_id="held"))).state is State.EXPIRED
    assert (await ledger.one(Sweep(items_max=10))).expired == 1
    assert await ledger.counts() == (0, 0, 0)


async def test_what_falls_due_after_the_load_is_swept(ledger: Ledger) -> None:
    await filled(ledger)
    swept = await ledger.one(Sweep(items_max=100), tombstone_ms=60_000)
    assert swept.outcome is Outcome.SWEPT
    assert await ledger.counts() == (2, 0, 1)  # one hold was overdue, two places were to come back
    assert (await ledger.one(Find(reservation_id="released"))).outcome is Outcome.NOT_FOUND
    assert (await ledger.one(claim(["cici"]))).outcome is Outcome.HELD


@pytest.mark.parametrize("step", CONTENTS)
async def test_a_batch_may_be_repeated(step: str, ledger: Ledger) -> None:
    await begun(ledger)
    for each, rows in CONTENTS.items():
        await load(ledger, each, *rows)
    before = await ledger.dump()
    assert await load(ledger, step, *CONTENTS[step]) == ["loaded", 0, len(CONTENTS[step])]
    assert await ledger.dump() == before


async def test_what_is_loaded_is_owned_only_under_a_new_epoch(ledger: Ledger) -> None:
    await begun(ledger)
    at = await position_of(ledger)
    for not_new in (0, 1):
        assert await load(ledger, "own", [not_new, 10, "c"]) == moved(at)
    assert await is_fenced(ledger)
    assert (await load(ledger, "own", [2, 10, "c"]))[0] == "loaded"
    assert await load(ledger, "own", [3, 10, "c"]) == ["moved", 10, 2, "c"]
    assert await ask(ledger, "own", 2, 10, "c", 3) == ["owned", 10]


# -- touch -----------------------------------------------------------------------------------------------------------


async def test_a_touch_writes_and_changes_nothing_that_is_sold(ledger: Ledger) -> None:
    _, seq, _ = await sold(ledger)
    before, position = await ledger.dump(), await position_of(ledger)
    for times in (1, 2):
        assert await ask(ledger, "touch") == ["touched", seq, times]
        after = await ledger.dump()
        changed = {key for key in after if after[key] != before.get(key)}
        assert changed == {keys.meta(ledger.program).encode()}
        before = after
    assert await position_of(ledger) == position
