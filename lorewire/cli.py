"""The command line: each command parses its options and calls one function."""

import asyncio
from collections.abc import Coroutine
from typing import Annotated, Any, NoReturn, TypeVar

import typer

# What commands need is imported where they run: `lorewire --help` shall be quick.

T = TypeVar("T")

Url = Annotated[str, typer.Option("--url", envvar="LOREWIRE_URL", help="Where the server listens.")]
DEFAULT_URL = "http://127.0.0.1:8000"

app = typer.Typer(
    name="lorewire",
    help="A server for agent sessions that remember.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
model_app = typer.Typer(help="The embedded models.", no_args_is_help=True)
app.add_typer(model_app, name="model")


@app.callback(invoke_without_command=True)
def main(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    """A server for agent sessions that remember."""
    if version:
        from lorewire import __version__

        print(__version__)
        raise typer.Exit


@app.command()
def chat(
    session: Annotated[str | None, typer.Argument(help="Its id; without one, a new one.")] = None,
    domain: Annotated[str | None, typer.Option(help="The new session's domain.")] = None,
    title: Annotated[str | None, typer.Option(help="The new session's title.")] = None,
    user: Annotated[str | None, typer.Option(help="Who speaks.")] = None,
    url: Url = DEFAULT_URL,
) -> None:
    """Talk to a session's agent. Lines from a pipe are asked one after the other."""
    from lorewire.chat import chat

    raise typer.Exit(_run(chat(url, session_id=session, domain=domain, title=title, user_id=user)))


@app.command()
def sessions(
    query: Annotated[str | None, typer.Argument(help="Words of the title.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=500)] = 50,
    url: Url = DEFAULT_URL,
) -> None:
    """List the sessions, those with the newest activity first."""
    from lorewire.session_table import print_sessions

    _run(print_sessions(url, q=query, limit=limit))


@app.command()
def replay(
    session: Annotated[str, typer.Argument(help="Its id.")],
    after: Annotated[int, typer.Option(min=0, help="Begin after this position.")] = 0,
    url: Url = DEFAULT_URL,
) -> None:
    """Print what happened in a session, in order, with positions and times."""
    from lorewire.replay import replay

    _run(replay(url, session, after=after))


@model_app.command("install")
def install_models() -> None:
    """Install the embedded models, where they are not installed yet."""
    from lorewire.model import ModelInstallError, install_models

    try:
        installed = install_models()
    except ModelInstallError as error:
        _fail(str(error))
    print(f"Installed {', '.join(installed)}." if installed else "The models are installed.")


def _run(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run what a client does; its expected errors are one line and exit status 1."""
    from lorewire.client import ClientError

    try:
        return asyncio.run(coroutine)
    except ClientError as error:
        _fail(str(error))
    except KeyboardInterrupt:
        raise typer.Exit(130) from None


def _fail(sentence: str, *, status: int = 1) -> NoReturn:
    typer.echo(sentence, err=True)
    raise typer.Exit(status)
