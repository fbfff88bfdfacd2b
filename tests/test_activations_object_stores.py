"""Stores on URLs: the same guarantees as a local folder, without a rename."""

import json
import subprocess
import sys
import uuid
from pathlib import Path

import numpy as np
import pytest

import universality
from universality.activations.places import HIDDEN
from universality.activations.store import MANIFEST, ActivationStore, StoreKey, store_at
from universality.base.errors import StoreError

sys.path.insert(0, str(Path(__file__).parent / "faults"))
import objects  # noqa: F401 - makes objects:// known
from test_activations_store import CAUSES, STIMULI, UNITS, parameters, values_of, write

FAULTS = Path(__file__).parent / "faults"


@pytest.fixture(params=["memory", "objects"])
def store(request, tmp_path):
    if request.param == "memory":
        return ActivationStore(f"memory://{uuid.uuid4().hex}/stores")
    return ActivationStore(f"objects://{tmp_path}/bucket/stores")


@pytest.fixture
def key():
    return StoreKey(**CAUSES)


@pytest.mark.parametrize("shape", [(STIMULI, UNITS), (300, 4, UNITS)])
def test_what_was_written_comes_back(store, key, shape):
    values = values_of(shape)
    assert not store.has(key.name)
    write(store, key, values, batch=100, attributes={"model": "package/a"})
    dataset = store.open(key.name)
    np.testing.assert_array_equal(dataset["activation"].values, values)
    np.testing.assert_array_equal(store.open(key.name, lazy=False)["activation"].values, values)
    assert list(dataset["variant"].values) == list(parameters(shape[0])["variant"].values)
    assert store.attributes(key.name)["model"] == "package/a"


def test_a_local_and_an_object_store_hold_the_same_bytes(store, key, tmp_path):
    values, local = values_of((300, UNITS)), ActivationStore(tmp_path / "local")
    write(store, key, values)
    write(local, key, values)

    def hashes(of):
        return {name.split("/", 1)[1]: entry["sha256"] for name, entry in of.files(key.name).items()}

    assert hashes(store) == hashes(local)


def test_nothing_is_seen_before_the_manifest_which_comes_last(store, key):
    values = values_of((STIMULI, UNITS))
    with store.writing(key, parameters(), values.shape, "float32", {}) as writer:
        writer.append(values)
        assert store.place.sizes(key.name)
        assert not store.has(key.name)
        with pytest.raises(StoreError, match="does not exist"):
            store.open(key.name)
    assert store.has(key.name)


@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt])
def test_an_interrupted_write_leaves_nothing(store, key, error):
    with pytest.raises(error), store.writing(key, parameters(600), (600, 2), "float32", {}) as writer:
        writer.append(values_of((300, 2)))
        raise error
    assert store.place.sizes("") == {}


def test_of_two_writers_the_first_stands_and_the_other_leaves_nothing(store, key):
    values = values_of((STIMULI, UNITS))
    with store.writing(key, parameters(), values.shape, "float32", {}) as first:
        first.append(values[:4])
        write(store, key, values)
        first.append(values[4:])
    assert {n.split("/")[0] for n in store.place.sizes(key.name)} == {
        min(store.files(key.name)).split("/")[0],
        MANIFEST,
    }
    np.testing.assert_array_equal(store.open(key.name)["activation"].values, values)


def test_data_of_a_killed_writer_do_not_disturb(store, key):
    store.place.write(f"{key.name}/data-00000000.zarr/zarr.json", b"{}")
    assert not store.has(key.name)
    write(store, key, values_of((STIMULI, UNITS)))
    store.verify(key.name)


