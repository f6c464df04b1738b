"""The command line."""

from redoseg.cli.app import main

__all__ = ["main"]
