"""The pages in a browser: on a phone, in both languages, without scripts, and by keyboard."""

import json
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Page, Route, expect

from reservasi.front.pages import static_files
from reservasi.waiting_room import draw
from tests.acceptance.conftest import Stack
from tests.acceptance.waiting import create_room
from tests.browser.conftest import WAIT_MS, Open

pytestmark = pytest.mark.asyncio(loop_scope="session")
expect.set_options(timeout=WAIT_MS)

CONTRAST_LEAST = 4.5  # WCAG 2.2, 1.4.3 (AA)
CONTRASTS = Path(__file__).with_name("contrasts.js").read_text()
CLOCKFACE = re.compile(r"^([0-9]+ days )?[0-9]{2}:[0-9]{2}:[0-9]{2}$")


async def module(page: Page, name: str, expression: str, *values: Any) -> Any:
    """What an expression of one of our modules (`m`) and the values (`v`) is, in the page."""
    source = f"async ([url, v]) => {{ const m = await import(url); return {expression}; }}"
    return await page.evaluate(source, [f"{static_files.address()}/{name}", list(values)])


async def fits(page: Page) -> bool:
    """Whether nothing has to be scrolled sideways."""
    return bool(await page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth"))


# -- everybody -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("locale", "title", "states"), [("en-GB", "Openings", "Open"), ("id-ID", "Pembukaan", "buka")])
async def test_openings_are_listed_in_the_readers_language(
    stack: Stack, new_page: Open, locale: str, title: str, states: str
) -> None:
    room = await create_room(stack)
    page = await new_page(locale=locale)
    await page.goto(f"{stack.url}/openings")
    assert await page.locator("html").get_attribute("lang") == locale[:2]
    await expect(page.get_by_role("heading", level=1)).to_have_text(title)
    card = page.locator("li.card", has=page.locator(f'a[href="/openings/{room.id}"]'))
    await expect(card.get_by_role("timer")).to_have_text(re.compile(r"[0-9]{2}:[0-9]{2}:[0-9]{2}"))
    await card.get_by_role("link").click()
    await expect(page).to_have_url(f"{stack.url}/openings/{room.id}")
    await expect(page.locator("[data-state]")).not_to_have_text("–")


async def test_the_countdown_goes_by_the_servers_clock(stack: Stack, new_page: Open) -> None:
    room = await create_room(stack, opens_in_ms=5 * 3_600_000)
    for path in ("/openings", f"/openings/{room.id}"):
        page = await new_page()
        await page.clock.set_fixed_time("2001-01-01T00:00:00Z")
        await page.goto(stack.url + path)
        timer = page.locator(f'[data-until^="{(await room.queue())["opens_at"][:19]}"]')
        await expect(timer).to_have_text(re.compile(r"^04:59:[0-9]{2}$|^05:00:00$"))
        shown = await timer.text_content()
        await expect(timer).not_to_have_text(shown or "")  # it moves


async def test_a_screen_reader_hears_the_countdown_once_a_minute_at_most(stack: Stack, new_page: Open) -> None:
    room = await create_room(stack)
    page = await new_page()
    await page.goto(f"{stack.url}/openings/{room.id}")
    announcer = page.locator("[data-announce]")
    await expect(announcer).to_have_text(re.compile(r"^Minutes until it opens: (59|60)$"))
    assert await announcer.get_attribute("role") == "status"
    count = """async () => {
        const seen = { timer: 0, announcer: 0 };
        const watch = (name, element) => new MutationObserver(() => { seen[name] += 1; }).observe(
            element, { childList: true, characterData: true, subtree: true });
        watch("timer", document.querySelector("[role=timer]"));
        watch("announcer", document.querySelector("[data-announce]"));
        while (seen.timer < 3) await new Promise((done) => setTimeout(done, 50));
        return seen.announcer;
    }"""
    assert await page.evaluate(count) == 0


async def test_they_are_readable_without_a_script(stack: Stack, new_page: Open) -> None:
    room = await create_room(stack)
    page = await new_page(java_script_enabled=False)
    await page.goto(f"{stack.url}/openings")
    await expect(page.locator(f'a[href="/openings/{room.id}"] time')).to_be_visible()
    await page.locator(f'a[href="/openings/{room.id}"]').click()
    await expect(page.locator("time").first).to_be_visible()
    await expect(page.get_by_text(room.opening.terms.commitment)).to_be_visible()
    await expect(page.get_by_role("link", name="the queue's data (JSON)")).to_be_visible()
    assert await page.get_by_role("button").count() == 0
    assert await page.get_by_role("textbox").count() == 0


@pytest.mark.parametrize("colours", ["light", "dark"])
async def test_they_fit_a_small_phone_and_can_be_read(stack: Stack, new_page: Open, colours: str) -> None:
    room = await create_room(stack)
    for path in ("/openings", f"/openings/{room.id}", "/openings/nothing"):
        page = await new_page(color_scheme=colours)
        await page.goto(stack.url + path)
        if path.endswith(room.id):
            await expect(page.locator("[data-join]")).to_be_visible()
            await page.get_by_text("I already have a ticket").click()
        assert await fits(page), path
        contrasts = await page.evaluate(CONTRASTS)
        assert len(contrasts) > 3
        assert {text: ratio for text, ratio in contrasts if ratio < CONTRAST_LEAST} == {}
        await page.set_viewport_size({"width": 1280, "height": 800})
        assert await fits(page), path


async def test_everything_has_a_name_and_its_place(stack: Stack, new_page: Open) -> None:
    room = await create_room(stack)
    for path in ("/openings", f"/openings/{room.id}"):
        page = await new_page()
        await page.goto(stack.url + path)
        levels = await page.eval_on_selector_all("h1, h2, h3", "all => all.map((each) => Number(each.tagName[1]))")
        assert levels[0] == 1
        assert levels.count(1) == 1
        assert all(after <= before + 1 for before, after in pairwise(levels))
        unnamed = "all => all.filter((each) => !each.labels?.length).map((each) => each.outerHTML)"
        assert await page.eval_on_selector_all("input, textarea", unnamed) == []
        twice = "all => { const ids = all.map((e) => e.id); return ids.filter((id, at) => ids.indexOf(id) !== at); }"
        assert await page.eval_on_selector_all("[id]", twice) == []
        nowhere = """all => all.flatMap((e) => ["aria-labelledby", "aria-describedby", "for"]
            .map((name) => e.getAttribute(name)).filter((id) => id && !document.getElementById(id)))"""
        assert await page.eval_on_selector_all("*", nowhere) == []
        await page.keyboard.press("Tab")
        await expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
        await page.keyboard.press("Enter")
        await expect(page.locator("main")).to_be_focused()


async def test_a_page_loads_nothing_from_anybody_else(stack: Stack, new_page: Open) -> None:
    room = await create_room(stack)
    page = await new_page()
    urls: list[str] = []
    page.on("request", lambda request: urls.append(request.url))
    await page.goto(f"{stack.url}/openings/{room.id}")
    await expect(page.locator("[data-state]")).to_have_text("You can join; not open yet")
    assert urls
    assert all(url.startswith(f"{stack.url}/") for url in urls)


# -- what scripts compute ------------------------------------------------------------------------------------------


async def test_the_draw_is_the_same_in_the_browser(stack: Stack, new_page: Open) -> None:
    page = await new_page()
    await page.goto(f"{stack.url}/openings")
    for at, joined in enumerate((1, 7, 1000, 999_983, 2**31)):
        seed, ticket_id, beacon = draw.new_seed(), f"{at:022}", "" if at % 2 else "2026-12-01 drand ±"
        assert await module(page, "draw.js", "await m.commitment(v[0])", seed.hex()) == draw.commitment(seed)
        number = await module(page, "draw.js", "await m.drawnNumber(...v)", seed.hex(), ticket_id, beacon, joined)
        assert number == draw.number(seed, ticket_id, beacon, joined)


async def test_the_queue_is_asked_for_as_often_as_it_can_change(stack: Stack, new_page: Open) -> None:
    page = await new_page()
    await page.goto(f"{stack.url}/openings")
    queue = {"opens_at": "1970-01-01T01:00:00Z", "joins_from": "1970-01-01T00:30:00Z"}
    for state, now_s, visible, pause_ms in (
        ("announced", 0, True, 30_000),
        ("announced", 1730, True, 10_000),
        ("announced", 1790, True, 1000),
        ("joining", 1800, True, 10_000),
        ("joining", 3535, True, 5000),
        ("joining", 3599, True, 1000),
        ("open", 3600, True, 1000),
        ("open", 3600, False, 10_000),
        ("paused", 3700, True, 1000),
        ("sold_out", 3700, True, 30_000),
        ("ended", 9000, True, 30_000),
        ("closed", 3700, True, 30_000),
    ):
        given = [{**queue, "state": state}, now_s * 1000, visible]
        assert await module(page, "queue.js", "m.pause(...v)", *given) == pause_ms, (state, now_s)
    failures = await module(page, "queue.js", "[1, 2, 3, 9].map((n) => m.pauseAfterFailure(n, v[0]))", None)
    assert failures == [2000, 4000, 8000, 30_000]
    assert await module(page, "queue.js", "m.pauseAfterFailure(1, '7')") == 7000


async def test_the_clock_is_learnt_from_several_answers(stack: Stack, new_page: Open) -> None:
    page = await new_page()
    await page.goto(f"{stack.url}/openings")
    source = """(() => {
        const clock = new m.ServerClock();
        const ahead = 5_000_000_000_123 - performance.now();
        for (let at = 0; at < 40; at += 1) {
            // Of so many answers as are kept, each comes at another fraction of a second: wherever the first one began.
            const sent = at * 1051, received = sent + 20;
            const date = new Date(Math.floor((sent + 10 + ahead) / 1000) * 1000).toUTCString();
            clock.learn(new Response(null, { headers: { Date: date } }), sent, received);
        }
        clock.learn(new Response(null, { headers: { Date: new Date(0).toUTCString(), Age: "3" } }), 0, 1);
        return clock.now() - (performance.now() + ahead);
    })()"""
    assert abs(await module(page, "clock.js", source)) < 100


async def test_words_are_there_in_both_languages() -> None:
    text = static_files.content("words.js").decode()
    indonesian, english = text.split("  en: {")
    keys = [re.findall(r"^    (\w+): ", part, re.MULTILINE) for part in (indonesian, english)]
    assert keys[0] == keys[1]
    assert len(keys[0]) > 20
    values = [dict(re.findall(r'^    (\w+): "(.*)",$', part, re.MULTILINE)) for part in (indonesian, english)]
    for key in keys[0]:
        assert re.findall(r"\{\w+\}", values[0][key]) == re.findall(r"\{\w+\}", values[1][key]), key


# -- the waiting room ----------------------------------------------------------------------------------------------


async def join(page: Page, stack: Stack) -> dict[str, Any]:
    """Join by the form; the ticket as the page keeps it."""
    person = stack.applicant()
    form = page.locator("[data-join]")
    await form.get_by_label("NIK").fill(person["nik"])
    await form.get_by_label("Date of birth").fill(person["birth_date"])
    await form.get_by_role("button", name="Join now").click()
    await expect(page.locator("[data-join-answer]")).to_have_text("You have joined. Keep this ticket.")
    await expect(form).to_be_hidden()
    token = await page.locator("[data-ticket]").text_content() or ""
    assert person["nik"] not in await page.content()
    [kept] = await page.evaluate("Object.values(localStorage)")
    assert kept == token
    ticket: dict[str, Any] = {**await module(page, "ticket.js", "m.readTicket(v[0])", token), "ticket": token}
    return {**ticket, "ticket_id": ticket["id"], "person": person}


async def test_from_joining_to_ones_turn(stack: Stack, new_page: Open) -> None:
    room = await create_room(stack, opens_in_ms=6000)
    page = await new_page()
    await page.goto(f"{stack.url}/openings/{room.id}")
    standing = page.locator("[data-standing]")
    await expect(standing).to_have_text("There is no ticket in this browser yet.")
    ticket = await join(page, stack)
    for _ in range(5):
        await room.joined(stack.applicant())
    await expect(standing).to_have_text("You have a ticket. The draw at the opening decides your number.")
    queue = await room.opened()
    number = room.number(queue, ticket)
    await expect(standing).to_contain_text(f"Your number is {number}.")
    await expect(page.locator("[data-joined]")).to_have_text("6")
    await expect(page.locator("[data-seed]")).to_have_text(queue["seed"])
    assert (await room.claim(ticket["person"], ticket["ticket"])).status == (201 if number == 0 else 403)
    await room.admit_all()
    await expect(standing).to_contain_text("It is your turn: book now with this ticket.")
    await expect(page.locator("[data-heard]")).to_contain_text("It is your turn")
    await expect(page.locator("[data-admitted]")).to_have_text("0 to 6")

    form = page.locator("[data-verify]")
    findings = form.locator("li")
    await form.get_by_role("button").click()
    await expect(findings).to_have_text(
        [
            "✓ The seed agrees with the commitment that was published before.",
            f"✓ Computed from public data: number {number} of 6 people.",
        ]
    )
    await form.get_by_label("The number you were told (optional)").fill(str(number + 1))
    await form.get_by_role("button").click()
    await expect(findings.last).to_have_text(
        f"✗ Computed from public data: number {number}, not {number + 1}. Please report this to the office."
    )


async def test_a_seed_that_does_not_agree_is_found(stack: Stack, new_page: Open) -> None:
    room = await create_room(stack, opens_in_ms=1000)
    await room.joined(stack.applicant())
    await room.opened()
    page = await new_page()

    async def forge(route: Route) -> None:
        response = await route.fetch()
        await route.fulfill(response=response, json={**await response.json(), "seed": draw.new_seed().hex()})

    await page.route("**/queue", forge)
    await page.goto(f"{stack.url}/openings/{room.id}")
    await expect(page.locator("[data-seed]")).to_have_text(re.compile("^[0-9a-f]{64}$"))
    await page.locator("[data-verify]").get_by_role("button").click()
    await expect(page.locator("[data-findings] li")).to_have_text(
        "✗ The seed does NOT agree with the commitment. Please report this to the office."
    )


async def test_joining_with_a_proof_of_work(stack: Stack, new_page: Open) -> None:
    room = await create_room(stack, proof_of_work=True)
    page = await new_page()
    await page.goto(f"{stack.url}/openings/{room.id}")
    ticket = await join(page, stack)
    assert ticket["opening"] == room.id


async def test_a_refusal_is_said_in_the_readers_language(stack: Stack, new_page: Open) -> None:
    room = await create_room(stack)
    for locale, message in (("en-GB", "This NIK is not valid"), ("id-ID", "NIK tidak sah")):
        page = await new_page(locale=locale)
        await page.goto(f"{stack.url}/openings/{room.id}")
        form = page.locator("[data-join]")
        await form.locator("[name=nik]").fill("0" * 16)
        await form.locator("[name=birth_date]").fill("1990-07-01")
        await form.get_by_role("button").click()
        await expect(page.locator("[data-join-answer]")).to_contain_text(message)
        await expect(form.locator("[aria-invalid=true]")).to_have_attribute("name", "nik")
        assert await page.evaluate("localStorage.length") == 0


async def test_a_pasted_ticket_counts_where_it_belongs(stack: Stack, new_page: Open) -> None:
    room, other = await create_room(stack), await create_room(stack)
    tickets = [(await each.joined(stack.applicant()))["ticket"] for each in (room, other)]
    page = await new_page()
    await page.goto(f"{stack.url}/openings/{room.id}")
    await page.get_by_text("I already have a ticket").click()
    for text, message in (
        ("nonsense", "This text is not a ticket. Copy all of the ticket, without spaces."),
        (tickets[1], "This ticket is for another opening."),
        (tickets[0], "You have a ticket. The draw at the opening decides your number."),
    ):
        await page.locator("[data-paste]").get_by_label("Ticket").fill(text)
        await page.get_by_role("button", name="Use this ticket").click()
        await expect(page.locator("[data-standing]")).to_have_text(message)
    await page.reload()
    await expect(page.locator("[data-ticket]")).to_have_text(tickets[0])
    await forget(page, "Remove it")
    await expect(page.locator("[data-standing]")).to_have_text("There is no ticket in this browser yet.")
    assert await page.evaluate("localStorage.length") == 0


async def forget(page: Page, answer: str) -> None:
    """All the taps that removing the ticket takes; none of them can be meant otherwise."""
    leave = page.get_by_role("button", name="Remove the ticket from this browser")
    await expect(leave).to_be_hidden()
    await page.get_by_text("This is a shared computer or phone").click()
    await leave.click()
    dialog = page.get_by_role("dialog", name="Remove the ticket from this browser?")
    await expect(dialog.get_by_role("button", name="Keep it")).to_be_focused()
    await dialog.get_by_role("button", name=answer).click()
    await expect(dialog).to_be_hidden()


@pytest.mark.parametrize("viewport", [{"width": 320, "height": 640}, {"width": 1280, "height": 900}])
async def test_the_ticket_is_kept_across_tabs_until_somebody_means_to_forget_it(
    stack: Stack, new_page: Open, viewport: Any
) -> None:
    room = await create_room(stack)
    page = await new_page(viewport=viewport)
    await page.goto(f"{stack.url}/openings/{room.id}")
    ticket = (await join(page, stack))["ticket"]
    await page.evaluate("localStorage.setItem('reservasi.ticket.old', 'x.' + btoa('{\"exp\": 1}') + '.x')")
    tab = await page.context.new_page()
    await tab.goto(f"{stack.url}/openings/{room.id}")
    await expect(tab.locator("[data-ticket]")).to_have_text(ticket)
    assert await tab.evaluate("Object.keys(localStorage)") == [f"reservasi.ticket.{room.id}"]
    await forget(tab, "Keep it")
    await expect(tab.locator("[data-ticket]")).to_have_text(ticket)
    await tab.keyboard.press("Escape")
    assert await fits(tab)
    await tab.reload()
    await forget(tab, "Remove it")
    for each in (page, tab):
        await expect(each.locator("[data-own-ticket]")).to_be_hidden()
        await expect(each.locator("[data-join]")).to_be_visible()


@pytest.mark.parametrize("width", [320, 360, 390, 430, 768, 1280])
async def test_the_values_of_an_opening_have_room_beside_their_names(stack: Stack, new_page: Open, width: int) -> None:
    room = await create_room(stack)
    page = await new_page(viewport={"width": width, "height": 800})
    await page.goto(f"{stack.url}/openings/{room.id}")
    widths = "list => ['dl', 'dd'].map(each => (each == 'dl' ? list : list.querySelector(each)).getBoundingClientRect().width)"
    for index in range(await page.locator("dl:visible").count()):
        whole, value = await page.locator("dl:visible").nth(index).evaluate(widths)
        assert value >= whole / 2


async def test_sold_out_is_told_at_once(stack: Stack, new_page: Open) -> None:
    room = await create_room(stack, opens_in_ms=1500, capacity=1)
    people = [stack.applicant(), stack.applicant()]
    tickets = [await room.joined(person) for person in people]
    await room.admit_all()
    page = await new_page()
    await page.goto(f"{stack.url}/openings/{room.id}")
    await page.get_by_text("I already have a ticket").click()
    await page.locator("[data-paste]").get_by_label("Ticket").fill(tickets[0]["ticket"])
    await page.get_by_role("button", name="Use this ticket").click()
    await expect(page.locator("[data-standing]")).to_contain_text("It is your turn")
    assert (await room.claim(people[1], tickets[1]["ticket"])).status == 201
    await expect(page.locator("[data-standing]")).to_contain_text("All places are taken. See the next openings.")
    await expect(page.locator("[data-heard]")).to_contain_text("All places are taken")
    await expect(page.locator("[data-join]")).to_be_hidden()


async def test_a_queue_that_cannot_be_read_is_said_and_tried_again(stack: Stack, new_page: Open) -> None:
    room = await create_room(stack)
    page = await new_page()
    failing = True

    async def answer(route: Route) -> None:
        await (route.fulfill(status=503, body=json.dumps({})) if failing else route.continue_())

    await page.route("**/queue", answer)
    await page.goto(f"{stack.url}/openings/{room.id}")
    await expect(page.get_by_role("alert")).to_contain_text("The queue cannot be read yet.")
    failing = False
    await expect(page.locator("[data-state]")).to_have_text("You can join; not open yet")
    await expect(page.get_by_role("alert")).to_be_empty()


@pytest.mark.parametrize(
    "written",
    [
        "{0} {1} {2} {3}",
        " {0}.{1}.{2}.{3} ",
        "{0}-{1}\u2011{2}\u2013{3}",
        "\u202a{0}\u00a0{1}\u200b{2}\t{3}\u202c",
        "\ufeff{0}{1}{2}{3}",
    ],
)
async def test_a_nik_is_pasted_as_it_was_written(stack: Stack, new_page: Open, written: str) -> None:
    room, person = await create_room(stack), stack.applicant()
    nik = person["nik"]
    page = await new_page(locale="en-GB")
    await page.goto(f"{stack.url}/openings/{room.id}")
    form = page.locator("[data-join]")
    field = form.get_by_label("NIK")
    await field.click()  # unlike `focus`, it waits until the script has shown the form
    await page.keyboard.insert_text(written.format(nik[:4], nik[4:8], nik[8:12], nik[12:]))
    await form.get_by_label("Date of birth").fill(person["birth_date"])
    await expect(field).to_have_value(nik)
    await form.get_by_role("button", name="Join now").click()
    await expect(page.locator("[data-join-answer]")).to_have_text("You have joined. Keep this ticket.")


@pytest.mark.parametrize("zero", [0xFF10, 0x0660], ids=["full-width", "arabic"])
async def test_a_nik_in_other_digits_is_taken(stack: Stack, new_page: Open, zero: int) -> None:
    room, person = await create_room(stack), stack.applicant()
    page = await new_page(locale="en-GB")
    await page.goto(f"{stack.url}/openings/{room.id}")
    form = page.locator("[data-join]")
    await form.get_by_label("NIK").fill(person["nik"].translate({0x30 + digit: zero + digit for digit in range(10)}))
    await form.get_by_label("Date of birth").fill(person["birth_date"])
    await form.get_by_role("button", name="Join now").click()
    await expect(page.locator("[data-join-answer]")).to_have_text("You have joined. Keep this ticket.")