def test_every_kind_of_damage_is_found(store, key):
    write(store, key, values_of((STIMULI, UNITS)))
    rng = np.random.default_rng(0)
    for name in store.place.sizes(key.name):
        path, sound = f"{key.name}/{name}", store.place.read(f"{key.name}/{name}")
        for bit in rng.integers(0, 8 * len(sound), 5):
            damaged = bytearray(sound)
            damaged[bit // 8] ^= 1 << (bit % 8)
            store.place.write(path, bytes(damaged))
            with pytest.raises(StoreError, match=r"--repair|was written by format"):
                store.verify(key.name)
        store.place.remove(path)
        with pytest.raises(StoreError, match=r"lacks the file|has no manifest.json"):
            store.verify(key.name)
        store.place.write(path, sound)
    store.verify(key.name)


def test_another_format_is_named_with_the_remedy(store, key):
    write(store, key, values_of((STIMULI, UNITS)))
    marker = f"{key.name}/{MANIFEST}"
    manifest = json.loads(store.place.read(marker))
    store.place.write(marker, json.dumps({"format": 7, "files": manifest["files"]}).encode())
    with pytest.raises(
        StoreError, match=r"was written by format 7, this version of the package reads 1; extract it anew"
    ):
        store.open(key.name)


def test_setting_aside_and_writing_anew(store, key):
    write(store, key, values_of((STIMULI, UNITS)))
    assert "damaged-" in store.set_aside(key.name)
    assert not store.has(key.name)
    again = values_of((STIMULI, UNITS), seed=5)
    write(store, key, again)
    np.testing.assert_array_equal(store.open(key.name)["activation"].values, again)


class TestClaims:
    def test_a_store_in_use_is_not_cleaned(self, store):
        with (
            store.in_use(Path("run")),
            pytest.raises(StoreError, match="is in use by a running job"),
            store.place.alone(),
        ):
            pass
        with store.place.alone():
            pass
        assert list(store.runs().values()) == [str(Path("run").absolute())]

    def test_claim_of_a_process_that_ended_is_dropped(self, store):
        ended = subprocess.Popen([sys.executable, "-c", ""])
        ended.wait()
        self.claim(store, pid=ended.pid)
        with store.place.alone():
            assert store.place.names(f"{HIDDEN}/claims") == []

    def test_process_number_that_was_given_again_is_no_holder(self, store):
        with store.in_use(Path("run")):
            (name,) = store.place.names(f"{HIDDEN}/claims")
            mine = json.loads(store.place.read(f"{HIDDEN}/claims/{name}"))
        boot, ticks = mine["started"].split()
        self.claim(store, pid=mine["pid"], started=f"{boot} {int(ticks) - 1}")
        with store.place.alone():
            pass

    @pytest.mark.parametrize("change", [{"host": "another"}, {"started": "other-boot 5"}, {"pid": "x"}])
    def test_what_cannot_be_denied_counts_as_running(self, store, change):
        self.claim(store, **change)
        with pytest.raises(StoreError, match="delete the claim if that job is dead"), store.place.alone():
            pass

    def claim(self, store, **change):
        import os
        import socket

        who = {"host": socket.gethostname(), "pid": os.getpid(), "started": ""} | change
        store.place.write(f"{HIDDEN}/claims/{uuid.uuid4().hex}.json", json.dumps(who).encode())


@pytest.mark.parametrize(
    ("url", "named"),
    [
        ("nonsense://bucket/x", "unknown protocol 'nonsense', expected a folder or a URL"),
    ],
)
def test_url_that_nothing_reads_is_one_sentence(url, named):
    with pytest.raises(StoreError, match=named) as caught:
        ActivationStore(url)
    assert "\n" not in str(caught.value)


def test_missing_package_is_named_with_the_remedy(monkeypatch):
    def missing(url):
        raise ImportError("Install s3fs to access S3\nmore")

    monkeypatch.setattr("universality.activations.places.objects.url_to_fs", missing)
    with pytest.raises(StoreError, match=r"pip install 'universality\[s3\]'") as caught:
        ActivationStore("s3://bucket/x")
    assert "\n" not in str(caught.value)


def test_whatever_the_library_raises_is_one_sentence(monkeypatch, store):
    class NoCredentialsError(Exception):
        pass

    def refuses(path):
        raise NoCredentialsError("Unable to locate\ncredentials")

    monkeypatch.setattr(store.place._fs, "isfile", refuses)
    with pytest.raises(
        StoreError, match=r"cannot be reached \(NoCredentialsError: Unable to locate\); check"
    ) as caught:
        store.check()
    assert "\n" not in str(caught.value)


def test_paths_and_urls(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert store_at("a/b", "x").location == str(tmp_path / "a/b")
    assert store_at(None, "x").location == str(tmp_path / "x")
    assert store_at(f"file://{tmp_path}/f", "x").root == tmp_path / "f"
    assert store_at("memory://a/b/", "x").location == "memory://a/b"
    with pytest.raises(StoreError, match="is no local folder"):
        _ = store_at("memory://a", "x").root


def test_names_that_lead_out_of_the_root_are_refused(store, tmp_path):
    for place in (store.place, ActivationStore(tmp_path / "s").place):
        for name in ("../x", "/etc", "", "a/../../b"):
            with pytest.raises(StoreError, match="nothing was removed"):
                place.remove(name)


def test_a_job_runs_with_its_store_on_a_url(pocket_job, tmp_path):
    url = f"objects://{tmp_path}/bucket"
    first = universality.run(pocket_job, tmp_path / "first", store=tmp_path / "store")
    again = universality.run(pocket_job, tmp_path / "run", store=url)
    for name in ("similarity", "correspondence", "families", "units", "units_curve"):
        file = f"{name}.parquet"
        assert (tmp_path / "run" / file).read_bytes() == (first.path / file).read_bytes()
    curves, expected = (run.activations("pocket/vgg-focus-s0", "features.4", "curves") for run in (again, first))
    np.testing.assert_array_equal(curves.values, expected.values)
