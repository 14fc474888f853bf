"""LangGraph with its PostgreSQL checkpointer: one node that asks the model, message history kept.

    python -m bench.peers.langgraph_turns DATABASE_URL MODEL_URL

Answers each line of `SESSIONS SECONDS` with a JSON object. In-process: no socket is between the
asker and the graph.
"""

import asyncio
import sys
import time
from typing import Any

from langchain_core.messages import HumanMessage, trim_messages
from langchain_openai import ChatOpenAI
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from langgraph.graph import START, MessagesState, StateGraph
from psycopg.rows import dict_row
from psycopg_pool import AsyncConnectionPool

from bench.common import answer_lines, percentile

SHOWN_MESSAGES = 13
POOL_SIZE = 16


async def main(database_url: str, model_url: str, sessions: int, seconds: float) -> dict[str, Any]:
    """Run whole turns in so many threads of conversation at once."""
    model = ChatOpenAI(base_url=model_url, api_key="none", model="instant", streaming=True)  # type: ignore[arg-type]

    async def answer(state: MessagesState) -> dict[str, Any]:
        shown = trim_messages(
            state["messages"], max_tokens=SHOWN_MESSAGES, token_counter=len, start_on="human"
        )
        return {"messages": [await model.ainvoke(shown)]}

    pool: AsyncConnectionPool[Any] = AsyncConnectionPool(
        database_url,
        max_size=POOL_SIZE,
        kwargs={"autocommit": True, "prepare_threshold": 0, "row_factory": dict_row},
        open=False,
    )
    async with pool:
        saver = AsyncPostgresSaver(pool)
        await saver.setup()
        builder = StateGraph(MessagesState)
        builder.add_node("answer", answer)
        builder.add_edge(START, "answer")
        graph = builder.compile(checkpointer=saver)
        times_s: list[float] = []
        started = time.perf_counter()

        async def talk(number: int) -> None:
            config: Any = {"configurable": {"thread_id": f"{time.time_ns()}-{number}"}}
            while time.perf_counter() - started < seconds:
                asked_at = time.perf_counter()
                question = HumanMessage(f"What does the watch know? {len(times_s)}")
                await graph.ainvoke({"messages": [question]}, config)
                times_s.append(time.perf_counter() - asked_at)

        await asyncio.gather(*(talk(number) for number in range(sessions)))
        elapsed_s = time.perf_counter() - started
    return {
        "per_s": len(times_s) / elapsed_s,
        "p50_ms": percentile(times_s, 50) * 1e3,
        "p99_ms": percentile(times_s, 99) * 1e3,
    }


def answer(line: str) -> dict[str, Any]:
    """The figures for a line; all on one event loop, to which the model's client is bound."""
    sessions, seconds = line.split()
    return runner.run(main(*sys.argv[1:], int(sessions), float(seconds)))


if __name__ == "__main__":
    with asyncio.Runner() as runner:
        answer_lines(answer)
