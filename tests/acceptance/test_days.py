"""Availability by date: the default range, pages, and the summary per day."""

import datetime as dt
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from reservasi.front.api.declarations import PAGE_MAX, RANGE_DAYS_MAX
from reservasi.front.api.problems import FINDINGS_MAX

pytestmark = pytest.mark.asyncio(loop_scope="session")

TODAY = dt.datetime.now(ZoneInfo("Asia/Jakarta")).date()
YESTERDAY, SOON = (TODAY + dt.timedelta(days=days) for days in (-1, 30))


async def ids(stack: Any, query: str = "") -> set[str]:
    reply = await stack.request("GET", f"/v1/availability?program={stack.program}{query}")
    assert reply.status == 200, reply.text
    return {quota["id"] for quota in reply.json["quotas"]}


async def test_without_dates_it_begins_today_and_ends_within_a_year(stack: Any) -> None:
    over = await stack.quota(date=YESTERDAY.isoformat(), start="23:00", end="23:30")
    today = await stack.quota(date=TODAY.isoformat())
    far = await stack.quota(date=(TODAY + dt.timedelta(days=RANGE_DAYS_MAX)).isoformat())
    shown = await ids(stack)
    assert (over in shown, today in shown, far in shown) == (False, True, False)
    assert over in await ids(stack, f"&from={YESTERDAY}")
    assert far in await ids(stack, f"&from={SOON}")
    assert over not in await ids(stack, f"&to={SOON}")
    staff = await stack.staff("GET", f"/v1/staff/quotas?program={stack.program}")
    assert over not in {quota["id"] for quota in staff.json["quotas"]}


@pytest.mark.parametrize("first", ["2020-01-01", "0001-01-01", (TODAY - dt.timedelta(days=RANGE_DAYS_MAX)).isoformat()])
async def test_a_first_date_long_ago_hides_nothing_that_is_ahead(stack: Any, first: str) -> None:
    today = await stack.quota(date=TODAY.isoformat())
    last = await stack.quota(date=(TODAY + dt.timedelta(days=RANGE_DAYS_MAX - 1)).isoformat())
    far = await stack.quota(date=(TODAY + dt.timedelta(days=RANGE_DAYS_MAX)).isoformat())
    shown = await ids(stack, f"&from={first}")
    assert (today in shown, last in shown, far in shown) == (True, True, False)
    days = (await stack.request("GET", f"/v1/availability/days?program={stack.program}&from={first}")).json["days"]
    assert TODAY.isoformat() in {day["date"] for day in days}


@pytest.mark.parametrize(
    ("query", "pointer", "expected"),
    [
        ("date=2026-12-01", "date", "`date`"),
        ("Program=surabaya", "Program", "`Program`"),
        ("3578014107900001=1", "", "`program`"),
        ("&from=2026-12-01&page=2", "page", "`after`"),
    ],
)
async def test_an_unknown_parameter_is_named_beside_those_that_there_are(
    stack: Any, query: str, pointer: str, expected: str
) -> None:
    for language in ("id", "en"):
        headers = {"Accept-Language": language}
        refused = (await stack.request("GET", f"/v1/availability?{query}", headers=headers)).is_problem(
            "invalid-request", 422
        )
        assert [(error["code"], error["pointer"]) for error in refused["errors"]] == [("unknown-parameter", pointer)]
        assert expected in refused["errors"][0]["detail"]
        assert "`limit`" in refused["errors"][0]["detail"]
        assert "3578" not in refused["errors"][0]["detail"]
    many = "&".join(f"{letter}{other}=1" for letter in "abcdefgh" for other in "abcdefgh")
    refused = (await stack.request("GET", f"/v1/availability?{many}")).is_problem("invalid-request", 422)
    assert len(refused["errors"]) == FINDINGS_MAX


