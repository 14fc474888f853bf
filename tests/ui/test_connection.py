"""The page while its server is away, and when it is back."""

import pytest
from playwright.async_api import Browser, expect

from tests.harness import Server, running_server
from tests.ui.browser import Reader, reader
from tests.ui.wire import wired_to

pytestmark = pytest.mark.asyncio(loop_scope="session")

# A page that comes back as if it had never been there.
FORGETFUL = """
const Honest = WebSocket;
window.WebSocket = class extends Honest {
  constructor(url) {
    const address = new URL(url);
    address.searchParams.delete("after");
    super(address);
  }
};
"""


async def lose_and_regain(server: Server, browser: Browser, *, script: str = "") -> list[str]:
    """Cut the wire in the middle of a reply, while another reader goes on; what is read after it.

    Returns the paths of the requests that the page has made since it was back.
    """
    session_id = await server.open_session()
    requests: list[str] = []
    async with (
        wired_to(server.port) as wire,
        reader(browser, wire.url, "ada") as ada,
    ):
        if script:
            await ada.context.add_init_script(script)
        await ada.open_session(session_id)
        server.model.say("Once", " upon", " a time", " there was", " a fox.")
        server.model.hold(after=2)
        await ada.say("Tell me a story.")
        await expect(ada.reply("Once upon")).to_be_visible()

        wire.cut()
        await expect(ada.page.get_by_text("Offline")).to_be_visible()
        bob = await server.connect(session_id, user_id="bob")
        await bob.send("query", {"message": "And then?"})
        await bob.until("query_received")
        ada.page.on("request", lambda sent: requests.append(sent.url.split("?")[0]))
        wire.mend()
        await come_back(ada)

        await expect(ada.turn("And then?").get_by_text("bob", exact=True)).to_be_visible()
        await expect(ada.reply("Once upon")).to_be_visible()
        await expect(ada.page.get_by_label("The agent is writing")).to_be_visible()
        server.model.release()
        await expect(ada.reply("Once upon a time there was a fox.")).to_be_visible()
        await expect(ada.reply("You said: And then?")).to_be_visible()
        await expect(ada.page.get_by_role("article")).to_have_count(2)
        await expect(ada.page.get_by_label("The agent is writing")).to_have_count(0)
        assert ada.problems == []
    return [url for url in requests if url.endswith("/events")]


async def come_back(one: Reader) -> None:
    """Wait until the page is live again, and don't wait for its timer."""
    live = one.page.get_by_text("Live", exact=True)
    await one.page.get_by_role("button", name="Try now").or_(live).first.click()
    await expect(live).to_be_visible()


async def test_a_page_whose_wire_is_cut_in_mid_reply_goes_on_where_it_was(
    server: Server, browser: Browser
) -> None:
    assert await lose_and_regain(server, browser) == []


async def test_a_page_that_does_not_say_where_it_was_reads_everything_again(
    server: Server, browser: Browser
) -> None:
    """The twin: it loses nothing either, but what it lacks has to be read from the log."""
    assert await lose_and_regain(server, browser, script=FORGETFUL) != []


async def test_a_state_that_cannot_be_read_says_so_and_is_read_when_it_can_be(
    server: Server, browser: Browser
) -> None:
    session_id = await server.open_session()
    socket = await server.connect(session_id, user_id="bob")
    await socket.query("Is anybody there?")
    async with reader(browser, f"http://127.0.0.1:{server.port}", "ada") as ada:
        await ada.page.route("**/events*", lambda route: route.abort())
        await ada.open_session(session_id)
        problem = ada.page.get_by_role("alert")
        await expect(problem).to_contain_text("The server does not answer.")
        await ada.page.unroute("**/events*")

        await problem.get_by_role("button", name="Try again").click()

        await expect(ada.turn("Is anybody there?")).to_be_visible()
        await expect(problem).to_have_count(0)


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
        await come_back(ada)
        await expect(ada.turn("I was first.").get_by_text("bob", exact=True)).to_be_visible()
        await expect(ada.page.get_by_role("alert")).to_have_count(0)
        await field.press("Enter")
        await expect(ada.reply("You said: While it is away.")).to_be_visible()
        turns = ada.page.get_by_role("article")
        await expect(turns).to_have_count(3)
        await context.__aexit__(None, None, None)
    assert ada.problems == []
