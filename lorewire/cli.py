"""The command line: each command parses its options and calls one function."""

import asyncio
from collections.abc import Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NoReturn, TypeVar
from uuid import UUID

import typer

if TYPE_CHECKING:
    from lorewire.settings import Settings

# What commands need is imported where they run: `lorewire --help` shall be quick.

T = TypeVar("T")

Output = Literal["text", "jsonl"]
View = Literal["memory", "graph", "sessions", "all"]
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
def serve(
    host: Annotated[str | None, typer.Option(help="A loopback address.")] = None,
    port: Annotated[int | None, typer.Option(help="0: any that is free.")] = None,
    log_format: Annotated[str | None, typer.Option(help="text or json.")] = None,
) -> None:
    """Serve, with every part that is not set in the environment embedded. Ctrl-C stops it."""
    settings = _settings(host=host, port=port, log_format=log_format)
    from lorewire.app import serve

    try:
        _run_server(serve(settings, on_ready=_say_ready))
    except _expected_errors() as error:
        _fail(str(error))


@app.command()
def project(
    shards: Annotated[
        int | None, typer.Option(help="Parts of the sessions, for as many projectors.")
    ] = None,
    retry: Annotated[bool, typer.Option(help="Try again what was set aside, and end.")] = False,
    log_format: Annotated[str | None, typer.Option(help="text or json.")] = None,
    child: Annotated[bool, typer.Option(hidden=True)] = False,
) -> None:
    """Keep the views up to date: what `serve` starts, for a machine of its own."""
    settings = _settings(shards=shards, log_format=log_format)
    from lorewire.database import database
    from lorewire.projector import project, retry_all

    try:
        with database(settings) as url:
            if not retry:
                project(settings, url, is_child=child)
            elif not retry_all(settings, url, print):
                raise typer.Exit(1)
    except _expected_errors() as error:
        _fail(str(error))


@app.command()
def rebuild(
    view: Annotated[View, typer.Argument(help="Which view.")],
    session: Annotated[str | None, typer.Option(help="Only the rows of this session.")] = None,
    compare: Annotated[
        bool, typer.Option("--compare", help="Say what would change, and do not switch.")
    ] = False,
    restart: Annotated[
        bool, typer.Option("--restart", help="Begin anew where a rebuild was stopped.")
    ] = False,
) -> None:
    """Fill the next version of a view beside the live one, then switch. Ctrl-C stops it; it goes on
    where it was when it is run again.
    """
    settings = _settings()
    from lorewire.database import database
    from lorewire.rebuild import rebuild

    session_id = _session_id(session)
    try:
        with database(settings) as url:
            is_done = rebuild(
                *(settings, url, view, print),
                session_id=session_id,
                is_comparison=compare,
                restart=restart,
            )
    except _expected_errors() as error:
        _fail(str(error))
    if not is_done:
        raise typer.Exit(130)


@app.command()
def verify(
    view: Annotated[View, typer.Argument(help="Which view.")] = "all",
    session: Annotated[str | None, typer.Option(help="Only the rows of this session.")] = None,
) -> None:
    """Say whether the views are what the log gives when it is read from its start."""
    settings = _settings()
    from lorewire.database import database
    from lorewire.rebuild import verify

    session_id = _session_id(session)
    try:
        with database(settings) as url:
            is_equal = verify(settings, url, view, print, session_id=session_id)
    except _expected_errors() as error:
        _fail(str(error))
    if not is_equal:
        raise typer.Exit(1)


@app.command()
def migrate() -> None:
    """Bring the database to the schema of this version."""
    settings = _settings()
    from lorewire.database import database, migrate

    try:
        with database(settings) as url:
            migrate(url)
    except _expected_errors() as error:
        _fail(str(error))
    print("The database has the schema of this version.")


@app.command()
def doctor() -> None:
    """Say what is wrong with this set-up, and what to do. Starts and changes nothing."""
    settings = _settings()
    from lorewire.doctor import print_findings

    if not asyncio.run(print_findings(settings, print)):
        raise typer.Exit(1)


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
    first: Annotated[int, typer.Option("--from", min=0, help="The first position.")] = 0,
    last: Annotated[int | None, typer.Option("--to", min=0, help="The last position.")] = None,
    output: Annotated[
        Output, typer.Option("--format", help="For people, or for scripts.")
    ] = "text",
    speed: Annotated[
        str | None, typer.Option(help="As 1x or 10x: wait as long as it took, or a tenth.")
    ] = None,
    about: Annotated[
        str | None,
        typer.Option(help="Only what made a turn, memory entry or statement, or rests on it."),
    ] = None,
    url: Url = DEFAULT_URL,
) -> None:
    """Print what happened in a session, in order, with positions and times."""
    from lorewire.replay import replay

    _run(
        replay(
            *(url, session),
            first=first,
            last=last,
            as_json=output == "jsonl",
            speed=_factor(speed),
            about=about,
        )
    )


