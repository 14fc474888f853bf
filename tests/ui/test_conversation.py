"""Talking in the page: streaming, stopping, failing, coming back."""

import re

import pytest
from playwright.async_api import expect

from tests.harness import Server
from tests.ui.conftest import Open

pytestmark = pytest.mark.asyncio(loop_scope="session")

HOSTILE = """
<script>window.hacked = 1</script>
<img src=x onerror="window.hacked = 2">
[run me](javascript:window.hacked=3) and [me](data:text/html,<script>window.hacked=4</script>)
![picture](https://tracker.example/pixel.png) **bold** <iframe src="https://x.example"></iframe>
<svg onload="window.hacked=5"></svg> <a href="javascript:window.hacked=6">click</a>
"""


async def test_two_browsers_in_one_session_see_the_same_as_it_happens(
    server: Server, window: Open
) -> None:
    session_id = await server.open_session(title="Two readers")
    async with window("ada") as ada, window("bob") as bob:
        await ada.open_session(session_id)
        await bob.open_session(session_id)
        await expect(ada.page.get_by_text("2 here")).to_be_visible()
        server.model.say("The gate ", "is **shut**.")
        server.model.hold()

        await ada.say("Is the gate open?")
        for one in (ada, bob):
            await expect(one.turn("Is the gate open?")).to_be_visible()
            await expect(one.page.get_by_label("The agent is writing")).to_be_visible()
        server.model.release()
        for one in (ada, bob):
            await expect(one.page.locator("strong", has_text="shut")).to_be_visible()
            await expect(one.page.get_by_label("The agent is writing")).to_have_count(0)

        await expect(ada.turn("Is the gate open?").get_by_text("You", exact=True)).to_be_visible()
        await expect(bob.turn("Is the gate open?").get_by_text("ada", exact=True)).to_be_visible()


async def test_a_reply_streams_and_can_be_stopped_and_asked_again(
    server: Server, window: Open
) -> None:
    session_id = await server.open_session()
    async with window() as ada:
        await ada.open_session(session_id)
        server.model.say("Once upon", " a time", " there was")
        server.model.hang_after(2)

        await ada.say("Tell me a story.")
        turn = ada.turn("Tell me a story.")
        await expect(turn.get_by_text("Once upon a time")).to_be_visible()
        await ada.page.get_by_role("button", name="Stop the reply").click()
        await expect(turn.get_by_text("Stopped.")).to_be_visible()
        await expect(turn.get_by_text("Once upon a time")).to_be_visible()

        server.model.hang_after(None)
        server.model.say("A fox.")
        await turn.get_by_role("button", name="Ask again").click()
        await expect(ada.reply("A fox.")).to_be_visible()


async def test_a_failed_reply_says_why_and_can_be_asked_again(server: Server, window: Open) -> None:
    session_id = await server.open_session()
    async with window() as ada:
        await ada.open_session(session_id)
        server.model.fail(500)

        await ada.say("Will this work?")
        turn = ada.turn("Will this work?")
        again = turn.get_by_role("button", name="Ask again")
        await expect(again).to_be_visible()
        server.model.behave()
        server.model.say("It does now.")
        await again.click()

        await expect(ada.reply("It does now.")).to_be_visible()


async def test_a_reload_in_the_middle_of_a_reply_loses_nothing(
    server: Server, window: Open
) -> None:
    session_id = await server.open_session()
    async with window() as ada:
        await ada.open_session(session_id)
        server.model.say("The river ", "is high.")
        await ada.say("How is the river?")
        await expect(ada.reply("The river is high.")).to_be_visible()
        server.model.say("The bridge", " will", " hold.")
        server.model.hang_after(2)
        await ada.say("And the bridge?")
        await expect(ada.reply("The bridge will")).to_be_visible()

        await ada.page.reload()
        await expect(ada.turn("How is the river?").get_by_text("is high.")).to_be_visible()
        await expect(ada.turn("And the bridge?")).to_be_visible()
        await expect(ada.page.get_by_label("The agent is writing")).to_be_visible()
        await expect(ada.reply("The bridge will")).to_be_visible()
        await ada.page.get_by_role("button", name="Stop the reply").click()

        await expect(ada.turn("And the bridge?").get_by_text("The bridge will")).to_be_visible()


