"""How the command line ends."""

from __future__ import annotations

import os
import sys

from rich.console import Console
from rich.markup import escape


def leave_quietly() -> None:
    """End because nobody reads standard output any more."""
    # The reader of a pipe went away; Python would complain again when it flushes standard output.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(1)


def refuse(sentence: str) -> None:
    """Print a mistake as one sentence on standard error and end with status 1."""
    # Paths need not be text: what no terminal can show is printed by its bytes.
    printable = sentence.encode("utf-8", "backslashreplace").decode("utf-8")
    Console(stderr=True).print(f"error: {escape(printable)}", style="red", highlight=False, soft_wrap=True)
    sys.exit(1)
