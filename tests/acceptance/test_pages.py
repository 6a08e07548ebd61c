"""The pages over HTTP: language, security policy, caching; `tests/browser` tests them in a browser."""

import html
import re
from typing import Any

import pytest

from reservasi.front.pages import POLICY, static_files
from reservasi.front.views import answer_cache
from tests.acceptance.conftest import Stack
from tests.acceptance.waiting import create_room

pytestmark = pytest.mark.asyncio(loop_scope="session")

STATIC_HEADERS = {"X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY", "Referrer-Policy": "no-referrer"}


@pytest.mark.parametrize(("language", "word"), [("", "Ruang tunggu"), ("id", "Ruang tunggu"), ("en", "Waiting room")])
async def test_they_speak_the_readers_language(stack: Stack, language: str, word: str) -> None:
    room = await create_room(stack)
    headers = {"Accept-Language": language} if language else {}
    for path in ("/openings", f"/openings/{room.id}"):
        reply = await stack.request("GET", path, headers=headers)
        assert reply.status == 200
        assert reply.headers["Content-Type"] == "text/html; charset=utf-8"
        assert reply.headers["Content-Language"] == (language or "id")
        assert reply.headers["Vary"] == "Accept-Language, Accept-Encoding"
        assert f'<html lang="{language or "id"}">' in reply.text
    assert word in reply.text


async def test_an_opening_s_page_names_dates_offices_and_services(stack: Stack) -> None:
    room = await create_room(stack, office="ulp-wiyung", date="2027-03-30")
    for language, words in (("id", ("30 Maret 2027", "Untuk tanggal")), ("en", ("30 March 2027", "For the dates"))):
        reply = await stack.request("GET", f"/openings/{room.id}", headers={"Accept-Language": language})
        program = stack.front.catalogue.program(stack.program)
        assert program is not None
        office, service = program.office("ulp-wiyung"), program.service("baru")
        assert office is not None
        assert service is not None
        for word in (*words, getattr(office.name, language), getattr(service.name, language)):
            assert html.escape(word) in reply.text


async def test_an_opening_has_its_page_before_the_list_is_made_anew(
    stack: Stack, listening: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answer_cache, "REST_S_MAX", 3600.0)
    monkeypatch.setattr(answer_cache, "REST_RATIO", 1e12)  # as if the list took very long to make
    async with listening(stack.front) as url:
        front = stack.at(url)
        before = await front.request("GET", "/openings")
        room = await create_room(stack)
        for path in (f"/openings/{room.id}", f"/v1/openings/{room.id}"):
            assert (await front.request("GET", path)).status == 200
        after = await front.request("GET", "/openings")
        assert room.id not in before.text + after.text  # else the list was no old one, and this showed nothing
        assert (await front.request("GET", "/openings/nothing")).status == 404


async def test_they_run_nothing_that_is_not_ours(stack: Stack) -> None:
    room = await create_room(stack)
    for path in ("/openings", f"/openings/{room.id}", "/openings/nothing"):
        reply = await stack.request("GET", path)
        assert reply.headers["Content-Security-Policy"] == POLICY
        assert reply.headers.items() >= STATIC_HEADERS.items()
        assert re.findall(r"<script(?![^>]* src=)|<style|\son\w+=|\sstyle=|javascript:", reply.text) == []
        loaded = re.findall(r'(?:src|href)="([^"]*)"', reply.text)
        assert loaded
        assert all(address.startswith(("/", "#")) and not address.startswith("//") for address in loaded)
    assert "unsafe" not in POLICY
    api = await stack.request("GET", "/v1/openings")
    assert api.headers["Content-Security-Policy"] == "default-src 'none'; frame-ancestors 'none'"


async def test_what_they_load_is_kept_for_ever(stack: Stack) -> None:
    page = await stack.request("GET", "/openings")
    addresses = re.findall(r'(?:src|href)="(/static/[^"]*)"', page.text)
    assert {address.rpartition(".")[2] for address in addresses} == {"css", "js", "svg"}
    for address in addresses:
        reply = await stack.request("GET", address)
        assert reply.status == 200
        assert reply.headers["Cache-Control"] == static_files.FOR_EVER
        assert reply.headers.items() >= STATIC_HEADERS.items()
        again = await stack.request("GET", address, headers={"If-None-Match": reply.headers["ETag"]})
        assert (again.status, again.body) == (304, b"")
        other = await stack.request("GET", address.replace(static_files.version(), "0" * 16))
        assert (other.status, other.body, other.headers["Cache-Control"]) == (200, reply.body, "no-cache")
    script = static_files.content("opening.js").decode()
    for name in re.findall(r'from "\./([^"]+)"', script):
        assert (await stack.request("GET", f"{static_files.address()}/{name}")).status == 200


@pytest.mark.parametrize("name", ["nothing.js", "..%2Ftexts.py", "%2e%2e", "style.css%00", "__init__.py"])
async def test_nothing_else_is_served(stack: Stack, name: str) -> None:
    assert (await stack.request("GET", f"{static_files.address()}/{name}")).status in (400, 404)


async def test_an_unchanged_page_is_not_sent_again(stack: Stack) -> None:
    room = await create_room(stack)
    path = f"/openings/{room.id}"
    page = await stack.request("GET", path)
    assert page.headers["Cache-Control"] == "no-cache"
    again = await stack.request("GET", path, headers={"If-None-Match": page.headers["ETag"]})
    assert (again.status, again.body) == (304, b"")
    assert again.headers["Content-Security-Policy"] == POLICY
    head = await stack.request("HEAD", path)
    assert (head.status, head.body) == (200, b"")


async def test_an_opening_that_is_not_there_is_a_page_as_well(stack: Stack) -> None:
    for name in ("nothing", "%3Cscript%3E", "a" * 500):
        reply = await stack.request("GET", f"/openings/{name}", headers={"Accept-Language": "en"})
        assert reply.status == 404
        assert reply.headers["Content-Type"] == "text/html; charset=utf-8"
        assert reply.headers["Cache-Control"] == "no-store"
        assert "<script>" not in reply.text
        assert 'href="/openings"' in reply.text
