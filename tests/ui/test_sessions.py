"""Sessions in the page: opening, finding, renaming, deleting; addresses."""

import pytest
from playwright.async_api import expect

from tests.harness import Server
from tests.ui.conftest import Open

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_a_session_is_opened_found_renamed_and_deleted(window: Open) -> None:
    async with window() as ada:
        page = ada.page
        await ada.visit("/")

        await page.get_by_role("button", name="New session").click()
        dialog = page.get_by_role("dialog", name="New session")
        await dialog.get_by_role("radio", name="A laboratory").check()
        await dialog.get_by_label("Title").fill("Gels of week 32")
        await dialog.get_by_role("button", name="Open session").click()
        await expect(page.get_by_role("heading", name="Gels of week 32")).to_be_visible()
        await expect(page.get_by_role("textbox", name="Message")).to_have_attribute(
            "placeholder", "Message the Lab Assistant"
        )
        address = page.url

        await page.get_by_role("button", name="Rename").click()
        await page.get_by_role("dialog").get_by_label("Title").fill("Gels of week 33")
        await page.get_by_role("dialog").get_by_role("button", name="Rename").click()
        await expect(page.get_by_role("dialog")).to_have_count(0)
        sessions = page.get_by_role("navigation", name="Sessions")
        await page.get_by_label("Find a session").fill("week 33")
        await expect(sessions.get_by_role("link")).to_have_count(1)
        await expect(sessions.get_by_role("link")).to_contain_text("Gels of week 33")
        await page.get_by_label("Find a session").fill("week 32")
        await expect(sessions.get_by_text("No session has that in its title.")).to_be_visible()
        await page.get_by_label("Find a session").fill("")

        await page.goto(address)
        await page.get_by_role("button", name="Delete").click()
        await page.get_by_role("dialog").get_by_role("button", name="Delete").click()
        await expect(page.get_by_role("heading", level=1)).to_contain_text("remember")
        await page.goto(address)
        await expect(page.get_by_role("heading", name="This session was deleted.")).to_be_visible()


async def test_a_link_opens_its_session_and_the_back_button_leaves_it(
    server: Server, window: Open
) -> None:
    first = await server.open_session(title="First of two")
    second = await server.open_session(title="Second of two")
    async with window() as ada:
        await ada.open_session(first)

        await ada.page.get_by_role("link", name="Second of two").click()
        await expect(ada.page.get_by_role("heading", name="Second of two")).to_be_visible()
        there = ada.page.url
        await ada.page.go_back()
        await expect(ada.page.get_by_role("heading", name="First of two")).to_be_visible()

    assert there.endswith(f"/s/{second}")


async def test_the_list_is_read_when_it_may_have_changed_and_not_all_the_time(
    server: Server, window: Open
) -> None:
    session_id = await server.open_session(title="Quiet")
    reads: list[str] = []
    async with window() as ada:
        ada.page.on(
            "request", lambda sent: reads.append(sent.url) if "/sessions?" in sent.url else None
        )
        await ada.open_session(session_id)
        await ada.say("Hello.")
        await expect(ada.reply("You said: Hello.")).to_be_visible()

    assert 0 < len(reads) < 12


async def test_an_address_of_no_session_says_so(window: Open) -> None:
    async with window() as ada:
        await ada.visit("/s/00000000-0000-0000-0000-000000000000")

        await expect(ada.page.get_by_role("heading", name="There is no such")).to_be_visible()
