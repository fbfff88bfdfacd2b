"""One of several processes that write the same stores: LOCATION, how many keys, a file to wait for."""

import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1]))

import objects  # noqa: F401 - makes objects:// known
from test_activations_store import CAUSES, STIMULI, UNITS, parameters, values_of

from universality.activations.store import ActivationStore, StoreKey


def main() -> None:
    location, count, gate = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])
    store = ActivationStore(location)
    print("ready", flush=True)
    while not gate.exists():
        time.sleep(0.001)
    written = 0
    with store.in_use(Path(f"run-{sys.argv[4]}")):
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
    print(written, flush=True)


if __name__ == "__main__":
    main()
