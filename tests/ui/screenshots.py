"""The pictures in the README: `make screenshots` plays a session and photographs it.

python -m tests.ui.screenshots FOLDER
"""

import argparse
import asyncio
import shutil
import tempfile
from pathlib import Path

from playwright.async_api import Browser, expect

from lorewire.database import migrate
from lorewire.postgres import EmbeddedPostgres
from tests.conftest import temporary_database
from tests.harness import Server, running_server
from tests.ui.browser import Reader, launched_browser, reader

OTHERS = [
    ("Checkout, second round", "user_story"),
    ("Buffer gels, week 32", "lab_assistant"),
    ("The lighthouse keeper", "dnd"),
]
TITLE = "The Drowned Quarter"
TALK = [
    (
        "ada",
        "Kira leaves the Thornwick Forest. Kira travels to Rivermoor. Who meets her at the gate?",
        "Rain hangs over **Rivermoor** as Kira reaches the gate. Captain Sara Holt looks up from"
        " her ledger.\n\n> State your business, ranger.",
    ),
    (
        "bob",
        "Kira shows Sara Holt a letter. Elena Thorne wrote the letter.",
        "Sara breaks the seal and reads it twice.\n\n1. The **Grey Hand** moves tonight.\n"
        "2. The *Amulet of Tides* is still in town.\n3. Nobody may know who wrote this.",
    ),
    (
        "ada",
        "Corvin Blackwood owns the Black Heron. Mirella lives in the Drowned Quarter. Mirella"
        " distrusts Corvin Blackwood. Who stole the Amulet of Tides?",
        "Corvin Blackwood did: he took the **Amulet of Tides** from the Temple of Waves, and the"
        " Grey Hand has kept it hidden since.",
    ),
]


async def play(server: Server) -> str:
    """A session with something to see, and a few beside it; its id."""
    for title, domain in OTHERS:
        await server.open_session(title=title, config={"domain": domain})
    session_id = await server.open_session(title=TITLE, user_id="ada")
    people = {name: await server.connect(session_id, user_id=name) for name in ("ada", "bob")}
    for name, message, reply in TALK:
        server.model.say(*(f"{word} " for word in reply.split(" ")))
        await people[name].query(message)
        await server.caught_up()
    return str(session_id)


async def show_session(ada: Reader, session_id: str) -> None:
    """Conversation and graph."""
    await ada.open_session(session_id)
    await expect(ada.page.locator(".graph-canvas canvas").first).to_be_visible()
    await expect(ada.reply("Temple of Waves")).to_be_visible()


async def show_sources(ada: Reader, session_id: str) -> None:
    """What a reply rests on, beside a search."""
    await show_session(ada, session_id)
    await ada.page.get_by_role("button", name="Memory").click()
    await ada.page.get_by_label("Search memory").fill("who has the amulet")
    await expect(ada.page.locator("mark").first).to_be_visible()
    await ada.page.get_by_role("button", name="What this rests on").last.click()
    await expect(ada.page.get_by_role("heading", name="Statements")).to_be_visible()
    await ada.page.mouse.move(0, 0)
    await ada.page.locator(".reply").last.evaluate("reply => reply.scrollIntoView()")


async def show_time(ada: Reader, session_id: str) -> None:
    """The session as of a moment, with a fact opened."""
    await show_session(ada, session_id)
    await ada.page.get_by_role("button", name="Look back in time").click()
    slider = ada.page.get_by_role("slider")
    await expect(ada.page.get_by_text("moments")).to_be_visible()
    while "Learned" not in (await slider.get_attribute("aria-valuetext") or ""):
        await slider.press("ArrowLeft")
    await slider.press("ArrowLeft")
    await ada.page.get_by_role("button", name="List", exact=True).click()
    await ada.page.get_by_role("button", name="Corvin Blackwood").first.click()
    await (
        ada.page.get_by_role("button", name="stole")
        .or_(ada.page.get_by_role("button", name="steals"))
        .first.click()
    )
    await ada.page.get_by_role("button", name="Map", exact=True).click()
    await expect(ada.page.locator(".graph-canvas canvas").first).to_be_visible()


async def show_monitor(ada: Reader, server: Server) -> None:
    """The charts, with a little traffic on them."""
    await ada.visit("/monitor")
    await expect(ada.page.get_by_role("figure").first).to_be_visible()
    for number in range(8):
        session_id = await server.open_session(title=f"Visitor {number}")
        socket = await server.connect(session_id, user_id=f"visitor-{number}")
        await socket.query("Hello there.")
        await ada.page.wait_for_timeout(900)  # the charts are over time
        if number % 2:
            socket.close()


async def photograph(server: Server, browser: Browser, folder: Path) -> None:
    """Make every picture."""
    base_url = f"http://127.0.0.1:{server.port}"
    session_id = await play(server)

    async def shoot(one: Reader, name: str) -> None:
        await one.page.wait_for_timeout(1_200)  # fonts, the drawing's last movements
        await one.page.screenshot(path=folder / f"{name}.png")

    async with reader(browser, base_url, "ada", width=1200, height=760) as ada:
        await show_session(ada, session_id)
        await shoot(ada, "session")
        await show_sources(ada, session_id)
        await shoot(ada, "memory")
    async with reader(browser, base_url, "ada", width=1200, height=760, dark=True) as ada:
        await show_time(ada, session_id)
        await shoot(ada, "time")
    async with reader(browser, base_url, "ada", width=390, height=800) as ada:
        await show_session_on_a_phone(ada, session_id)
        await shoot(ada, "phone")
    async with reader(browser, base_url, "ada", width=1200, height=760) as ada:
        await show_monitor(ada, server)
        await shoot(ada, "monitor")


async def show_session_on_a_phone(ada: Reader, session_id: str) -> None:
    """The conversation, where there is room for nothing else."""
    await ada.open_session(session_id)
    await expect(ada.reply("Temple of Waves")).to_be_visible()


async def main(folder: Path) -> None:
    """Start everything, make the pictures, stop everything."""
    data = Path(tempfile.mkdtemp(prefix="lorewire-pictures-", dir="/tmp"))
    postgres = EmbeddedPostgres(data / "postgres")
    try:
        with temporary_database(postgres.start()) as database_url:
            migrate(database_url)
            async with (
                running_server(database_url, embedder="wordllama") as server,
                launched_browser() as browser,
            ):
                await photograph(server, browser, folder)
    finally:
        postgres.stop()
        shutil.rmtree(data, ignore_errors=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    pictures: Path = parser.parse_args().folder
    pictures.mkdir(parents=True, exist_ok=True)
    asyncio.run(main(pictures))
