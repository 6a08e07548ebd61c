"""Answers while the result is unknown: never a wrong promise, always a Retry-After."""

import asyncio
import secrets
from pathlib import Path
from typing import Any

import pytest

from reservasi.admin import front_readiness
from reservasi.bootstrap.fronts import open_front
from reservasi.errors import LedgerFault
from reservasi.ledger import keys
from reservasi.ledger.wire import stored_forms
from tests.proxy import open_proxy

pytestmark = pytest.mark.asyncio(loop_scope="session")


def asks_again_later(reply: Any, name: str) -> None:
    reply.is_problem(name, 503)
    assert reply.headers["Retry-After"] in {"1", "2", "3", "4", "5"}
    assert reply.headers["Cache-Control"] == "no-store"


async def serving(front: Any, program: str) -> bool:
    return front.catalogue.program(program) is not None and bool(front.availability.knows(program))


async def test_a_fenced_ledger_sells_nothing_until_it_is_owned_again(stack: Any) -> None:
    quota = await stack.quota()
    body, key = stack.body(quota), secrets.token_hex(8)
    await stack.worker.client.hset(keys.meta(stack.program), "run_id", f"{stored_forms.FORM}:another-run")
    refused = await stack.claim(body, key)
    asks_again_later(refused, "recovering")

    async def is_held() -> bool:
        reply = await stack.claim(body, key)
        if reply.status != 201:
            asks_again_later(reply, "recovering")
        return bool(reply.status == 201)

    await stack.eventually(is_held)
    await stack.eventually(lambda: serving(stack.front, stack.program))
    assert (await stack.seen(quota, lambda q: q.counts.held == 1)).remaining == 9


async def test_a_full_queue_refuses_fast(stack: Any, listening: Any) -> None:
    quota = await stack.quota(capacity=100)
    settings = stack.front.settings.model_copy(update={"queue_items_max": 1})
    async with open_front(settings) as front, listening(front) as url:
        await stack.eventually(lambda: serving(front, stack.program))
        crowd = stack.at(url)
        replies = await asyncio.gather(*(crowd.claim(stack.body(quota)) for _ in range(50)))
    refused = [reply for reply in replies if reply.status != 201]
    assert refused
    for reply in refused:
        asks_again_later(reply, "overloaded")
    held = len(replies) - len(refused)
    assert (await stack.seen(quota, lambda q: q.counts.held == held)).counts.held == held


async def test_a_confirm_that_is_not_recorded_yet(stack: Any, listening: Any) -> None:
    held = await stack.held(await stack.quota())
    settings = stack.front.settings.model_copy(update={"confirm_wait_ms": 0})
    async with open_front(settings) as front, listening(front) as url:
        await stack.eventually(lambda: serving(front, stack.program))
        hasty = stack.at(url)
        reply = await hasty.managed("POST", held, "/confirm")
        assert (reply.status, reply.json) == (202, {"id": held["id"], "status": "confirming"})
        assert reply.headers["Retry-After"] in {"1", "2", "3", "4", "5"}
        shown = (await hasty.managed("GET", held)).json
        assert shown["status"] in ("confirming", "confirmed")
        assert ("booking_code" in shown) == (shown["status"] == "confirmed")

        async def is_recorded() -> bool:
            return bool((await hasty.managed("POST", held, "/confirm")).status == 200)

        await stack.eventually(is_recorded)


@pytest.mark.parametrize(
    ("confirmed", "waiting", "ended"), [(True, "cancelling", "cancelled"), (False, "releasing", "released")]
)
async def test_a_cancel_that_is_not_recorded_yet(
    stack: Any, listening: Any, confirmed: bool, waiting: str, ended: str
) -> None:
    held = await stack.held(await stack.quota())
    if confirmed:
        assert (await stack.managed("POST", held, "/confirm")).status == 200
    settings = stack.front.settings.model_copy(update={"confirm_wait_ms": 0})
    async with open_front(settings) as front, listening(front) as url:
        await stack.eventually(lambda: serving(front, stack.program))
        hasty = stack.at(url)
        reply = await hasty.managed("POST", held, "/cancel")
        assert (reply.status, reply.json) == (202, {"id": held["id"], "status": waiting})
        assert reply.headers["Retry-After"] in {"1", "2", "3", "4", "5"}
        assert (await hasty.managed("GET", held)).json["status"] in (waiting, ended)

        async def is_recorded() -> bool:
            again = await hasty.managed("POST", held, "/cancel")
            return bool((again.status, again.json) == (200, {"id": held["id"], "status": ended}))

        await stack.eventually(is_recorded)
    assert (await stack.managed("GET", held)).json["status"] == ended


async def test_what_was_seen_last_is_shown_while_the_ledger_is_away(
    stack: Any, listening: Any, valkey_url: str
) -> None:
    quota = await stack.quota()
    async with open_proxy(valkey_url) as proxy:
        settings = stack.front.settings.model_copy(update={"redis_url": proxy.url, "command_timeout_ms": 200})
        async with open_front(settings) as front, listening(front) as url:
            await stack.eventually(lambda: serving(front, stack.program))
            cut_off = stack.at(url)
            await proxy.close()
            proxy.cut()

            async def is_lost() -> bool:
                return not front.availability.ready

            await stack.eventually(is_lost)
            shown = await cut_off.request("GET", f"/v1/availability?program={stack.program}")
            assert shown.status == 200
            assert quota in {each["id"] for each in shown.json["quotas"]}
            asks_again_later(await cut_off.claim(stack.body(quota)), "recovering")


async def test_a_front_that_does_not_reach_the_ledger(stack: Any, listening: Any, tmp_path: Path) -> None:
    quota = await stack.quota()
    settings = stack.front.settings.model_copy(update={"redis_url": f"unix://{tmp_path}/nobody.sock"})
    async with open_front(settings) as front, listening(front) as url:
        early = stack.at(url)
        for path in ("/v1/availability", "/v1/openings", "/v1/availability/stream"):
            asks_again_later(await early.request("GET", path), "recovering")
        asks_again_later(await early.claim(stack.body(quota)), "recovering")
        asks_again_later(await early.staff("GET", "/v1/staff/quotas"), "recovering")
        change = await early.staff("PUT", f"/v1/staff/quotas/{quota}", json={"capacity": 5})
        asks_again_later(change, "recovering")
        assert (await early.request("GET", "/v1/programs")).status == 200
        ready = front_readiness(front.availability, front.catalogue)()
        assert (ready["availability"], ready["catalogue"]) == (False, True)
        assert "does not answer" in str(ready["missing"])


async def test_a_bug_is_answered_without_details(
    stack: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    held = await stack.held(await stack.quota())

    def fails(*_: object) -> None:
        raise LedgerFault("secret details")

    monkeypatch.setattr(stack.front.reservations, "enqueue_find", fails)
    reply = await stack.managed("GET", held, headers={"Accept-Language": "en"})
    problem = reply.is_problem("internal-error", 500)
    assert "secret details" not in reply.text
    logged = capsys.readouterr()
    assert problem["request_id"] in logged.out + logged.err
