"""`/metrics` and the two questions of health."""

import asyncio
import re

from tests.harness import PATIENCE_S, Server


async def metrics(server: Server) -> dict[str, float]:
    """Each sample by its name with its labels."""
    status, text = await server.http("GET", "/metrics")
    assert status == 200
    lines = re.findall(r"^(lorewire_\S+(?:\{.*\})?) (\S+)$", text, re.MULTILINE)
    return {name: float(value) for name, value in lines}


async def test_a_turn_shows_in_the_metrics(server: Server) -> None:
    before = await metrics(server)
    socket = await server.connect(await server.open_session())
    await socket.query("Hello")
    await socket.until("typing_stop")
    after = await metrics(server)

    def grew(name: str) -> float:
        return after[name] - before.get(name, 0.0)

    assert grew('lorewire_turns_total{outcome="completed"}') == 1
    assert grew("lorewire_model_first_token_seconds_count") == 1
    assert grew("lorewire_model_reply_seconds_count") == 1
    assert grew('lorewire_model_tokens_total{kind="prompt"}') > 0
    assert grew('lorewire_model_tokens_total{kind="completion"}') > 0
    assert grew('lorewire_messages_total{direction="received"}') == 1
    assert grew('lorewire_messages_total{direction="sent"}') >= len(socket.seen)
    assert after["lorewire_turns_running"] == 0
    assert after["lorewire_connections"] == 1
    assert {"lorewire_outgoing_bytes", "lorewire_journal_commit_seconds_count"} <= set(after)


async def test_the_loop_is_watched(server: Server) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not (await metrics(server))["lorewire_loop_lag_seconds_count"]:
            await asyncio.sleep(0.05)


async def test_a_server_that_is_about_to_end_is_alive_and_not_ready(server: Server) -> None:
    ready, alive = await server.http("GET", "/health"), await server.http("GET", "/health/alive")
    assert (ready[0], alive[0]) == (200, 200)

    server.directory.services.draining.set()

    status, health = await server.http("GET", "/health")
    assert (status, health["status"]) == (503, "unhealthy")
    assert health["checks"]["draining"] == "The server is about to end."
    assert (await server.http("GET", "/health/alive"))[0] == 200
    socket = await server.dial("/api/v1/ws/monitor")
    assert (await socket.closed())[0] == 1013


async def test_an_update_is_made_once_for_all_who_watch(server: Server) -> None:
    watchers = [await server.dial("/api/v1/ws/monitor") for _ in range(5)]
    first = [await watcher.until("monitor_connected") for watcher in watchers]
    await server.connect(await server.open_session())

    updates = [await watcher.until("monitor_update", active_connections=1) for watcher in watchers]

    assert len(first) == 5
    assert len({str(update) for update in updates}) == 1