async def test_a_hostile_reply_is_only_text(server: Server, window: Open) -> None:
    session_id = await server.open_session()
    async with window() as ada:
        await ada.open_session(session_id)
        server.model.say(HOSTILE)

        await ada.say("<img src=x onerror='window.hacked = 7'> Be evil.")
        turn = ada.turn("Be evil.")
        await expect(turn.locator("strong", has_text="bold")).to_be_visible()

        assert await turn.locator("script, img, iframe, svg[onload]").count() == 0
        hrefs = await turn.locator(".prose a").evaluate_all("links => links.map(a => a.href)")
        assert hrefs == ["https://tracker.example/pixel.png", "https://x.example/"]
        for text in ("run me", "click"):
            await turn.get_by_text(re.compile(text)).first.click()
        assert await ada.page.evaluate("window.hacked") is None


@pytest.mark.parametrize(
    "reply",
    [
        "*deep " * 5_000 + "down*" * 5_000,
        "> " * 95 + "deep",
        "|deep" * 200 + "\n" + "|-" * 200 + "\n" + ("|b" * 200 + "\n") * 200,
    ],
    ids=["emphasis", "quotes", "table"],
)
async def test_a_reply_without_measure_does_not_break_the_page(
    server: Server, window: Open, reply: str
) -> None:
    session_id = await server.open_session()
    async with window() as ada:
        await ada.open_session(session_id)
        server.model.say(reply)
        await ada.say("Go deep.")
        await expect(ada.reply("deep")).to_be_visible()

        await ada.say("And now?")
        await expect(ada.reply("You said: And now?")).to_be_visible()


async def test_a_script_that_gets_into_the_page_does_not_run(window: Open) -> None:
    """The twin of the test above: the policy stops what the rendering would have let through."""
    async with window() as ada:
        await ada.visit("/")
        await ada.page.evaluate(
            """() => {
                window.violations = [];
                document.addEventListener("securitypolicyviolation",
                    (event) => window.violations.push(event.effectiveDirective));
                try { document.body.innerHTML += "<b>x</b>"; } catch { window.refused = true; }
                const link = document.createElement("a");
                link.href = "javascript:window.hacked=1";
                document.body.append(link);
                link.click();
            }"""
        )
        await ada.page.wait_for_function("window.violations.length > 1")

        assert await ada.page.evaluate("window.hacked") is None
        assert await ada.page.evaluate("window.refused") is True
        assert ada.problems  # this is how the other tests would learn of it
        ada.problems.clear()


async def test_the_keyboard_alone_is_enough(server: Server, window: Open) -> None:
    session_id = await server.open_session(title="Keys only")
    async with window() as ada:
        await ada.open_session(session_id)
        keyboard = ada.page.keyboard
        await expect(ada.page.get_by_role("textbox", name="Message")).to_be_focused()

        await keyboard.type("First line")
        await keyboard.press("Shift+Enter")
        await keyboard.type("second line")
        await keyboard.press("Enter")
        await expect(ada.reply("You said: First line")).to_be_visible()

        server.model.say("Never", " ending")
        server.model.hang_after(1)
        await keyboard.type("Go on")
        await keyboard.press("Enter")
        await expect(ada.page.get_by_label("The agent is writing")).to_be_visible()
        await keyboard.press("Escape")
        await expect(ada.page.get_by_text("Stopped.")).to_be_visible()


async def test_a_long_conversation_keeps_only_what_is_near_in_the_document(
    server: Server, window: Open
) -> None:
    session_id = await server.open_session()
    socket = await server.connect(session_id, user_id="ada")
    for number in range(60):
        await socket.query(f"Message number {number}.")
    async with window() as ada:
        await ada.open_session(session_id)
        await expect(ada.turn("Message number 59.").first).to_be_in_viewport()

        shown = await ada.page.get_by_role("article").count()
        assert 0 < shown < 40
        await ada.page.get_by_role("feed").evaluate("feed => { feed.scrollTop = 0 }")
        await expect(ada.turn("Message number 0.").first).to_be_in_viewport()
        await ada.page.get_by_role("button", name="Go to the newest message").click()
        await expect(ada.turn("Message number 59.").first).to_be_in_viewport()


async def test_what_others_say_over_http_has_their_name(server: Server, window: Open) -> None:
    session_id = await server.open_session()
    async with window("ada") as ada:
        await ada.open_session(session_id)

        path = f"/api/v1/sessions/{session_id}/query?user_id=carol"
        await server.http("POST", path, {"message": "Hello from a script."})

        turn = ada.turn("Hello from a script.")
        await expect(turn.get_by_text("carol", exact=True)).to_be_visible()
