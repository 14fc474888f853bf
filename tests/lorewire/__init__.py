"""Tests of the program: settings, embedded engines, the client, the command line."""
