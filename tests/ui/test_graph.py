"""The graph in the page: it grows, explains itself, and can be corrected."""

import pytest
from playwright.async_api import Page, expect

from tests.harness import Server
from tests.ui.conftest import Open

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def show_list(page: Page) -> None:
    await page.get_by_role("button", name="List", exact=True).click()


async def test_the_graph_grows_while_one_talks(server: Server, window: Open) -> None:
    session_id = await server.open_session()
    await server.caught_up()
    async with window() as ada:
        await ada.open_session(session_id)
        page = ada.page
        drawing = page.get_by_role("img", name="A drawing of")
        await expect(drawing.locator("canvas").first).to_be_visible()
        before = await page.locator(".graph-count").inner_text()

        await ada.say("Mirella lives in Stormhaven.")
        await expect(page.locator(".graph-count")).not_to_have_text(before)

        await show_list(page)
        await expect(page.get_by_role("button", name="Mirella")).to_be_visible()


async def test_a_fact_shows_whose_words_it_is_taken_from(server: Server, window: Open) -> None:
    session_id = await server.open_session()
    socket = await server.connect(session_id, user_id="bob")
    await socket.query("Mirella lives in Stormhaven.")
    await server.caught_up()
    async with window() as ada:
        await ada.open_session(session_id)
        await show_list(ada.page)

        await ada.page.get_by_label("Find a name").fill("mirel")
        await ada.page.get_by_role("button", name="Mirella").click()
        details = ada.page.get_by_role("region", name="Details")
        await details.get_by_role("button", name="Mirella lives in Stormhaven").click()
        await expect(details.locator("blockquote")).to_contain_text("Mirella lives in Stormhaven")
        await expect(details.locator("blockquote")).to_contain_text("bob")
        await details.get_by_role("button", name="Go to the message").click()

        await expect(ada.turn("Mirella lives in Stormhaven.").first).to_be_focused()


async def test_the_graph_can_be_filtered_and_narrowed_to_a_neighbourhood(
    server: Server, window: Open
) -> None:
    session_id = await server.open_session()
    await server.caught_up()
    async with window() as ada:
        await ada.open_session(session_id)
        page = ada.page
        await show_list(page)
        items = page.locator(".graph-item")
        await expect(items.filter(has_text="Kira")).to_have_count(1)
        everything = await items.count()

        types = page.get_by_role("group", name="Types to show")
        await types.get_by_role("button", name="person").click()
        await expect(items.filter(has_text="Kira")).to_have_count(0)
        await types.get_by_role("button", name="person").click()
        await items.filter(has_text="Kira").click()
        await page.get_by_role("button", name="Only its neighbours").click()
        await expect(page.get_by_text("Around Kira")).to_be_visible()
        assert 1 < await items.count() < everything
        await page.get_by_role("button", name="Show all").click()
        await expect(items).to_have_count(everything)


async def test_a_statement_can_be_retracted(server: Server, window: Open) -> None:
    session_id = await server.open_session()
    await server.caught_up()
    async with window("ada") as ada, window("bob") as bob:
        for one in (ada, bob):
            await one.open_session(session_id)
            await show_list(one.page)
            await one.page.get_by_role("button", name="Tobin Ashford").click()
        page = ada.page
        details = page.get_by_role("region", name="Details")
        fact = "Tobin Ashford is a blacksmith"

        await details.get_by_role("button", name=fact).click()
        await details.get_by_role("button", name="Retract…").click()
        dialog = page.get_by_role("dialog", name="Retract this statement?")
        await dialog.get_by_label("Why?").fill("He is a baker.")
        await dialog.get_by_role("button", name="Retract").click()
        await expect(details.get_by_text("This is not known any more.")).to_be_visible()

        theirs = bob.page.get_by_role("region", name="Details")
        await expect(theirs.get_by_role("button", name=fact)).to_have_count(0)


async def test_two_entities_can_be_merged_and_the_merge_taken_back(
    server: Server, window: Open
) -> None:
    session_id = await server.open_session()
    await server.caught_up()
    async with window() as ada:
        await ada.open_session(session_id)
        page = ada.page
        await show_list(page)
        kira = page.locator(".graph-item").filter(has_text="Kira")
        tobin = page.locator(".graph-item").filter(has_text="Tobin Ashford")
        await kira.click()

        await page.get_by_role("button", name="Merge…").click()
        dialog = page.get_by_role("dialog", name="Merge into Kira")
        option = dialog.locator("option", has_text="Tobin Ashford")
        await dialog.get_by_role("combobox").select_option(await option.get_attribute("value"))
        await dialog.get_by_role("button", name="Merge").click()
        await expect(page.get_by_role("dialog", name="They are one now")).to_be_visible()
        await expect(tobin).to_have_count(0)
        await page.get_by_role("button", name="Take it back").click()

        await expect(tobin).to_have_count(1)
        await expect(kira).to_have_count(1)


@pytest.mark.parametrize(
    ("name", "begins"), [("JSON", "{"), ("Turtle", "@prefix"), ("GraphML", "<?xml")]
)
async def test_the_graph_can_be_taken_away(
    server: Server, window: Open, name: str, begins: str
) -> None:
    session_id = await server.open_session()
    await server.caught_up()
    async with window() as ada:
        await ada.open_session(session_id)
        await ada.page.get_by_text("Export").click()

        async with ada.page.expect_download() as started:
            await ada.page.get_by_role("link", name=name, exact=True).click()
        path = await (await started.value).path()

        assert path.read_text().startswith(begins)
