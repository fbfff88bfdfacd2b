"""Events of jobs as they happen: server-sent events that resume from an id.

One task looks whether the database has new events, however many streams there are; each stream then reads its own.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from starlette.concurrency import run_in_threadpool

from universality.service.database import EventRow
from universality.service.queue import Queue
from universality.service.states import ENDED

_LOOK_EVERY_S = 0.3
_SILENT_S = 15.0
_PAGE = 500
END = "event: end\ndata: {}\n\n"
"""The last frame: the job has ended and nothing more will come."""
STILL_HERE = ": still here\n\n"
"""A comment that keeps connections through proxies open."""


def frame(row: EventRow) -> str:
    r"""Return an event as one frame.

    Examples
    --------
    >>> frame(EventRow(id=7, kind="state", data='{"state": "done"}'))
    'id: 7\nevent: state\ndata: {"state": "done"}\n\n'
    """
    return f"id: {row.id}\nevent: {row.kind}\ndata: {row.data}\n\n"


class Events:
    """Tells streams when there is something new."""

    def __init__(self, jobs: Queue) -> None:
        self._jobs = jobs
        self._changed = asyncio.Condition()
        self._last = 0
        self._streams = 0
        self._task: asyncio.Task[None] | None = None

    async def stream(self, job: str, after: int) -> AsyncIterator[str]:
        """Yield the frames of a job's events after an id, until the job has ended."""
        self._streams += 1
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._look())
        try:
            while True:
                seen = self._last
                rows = await run_in_threadpool(self._jobs.events, job, after, _PAGE)
                for row in rows:
                    after = row.id
                    yield frame(row)
                if len(rows) == _PAGE:
                    continue
                state = (await run_in_threadpool(self._jobs.get, job)).state
                if state in ENDED and not await run_in_threadpool(self._jobs.events, job, after, 1):
                    yield END
                    return
                if not await self._wait(seen):
                    yield STILL_HERE
        finally:
            self._streams -= 1

    async def _wait(self, seen: int) -> bool:
        """Wait until there are events beyond those seen; False if none came for a while."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_SILENT_S), self._changed:
                await self._changed.wait_for(lambda: self._last != seen)
                return True
        return False

    async def _look(self) -> None:
        while self._streams:
            with contextlib.suppress(Exception):  # the database may be away for a while
                last = await run_in_threadpool(self._jobs.last_event)
                if last != self._last:
                    async with self._changed:
                        self._last = last
                        self._changed.notify_all()
            await asyncio.sleep(_LOOK_EVERY_S)
