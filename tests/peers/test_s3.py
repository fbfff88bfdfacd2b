"""A store on a local S3 server. Needs s3fs and moto[server], which want an older python-dateutil than the rest."""

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
from test_activations_store import CAUSES, UNITS, parameters, values_of, write

from universality.activations.store import ActivationStore, StoreKey
from universality.base.errors import StoreError


@pytest.fixture
def store(monkeypatch):
    s3fs, server = pytest.importorskip("s3fs"), pytest.importorskip("moto.server")
    running = server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    running.start()
    address = "http://{}:{}".format(*running.get_host_and_port())
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.setenv("AWS_ENDPOINT_URL", address)
    s3fs.S3FileSystem.clear_instance_cache()
    s3fs.S3FileSystem().mkdir("bucket")
    yield ActivationStore("s3://bucket/stores")
    running.stop()


@pytest.mark.filterwarnings("default")
def test_store_on_s3(store):
    key, values = StoreKey(**CAUSES), values_of((300, UNITS))
    with store.writing(key, parameters(300), values.shape, "float32", {}) as writer:
        writer.append(values)
        assert not store.has(key.name)
    np.testing.assert_array_equal(store.open(key.name)["activation"].values, values)
    with store.in_use(Path("run")), pytest.raises(StoreError, match="in use"), store.place.alone():
        pass
    store.set_aside(key.name)
    write(store, key, values)
    store.verify(key.name)
