"""Tornado: the session and monitor sockets, HTTP, metrics."""
