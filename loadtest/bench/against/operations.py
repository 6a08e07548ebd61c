"""The operations that are compared: those of a person's journey, refusals, and a whole journey."""

import itertools
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass

from loadtest.bench.against.stand import BATCH_ITEMS, CHANNEL, PROGRAM, QUEUE_ITEMS, SERVICE, Stand, held
from loadtest.bench.claims import claim, get, join, send
from loadtest.bench.client import Line, answered, check
from loadtest.bench.figures import WrongResult
from loadtest.bench.variants.ours import standing_still
from loadtest.stage.service import Part, wait_for

HALF_AGAIN = 0.60
NOT_DEARER = 0.95  # aim at 0.85
PAGE = "text/html,application/xhtml+xml,*/*;q=0.8"
STAFF_QUOTAS = f"/v1/staff/quotas?program={PROGRAM}"
POLLS = 10
FILLING = QUEUE_ITEMS + BATCH_ITEMS + 50  # callers while the ledger stands still: a few more than may wait
FILLING_TIMEOUT_S = 10.0

Work = Callable[[Line], None]  # asks on one connection, and checks each answer


@dataclass(frozen=True)
class Operation:
    name: str
    requests: Callable[
        [Stand, int], Iterable[bytes]
    ]  # that many; what they depend on is created here, outside of the measurement
    wanted: int = 200  # the status of every answer, and its problem
    problem: str = ""
    target: float = HALF_AGAIN  # this tree's time, as a share of the other revision's, at most
    block: int = 100  # requests that are asked in a row
    tries: int = 1  # of a block, where what it rests on may be over before it ends
    during: Callable[[Stand], AbstractContextManager[None]] = lambda _: nullcontext()  # entered while they are

    def prepare(self, stand: Stand, count: int) -> Work:
        requests = list(self.requests(stand, count))

        def work(line: Line) -> None:
            for request in requests:
                check(line.ask(request), self.wanted, self.problem)

        return work


def _same(make: Callable[[Stand], bytes]) -> Callable[[Stand, int], Iterable[bytes]]:
    return lambda stand, count: itertools.repeat(make(stand), count)


def _claims(stand: Stand, count: int, quotas: list[str] | None = None) -> Iterator[bytes]:
    offered = itertools.cycle(quotas or stand.quotas)
    return (claim(next(offered), person) for person in stand.people(count))


def _held(stand: Stand, count: int) -> list[tuple[str, str]]:
    with Line(stand.port) as line:
        return [held(line, request) for request in _claims(stand, count)]


def _confirms(stand: Stand, count: int) -> Iterator[bytes]:
    return (send(f"{path}/confirm", {}, bearer) for path, bearer in _held(stand, count))


def _looks(stand: Stand, count: int) -> Iterator[bytes]:
    ((path, bearer),) = _held(stand, 1)
    return itertools.repeat(get(path, bearer), count)


def _joins(stand: Stand, count: int) -> Iterator[bytes]:
    return (join(stand.ahead, person) for person in stand.people(count))


def _queue(stand: Stand) -> bytes:
    return get(f"/v1/openings/{stand.ahead}/queue")


def _availability(stand: Stand) -> bytes:
    office = f"program={PROGRAM}&office={stand.office}&service={SERVICE}&channel={CHANNEL}"
    return get(f"/v1/availability?{office}&from={stand.date}&to={stand.date}")


def _invalid_claims(stand: Stand, count: int) -> Iterator[bytes]:
    wrong = {"name": "", "birth_date": "1899-02-31"}
    people = zip(itertools.cycle(stand.quotas), stand.people(count), strict=False)
    return (claim(quota, person, applicants=[{"nik": person.nik, **wrong}]) for quota, person in people)


def _unadmitted(stand: Stand) -> bytes:
    return claim(stand.paused_quota, stand.holder, ticket=stand.ticket)


def _change_by_viewer(stand: Stand) -> bytes:
    return send(f"/v1/staff/quotas/{stand.sold_out}", {"capacity": 0}, stand.viewer_key, method="PUT")


