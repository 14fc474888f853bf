"""The time slider: conversation, memory and graph as of a moment."""

import pytest
from playwright.async_api import expect

from tests.harness import Server
from tests.ui.conftest import Open

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_one_slider_moves_conversation_memory_and_graph(server: Server, window: Open) -> None:
    session_id = await server.open_session()
    socket = await server.connect(session_id, user_id="ada")
    await server.caught_up()
    await socket.query("Mirella lives in Stormhaven.")
    await server.caught_up()
    await socket.query("Osric owns the Gilded Goose.")
    await server.caught_up()
    async with window() as ada:
        page = ada.page
        await ada.open_session(session_id)
        await page.get_by_role("button", name="List", exact=True).click()
        things = page.locator(".graph-item")
        await expect(things.filter(has_text="Osric")).to_be_visible()
        await page.get_by_role("button", name="Look back in time").click()
        slider = page.get_by_role("slider", name="Moment")
        await expect(slider).to_have_attribute("aria-valuetext", "Now")

        while "Osric" not in (await slider.get_attribute("aria-valuetext") or ""):
            await slider.press("ArrowLeft")
        while "Osric" in (await slider.get_attribute("aria-valuetext") or ""):
            await slider.press("ArrowLeft")
        await expect(things.filter(has_text="Osric")).to_have_count(0)
        await expect(things.filter(has_text="Mirella")).to_be_visible()
        await expect(ada.turn("Osric owns")).to_have_count(0)
        await expect(ada.turn("Mirella lives").first).to_be_visible()
        await page.get_by_role("button", name="Memory").click()
        memory = page.get_by_role("region", name="Memory")
        await memory.get_by_label("Search memory").fill("goose")
        await expect(memory.get_by_text("Nothing like that was said.")).to_be_visible()

        await slider.press("Home")
        await expect(page.get_by_text("Nothing has been said by then.")).to_be_visible()
        await page.get_by_role("button", name="Back to now").click()
        await expect(ada.turn("Osric owns").first).to_be_visible()
        await expect(memory.locator("mark").first).to_be_visible()


async def test_playing_goes_from_the_first_moment_to_now(server: Server, window: Open) -> None:
    session_id = await server.open_session()
    socket = await server.connect(session_id, user_id="ada")
    await socket.query("Only this.")
    await server.caught_up()
    async with window() as ada:
        page = ada.page
        await ada.open_session(session_id)
        await page.get_by_role("button", name="Look back in time").click()
        slider = page.get_by_role("slider", name="Moment")
        await expect(page.get_by_text("moments")).to_be_visible()

        await page.get_by_role("button", name="Play").click()
        await expect(page.get_by_text("Nothing has been said by then.")).to_be_visible()
        await expect(page.get_by_text("No reply yet.")).to_be_visible()

        await expect(slider).to_have_attribute("aria-valuetext", "Now")
        await expect(page.get_by_role("button", name="Play")).to_be_visible()
        await expect(ada.reply("You said: Only this.")).to_be_visible()
