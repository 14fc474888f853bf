"""A real browser for tests: Debian's Chromium, driven by Playwright."""

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from playwright.async_api import (
    Browser,
    BrowserContext,
    Locator,
    Page,
    async_playwright,
    expect,
)

CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
MISSING = (
    "The tests of the page need Chromium: `make test` installs it where it may;"
    " on Debian: apt install chromium."
)


def find_chromium() -> str | None:
    """The path of the machine's Chromium."""
    return next((path for name in CHROMIUM if (path := shutil.which(name))), None)


@asynccontextmanager
async def launched_browser() -> AsyncIterator[Browser]:
    """A headless browser."""
    path = find_chromium()
    if path is None:
        raise RuntimeError(MISSING)
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=path,
            # Tests run as root in containers, whose shared memory is small.
            args=["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"],
        )
        try:
            yield browser
        finally:
            await browser.close()


class Reader:
    """Somebody who looks at the page: a browser context of their own, and what went wrong in it."""

    def __init__(self, context: BrowserContext, page: Page, base_url: str) -> None:
        self.context = context
        self.page = page
        self.base_url = base_url
        # Of the Content-Security-Policy, uncaught errors, and requests to other hosts.
        self.problems: list[str] = []
        page.on("request", lambda sent: self._note_stranger(sent.url))
        page.on("pageerror", lambda error: self.problems.append(str(error)))
        page.on(
            "console",
            lambda said: (
                self.problems.append(said.text) if "Content Security Policy" in said.text else None
            ),
        )

    async def visit(self, path: str) -> None:
        """Open a path of the server."""
        await self.page.goto(f"{self.base_url}{path}")

    async def open_session(self, session_id: object) -> None:
        """Open a session, and wait until it is live."""
        await self.visit(f"/s/{session_id}")
        await expect(self.page.get_by_text("Live", exact=True)).to_be_visible()

    async def say(self, text: str) -> None:
        """Write a message and send it with the keyboard."""
        field = self.page.get_by_role("textbox", name="Message")
        await field.fill(text)
        await field.press("Enter")

    def reply(self, text: str) -> Locator:
        """A reply with some text in it."""
        return self.page.locator(".prose").filter(has_text=text)

    def turn(self, text: str) -> Locator:
        """The turn in which something was said."""
        return self.page.get_by_role("article").filter(has_text=text)

    def _note_stranger(self, url: str) -> None:
        if not url.startswith((f"{self.base_url}/", "data:", "blob:")):
            self.problems.append(f"a request to {url}")


@asynccontextmanager
async def reader(
    browser: Browser,
    base_url: str,
    name: str,
    *,
    width: int = 1440,
    height: int = 900,
    dark: bool = False,
) -> AsyncIterator[Reader]:
    """A reader with a name, and a window of a size."""
    context = await browser.new_context(
        viewport={"width": width, "height": height},
        color_scheme="dark" if dark else "light",
        reduced_motion="reduce",
        locale="en-GB",
    )
    context.set_default_timeout(10_000)
    await context.add_init_script(f"localStorage.setItem('lorewire.user', {name!r})")
    try:
        yield Reader(context, await context.new_page(), base_url)
    finally:
        await context.close()
