"""Memory in the page: searching while one types, and what replies rest on."""

import pytest
from playwright.async_api import Browser, expect

from tests.harness import Server, running_server
from tests.ui.browser import reader
from tests.ui.conftest import Open

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_a_search_while_typing_marks_what_matched_and_leads_to_its_message(
    server: Server, window: Open
) -> None:
    session_id = await server.open_session()
    socket = await server.connect(session_id, user_id="ada")
    for text in ("The lantern hangs in the harbour.", *(f"Filler {n}." for n in range(12))):
        await socket.query(text)
    await server.caught_up()
    async with window() as ada:
        await ada.open_session(session_id)
        await ada.page.get_by_role("button", name="Memory").click()
        memory = ada.page.get_by_role("region", name="Memory")

        await memory.get_by_label("Search memory").press_sequentially("harbours")
        hits = memory.get_by_role("listitem").filter(has_text="The lantern hangs").last
        await expect(hits.locator("mark")).to_have_text("harbour")
        await expect(hits.get_by_text("words #")).to_be_visible()
        await hits.get_by_role("button").click()

        turn = ada.turn("The lantern hangs").first
        await expect(turn).to_be_in_viewport()
        await expect(turn).to_be_focused()


async def test_a_hit_says_its_rank_by_words_and_by_meaning(
    browser: Browser, migrated_database_url: str
) -> None:
    async with running_server(migrated_database_url, embedder="wordllama") as server:
        session_id = await server.open_session(config={"domain": "lab_assistant"})
        socket = await server.connect(session_id, user_id="ada")
        await socket.query("The ship reached the harbour at dawn.")
        await server.caught_up()
        async with reader(browser, f"http://127.0.0.1:{server.port}", "ada") as ada:
            await ada.open_session(session_id)
            await ada.page.get_by_role("button", name="Memory").click()
            memory = ada.page.get_by_role("region", name="Memory")

            await memory.get_by_label("Search memory").fill("ship harbour")
            hit = memory.get_by_role("listitem").filter(has_text="The ship reached").first
            await expect(hit.get_by_text("words #")).to_be_visible()
            await expect(hit.get_by_text("meaning #")).to_be_visible()
            await memory.get_by_label("How to search").select_option("Meaning")
            await memory.get_by_label("Search memory").fill("a boat in the port")

            await expect(hit.get_by_text("meaning #")).to_be_visible()
            await expect(hit.get_by_text("words #")).to_have_count(0)


async def test_memory_grows_while_it_is_shown(server: Server, window: Open) -> None:
    session_id = await server.open_session()
    async with window() as ada:
        await ada.open_session(session_id)
        await ada.page.get_by_role("button", name="Memory").click()
        memory = ada.page.get_by_role("region", name="Memory")
        await memory.get_by_label("Search memory").fill("moonstone")
        await expect(memory.get_by_text("Nothing like that was said.")).to_be_visible()

        await ada.say("Remember the moonstone.")

        await expect(memory.locator("mark", has_text="moonstone").first).to_be_visible()


async def test_a_reply_says_what_it_rests_on_and_each_source_is_a_click_away(
    server: Server, window: Open
) -> None:
    session_id = await server.open_session()
    async with window() as ada:
        await ada.open_session(session_id)
        await ada.say("Who governs Rivermoor?")
        turn = ada.turn("Who governs Rivermoor?")

        await turn.get_by_role("button", name="What this rests on").click()
        await expect(turn.get_by_text("Rivermoor is a trading town").first).to_be_visible()
        statements = turn.locator("section", has_text="Statements")
        await expect(statements.get_by_role("listitem").first).to_be_visible()
        await statements.get_by_role("button", name="Show in the graph").first.click()

        details = ada.page.get_by_role("region", name="Details")
        await expect(details.locator("blockquote")).to_be_visible()
