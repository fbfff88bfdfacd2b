"""How often somebody may ask."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable

_MOST_COUNTED = 10_000


class Counter:
    """How many requests each asker may make now: `per_minute` at once, filled up evenly."""

    def __init__(self, per_minute: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate = per_minute / 60.0
        self._most = float(per_minute)
        self._clock = clock
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self._lock = threading.Lock()

    def take(self, who: str, count: int = 1) -> bool:
        """Count requests; return whether there was room for them (with ``count=0``: whether there is any)."""
        with self._lock:
            now = self._clock()
            left, since = self._left.pop(who, (self._most, now))
            left = min(self._most, left + (now - since) * self._rate)
            allowed = left >= max(count, 1)
            self._left[who] = (left - count if allowed else left, now)
            while len(self._left) > _MOST_COUNTED:
                self._left.popitem(last=False)
            return allowed
