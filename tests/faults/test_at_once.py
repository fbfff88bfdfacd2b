"""Several processes on one store: nothing is lost, nothing partial is read, each thing is there once."""

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
import apart
import objects  # noqa: F401 - makes objects:// known
import writer
from test_activations_store import CAUSES, STIMULI, UNITS, values_of

from universality.activations.store import ActivationStore, StoreKey
from universality.runs.upkeep import removable

KEYS = 4


@pytest.mark.parametrize("protocol", ["", "objects://"])
def test_processes_at_once_lose_nothing(tmp_path, protocol, processes=3):
    location, gate = f"{protocol}{tmp_path}/store", tmp_path / "gate"
    pipes = [apart.SERVER.Pipe(duplex=False) for _ in range(processes)]
    started = [
        apart.SERVER.Process(target=writer.write, args=(tmp_path, location, KEYS, gate, f"run-{n}", say))
        for n, (_, say) in enumerate(pipes)
    ]
    for process, (_, say) in zip(started, pipes, strict=True):
        process.start()
        say.close()  # here: else a process that dies before it has said anything would be waited for
    for hear, _ in pipes:
        assert hear.recv() == "ready"
    gate.touch()
    counts = [hear.recv() for hear, _ in pipes]
    for process in started:
        process.join(60)
    assert [process.exitcode for process in started] == [0] * processes
    # Twice at most by each: computed again, but harmlessly.
    assert KEYS <= sum(counts) <= KEYS * processes
    store = ActivationStore(location)
    names = [StoreKey(**{**CAUSES, "weights": str(n)}).name for n in range(KEYS)]
    assert [name for name in store.place.names() if name != ".universality"] == sorted(names)
    for number, name in enumerate(names):
        values = store.open(name)["activation"].values
        np.testing.assert_array_equal(values, values_of((STIMULI, UNITS), seed=number))
    assert len(store.runs()) == processes
    whole = {item.name for item in removable(tmp_path / "none", store) if "/" not in item.name}
    assert whole == set(names), "no run there refers to them"
    with store.place.alone():
        pass
