"""Making a database unreachable, and reachable again, for tests of what happens then."""

import psycopg


def refuse_connections(database_url: str) -> None:
    """As if the server were gone: no connection is left, and none can be made."""
    with psycopg.connect(_server_of(database_url), autocommit=True) as conn:
        conn.execute(f"ALTER DATABASE {_name_of(database_url)} ALLOW_CONNECTIONS false")
    kill_connections(database_url)


def allow_connections(database_url: str) -> None:
    """The server is back."""
    with psycopg.connect(_server_of(database_url), autocommit=True) as conn:
        conn.execute(f"ALTER DATABASE {_name_of(database_url)} ALLOW_CONNECTIONS true")


def kill_connections(database_url: str) -> None:
    """Cut every connection there is."""
    with psycopg.connect(_server_of(database_url), autocommit=True) as conn:
        conn.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s",
            (_name_of(database_url),),
        )


def _server_of(database_url: str) -> str:
    return database_url.replace(f"/{_name_of(database_url)}", "/postgres", 1)


def _name_of(database_url: str) -> str:
    return database_url.partition("?")[0].rpartition("/")[2]
