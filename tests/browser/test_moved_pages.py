"""Pages of an opening that was moved or cancelled: the list, its page, and changes while it is open."""

import base64
import json
import time
from functools import partial
from typing import Any

import pytest
from playwright.async_api import Locator, Page, Route, expect

from reservasi.front.views.quota_json import moment
from tests.acceptance.conftest import Stack
from tests.acceptance.test_closed_openings import change_quota
from tests.acceptance.test_moving import changed
from tests.acceptance.waiting import HOUR_MS, create_room
from tests.browser.conftest import PHONE, Open
from tests.browser.test_pages import fits

pytestmark = pytest.mark.asyncio(loop_scope="session")

DESKTOP = {"width": 1280, "height": 800}


async def _listed(page: Page, url: str, notice: Locator) -> bool:
    """Load the list, which the front builds at most once a second, and see whether it has the notice."""
    await page.goto(url)
    return await notice.count() > 0


@pytest.mark.parametrize("viewport", [PHONE, DESKTOP])
@pytest.mark.parametrize(
    ("locale", "words"),
    [
        ("en-GB", ("This opening was cancelled: a flood", "Moved; it was", "Cancelled")),
        ("id-ID", ("Pembukaan ini dibatalkan: banjir", "Dipindahkan; semula", "Dibatalkan")),
    ],
)
async def test_the_pages_say_what_was_moved_and_what_was_called_off(
    stack: Stack, new_page: Open, viewport: dict[str, int], locale: str, words: tuple[str, str, str]
) -> None:
    called_off, moved, state = words
    off, later = await create_room(stack), await create_room(stack)
    await changed(stack, off, cancelled=True, reason="banjir", reason_en="a flood")
    await changed(stack, later, opens_at=moment(later.opens_at_ms + HOUR_MS), reason="banjir", reason_en="a flood")
    page = await new_page(locale=locale, viewport=viewport)
    for room, notice in ((off, called_off), (later, moved)):
        card = page.locator("li.card", has=page.locator(f'a[href="/openings/{room.id}"]'))
        await stack.eventually(partial(_listed, page, f"{stack.url}/openings", card.locator(".notice")))
        await expect(card.locator(".notice")).to_contain_text(notice)
        assert await fits(page)
        await card.get_by_role("link").click()
        await expect(page.locator("[data-notice]")).to_contain_text(notice)
        assert await fits(page)
    await page.goto(f"{stack.url}/openings/{off.id}")
    await expect(page.locator("[data-state]")).to_have_text(state)
    await expect(page.locator("[data-join]")).to_be_hidden()
    assert await page.get_by_role("timer").count() == 0


async def test_whoever_looks_on_is_told_that_it_moves_and_that_it_is_called_off(stack: Stack, new_page: Open) -> None:
    room = await create_room(stack, opens_in_ms=50_000)  # so near that the page looks every second
    ticket = await room.joined(stack.applicant())
    page = await new_page()
    await page.goto(f"{stack.url}/openings/{room.id}")
    await expect(page.locator("[data-notice]")).to_be_hidden()
    await page.locator("summary", has_text="I already have a ticket").click()
    await page.locator("[data-paste]").get_by_label("Ticket").fill(ticket["ticket"])
    await page.get_by_role("button", name="Use this ticket").click()
    await changed(
        stack, room, opens_at=moment(room.opens_at_ms + 5000), reason="listrik padam", reason_en="a power cut"
    )
    await expect(page.locator("[data-notice]")).to_contain_text("Your ticket stays valid. Reason: a power cut")
    await expect(page.get_by_role("timer")).to_have_attribute("data-until", moment(room.opens_at_ms + 5000))
    await changed(stack, room, cancelled=True, reason="banjir", reason_en="a flood")
    await expect(page.locator("[data-notice]")).to_have_text("This opening was cancelled: a flood")
    await expect(page.locator("[data-state]")).to_have_text("Cancelled")
    await expect(page.locator("[data-standing]")).to_contain_text("this ticket is no longer valid")
    await expect(page.locator("[data-join]")).to_be_hidden()
    await expect(page.get_by_role("timer")).to_be_hidden()


