"""What was made last, kept up to so many bytes: the same is asked for again and again, by several threads."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from threading import Lock
from typing import Generic, TypeVar

Made = TypeVar("Made")


class Recent(Generic[Made]):
    """Values by what names them; those not used for longest go first.

    Parameters
    ----------
    most_bytes : what the values kept take together, at most
    nbytes : what a value takes, bytes
    least : how many are kept whatever they take; of none, one that is larger than `most_bytes` is not kept
    """

    def __init__(self, most_bytes: int, nbytes: Callable[[Made], int], least: int = 0) -> None:
        self._most, self._size, self._least = most_bytes, nbytes, least
        self._values: OrderedDict[Hashable, Made] = OrderedDict()
        self.nbytes = 0
        self._lock = Lock()

    def get(self, name: Hashable, make: Callable[[], Made]) -> Made:
        """Return a value, made if it is not kept; two threads that ask at a time may both make it."""
        with self._lock:
            if name in self._values:
                self._values.move_to_end(name)
                return self._values[name]
        made = make()
        with self._lock:
            if name not in self._values:  # else another thread made it meanwhile
                self._values[name] = made
                self.nbytes += self._size(made)
                while self.nbytes > self._most and len(self._values) > self._least:
                    self.nbytes -= self._size(self._values.popitem(last=False)[1])
        return made

    def __len__(self) -> int:
        return len(self._values)

    def forget(self) -> None:
        """Keep none."""
        with self._lock:
            self._values.clear()
            self.nbytes = 0
