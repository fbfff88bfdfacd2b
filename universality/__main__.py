"""``python -m universality``: the command line, where the command itself is not on the path."""

from __future__ import annotations

from universality.cli import main

main()
