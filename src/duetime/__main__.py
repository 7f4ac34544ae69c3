"""`python -m duetime` is the command `duetime`."""

from __future__ import annotations

from duetime.cli import main

main()
