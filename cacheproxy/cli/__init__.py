"""The command line: one module for each group of commands. Heavy parts are imported by the command that needs them."""

from cacheproxy.cli.app import main, run

__all__ = ["main", "run"]
