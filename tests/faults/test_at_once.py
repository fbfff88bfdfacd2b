"""Several processes on one store: nothing is lost, nothing partial is read, each thing is there once."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
import objects  # noqa: F401 - makes objects:// known
from test_activations_store import CAUSES, STIMULI, UNITS, values_of

from universality.activations.store import ActivationStore, StoreKey
from universality.runs.upkeep import removable

WRITER = Path(__file__).parent / "writer.py"
KEYS = 4


@pytest.mark.parametrize("protocol", ["", "objects://"])
def test_processes_at_once_lose_nothing(tmp_path, protocol, processes=3):
    location, gate = f"{protocol}{tmp_path}/store", tmp_path / "gate"
    arguments = [sys.executable, str(WRITER), location, str(KEYS), str(gate)]
    started = [
        subprocess.Popen([*arguments, str(n)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path)
        for n in range(processes)
    ]
    for process in started:
        assert process.stdout.readline() == "ready\n", process.stderr.read()
    gate.touch()
    ends = [process.communicate(timeout=60) for process in started]
    assert [process.returncode for process in started] == [0] * processes, ends
    # Twice at most by each: computed again, but harmlessly.
    assert KEYS <= sum(int(out) for out, _ in ends) <= KEYS * processes
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
