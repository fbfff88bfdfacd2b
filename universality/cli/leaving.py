"""How the command line ends: its exit statuses and the message of each."""

from __future__ import annotations

import os
import sys
import traceback
from enum import IntEnum
from typing import NoReturn

from rich.console import Console
from rich.markup import escape

from universality.base.errors import TasksFailedError, UniversalityError


class Status(IntEnum):
    """Exit statuses; shells add 128 to the number of a signal, as the last two do."""

    DONE = 0
    MISTAKE = 1
    """A mistake the user can correct: one sentence on standard error says what."""
    USAGE = 2
    """No such command or option, or a value it cannot take."""
    UNSOUND = 3
    """The command did its work and the answer is no: damaged files, not reproduced, a fault, or tasks that failed."""
    FAULT = 70
    """A fault of the package: a traceback."""
    INTERRUPTED = 130
    UNREAD = 141
    """Standard output was closed before its end, as by ``| head``."""


INTERRUPTED = "interrupted: what was finished is kept, nothing half-written counts; the same command goes on from there"


def leave(cause: BaseException) -> NoReturn:
    """End with the status and the message that belong to `cause`."""
    if isinstance(cause, BrokenPipeError) or (isinstance(cause, SystemExit) and _unread(cause)):
        # Python would complain again when it flushes standard output.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(Status.UNREAD)
    if isinstance(cause, KeyboardInterrupt) or getattr(cause, "code", None) == Status.INTERRUPTED:
        Console(stderr=True).print(INTERRUPTED, highlight=False, soft_wrap=True)
        sys.exit(Status.INTERRUPTED)
    if isinstance(cause, SystemExit):
        raise cause
    if isinstance(cause, UniversalityError):
        _refuse(str(cause), Status.UNSOUND if isinstance(cause, TasksFailedError) else Status.MISTAKE)
    if isinstance(cause, UnicodeEncodeError):
        _refuse(
            f"'{cause.object}' holds what {cause.encoding} cannot write; if it is a path, rename it to plain characters, else set "
            "PYTHONIOENCODING=utf-8"
        )
    if isinstance(cause, OSError):
        where = f": '{cause.filename}'" if cause.filename else ""
        _refuse(f"{cause.strerror or cause}{where}; check the path")
    traceback.print_exception(cause)
    _refuse("this is a fault of universality, not yours; please report it with the lines above", Status.FAULT)


def _unread(leaving: SystemExit) -> bool:
    # Typer and rich turn a broken pipe into an exit of their own; the rest of the buffer is written only here.
    earlier: BaseException | None = leaving
    while earlier is not None and not isinstance(earlier, BrokenPipeError):
        earlier = earlier.__cause__ or earlier.__context__
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        return True
    return earlier is not None


def _refuse(sentence: str, status: Status = Status.MISTAKE) -> NoReturn:
    # Paths need not be text: what no terminal can show is printed by its bytes.
    printable = sentence.encode("utf-8", "backslashreplace").decode("utf-8")
    Console(stderr=True).print(f"error: {escape(printable)}", style="red", highlight=False, soft_wrap=True)
    sys.exit(status)
