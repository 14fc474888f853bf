"""The monitor socket: what is going on, as it happens."""

import asyncio
import time

from tests.harness import Server


async def test_the_monitor_sees_sessions_and_connections_come_and_go(server: Server) -> None:
    monitor = await server.dial("/api/v1/ws/monitor")
    first = await monitor.until("monitor_connected")

    session_id = await server.open_session(user_id="ada")
    created = await monitor.until("session_created")
    socket = await server.connect(session_id, user_id="ada")
    opened = await monitor.until("connection_opened")
    socket.close()
    closed = await monitor.until("connection_closed")
    await server.http("DELETE", f"/api/v1/sessions/{session_id}")
    deleted = await monitor.until("session_deleted")

    assert set(first["data"]) == {"active_sessions", "active_connections", "timestamp"}
    assert created["data"]["session_id"] == deleted["data"]["session_id"] == str(session_id)
    assert opened["data"]["connection_id"] == closed["data"]["connection_id"]
    assert opened["data"]["user_id"] == "ada"


async def test_updates_come_steadily_and_tell_everything(server: Server) -> None:
    monitor = await server.dial("/api/v1/ws/monitor")

    update = await monitor.until("monitor_update")
    await monitor.until("monitor_update")  # every half second in this server

    assert set(update["data"]) == {
        "active_sessions",
        "active_connections",
        "timestamp",
        "events_total",
        "events_per_second",
        "turns_running",
        "projections",
        "learning",
        "rss_bytes",
        "uptime_s",
    }
    assert {"memory", "graph", "sessions"} <= set(update["data"]["projections"])
    assert set(update["data"]["projections"]["memory"]) == {"position", "lag", "set_aside"}
    assert update["data"]["learning"]["waiting"] == 0
    assert update["data"]["rss_bytes"] > 10_000_000


async def test_a_change_is_told_at_once(server: Server) -> None:
    session_id = await server.open_session()
    monitor = await server.dial("/api/v1/ws/monitor")
    await monitor.until("monitor_update")

    await server.connect(session_id)
    update = await monitor.until("monitor_update", active_connections=1)
    server.model.hold()
    await server.sockets[-1].send("query", {"message": "Hello"})
    running = await monitor.until("monitor_update", turns_running=1)

    assert update["data"]["active_connections"] == 1
    assert running["data"]["turns_running"] == 1


async def test_a_storm_of_changes_is_told_ten_times_a_second_at_most(server: Server) -> None:
    session_id = await server.open_session()
    monitor = await server.dial("/api/v1/ws/monitor")
    await monitor.until("monitor_update")
    monitor.seen.clear()

    started = time.monotonic()
    for _ in range(60):
        socket = await server.connect(session_id)
        socket.close()
    await asyncio.sleep(0.3)
    await monitor.ask("ping")
    elapsed_s = time.monotonic() - started

    updates = [m for m in monitor.seen if m["type"] == "monitor_update"]
    steady = elapsed_s / 0.5 + 1
    assert len(updates) <= elapsed_s / 0.1 + steady + 1


async def test_the_monitor_answers_pings_and_refuses_the_rest(server: Server) -> None:
    monitor = await server.dial("/api/v1/ws/monitor")

    pong = await monitor.ask("ping", {"message": "hi", "timestamp": 1})
    refused = await monitor.ask("query", {"message": "hi"}, request_id="q")

    assert (pong["data"]["message"], pong["data"]["client_timestamp"]) == ("hi", 1)
    assert "active_sessions" in pong["data"]
    assert (refused["type"], refused["data"]["code"]) == ("error", "unknown_type")