async def test_a_closed_opening_cannot_be_joined_and_keeps_the_ticket_until_it_is_reopened(
    stack: Stack, new_page: Open
) -> None:
    room = await create_room(stack, opens_in_ms=50_000)
    ticket = await room.joined(stack.applicant())
    await change_quota(stack, room.quota, closed=True)
    await room.until(lambda queue: queue["state"] == "closed")
    page = await new_page()
    await page.goto(f"{stack.url}/openings/{room.id}")
    await expect(page.locator("[data-state]")).to_have_text("Closed by the office")
    await expect(page.locator("[data-join]")).to_be_hidden()
    await page.locator("summary", has_text="I already have a ticket").click()
    await page.locator("[data-paste]").get_by_label("Ticket").fill(ticket["ticket"])
    await page.get_by_role("button", name="Use this ticket").click()
    await expect(page.locator("[data-standing]")).to_contain_text("The office has closed all places")
    await expect(page.locator("[data-ticket]")).to_have_text(ticket["ticket"])
    await expect(page.get_by_role("timer")).to_be_hidden()
    await change_quota(stack, room.quota, closed=False)
    await room.until(lambda queue: queue["state"] == "joining")
    await page.reload()
    await expect(page.locator("[data-state]")).to_have_text("You can join; not open yet")
    await expect(page.locator("[data-ticket]")).to_have_text(ticket["ticket"])


DAY_S = 86_400


def ended_long_ago(ticket: str, days: int) -> str:
    """The ticket as it is when its opening moved far ahead after it was issued; the page reads and does not verify it."""
    head, payload, signature = ticket.split(".")
    claims = json.loads(base64.urlsafe_b64decode(payload + "=="))
    claims["exp"] = int(time.time()) - days * DAY_S
    changed = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
    return f"{head}.{changed}.{signature}"


async def test_a_ticket_is_kept_as_long_as_its_moved_opening_is_not_over(stack: Stack, new_page: Open) -> None:
    room = await create_room(stack)
    ticket = (await room.joined(stack.applicant()))["ticket"]
    old, older = ended_long_ago(ticket, 3), ended_long_ago(ticket, 400)
    page = await new_page()
    await page.goto(f"{stack.url}/openings")
    for opening, text in ((room.id, old), ("another", old), ("forgotten", older)):
        await page.evaluate("v => localStorage.setItem('reservasi.ticket.' + v[0], v[1])", [opening, text])
    await page.goto(f"{stack.url}/openings/{room.id}")
    await expect(page.locator("[data-state]")).to_have_text("You can join; not open yet")
    await expect(page.locator("[data-ticket]")).to_have_text(old)
    kept = await page.evaluate("Object.keys(localStorage).sort()")
    assert kept == sorted(f"reservasi.ticket.{opening}" for opening in (room.id, "another"))


@pytest.mark.parametrize(("days", "kept"), [(0.9, True), (1.1, False)])
async def test_a_ticket_is_forgotten_a_day_after_the_present_end_of_its_opening(
    stack: Stack, new_page: Open, days: float, kept: bool
) -> None:
    room = await create_room(stack)
    ticket = (await room.joined(stack.applicant()))["ticket"]
    queue = await room.queue()

    async def answer(route: Route) -> None:
        ended: dict[str, Any] = {**queue, "state": "ended", "ends_at": moment(int((time.time() - days * DAY_S) * 1000))}
        await route.fulfill(json=ended)

    page = await new_page()
    await page.route("**/queue", answer)
    await page.goto(f"{stack.url}/openings")
    await page.evaluate("v => localStorage.setItem('reservasi.ticket.' + v[0], v[1])", [room.id, ticket])
    await page.goto(f"{stack.url}/openings/{room.id}")
    await expect(page.locator("[data-state]")).to_have_text("Over")
    await expect(page.locator("[data-own-ticket]")).to_be_visible(visible=kept)
    assert await page.evaluate("Object.keys(localStorage).length") == int(kept)


async def test_the_page_says_that_nobody_may_book_while_it_is_paused_since_before_it_opened(
    stack: Stack, new_page: Open
) -> None:
    room = await create_room(stack)
    await room.joined(stack.applicant())
    await room.set(paused=True)
    await room.open()
    page = await new_page()
    await page.goto(f"{stack.url}/openings/{room.id}")
    await expect(page.locator("[data-state]")).to_have_text("Paused by staff; you keep your number")
    await expect(page.locator("[data-admitted]")).to_have_text("none yet")
    await room.set(paused=False)
    await expect(page.locator("[data-admitted]")).to_have_text("0 to 0")