@pytest.mark.parametrize("path", ["/v1/availability", "/v1/availability/days", "/v1/availability/stream"])
@pytest.mark.parametrize(
    "query",
    [
        f"from={TODAY}&to={TODAY + dt.timedelta(days=RANGE_DAYS_MAX)}",
        f"to={TODAY + dt.timedelta(days=RANGE_DAYS_MAX + 2)}",
        "from=2026-01-01&to=9999-12-31",
    ],
)
async def test_too_many_days_are_refused_with_what_to_do(stack: Any, path: str, query: str) -> None:
    for language, word in (("id", "bagian"), ("en", "in parts")):
        headers = {"Accept-Language": language}
        refused = (await stack.request("GET", f"{path}?{query}", headers=headers)).is_problem("invalid-request", 422)
        assert [(error["code"], error["pointer"]) for error in refused["errors"]] == [("range-too-long", "to")]
        assert word in refused["errors"][0]["detail"]
        assert str(RANGE_DAYS_MAX) in refused["errors"][0]["detail"]


async def test_a_year_is_not_too_long(stack: Any) -> None:
    last = TODAY + dt.timedelta(days=RANGE_DAYS_MAX - 1)
    for query in (f"from={TODAY}&to={last}", f"to={last}", "from=9999-12-30", "from=9999-12-30&to=9999-12-31"):
        assert (await stack.request("GET", f"/v1/availability?{query}")).status == 200


@pytest.mark.parametrize("path", ["/v1/availability", "/v1/staff/quotas"])
async def test_pages_together_are_the_whole(stack: Any, path: str) -> None:
    for _ in range(5):
        await stack.quota(date=SOON.isoformat())
    query = f"{path}?program={stack.program}&from={SOON}&to={SOON}"
    headers = {"X-API-Key": stack.operator_key}
    whole = (await stack.request("GET", query, headers=headers)).json
    assert "next" not in whole
    quotas: list[Any] = []
    after = ""
    for _ in range(100):
        page = (await stack.request("GET", f"{query}&limit=2{after}", headers=headers)).json
        quotas += page["quotas"]
        if "next" not in page:
            break
        assert len(page["quotas"]) == 2
        after = f"&after={page['next']}"
    assert quotas == whole["quotas"]


@pytest.mark.parametrize(
    "query", ["limit=0", f"limit={PAGE_MAX + 1}", "limit=-1", "limit=x", "limit=", "after=", "after=%20", "after=e30"]
)
async def test_a_page_that_cannot_be_is_refused(stack: Any, query: str) -> None:
    refused = (await stack.request("GET", f"/v1/availability?{query}")).is_problem("invalid-request", 422)
    assert refused["errors"][0]["pointer"] == query.partition("=")[0]


async def test_a_row_a_day_says_what_a_calendar_shows(stack: Any) -> None:
    day = TODAY + dt.timedelta(days=40)
    query = f"?program={stack.program}&from={day}&to={day}"
    path = f"/v1/availability/days{query}"
    assert (await stack.request("GET", path)).json == {"days": []}
    opens_at = dt.datetime.now(dt.UTC).replace(microsecond=0) + dt.timedelta(days=3)
    opens_at_ms = int(opens_at.timestamp() * 1000)
    open_now = await stack.quota(date=day.isoformat(), capacity=4)
    await stack.quota(date=day.isoformat(), capacity=3, opens_at_ms=opens_at_ms + 60_000)
    await stack.quota(date=day.isoformat(), capacity=2, opens_at_ms=opens_at_ms)
    await stack.quota(date=day.isoformat(), capacity=50, closed=True)
    await stack.held(open_now)
    await stack.seen(open_now, lambda q: q.counts.held == 1)
    row = {
        "program": stack.program,
        "date": day.isoformat(),
        "quotas": 4,
        "capacity": 59,
        "remaining": 8,
        "bookable": 3,
        "state": "open",
        "opens_at": opens_at.isoformat().replace("+00:00", "Z"),
    }

    async def shown() -> bool:
        return bool((await stack.request("GET", path)).json == {"days": [row]})

    await stack.eventually(shown)
    reply = await stack.request("GET", path)
    assert reply.headers["Cache-Control"] == "public, max-age=1, stale-while-revalidate=5"
    again = await stack.request("GET", path, headers={"If-None-Match": reply.headers["ETag"]})
    assert (again.status, again.body) == (304, b"")
    assert (await stack.request("GET", path + "&office=nowhere")).json == {"days": []}
    (await stack.request("GET", path + "&limit=3")).is_problem("invalid-request", 422)
    listed = (await stack.request("GET", f"/v1/availability{query}")).json["quotas"]
    assert len(listed) == row["quotas"]
