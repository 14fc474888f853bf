"""The page while its server is away, and when it is back."""

import pytest
from playwright.async_api import Browser, expect

from tests.harness import running_server
from tests.ui.browser import reader

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_what_is_sent_without_a_server_is_refused_and_kept_and_all_goes_on_after_it(
    browser: Browser, migrated_database_url: str
) -> None:
    async with running_server(migrated_database_url) as server:
        port = server.port
        session_id = await server.open_session(title="It comes back")
        context = reader(browser, f"http://127.0.0.1:{port}", "ada")
        ada = await context.__aenter__()
        await ada.open_session(session_id)
        await ada.say("Before the restart.")
        await expect(ada.reply("You said: Before the restart.")).to_be_visible()

    await expect(ada.page.get_by_text("Offline")).to_be_visible()
    await ada.say("While it is away.")
    await expect(ada.page.get_by_role("alert")).to_contain_text("Not sent")
    field = ada.page.get_by_role("textbox", name="Message")
    await expect(field).to_have_value("While it is away.")

    async with running_server(migrated_database_url, port=port) as server:
        # Somebody else is faster: what was said before the page is back is there, too.
        path = f"/api/v1/sessions/{session_id}/query?user_id=bob"
        await server.http("POST", path, {"message": "I was first."})
        await (
            ada.page.get_by_role("button", name="Try now")
            .or_(ada.page.get_by_text("Live", exact=True))
            .first.click()
        )
        await expect(ada.page.get_by_text("Live", exact=True)).to_be_visible()
        await expect(ada.turn("I was first.").get_by_text("bob", exact=True)).to_be_visible()
        await expect(ada.page.get_by_role("alert")).to_have_count(0)
        await field.press("Enter")
        await expect(ada.reply("You said: While it is away.")).to_be_visible()
        turns = ada.page.get_by_role("article")
        await expect(turns).to_have_count(3)
        await context.__aexit__(None, None, None)
    assert ada.problems == []
