"""The monitor: live numbers, drawn."""

import pytest
from playwright.async_api import expect

from tests.harness import Server
from tests.ui.conftest import Open

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_the_monitor_shows_what_happens_as_it_happens(server: Server, window: Open) -> None:
    async with window() as ada:
        await ada.visit("/monitor")
        page = ada.page
        connections = page.get_by_role("figure").filter(has_text="Connections")
        await expect(connections.locator(".chart-value")).to_have_text("0")

        session_id = await server.open_session()
        socket = await server.connect(session_id, user_id="bob")
        await expect(connections.locator(".chart-value")).to_have_text("1")
        await expect(page.get_by_text("Somebody connected (bob)")).to_be_visible()
        socket.close()
        await expect(connections.locator(".chart-value")).to_have_text("0")

        await expect(page.get_by_role("row").filter(has_text="memory").first).to_be_visible()
        await page.get_by_role("link", name=str(session_id)[:8]).first.click()
        await expect(page.get_by_role("textbox", name="Message")).to_be_visible()
