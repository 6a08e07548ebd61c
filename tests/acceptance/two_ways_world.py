"""Quotas, openings, reservations and keys of the cases on both transports, each created once."""

import datetime as dt
import json
import secrets
from collections.abc import Awaitable, Callable
from typing import Any
from zoneinfo import ZoneInfo

from reservasi.front.views.quota_json import moment
from reservasi.model import StaffRole
from reservasi.sealing import Sealing, load_key_ring
from tests.acceptance.conftest import Stack
from tests.acceptance.test_reservation import PAST, retired
from tests.acceptance.two_ways import Sent
from tests.acceptance.waiting import HOUR_MS, Room, create_room, now_ms

JSON = "Content-Type: application/json"
ENGLISH = "Accept-Language: en"
NOBODY = "a" * 26  # the form of a reservation's id
REFERENCE = "820261127001"


class World:
    """The service, and what was made in it for these cases."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.urls: dict[str, str] = {}  # of fronts, by name
        self._values: dict[str, Any] = {}

    async def once(self, name: str, make: Callable[[], Awaitable[Any]]) -> Any:
        """What `make` makes the first time that something of this name is asked for."""
        if name not in self._values:
            self._values[name] = await make()
        return self._values[name]

    # -- quotas and reservations ---------------------------------------------------------------------------------

    async def quota(self, kind: str = "open") -> str:
        """A quota that is open, closed, not open yet, or full."""
        terms: dict[str, dict[str, Any]] = {
            "open": {"capacity": 1000},
            "closed": {"closed": True},
            "later": {"opens_at_ms": 4_000_000_000_000},
            "full": {"capacity": 0},
        }
        name: str = await self.once(f"quota {kind}", lambda: self.stack.quota(**terms[kind]))
        return name

    async def held(self) -> dict[str, Any]:
        """A reservation that stays held."""

        async def make() -> dict[str, Any]:
            return await self.stack.held(await self.quota())

        held: dict[str, Any] = await self.once("held", make)
        return held

    async def confirmed(self, about: str = "", **terms: Any) -> dict[str, Any]:
        """A reservation that is confirmed and recorded."""

        async def make() -> dict[str, Any]:
            held = await self.stack.held(await self.stack.quota(**terms))
            reply = await self.stack.managed("POST", held, "/confirm", json={"payment_reference": REFERENCE})
            assert reply.status == 200, reply.text
            return held

        held: dict[str, Any] = await self.once(f"confirmed {about}", make)
        return held

    async def cancelled(self) -> dict[str, Any]:
        """One that was confirmed and then cancelled."""

        async def make() -> dict[str, Any]:
            held = await self.confirmed("to be cancelled")
            assert (await self.stack.managed("POST", held, "/cancel")).status == 200
            return held

        held: dict[str, Any] = await self.once("cancelled", make)
        return held

    async def past(self) -> dict[str, Any]:
        """One that was confirmed and whose date has passed."""

        async def make() -> dict[str, Any]:
            held = await self.confirmed("past", **PAST)
            await retired(self.stack, held)
            return held

        held: dict[str, Any] = await self.once("past", make)
        return held

    async def too_late(self) -> dict[str, Any]:
        """One that is confirmed and can no longer be cancelled."""
        return await self.confirmed("too late", cancel_until_ms=await now_ms(self.stack) - 60_000)

    async def ended(self) -> dict[str, Any]:
        """One that was given up."""

        async def make() -> dict[str, Any]:
            held = await self.stack.held(await self.quota())
            assert (await self.stack.managed("POST", held, "/cancel")).status == 200
            return held

        held: dict[str, Any] = await self.once("ended", make)
        return held

    async def expired(self) -> dict[str, Any]:
        """One whose hold has ended by itself."""

        async def make() -> dict[str, Any]:
            held = await self.stack.held(await self.stack.quota(hold_ms=50))

            async def is_over() -> bool:
                return bool((await self.stack.managed("GET", held)).json["status"] == "expired")

            await self.stack.eventually(is_over)
            return held

        held: dict[str, Any] = await self.once("expired", make)
        return held

    # -- waiting rooms -------------------------------------------------------------------------------------------

    async def room(self, kind: str = "joining") -> Room:
        """An opening that can be joined, or not yet, or no more; that has none; that is sold out or called off."""

        async def make() -> Room:
            options: dict[str, dict[str, Any]] = {
                "soon": {"joins_before_ms": 60_000},
                "proof": {"proof_of_work": True},
                "none": {"waiting_room": False},
                "over": {"opens_in_ms": 50, "lasts_ms": 1000},
                "full": {"opens_in_ms": 50, "capacity": 0},
                "drawn": {"opens_in_ms": 2000},
                "opened before": {"opens_in_ms": 50},
                "moved": {"opens_in_ms": 20 * HOUR_MS},
            }
            room = await create_room(self.stack, **options.get(kind, {}))
            if kind == "over":
                await room.until(lambda queue: queue["state"] == "ended")
            elif kind == "opened before":
                await room.opened()
            elif kind == "full":
                await room.until(lambda queue: queue["state"] == "sold_out")
            elif kind == "all closed":
                reply = await self.stack.staff("PUT", f"/v1/staff/quotas/{room.quota}", json={"closed": True})
                assert reply.status == 200, reply.text
                await room.until(lambda queue: queue["state"] == "closed")
            elif kind == "cancelled":
                change = {"cancelled": True, "reason": "banjir", "reason_en": "a flood"}
                reply = await self.stack.staff("PATCH", f"/v1/staff/openings/{room.id}", json=change)
                assert reply.status == 200, reply.text
                await room.until(lambda queue: queue["state"] == "cancelled")
            return room

        result: Room = await self.once(f"room {kind}", make)
        return result

    async def not_admitted(self) -> tuple[Room, dict[str, Any], str]:
        """A room that has opened, one who waits in it, and their ticket."""

        async def make() -> tuple[Room, dict[str, Any], str]:
            room = await self.room("drawn")
            people = [self.stack.applicant() for _ in range(8)]
            tickets = [await room.joined(person) for person in people]
            queue = await room.opened()
            last = max(range(8), key=lambda at: room.number(queue, tickets[at]))
            assert room.number(queue, tickets[last]) > queue["admitted_through"]
            return room, people[last], tickets[last]["ticket"]

        result: tuple[Room, dict[str, Any], str] = await self.once("not admitted", make)
        return result

    # -- keys ----------------------------------------------------------------------------------------------------

    async def key(self, kind: str = "operator") -> str:
        """A staff key: an operator's or a viewer's, without scopes, of another program, expired or revoked."""
        if kind == "operator":
            return self.stack.operator_key
        key: str = await self.once(f"key {kind}", lambda: self._add_key(kind))
        return key

    async def _add_key(self, kind: str) -> str:
        sealing = Sealing(load_key_ring(self.stack.worker.settings.secrets_path, create=False))
        limits: dict[str, dict[str, Any]] = {
            "no scopes": {"scopes": []},
            "elsewhere": {"programs": ["elsewhere"]},
            "expired": {"expires_at": dt.datetime.now(dt.UTC) - dt.timedelta(hours=1)},
        }
        name, key = f"Ani {secrets.token_hex(4)}", f"key-{secrets.token_hex(16)}"
        hashed = sealing.api_key_hash(key)
        await self.stack.worker.records.add_staff(name, StaffRole.OPERATOR, hashed, **limits.get(kind, {}))
        if kind == "revoked":
            assert await self.stack.worker.records.revoke_staff(name) is not None
        return key

    # -- requests ------------------------------------------------------------------------------------------------

    async def staff(self, method: str, path: str, body: Any = None) -> Sent:
        """A call of staff."""
        headers = (f"X-API-Key: {await self.key()}", ENGLISH)
        if body is None:
            return Sent(method=method, target=path, headers=headers)
        return Sent(method=method, target=path, headers=(*headers, JSON), body=json.dumps(body).encode())

    def claim(self, body: Any, key: str | None = None, *headers: str) -> Sent:
        """A claim."""
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        all_headers = (f"Idempotency-Key: {key or secrets.token_hex(8)}", JSON, ENGLISH, *headers)
        return Sent(method="POST", target="/v1/reservations", headers=all_headers, body=content)

    def managed(self, method: str, held: dict[str, Any], suffix: str = "", body: Any = None) -> Sent:
        """A call with the reservation's manage token."""
        headers = (f"Authorization: Bearer {held['manage_token']}", ENGLISH)
        path = f"/v1/reservations/{held['id']}{suffix}"
        if body is None:
            return Sent(method=method, target=path, headers=headers)
        return Sent(method=method, target=path, headers=(*headers, JSON), body=json.dumps(body).encode())

    def join(self, opening: str, body: Any) -> Sent:
        """A join."""
        content = json.dumps(body).encode()
        return Sent(method="POST", target=f"/v1/openings/{opening}/tickets", headers=(JSON, ENGLISH), body=content)

    async def joiner(self) -> dict[str, Any]:
        """Somebody who joins."""
        person: dict[str, Any] = await self.once("joiner", self._joiner)
        return person

    async def _joiner(self) -> dict[str, Any]:
        return {"nik": self.stack.nik(), "birth_date": "1990-07-01"}

    def day(self, number: int) -> str:
        """A date that no other case uses."""
        return (dt.date(2028, 6, 1) + dt.timedelta(days=number)).isoformat()

    async def opening_request(self, ahead_ms: int = 30 * HOUR_MS) -> dict[str, Any]:
        """A request for an opening that can be created."""

        async def make() -> dict[str, Any]:
            day = self.day(0)
            await self.stack.quota(service="penggantian", date=day, start="08:00", end="08:30")
            opens_at = moment(await now_ms(self.stack) // 1000 * 1000 + ahead_ms)
            chosen = {"from": day, "to": day, "service": "penggantian", "office": "kanim"}
            return {"program": self.stack.program, "opens_at": opens_at, **chosen}

        body: dict[str, Any] = await self.once("opening request", make)
        return body

    def today(self) -> str:
        """Today's date in the program's zone."""
        now = self.stack.front.availability.now_ms(self.stack.program)
        return dt.datetime.fromtimestamp(now / 1000, ZoneInfo("Asia/Jakarta")).date().isoformat()
