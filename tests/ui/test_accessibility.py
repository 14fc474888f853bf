"""The page for everybody: no violations that axe finds, and no view that is cut off."""

from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Page, expect

from tests.harness import Server
from tests.ui.conftest import Open

pytestmark = pytest.mark.asyncio(loop_scope="session")

AXE = Path(__file__).parents[2] / "web" / "ui" / "node_modules" / "axe-core" / "axe.min.js"
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]


async def violations(page: Page) -> list[str]:
    """What axe finds, a line each."""
    if not await page.evaluate("() => 'axe' in window"):
        await page.evaluate(AXE.read_text())
    found: dict[str, Any] = await page.evaluate(
        "rules => axe.run(document, {runOnly: rules, resultTypes: ['violations']})", RULES
    )
    return [
        f"{one['id']}: {node['html'][:160]} ({node['failureSummary']})"
        for one in found["violations"]
        for node in one["nodes"]
    ]


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
async def test_axe_finds_nothing_in_any_view(server: Server, window: Open, dark: bool) -> None:
    session_id = await server.open_session(title="For everybody")
    socket = await server.connect(session_id, user_id="bob")
    server.model.say("A list:\n\n1. *one*\n2. `two`\n\n> quoted\n\n|a|b|\n|-|-|\n|1|2|")
    await socket.query("Who governs Rivermoor?")
    server.model.fail(500)
    await socket.query("This fails.")
    server.model.behave()
    await server.caught_up()
    async with window(dark=dark) as ada:
        page = ada.page
        found: dict[str, list[str]] = {}
        await ada.visit("/")
        await expect(page.get_by_role("radio").first).to_be_visible()
        found["home"] = await violations(page)
        await page.get_by_role("button", name="New session").click()
        found["dialog"] = await violations(page)

        await ada.open_session(session_id)
        await expect(page.locator(".graph-count")).to_contain_text("fact")
        await page.get_by_role("button", name="What this rests on").click()
        found["session"] = await violations(page)
        await page.get_by_role("button", name="List", exact=True).click()
        await page.get_by_role("button", name="Kira").first.click()
        await page.get_by_role("button", name="Merge…").click()
        found["merge"] = await violations(page)
        await page.keyboard.press("Escape")
        await page.get_by_role("button", name="Only its neighbours").click()
        await page.get_by_role("button", name="Look back in time").click()
        found["graph"] = await violations(page)
        await page.get_by_role("button", name="Memory").click()
        await page.get_by_label("Search memory").fill("Rivermoor")
        await expect(page.locator("mark").first).to_be_visible()
        await page.get_by_role("slider").press("ArrowLeft")
        found["memory"] = await violations(page)

        await ada.visit("/monitor")
        await expect(page.get_by_role("figure").first).to_be_visible()
        found["monitor"] = await violations(page)

    assert {view: problems for view, problems in found.items() if problems} == {}


async def test_axe_would_find_something(window: Open) -> None:
    async with window() as ada:
        await ada.visit("/")
        await expect(ada.page.get_by_role("radio").first).to_be_visible()
        await ada.page.evaluate("document.querySelector('main').append(new Image())")

        assert any("image-alt" in line for line in await violations(ada.page))


@pytest.mark.parametrize("width", [360, 768, 1024, 2560])
async def test_no_view_is_cut_off(server: Server, window: Open, width: int) -> None:
    session_id = await server.open_session(title="A title that is rather long for a small screen")
    socket = await server.connect(session_id, user_id="bob")
    server.model.say("```\n" + "a long line of code " * 20 + "\n```\n" + "word" * 100)
    await socket.query("x" * 300)
    async with window(width=width, height=740) as ada:
        page = ada.page

        async def overflows() -> bool:
            return bool(
                await page.evaluate(
                    "() => [document.documentElement, ...document.querySelectorAll('main, main *')]"
                    ".some(e => e.scrollWidth > e.clientWidth + 1"
                    " && ['visible', 'auto'].includes(getComputedStyle(e).overflowX)"
                    " && e.getBoundingClientRect().right > innerWidth + 1)"
                )
            )

        await ada.visit("/")
        await expect(page.get_by_role("radio").first).to_be_visible()
        cut_off = {"home": await overflows()}
        await ada.open_session(session_id)
        await expect(page.get_by_role("article")).to_have_count(1)
        await page.get_by_role("button", name="Look back in time").click()
        cut_off["session"] = await overflows()
        await page.get_by_role("button", name="Memory").first.click()
        cut_off["memory"] = await overflows()
        await ada.visit("/monitor")
        await expect(page.get_by_role("figure").first).to_be_visible()
        cut_off["monitor"] = await overflows()

        wide = await page.evaluate("document.documentElement.scrollWidth")
    assert not any(cut_off.values()), cut_off
    assert wide <= width
