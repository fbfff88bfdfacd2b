"""One attempt at a job, in a process of its own: the same call as the command line's, told as lines of JSON.

The first line of the standard input says what to run. Every further line says when the runner last held the job, by the monotonic
clock, so that lines which waited here say nothing new. Some seconds after that moment, or when the input ends, this process and all
that it started are killed: somebody else may have the job by then. What jobs need is imported after that watch has begun: on a
busy machine it takes longer than a lease.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, TextIO

_PACE_S = 1.0


class Told:
    """A reporter that writes what happens as lines of JSON, each stage at most once a second and ever more rarely."""

    def __init__(self, out: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._out = out
        self._clock = clock
        self._lock = threading.Lock()

    def write(self, **message: Any) -> None:
        """Write one line."""
        with self._lock:
            self._out.write(json.dumps(message) + "\n")
            self._out.flush()

    def say(self, text: str) -> None:
        """Report one line of text."""
        self.write(kind="say", data={"text": text})

    def track(self, description: str, total: int) -> Callable[[int], None]:
        """Report a stage and return what advances it."""
        began = shown = self._clock()
        done = 0

        def tell(now: float) -> None:
            seconds = round(now - began, 1)
            self.write(
                kind="stage", data={"description": description, "done": done, "total": total, "seconds": seconds}
            )

        def advance(steps: int) -> None:
            nonlocal done, shown
            done, now = done + steps, self._clock()
            if done == total or now - shown >= max(_PACE_S, (now - began) / 60):
                shown = now
                tell(now)

        tell(began)
        return advance


def main() -> None:
    """Run the job of the first line of the standard input, as long as the runner holds it."""
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what libraries print goes where errors go
    asked = json.loads(sys.stdin.readline())
    threading.Thread(target=_watch, args=(asked["silence_s"], asked["held"]), daemon=True).start()
    from universality.service.trying import outcome

    told = Told(out)
    told.write(**outcome(asked, told))


def _watch(silence_s: float, held: float) -> None:
    """Kill this process and what it started once the runner has said nothing for so long, or is gone."""
    heard = held

    def listen() -> None:
        nonlocal heard
        while line := sys.stdin.readline():
            with contextlib.suppress(ValueError):  # half a line, of a runner that was killed
                heard = float(line)
        heard = -silence_s

    threading.Thread(target=listen, daemon=True).start()
    while time.monotonic() - heard < silence_s:
        time.sleep(0.1)
    os.killpg(os.getpgid(0), signal.SIGKILL)


if __name__ == "__main__":
    main()
