"""Debian's Chromium before a running service; errors in the page's console fail the test."""

import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, TypeAlias

import pytest
import pytest_asyncio
from playwright.async_api import Browser, BrowserContext, Page, async_playwright

from tests.acceptance.conftest import listening, stack  # noqa: F401 - the same service as acceptance tests have

CHROMIUM = Path("/usr/bin/chromium")
INSTALLED = CHROMIUM.exists()
ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
PHONE = {"width": 320, "height": 640}
WAIT_MS = 15_000
Open: TypeAlias = Callable[..., Awaitable[Page]]


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser() -> AsyncIterator[Browser]:
    if not INSTALLED:
        assert os.environ.get("CI") != "true", "chromium must be installed where CI runs"
        pytest.skip("chromium is not on this machine: apt-get install chromium")
    async with async_playwright() as playwright:
        started = await playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield started
        await started.close()


@pytest_asyncio.fixture(loop_scope="session")
async def new_page(browser: Browser) -> AsyncIterator[Open]:
    """Opens pages in a context of their own: `new_page(locale="en-GB", ...)` takes what a context takes."""
    complaints: list[str] = []
    async with AsyncExitStack() as contexts:

        async def opened(**options: Any) -> Page:
            context: BrowserContext = await browser.new_context(**{"locale": "en-GB", "viewport": PHONE, **options})
            contexts.push_async_callback(context.close)
            context.set_default_timeout(WAIT_MS)
            page = await context.new_page()
            page.on("pageerror", lambda error: complaints.append(f"error: {error}"))
            page.on(
                "console",
                lambda message: complaints.append(message.text) if message.type in ("error", "warning") else None,
            )
            return page

        yield opened
    answered = [each for each in complaints if "Failed to load resource" not in each]  # refusals that tests ask for
    assert answered == []
