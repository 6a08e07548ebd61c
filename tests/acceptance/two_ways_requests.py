"""One repeatable successful request for every operation and page."""

import json
from collections.abc import Awaitable, Callable, Mapping

from reservasi.front.api.paths import OPENING_PAGE, OPENINGS_PAGE, STATIC_PATH
from reservasi.front.pages import static_files
from reservasi.front.views.quota_json import moment
from tests.acceptance.two_ways import Sent
from tests.acceptance.two_ways_world import ENGLISH, JSON, REFERENCE, World
from tests.acceptance.waiting import HOUR_MS

Make = Callable[[World], Awaitable[Sent]]


def reading(path: str) -> Make:
    """A GET of a path in which `{program}` is the program's id."""

    async def make(world: World) -> Sent:
        return Sent(method="GET", target=path.format(program=world.stack.program), headers=(ENGLISH,))

    return make


def of_room(suffix: str, kind: str = "joining", *, page: bool = False) -> Make:
    """A GET of something of an opening."""

    async def make(world: World) -> Sent:
        room = await world.room(kind)
        return Sent(method="GET", target=f"{'' if page else '/v1'}/openings/{room.id}{suffix}", headers=(ENGLISH,))

    return make


async def claim(world: World) -> Sent:
    """A claim that was answered before, so that it is a replay."""

    async def make() -> Sent:
        sent = world.claim(world.stack.body(await world.quota()), "the-same-key")
        reply = await world.stack.request(
            sent.method, sent.target, data=sent.body, headers=dict(line.split(": ", 1) for line in sent.headers)
        )
        assert reply.status == 201, reply.text
        return sent

    sent: Sent = await world.once("claim", make)
    return sent


async def find(world: World) -> Sent:
    """The way back to a reservation that is recorded."""

    async def make() -> Sent:
        person, contact = world.stack.applicant(), {"email": "siti@example.id"}
        body = {"quota": await world.quota(), "applicants": [person], "contact": contact}
        held = (await world.stack.claim(body)).json
        assert (await world.stack.managed("POST", held, "/confirm")).status == 200
        proof = {"program": world.stack.program, "nik": person["nik"], "birth_date": person["birth_date"]}
        content = json.dumps({**proof, "contact": contact}).encode()
        return Sent(method="POST", target="/v1/find", headers=(JSON, ENGLISH), body=content)

    sent: Sent = await world.once("find", make)
    return sent


async def show(world: World) -> Sent:
    return world.managed("GET", await world.held())


async def confirm(world: World) -> Sent:
    return world.managed("POST", await world.confirmed(), "/confirm", {"payment_reference": REFERENCE})


async def cancel(world: World) -> Sent:
    return world.managed("POST", await world.ended(), "/cancel")


async def show_qr(world: World) -> Sent:
    return world.managed("GET", await world.confirmed(), "/qr.svg")


async def show_ticket(world: World) -> Sent:
    return world.managed("GET", await world.confirmed(), "/ticket.ics")


async def join(world: World) -> Sent:
    return world.join((await world.room()).id, await world.joiner())


async def list_staff_quotas(world: World) -> Sent:
    return await world.staff("GET", f"/v1/staff/quotas?program={world.stack.program}&limit=5")


async def set_quota(world: World) -> Sent:
    return await world.staff("PUT", f"/v1/staff/quotas/{await world.quota()}", {"capacity": 1000})


async def close_day(world: World) -> Sent:
    async def make() -> Sent:
        day = world.day(1)
        await world.stack.quota(date=day, start="08:00", end="08:30")
        body = {"program": world.stack.program, "date": day, "reason": "libur"}
        assert (await world.stack.staff("POST", "/v1/staff/closures", json=body)).status == 200
        return await world.staff("POST", "/v1/staff/closures", body)

    sent: Sent = await world.once("close day", make)
    return sent


async def cancel_by_staff(world: World) -> Sent:
    ended = await world.ended()
    return await world.staff("POST", f"/v1/staff/reservations/{ended['id']}/cancel", {"reason": "sakit"})


async def list_audit(world: World) -> Sent:
    quota = await world.quota("closed")
    return await world.staff("GET", f"/v1/staff/audit?program={world.stack.program}&quota={quota}")


async def create_opening(world: World) -> Sent:
    async def make() -> Sent:
        body = await world.opening_request()
        reply = await world.stack.staff("POST", "/v1/staff/openings", json=body)
        assert reply.status == 201, reply.text
        return await world.staff("POST", "/v1/staff/openings", body)

    sent: Sent = await world.once("create opening", make)
    return sent


async def change_opening(world: World) -> Sent:
    async def make() -> Sent:
        room = await world.room("moved")
        change = {"opens_at": moment(room.opens_at_ms + HOUR_MS + 17), "reason": "listrik padam"}
        reply = await world.stack.staff("PATCH", f"/v1/staff/openings/{room.id}", json=change)
        assert reply.status == 200, reply.text
        return await world.staff("PATCH", f"/v1/staff/openings/{room.id}", change)

    sent: Sent = await world.once("change opening", make)
    return sent


async def set_admission(world: World) -> Sent:
    async def make() -> Sent:
        room = await world.room("admission")
        path = f"/v1/staff/openings/{room.id}/admission"
        assert (await world.stack.staff("PUT", path, json={"rate_per_min": 7})).status == 200
        return await world.staff("PUT", path, {"rate_per_min": 7})

    sent: Sent = await world.once("set admission", make)
    return sent


async def set_beacon(world: World) -> Sent:
    async def make() -> Sent:
        path = f"/v1/staff/openings/{(await world.room('beacon')).id}/beacon"
        assert (await world.stack.staff("PUT", path, json={"value": "a-value"})).status == 200
        return await world.staff("PUT", path, {"value": "a-value"})

    sent: Sent = await world.once("set beacon", make)
    return sent


OPERATIONS: Mapping[str, Make] = {
    "listPrograms": reading("/v1/programs"),
    "listOffices": reading("/v1/offices?program={program}"),
    "listAvailability": reading("/v1/availability?program={program}&office=mpp-siola"),
    "listDays": reading("/v1/availability/days?program={program}&office=mpp-siola"),
    "streamAvailability": reading("/v1/availability/stream?program={program}&office=mpp-siola"),
    "claim": claim,
    "find": find,
    "showReservation": show,
    "confirm": confirm,
    "cancel": cancel,
    "showQrCode": show_qr,
    "showTicket": show_ticket,
    "listStaffQuotas": list_staff_quotas,
    "setQuota": set_quota,
    "closeDay": close_day,
    "cancelByStaff": cancel_by_staff,
    "listAudit": list_audit,
    "listOpenings": reading("/v1/openings?program={program}&office=mpp-siola"),
    "listOpeningsAsCalendar": reading("/v1/openings.ics?program={program}&office=mpp-siola"),
    "showOpening": of_room(""),
    "showQueue": of_room("/queue"),
    "streamQueue": of_room("/queue/stream"),
    "getChallenge": of_room("/challenge"),
    "join": join,
    "createOpening": create_opening,
    "changeOpening": change_opening,
    "setAdmission": set_admission,
    "setBeacon": set_beacon,
    "describeApi": reading("/openapi.json"),
    "describeProblem": reading("/problems/sold-out"),
}
PAGES: Mapping[str, Make] = {
    OPENINGS_PAGE: reading("/openings"),
    OPENING_PAGE: of_room("", page=True),
    STATIC_PATH: reading(f"{static_files.address()}/style.css"),
}
SUCCEEDING: Mapping[str, Make] = {**OPERATIONS, **PAGES}
