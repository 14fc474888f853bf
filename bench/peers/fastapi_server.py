"""FastAPI with uvicorn: pings, a chat that stores both messages with SQLAlchemy, and a search.

    python -m bench.peers.fastapi_server PORT [DATABASE_URL MODEL_URL]

`/ping`, and `/chat/<session>`: the query is one transaction, the reply another, and the last six
turns are the prompt, as in Lorewire. `/search/<session>`: the query is embedded, and pgvector finds
the ten nearest (`peer_memories` of `bench.search_peers`).
"""

import sys
from contextlib import asynccontextmanager
from datetime import datetime
from functools import cache
from typing import Any

import orjson
import uvicorn
from fastapi import FastAPI, WebSocket, WebSocketDisconnect
from openai import AsyncOpenAI
from sqlalchemy import DateTime, String, func, select, text
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from bench.peers.tornado_server import now, pong
from language.embedding import WordLlamaEmbedder

SHOWN_MESSAGES = 12
FOUND = 10

embedder = cache(WordLlamaEmbedder)  # loaded by the first search
NEAREST = text(
    "SELECT position, text, 1 - (embedding <=> CAST(:vector AS vector)) AS score"
    " FROM peer_memories WHERE session_id = CAST(:session_id AS uuid)"
    " ORDER BY embedding <=> CAST(:vector AS vector) LIMIT :limit"
)


class Base(DeclarativeBase):
    """The tables."""


class Said(Base):
    """One message of a chat."""

    __tablename__ = "said"
    id: Mapped[int] = mapped_column(primary_key=True)
    session_id: Mapped[str] = mapped_column(String, index=True)
    role: Mapped[str]
    text: Mapped[str]
    said_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())


def make_app(database_url: str | None, model_url: str | None) -> FastAPI:
    """The application."""
    engine = create_async_engine(database_url, pool_size=16) if database_url else None
    sessions = async_sessionmaker(engine, expire_on_commit=False)
    model = AsyncOpenAI(base_url=model_url, api_key="none")

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> Any:
        if engine is not None:
            async with engine.begin() as conn:
                await conn.run_sync(Base.metadata.create_all)
        print("ready", flush=True)
        yield

    app = FastAPI(lifespan=lifespan)

    @app.websocket("/ping")
    async def ping(socket: WebSocket) -> None:
        await socket.accept()
        try:
            while True:
                await socket.send_text(pong(await socket.receive_text()).decode())
        except WebSocketDisconnect:
            pass

    @app.websocket("/chat/{session_id}")
    async def chat(socket: WebSocket, session_id: str) -> None:
        await socket.accept()
        try:
            while True:
                message = orjson.loads(await socket.receive_text())["data"]["message"]
                await socket.send_text(await turn(socket, session_id, message))
        except WebSocketDisconnect:
            pass

    async def turn(socket: WebSocket, session_id: str, message: str) -> str:
        async with sessions() as database:
            database.add(Said(session_id=session_id, role="user", text=message))
            await database.commit()
            found = select(Said).where(Said.session_id == session_id)
            rows = (
                await database.scalars(found.order_by(Said.id.desc()).limit(SHOWN_MESSAGES))
            ).all()
        await socket.send_text(orjson.dumps({"type": "query_received", "data": {}}).decode())
        stream = await model.chat.completions.create(
            model="instant",
            messages=[{"role": row.role, "content": row.text} for row in reversed(rows)],  # type: ignore[misc]
            stream=True,
        )
        pieces = [chunk.choices[0].delta.content or "" async for chunk in stream if chunk.choices]
        async with sessions() as database:
            database.add(Said(session_id=session_id, role="assistant", text="".join(pieces)))
            await database.commit()
        data = {"message": "".join(pieces), "timestamp": now()}
        return orjson.dumps({"type": "query_response", "data": data}).decode()

    @app.websocket("/search/{session_id}")
    async def search(socket: WebSocket, session_id: str) -> None:
        await socket.accept()
        try:
            while True:
                asked = orjson.loads(await socket.receive_text())
                found = await nearest(session_id, asked["data"]["query"])
                answer = {"type": "search_response", "data": {"results": found}, "id": asked["id"]}
                await socket.send_text(orjson.dumps(answer).decode())
        except WebSocketDisconnect:
            pass

    async def nearest(session_id: str, query: str) -> list[dict[str, Any]]:
        vector = str(embedder().embed_query(query).tolist())
        async with sessions() as database:
            rows = await database.execute(
                NEAREST, {"vector": vector, "session_id": session_id, "limit": FOUND}
            )
            return [dict(row) for row in rows.mappings()]

    return app


if __name__ == "__main__":
    port, *urls = sys.argv[1:]
    app = make_app(*(urls or (None, None)))
    uvicorn.run(app, host="127.0.0.1", port=int(port), log_level="error", ws_ping_interval=None)
