"""Stored events as the messages that tell clients about them."""

from typing import Any
from uuid import UUID

from actors.protocol import Message, rfc3339
from events.aggregate import SessionAggregate
from events.session import Session

# The events that clients are told about as they are stored; a resuming client gets all it missed.
TOLD = (
    "QueryAsked",
    "ReplyCompleted",
    "ReplyFailed",
    "ReplyCancelled",
    "SessionReconfigured",
    "SessionDeleted",
)


def message_of(event: SessionAggregate.Event, position: int) -> Message | None:
    """The message for a stored event, or None where clients are not told about it."""
    type_: str
    data: dict[str, Any]
    match event:
        case Session.QueryAsked():
            type_, data = (
                "query_received",
                {
                    "turn_id": event.turn_id,
                    "message": event.message,
                    "context": event.context,
                    "connection_id": event.cause.connection_id,
                    "user_id": event.cause.user_id,
                },
            )
        case Session.ReplyCompleted():
            type_, data = (
                "query_response",
                {
                    "turn_id": event.turn_id,
                    "message": event.text,
                    "partial": False,
                    "model": event.model,
                    "usage": event.usage,
                    "recalled": event.recalled,
                    "facts": event.facts,
                    "memory_position": event.memory_position,
                    "graph_position": event.graph_position,
                },
            )
        case Session.ReplyFailed():
            type_, data = (
                "query_response",
                {
                    "turn_id": event.turn_id,
                    "message": event.text,
                    "partial": False,
                    "failed": True,
                    "code": event.code,
                    "error": event.error,
                },
            )
        case Session.ReplyCancelled():
            type_, data = (
                "query_response",
                {
                    "turn_id": event.turn_id,
                    "message": event.text,
                    "partial": False,
                    "cancelled": True,
                },
            )
        case Session.SessionReconfigured():
            values = {"title": event.title, "config": event.config}
            type_, data = (
                "session_updated",
                {"changes": {name: values[name] for name in event.changed}},
            )
        case Session.SessionDeleted():
            type_, data = "session_deleted", {}
        case _:
            return None
    ends: UUID | None = data["turn_id"] if type_ == "query_response" else None
    data["session_id"] = event.session_id
    data["timestamp"] = rfc3339(event.timestamp)
    return Message(type_, data, position=position, ends=ends)