class Journey(Operation):
    """Two pages, a ticket, ten looks at the queue, a claim, its confirmation, two looks at it."""

    def prepare(self, stand: Stand, count: int) -> Work:
        people = list(zip(stand.people(count), itertools.cycle(stand.quotas), strict=False))
        looks = [get("/openings", accept=PAGE), get(f"/openings/{stand.ahead}", accept=PAGE), *[_queue(stand)] * POLLS]

        def work(line: Line) -> None:
            for person, quota in people:
                check(line.ask(join(stand.ahead, person)), 201)
                path, bearer = held(line, claim(quota, person))
                for request in (*looks, send(f"{path}/confirm", {}, bearer), *[get(path, bearer)] * 2):
                    check(line.ask(request), 200)

        return work


@contextmanager
def _overloaded(stand: Stand) -> Iterator[None]:
    """Stop the ledger's server and fill the front's queue, so that every further claim is refused."""
    with ExitStack() as stack:
        waiting = [stack.enter_context(Line(stand.port)) for _ in range(FILLING)]
        with standing_still(*stand.service.pids(Part.VALKEY)):
            for line, request in zip(waiting, _claims(stand, FILLING), strict=True):
                line.send(request)
            refused = FILLING - QUEUE_ITEMS - BATCH_ITEMS
            nobody = f"{stand.build.name}: nobody was refused"
            wait_for(lambda: answered(waiting) >= refused, FILLING_TIMEOUT_S, nobody)
            yield
        for line in waiting:
            if (status := line.receive().status) not in (201, 503):
                raise WrongResult(f"who waited for the ledger got {status}")


def _sold_out(stand: Stand, count: int) -> Iterator[bytes]:
    return _claims(stand, count, [stand.sold_out])


def _without_ticket(stand: Stand, count: int) -> Iterator[bytes]:
    return _claims(stand, count, [stand.paused_quota])


def _late_confirm(stand: Stand) -> bytes:
    path, bearer = stand.expired
    return send(f"{path}/confirm", {}, bearer)


ALL = (
    Operation("page of openings", _same(lambda _: get("/openings", accept=PAGE))),
    Operation("page of one opening", _same(lambda stand: get(f"/openings/{stand.ahead}", accept=PAGE))),
    Operation("openings", _same(lambda _: get(f"/v1/openings?program={PROGRAM}"))),
    Operation("offices", _same(lambda _: get(f"/v1/offices?program={PROGRAM}"))),
    Operation("programs", _same(lambda _: get("/v1/programs"))),
    Operation("queue", _same(_queue)),
    Operation("availability", _same(_availability), target=NOT_DEARER),
    Operation("join", _joins, 201, target=NOT_DEARER),
    Operation("claim", _claims, 201, target=NOT_DEARER),
    Operation("confirm", _confirms, block=40),
    Operation("status", _looks),
    Operation("409 sold out", _sold_out, 409, "sold-out", target=NOT_DEARER),
    Operation("403 not admitted", _same(_unadmitted), 403, "not-admitted", target=NOT_DEARER),
    Operation("403 waiting room required", _without_ticket, 403, "waiting-room-required", target=NOT_DEARER),
    Operation(
        "503 overloaded",
        _claims,
        503,
        "overloaded",
        target=NOT_DEARER,
        during=_overloaded,
        tries=5,  # a ledger that stands still for long is taken for a lost one
        block=60,
    ),
    Operation("422 invalid claim", _invalid_claims, 422, "invalid-request"),
    Operation("401 no staff key", _same(lambda _: get(STAFF_QUOTAS)), 401, "api-key-required"),
    Operation("403 role", _same(_change_by_viewer), 403, "role-not-allowed"),
    Operation("404 no such path", _same(lambda _: get("/v1/nothing")), 404, "not-found"),
    Operation("405 method", _same(lambda _: get("/v1/programs", method="DELETE")), 405, "method-not-allowed"),
    Operation("410 hold expired", _same(_late_confirm), 410, "hold-expired"),
    Journey("whole journey", _claims, block=6),
)
