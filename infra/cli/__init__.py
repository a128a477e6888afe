"""The command line, `alluvium`: one module a family of commands; each command loads what it needs when it is called."""

from infra.cli.app import main

__all__ = ["main"]