@app.command()
def export(
    session: Annotated[str, typer.Argument(help="Its id.")],
    output: Annotated[
        Path | None, typer.Option(help="A file that is written when all is there; or to a pipe.")
    ] = None,
) -> None:
    """Write all that happened in a session as JSON lines, for another server or to be kept."""
    settings = _settings()
    from lorewire.database import database
    from lorewire.export import export_to

    session_id = _uuid(session)
    try:
        with database(settings) as url:
            count = export_to(url, session_id, output)
    except _expected_errors() as error:
        _fail(str(error))
    typer.echo(f"{count:,} events of session {session_id} are exported.", err=True)


@app.command("import")
def import_(
    file: Annotated[str, typer.Argument(help="What `export` has written; - for standard input.")],
) -> None:
    """Take a session from an export into the database: the whole of it, or nothing."""
    settings = _settings()
    from lorewire.database import database
    from lorewire.export import import_from

    try:
        with database(settings) as url:
            imported = import_from(url, file, lambda line: typer.echo(line, err=True))
    except _expected_errors() as error:
        _fail(str(error))
    print(
        f"Session {imported.session_id} is imported: {imported.events:,} events at positions "
        f"{imported.first} to {imported.last}"
        + (f", {imported.distance} higher than before." if imported.distance else ", as before.")
    )


@app.command()
def epoch(
    new: Annotated[bool, typer.Option("--new", help="After a backup was restored.")] = False,
) -> None:
    """Print the name of the log, which positions belong to; or give it a new one."""
    settings = _settings()
    from lorewire.database import database
    from lorewire.export import new_epoch, read_epoch

    try:
        with database(settings) as url:
            print(new_epoch(url) if new else read_epoch(url))
    except _expected_errors() as error:
        _fail(str(error))


@model_app.command("install")
def install_models() -> None:
    """Install the embedded models, where they are not installed yet."""
    from lorewire.model import ModelInstallError, install_models

    try:
        installed = install_models()
    except ModelInstallError as error:
        _fail(str(error))
    print(f"Installed {', '.join(installed)}." if installed else "The models are installed.")


def _session_id(session: str | None) -> UUID | None:
    if session is None:
        return None
    try:
        return UUID(session)
    except ValueError:
        raise typer.BadParameter(
            "expected a UUID such as 123e4567-e89b-12d3-a456-426614174000", param_hint="--session"
        ) from None


def _factor(speed: str | None) -> float | None:
    """The number in a factor such as 10x."""
    if speed is None:
        return None
    try:
        factor = float(speed.removesuffix("x"))
    except ValueError:
        factor = 0.0
    if not 0 < factor < float("inf"):
        raise typer.BadParameter("expected a factor such as 1x or 10x", param_hint="--speed")
    return factor


def _uuid(session: str) -> UUID:
    try:
        return UUID(session)
    except ValueError:
        raise typer.BadParameter("expected the id of a session", param_hint="SESSION") from None


def _settings(**options: object) -> "Settings":
    from lorewire.logs import configure_logging
    from lorewire.settings import SettingsError, load_settings

    try:
        settings = load_settings(**options)
    except SettingsError as error:
        _fail(str(error), status=2)
    configure_logging(settings.log_level, settings.log_format)
    return settings


def _expected_errors() -> tuple[type[Exception], ...]:
    """What an operator can mend: a sentence says it all, and a traceback would hide it."""
    import psycopg
    from sqlalchemy.exc import OperationalError

    from events.transfer import TransferError
    from language.domains import DomainError
    from language.embedding import EmbedderMissingError
    from language.extraction import ExtractorMissingError
    from lorewire.postgres import EmbeddedPostgresError
    from lorewire.processes import ChildFailedError
    from projections.follower import FailedEventError
    from projections.rebuild import RebuildError

    return (
        ChildFailedError,
        DomainError,
        EmbeddedPostgresError,
        EmbedderMissingError,
        ExtractorMissingError,
        FailedEventError,
        OSError,
        OperationalError,
        RebuildError,
        TransferError,
        psycopg.OperationalError,
    )


def _run_server(coroutine: Coroutine[Any, Any, None]) -> None:
    """Run on uvloop where it is installed: a tenth to a quarter more messages a second."""
    try:
        import uvloop
    except ImportError:
        asyncio.run(coroutine)
    else:
        uvloop.run(coroutine)


def _say_ready(url: str) -> None:
    print(f"Lorewire serves {url}. Talk to it: lorewire chat --url {url}. Ctrl-C stops it.")


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
