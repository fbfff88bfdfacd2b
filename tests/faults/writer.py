"""One of several processes that write the same stores."""

import os
import sys
import time
from multiprocessing.connection import Connection
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1]))

import objects  # noqa: F401 - makes objects:// known
from test_activations_store import CAUSES, STIMULI, UNITS, parameters, values_of

from universality.activations.store import ActivationStore, StoreKey


def write(folder: Path, location: str, count: int, gate: Path, name: str, said: Connection) -> None:
    """Work in `folder`; say that it is ready, wait for the file `gate`, write so many keys, and say how many of them were not there."""
    os.chdir(folder)
    store = ActivationStore(location)
    said.send("ready")
    while not gate.exists():
        time.sleep(0.001)
    written = 0
    with store.in_use(Path(name)):
        for number in range(count):
            key = StoreKey(**{**CAUSES, "weights": str(number)})
            if store.has(key.name):
                store.verify(key.name)
                continue
            store.remove_partial()
            with store.writing(key, parameters(), (STIMULI, UNITS), "float32", {}) as writer:
                writer.append(values_of((STIMULI, UNITS), seed=number))
            store.verify(key.name)
            written += 1
    said.send(written)
