"""Rebuilding and verifying views, as an operator sees it."""

import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from uuid import UUID

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from events.log import Log
from language.domains import load_domains
from lorewire.embedder import load_embedder
from lorewire.settings import Settings
from projections import rebuild as views
from projections.digest import Difference
from projections.follower import (
    FailedEventError,
    NotYetError,
    Projection,
    UnreadableEventError,
)
from projections.graph_projection import GraphProjection
from projections.memory import MemoryProjection
from projections.positions import GRAPH, MEMORY, SESSIONS
from projections.sessions import SessionsProjection
from projections.updates import redo_session

ALL = "all"
VIEWS = (SESSIONS, MEMORY, GRAPH)

Write = Callable[[str], None]


def rebuild(
    settings: Settings,
    database_url: str,
    view: str,
    write: Write,
    *,
    session_id: UUID | None = None,
    is_comparison: bool = False,
    restart: bool = False,
) -> bool:
    """Rebuild a view, or all; False where it was stopped before its end.

    With `is_comparison` it says what would change and does not switch: what was filled is kept, and
    the same command without it goes on from there. With `session_id` only the rows of that session
    are written anew. Raises RebuildError.
    """
    with _projections(settings, database_url, view) as (log, projections):
        _check_session(log, session_id)
        for projection in projections:
            if session_id is not None:
                _rebuild_session(log, projection, session_id, write, is_comparison=is_comparison)
            elif not _rebuild_view(
                log, projection, write, is_comparison=is_comparison, restart=restart
            ):
                return False
    return True


def verify(
    settings: Settings,
    database_url: str,
    view: str,
    write: Write,
    *,
    session_id: UUID | None = None,
) -> bool:
    """Whether a view, or each of them, is what the log gives; says the first differences.

    Raises RebuildError where the log can't be read to its end, or where it was stopped.
    """
    is_equal = True
    with _projections(settings, database_url, view) as (log, projections):
        _check_session(log, session_id)
        for projection in projections:
            if session_id is not None:
                found = _compare_session(log, projection, session_id)
            else:
                with views.begun(log, projection, is_scratch=True) as scratch:
                    if not _fill(log, scratch, upto=views.live_position(log, scratch.view)):
                        raise views.RebuildError("Stopped. The live view is as it was.")
                    found = scratch.compare()
            write(f"{projection.name}: {'different' if found else 'equal'}")
            if found:
                _write_embedders(log, projection, write)
            _write_differences(found, write)
            is_equal = is_equal and not found
    return is_equal


def _rebuild_view(
    log: Log, projection: Projection, write: Write, *, is_comparison: bool, restart: bool
) -> bool:
    with views.begun(log, projection, restart=restart) as next_version:
        if next_version.position:
            write(f"{projection.name}: goes on after position {next_version.position:,}")
        upto = views.live_position(log, next_version.view) if is_comparison else None
        if not _fill(log, next_version, upto=upto):
            write(f"{projection.name}: stopped. The same command goes on from here.")
            return False
        if is_comparison:
            found = next_version.compare()
            write(f"{projection.name}: {'would change' if found else 'nothing would change'}")
            if found:
                _write_embedders(log, projection, write)
            _write_differences(found, write)
            write(f"{projection.name}: filled. Run it again without --compare to switch.")
        else:
            next_version.switch()
            write(f"{projection.name}: rebuilt up to position {next_version.position:,}")
    return True


def _rebuild_session(
    log: Log, projection: Projection, session_id: UUID, write: Write, *, is_comparison: bool
) -> None:
    what = f"{projection.name} of session {session_id}"
    if is_comparison:
        found = _compare_session(log, projection, session_id)
        write(f"{what}: {'would change' if found else 'nothing would change'}")
        _write_differences(found, write)
    else:
        with _poison_explained():
            position = redo_session(log, projection, session_id)
        write(f"{what}: rebuilt up to position {position:,}")


def _compare_session(log: Log, projection: Projection, session_id: UUID) -> list[Difference]:
    with _poison_explained():
        return views.compare_session(log, projection, session_id)


def _check_session(log: Log, session_id: UUID | None) -> None:
    if session_id is not None and not log.session_head(session_id):
        raise views.RebuildError(f"There is no session {session_id} in the log.")


@contextmanager
def _poison_explained() -> Iterator[None]:
    """What stops the rebuild of one session, in the words in which it stops that of all."""
    try:
        yield
    except UnreadableEventError as error:
        raise views.RebuildError(f"{error} The live rows stay as they are.") from error
    except FailedEventError as error:
        cause = error.__cause__
        raise views.RebuildError(
            f"{error} {type(cause).__name__}: {cause}. The live rows stay as they are."
        ) from error
    except NotYetError as error:
        raise views.RebuildError(f"{error} The live rows stay as they are.") from error


def _write_embedders(log: Log, projection: Projection, write: Write) -> None:
    """Say it where rows differ because the embedder is another one now."""
    if not isinstance(projection, MemoryProjection):
        return
    live = views.live_embedder(log)
    if live != projection.made_with:
        write(
            f"  The live vectors were made with {live or 'no embedder'}, and the embedder is "
            f"{projection.made_with or 'none'} now: `lorewire rebuild memory` makes all of them "
            "anew."
        )


def _write_differences(found: Sequence[Difference], write: Write) -> None:
    for one in found:
        write(f"  {one.table}: {one.added:,} added, {one.gone:,} gone, {one.changed:,} changed")
        for example in one.examples:
            write(f"    {example}")


def _fill(log: Log, version: views.Rebuild, *, upto: int | None) -> bool:
    end = log.head() if upto is None else upto
    with _stopping() as stop, _bar(version.view, version.position, end) as (bar, task):

        def report(progress: views.Progress) -> None:
            elapsed_s = bar.tasks[task].elapsed or 0.0
            bar.update(
                task,
                completed=progress.position,
                total=progress.end,
                events=f"{progress.events:,}",
                rate=f"{progress.events / elapsed_s:,.0f}" if elapsed_s else "-",
            )

        return version.fill(report, stop, upto=upto)


@contextmanager
def _bar(view: str, position: int, head: int) -> Iterator[tuple[Progress, TaskID]]:
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[events]} events, {task.fields[rate]}/s"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    ) as bar:
        yield bar, bar.add_task(view, total=head, completed=position, events="0", rate="-")


@contextmanager
def _stopping() -> Iterator[threading.Event]:
    """An event that Ctrl-C and SIGTERM set, instead of breaking off in the middle of a batch."""
    stop = threading.Event()
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, lambda *_: stop.set()) for number in numbers]
    try:
        yield stop
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


@contextmanager
def _projections(
    settings: Settings, database_url: str, view: str
) -> Iterator[tuple[Log, list[Projection]]]:
    domains = load_domains(settings.domains_dir)
    log = Log(database_url)
    try:
        made: dict[str, Callable[[], Projection]] = {
            SESSIONS: SessionsProjection,
            MEMORY: lambda: MemoryProjection(log, domains, load_embedder(settings)),
            GRAPH: lambda: GraphProjection(domains),
        }
        yield log, [made[name]() for name in (VIEWS if view == ALL else (view,))]
    finally:
        log.close()
