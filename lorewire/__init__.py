"""The program: settings, command line, embedded engines, wiring, the Python client."""

__version__ = "0.1.0"
