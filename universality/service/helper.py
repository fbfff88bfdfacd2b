"""A helper process of the web process, which does what takes seconds and libraries: plans, figures, pictures of units.

The web process itself imports neither Torch nor Matplotlib and is never busy for long. What the two say to one another is
JSON, one line each way. A call that takes too long, or that kills the helper, fails alone: the next one starts another helper.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from typing import Any

from universality.base import errors
from universality.base.errors import BusyError, ServiceError, UniversalityError
from universality.service.settings import Settings


class Helper:
    """A process that makes one call of `calls.CALLS` at a time; `waiting` may wait for it, further ones are refused at once."""

    def __init__(self, settings: Settings, waiting: int = 24) -> None:
        self._settings = settings
        self._turn = threading.Lock()
        self._places = threading.Semaphore(waiting)
        self._process: subprocess.Popen[str] | None = None

    def call(self, name: str, timeout_s: float | None = None, **arguments: Any) -> Any:
        """Make a call and return its answer.

        Raises
        ------
        UniversalityError
            What the call raised, in its sentence.
        BusyError
            Too many calls wait, or this one took longer than `timeout_s` (``limits.plan_seconds`` when left out).
        """
        if not self._places.acquire(blocking=False):
            raise BusyError("the service has too much to compute; ask again in a minute")
        try:
            with self._turn:
                return self._made(name, timeout_s or self._settings.limits.plan_seconds, arguments)
        finally:
            self._places.release()

    def _made(self, name: str, timeout_s: float, arguments: dict[str, Any]) -> Any:
        process = self._alive()
        late = threading.Timer(timeout_s, process.kill)
        late.start()
        try:
            assert process.stdin is not None and process.stdout is not None
            process.stdin.write(json.dumps({"call": name, "arguments": arguments}) + "\n")
            process.stdin.flush()
            line = process.stdout.readline()
        except OSError:
            line = ""
        finally:
            in_time = not late.finished.is_set()
            late.cancel()
        if not line:
            process.kill()
            process.wait()
            if not in_time:
                raise BusyError(f"this took longer than the {timeout_s:g} s that the service allows; ask for less")
            raise ServiceError("the helper process died of this (its memory, or a crash of a library); ask for less")
        answer = json.loads(line)
        if "error" in answer:
            kind = getattr(errors, answer["kind"], UniversalityError)
            raise kind(answer["error"])
        return answer["answer"]

    def _alive(self) -> subprocess.Popen[str]:
        if self._process is None or self._process.poll() is not None:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "universality.service.calls"],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8", start_new_session=True,
            )  # fmt: skip
        return self._process

    def close(self) -> None:
        """End the process."""
        if (process := self._process) is not None:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    pipe.close()
