"""Progress on standard error: bars with the time left on a terminal, one line of JSON when a stage begins and ends elsewhere."""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)
from rich.text import Text

from universality.cli.output import on_terminal

Clock = Callable[[], float]

SHARE = 0.5
"""Share of the time since a stage began that its pace is taken from."""
MOST_SAMPLES = 256


@dataclass
class Pace:
    """The recent pace of a stage, and the time left at that pace.

    Rich takes the pace from the last 30 s, which never hold two steps where a step takes longer, and from a burst at the
    beginning, when a job passes over what is kept. Here it is the later half of the time so far: a burst is forgotten in as
    much time again as it took, slow steps are seen, and a stage that slows down between its models follows.
    """

    total: int
    clock: Clock = time.monotonic
    done: int = 0
    _seen: deque[tuple[float, int]] = field(default_factory=deque)

    def __post_init__(self) -> None:
        self.began = self.clock()
        self._seen.append((self.began, 0))

    def step(self, steps: int) -> None:
        """Note that so many steps are done."""
        self.done += steps
        self._seen.append((self.clock(), self.done))
        if len(self._seen) > MOST_SAMPLES:
            # Every other one: the window's beginning is known within a share of its length.
            self._seen = deque(list(self._seen)[::-2][::-1])

    def seconds(self) -> float:
        """Return the time since the stage began, s."""
        return self.clock() - self.began

    def left(self) -> float | None:
        """Return the time left, s; None while nothing can be said."""
        if self.done >= self.total:
            return 0.0
        now = self.clock()
        since = now - SHARE * (now - self.began)
        # The last sample before the window; where the window holds no step, the step before as well.
        before = [sample for sample in self._seen if sample[0] <= since] or [self._seen[0]]
        start = next((sample for sample in reversed(before) if sample[1] < self.done), None)
        if start is None or now <= start[0]:
            return None
        return (self.total - self.done) * (now - start[0]) / (self.done - start[1])


class TimeLeft(ProgressColumn):
    """The time left as hours, minutes, seconds, by the stage's own pace."""

    max_refresh = 0.5

    def render(self, task: Task) -> Text:
        """Return the text for a bar."""
        left = task.fields["pace"].left()
        return Text("-:--:--" if left is None else clock_time(left), style="progress.remaining")


def clock_time(seconds: float) -> str:
    """Return a length of time as hours, minutes and seconds.

    Examples
    --------
    >>> clock_time(3725.9)
    '1:02:05'
    """
    minutes, seconds = divmod(int(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{seconds:02d}"


class Bars:
    """A reporter that prints lines, and draws a bar for each stage on a terminal.

    Elsewhere (a log, a pipe) a stage is one line of JSON when it begins and one when it ends or the command does, with the
    keys ``stage``, ``done``, ``total`` and ``seconds``.
    """

    def __init__(self, console: Console, progress: Progress, clock: Clock = time.monotonic) -> None:
        self._console = console
        self._progress = progress
        self._clock = clock
        self._open: dict[str, Pace] = {}
        self._preparing: TaskID | None = None

    def prepare(self, description: str) -> None:
        """Show on a terminal that something goes on until the first stage begins, which may take many seconds."""
        self._preparing = self._progress.add_task(escape(description), total=None, pace=Pace(1, self._clock))

    def say(self, text: str) -> None:
        """Print one line above the bars."""
        self._console.print(escape(text), highlight=False, soft_wrap=True)

    def track(self, description: str, total: int) -> Callable[[int], None]:
        """Begin a stage of `total` steps and return the function that advances it; several may go on at a time."""
        self._prepared()
        pace = Pace(total, self._clock)
        self._open[description] = pace
        self._log(description, pace)
        task = self._progress.add_task(escape(description), total=total, pace=pace)

        def advance(steps: int) -> None:
            pace.step(steps)
            self._progress.advance(task, steps)
            if pace.done >= total and self._open.pop(description, None) is not None:
                self._log(description, pace)

        return advance

    def end(self) -> None:
        """Say how far the stages came that were not finished."""
        for description, pace in self._open.items():
            self._log(description, pace)
        self._open.clear()
        self._prepared()

    def _prepared(self) -> None:
        if self._preparing is not None:
            self._progress.remove_task(self._preparing)
            self._preparing = None

    def _log(self, stage: str, pace: Pace) -> None:
        if on_terminal(self._console):
            return
        self.say(
            json.dumps({"stage": stage, "done": pace.done, "total": pace.total, "seconds": round(pace.seconds(), 1)})
        )


def progress_on(console: Console) -> Progress:
    """Return the bars of a console; where it is no terminal, none are drawn.

    The time since the stage began goes on while a step of a minute ends nothing.
    """
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeLeft()
    return Progress(*columns, console=console, disable=not on_terminal(console))


@contextmanager
def reporting(preparing: str = "reading the job, checking stores and networks") -> Iterator[Bars]:
    """Yield the reporter of a command, on standard error; a terminal shows at once what is prepared."""
    console = Console(stderr=True)
    with progress_on(console) as progress:
        bars = Bars(console, progress)
        bars.prepare(preparing)
        try:
            yield bars
        finally:
            bars.end()
