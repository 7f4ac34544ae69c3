"""The command `duetime`: run nodes, and steer events, from the shell."""

from __future__ import annotations

from duetime.cli.program import main

__all__ = ["main"]
