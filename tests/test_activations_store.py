"""Activation stores: what is written is read back, half-written stores do not count, damage is found."""

import json
import os
import shutil
import subprocess
import sys
import threading

import dask
import numpy as np
import pytest
import xarray as xr
import zarr

from universality.activations.store import DATA, MANIFEST, ActivationStore, StoreKey
from universality.base.errors import StoreError

STIMULI, UNITS = 11, 3
CAUSES = {
    "model": "package/a",
    "weights": "w",
    "preprocessing": "p",
    "stimuli": "s",
    "tap": {"path": "conv", "call": 0},
    "reduction": {"reduction": "mean", "dtype": "float32"},
}


@pytest.fixture
def store(tmp_path):
    return ActivationStore(tmp_path / "store")


@pytest.fixture
def key():
    return StoreKey(**CAUSES)


def values_of(shape, dtype="float32", seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def parameters(count=STIMULI):
    index = np.arange(count)
    return xr.Dataset(
        coords={
            "orientation": ("stimulus", index * 30.0, {"units": "degrees"}),
            "crop": ("stimulus", index % 3, {"meaning": "zeros are values, not gaps"}),
            "bright": ("stimulus", index % 2 == 0),
            "radius": ("stimulus", np.where(index % 4, 1.0 / (index + 1), np.nan)),
            "variant": (
                "stimulus",
                np.array(["thin", "", "Ünï", "a much longer text"] * count)[:count],
                {"note": "text"},
            ),
        }
    )


def write(store, key, values, *, batch=4, attributes=None, dtype=None):
    with store.writing(key, parameters(len(values)), values.shape, dtype or str(values.dtype), attributes or {}) as w:
        for start in range(0, len(values), batch):
            w.append(values[start : start + batch])
    return store


def names_in(folder):
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", [(STIMULI, UNITS), (STIMULI, 4, UNITS), (1, 1), (256, 2), (257, 2), (600, 2)])
def test_what_was_written_comes_back(store, key, shape, dtype):
    values = values_of(shape, dtype)
    write(store, key, values, batch=100)
    came = store.open(key.name)["activation"]
    assert came.dims == (("stimulus", "unit") if len(shape) == 2 else ("stimulus", "position", "unit"))
    assert came.dtype == dtype
    np.testing.assert_array_equal(came.values, values)
    np.testing.assert_array_equal(came["unit"], np.arange(shape[-1]))


@pytest.mark.parametrize("batch", [1, 7, 255, 256, 257, 600])
def test_batches_need_not_fit_the_chunks(store, key, batch):
    values = values_of((600, 2))
    write(store, key, values, batch=batch)
    np.testing.assert_array_equal(store.open(key.name)["activation"].values, values)


def test_nan_and_extreme_values_come_back(store, key):
    values = np.array([[np.nan, np.inf, -np.inf], [0.0, -0.0, np.finfo(np.float32).tiny]], dtype=np.float32)
    write(store, key, values)
    came = store.open(key.name)["activation"].values
    np.testing.assert_array_equal(came.view(np.uint32), values.view(np.uint32))


def test_coordinates_come_back_with_their_kinds_and_attributes(store, key):
    write(store, key, values_of((STIMULI, UNITS)))
    came, expected = store.open(key.name), parameters()
    assert set(came.coords) == {*expected.coords, "unit"}
    for name, coordinate in expected.coords.items():
        np.testing.assert_array_equal(came[name].values, coordinate.values)
        assert came[name].attrs == coordinate.attrs
        assert came[name].dims == ("stimulus",)
    assert [came[name].dtype.kind for name in ("orientation", "crop", "bright", "variant")] == ["f", "i", "b", "O"]
    assert all(type(text) is str for text in came["variant"].values)
    assert (came["variant"] == "Ünï").sum() == 3


def test_attributes_come_back(store, key):
    attributes = {"model": "package/a", "seed": -1, "tap": {"path": "conv", "rf_start_px": 1.5}, "list": [1, "b"]}
    write(store, key, values_of((STIMULI, UNITS)), attributes=attributes)
    came = store.open(key.name).attrs
    assert {name: came[name] for name in attributes} == attributes
    assert came["key"] == key.name


def test_opening_reads_no_activations(store, key):
    write(store, key, values_of((600, 2)))
    dataset = store.open(key.name)
    assert dataset["activation"].chunks == ((256, 256, 88), (2,))
    assert all(coordinate.chunks is None for coordinate in dataset.coords.values())
    shutil.rmtree(store.path(key.name) / DATA / "activation" / "c")
    assert np.isnan(dataset["activation"].values).all(), "the values had been read before, or lost chunks read as zeros"


@pytest.mark.parametrize("value", [0.0, np.nan])
def test_chunks_of_one_value_are_files_like_any_other(store, key, value):
    """A lost chunk can be told from dead units, and from a chunk of what lost chunks read as."""
    values = np.full((STIMULI, UNITS), value, np.float32)
    write(store, key, values)
    assert [p for p in (store.path(key.name) / DATA / "activation" / "c").rglob("*") if p.is_file()]
    np.testing.assert_array_equal(store.open(key.name)["activation"].values, values)


def test_the_root_is_made_and_holds_nothing_else(tmp_path, key):
    store = ActivationStore(str(tmp_path / "a" / "b"))
    assert not store.has(key.name)
    assert store.partial() == []
    assert store.remove_partial() == 0
    write(store, key, values_of((STIMULI, UNITS)))
    assert store.has(key.name)
    assert names_in(store.root) == [key.name]
    assert names_in(store.path(key.name)) == [DATA, MANIFEST]


def test_opening_what_is_not_there(store, key):
    with pytest.raises(
        StoreError, match=r"there is nothing at .*; run the job to extract it, or say where it lies now"
    ):
        store.open(key.name)


@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt, GeneratorExit])
def test_an_interrupted_write_leaves_nothing(store, key, error):
    values = values_of((600, 2))
    with pytest.raises(error), store.writing(key, parameters(600), values.shape, "float32", {}) as writer:
        writer.append(values[:300])
        assert len(store.partial()) == 1
        assert not store.has(key.name)
        raise error
    assert names_in(store.root) == []


def test_nothing_is_visible_before_the_end(store, key):
    values = values_of((STIMULI, UNITS))
    with store.writing(key, parameters(), values.shape, "float32", {}) as writer:
        writer.append(values)
        assert not store.has(key.name)
        assert not store.path(key.name).exists()
    assert store.has(key.name)


@pytest.mark.parametrize("rows", [0, STIMULI - 1, STIMULI + 1, 2 * STIMULI, 3 * STIMULI])
def test_too_few_or_too_many_rows(store, key, rows):
    with (
        pytest.raises(StoreError, match=f"was given {rows} stimuli, expected {STIMULI}"),
        store.writing(key, parameters(), (STIMULI, UNITS), "float32", {}) as writer,
    ):
        writer.append(values_of((rows, UNITS)))
    assert names_in(store.root) == []


@pytest.mark.parametrize("shape", [(STIMULI, 1), (STIMULI, UNITS + 1), (STIMULI, 2, UNITS)])
def test_rows_of_another_shape_are_refused(store, key, shape):
    """One unit must not be copied into the place of all."""
    with (
        pytest.raises((StoreError, ValueError)),
        store.writing(key, parameters(), (STIMULI, UNITS), "float32", {}) as writer,
    ):
        writer.append(values_of(shape))
    assert names_in(store.root) == []


def test_a_disk_error_is_one_sentence(tmp_path, key):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StoreError, match=r"cannot be written: .*; free space or choose another folder") as caught:
        write(ActivationStore(tmp_path / "file"), key, values_of((STIMULI, UNITS)))
    assert "\n" not in str(caught.value)


def test_an_error_of_whoever_makes_the_rows_is_not_blamed_on_the_store(store, key):
    """The error of a missing photograph does not advise to free space on the store's disk."""
    with (
        pytest.raises(FileNotFoundError, match="photograph"),
        store.writing(key, parameters(), (STIMULI, UNITS), "float32", {}),
    ):
        raise FileNotFoundError(2, "No such file or directory", "photograph.png")
    assert names_in(store.root) == []


@pytest.mark.parametrize(
    "change",
    [
        {"weights": "x"},
        {"preprocessing": "x"},
        {"stimuli": "x"},
        {"tap": {"path": "conv", "call": 1}},
        {"tap": {"path": "conv2", "call": 0}},
        {"reduction": {"reduction": "max", "dtype": "float32"}},
        {"reduction": {"reduction": "mean", "dtype": "float64"}},
    ],
    ids=str,
)
def test_the_key_changes_with_each_cause(key, change):
    assert StoreKey(**{**CAUSES, **change}).name != key.name


def test_the_key_changes_with_the_format(key, monkeypatch):
    before = key.name
    monkeypatch.setattr("universality.activations.store.FORMAT_VERSION", 2)
    assert key.name != before


def test_the_key_does_not_change_with_label_or_order(key):
    assert StoreKey(**{**CAUSES, "model": "my/copy"}).name == key.name
    assert StoreKey(**{**CAUSES, "tap": {"call": 0, "path": "conv"}}).name == key.name
    assert len(key.name) == 32 and set(key.name) <= set("0123456789abcdef")


def test_the_causes_cannot_be_exchanged():
    """Equal texts in exchanged fields give another key."""
    exchanged = {**CAUSES, "weights": "p", "preprocessing": "w"}
    assert StoreKey(**exchanged).name != StoreKey(**CAUSES).name


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """A sound store that no test changes."""
    store = ActivationStore(tmp_path_factory.mktemp("sound"))
    return write(store, StoreKey(**CAUSES), values_of((STIMULI, UNITS)), attributes={"model": "package/a"})


@pytest.mark.parametrize("lazy", [True, False])
def test_labels_are_read_here_whatever_computes_dask_arrays(sound, lazy):
    """Not by an active cluster, which may have ended: a suite waited for one for ever."""

    def refusing(*_, **__):
        raise AssertionError("opening a store has computed something elsewhere")

    with dask.config.set(scheduler=refusing):
        dataset = sound.open(StoreKey(**CAUSES).name, lazy=lazy)
    assert all(isinstance(label.values, np.ndarray) for label in dataset.coords.values())
    assert all(label.chunks is None for label in dataset.coords.values())


@pytest.fixture
def copied(sound, tmp_path):
    """A copy of the sound store to damage, and its files."""
    root = tmp_path / "copied"
    shutil.copytree(sound.root, root)
    store = ActivationStore(root)
    store.verify(StoreKey(**CAUSES).name)
    return store


def files_of(store):
    folder = store.path(StoreKey(**CAUSES).name)
    return folder, sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def is_found(store):
    """Whether the store is said to be damaged: in one sentence for one damage, which names it and the remedy."""
    key = StoreKey(**CAUSES).name
    said = list(store.problems(key))
    if not said:
        store.verify(key)
        return False
    (message,) = said
    assert "\n" not in message and str(store.root) in message
    with pytest.raises(StoreError) as raised:
        store.verify(key)
    assert str(raised.value) == message
    return "--repair" in message or "was written by format" in message


def test_every_flipped_bit_of_every_file_is_found(copied):
    folder, names = files_of(copied)
    assert len(names) == 1 + 1 + 2 * 7, "group, manifest, and metadata and one chunk of each of seven arrays"
    rng = np.random.default_rng(0)
    for name in names:
        path = folder / name
        sound = path.read_bytes()
        ends = [0, 8 * len(sound) - 1]
        for bit in [*ends, *rng.integers(0, 8 * len(sound), 25)]:
            damaged = bytearray(sound)
            damaged[bit // 8] ^= 1 << (bit % 8)
            path.write_bytes(damaged)
            assert is_found(copied), f"bit {bit} of {name}"
        path.write_bytes(sound)
    assert not is_found(copied)


def without_digest(path):
    """Make a manifest like those written before there was a digest."""
    manifest = json.loads(path.read_text())
    del manifest["digest"]
    path.write_text(json.dumps(manifest, indent=1, sort_keys=True))


@pytest.mark.parametrize("older", [False, True])
def test_every_bit_of_the_manifest_is_found(copied, older):
    """Whatever it does: rename a listed file, a key, the format, or make it unreadable. Every byte, one bit each."""
    path = files_of(copied)[0] / MANIFEST
    if older:
        without_digest(path)
    assert not is_found(copied)
    sound = path.read_bytes()
    for index in range(len(sound)):
        damaged = bytearray(sound)
        damaged[index] ^= 1 << (index % 8)
        path.write_bytes(damaged)
        assert is_found(copied), f"byte {index}: {sound[max(index - 10, 0) : index + 10]!r}"


def test_files_cut_short_or_longer_are_found(copied):
    folder, names = files_of(copied)
    for name in names:
        sound = (folder / name).read_bytes()
        for cut in {0, 1, len(sound) // 2, len(sound) - 1}:
            (folder / name).write_bytes(sound[:cut])
            assert is_found(copied), f"{name} cut to {cut} bytes"
        (folder / name).write_bytes(sound + b"x")
        assert is_found(copied), f"{name} with one byte more"
        (folder / name).write_bytes(sound)
    assert not is_found(copied)


@pytest.mark.parametrize("older", [False, True])
def test_a_manifest_that_renames_a_file_is_one_damage(copied, older):
    folder, names = files_of(copied)
    manifest = folder / MANIFEST
    if older:
        without_digest(manifest)
    sound = manifest.read_text()
    for name in names:
        if name != MANIFEST:
            manifest.write_text(sound.replace(f'"{name}"', f'"{name[:-1]}!"'))
            assert is_found(copied), name


def test_a_renamed_file_is_one_damage_and_both_names_are_said(copied):
    folder, names = files_of(copied)
    for name in names:
        if name != MANIFEST:
            (folder / name).rename(folder / f"{name}x")
            assert is_found(copied), name
            (message,) = copied.problems(StoreKey(**CAUSES).name)
            assert f"has its file '{name}' under the name '{name}x'" in message
            (folder / f"{name}x").rename(folder / name)


def test_missing_files_are_found(copied):
    folder, names = files_of(copied)
    for name in names:
        (folder / name).rename(folder.parent / "kept")
        assert is_found(copied), name
        (folder.parent / "kept").rename(folder / name)
    assert not is_found(copied)


@pytest.mark.parametrize("name", ["new", f"{DATA}/activation/c/9", f"{DATA}/.hidden", f"{DATA}/{MANIFEST}"])
def test_extra_files_are_found(copied, name):
    path = files_of(copied)[0] / name
    path.parent.mkdir(exist_ok=True, parents=True)
    path.write_bytes(b"extra")
    assert is_found(copied)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "null",
        "{}",
        '{"format": 1}',
        '{"format": 1, "files": []}',
        '{"format": 1, "files": {"a": 1}}',
        '{"format": 1, "files": {"a": {}}}',
        '{"format": 1, "files": {}}',
    ],
)
def test_manifest_that_is_none(copied, text):
    (files_of(copied)[0] / MANIFEST).write_text(text)
    with pytest.raises(StoreError, match="--repair"):
        copied.verify(StoreKey(**CAUSES).name)


def test_store_of_another_format_is_named_as_such(copied):
    path = files_of(copied)[0] / MANIFEST
    manifest = json.loads(path.read_text())
    path.write_text(json.dumps({"format": 99, "files": manifest["files"]}))
    with pytest.raises(StoreError, match="was written by format 99, this version of the package reads 1"):
        copied.verify(StoreKey(**CAUSES).name)


def test_opening_verifies_unless_told_not_to(copied, key):
    chunk = next(p for p in (copied.path(key.name) / DATA / "activation" / "c").rglob("*") if p.is_file())
    damaged = bytearray(chunk.read_bytes())
    damaged[-6] ^= 1
    chunk.write_bytes(damaged)
    with pytest.raises(StoreError, match="differs from its checksum"):
        copied.open(key.name)
    # The codec's own checksum is the second guard: unverified reading fails too, it does not give wrong numbers.
    dataset = copied.open(key.name, verify=False)
    with pytest.raises(RuntimeError):
        dataset["activation"].load()


def test_set_aside(copied, key):
    aside = copied.set_aside(key.name)
    assert (copied.root / aside).is_dir()
    assert not copied.has(key.name)
    assert copied.root / aside not in copied.partial()
    write(copied, key, values_of((STIMULI, UNITS), seed=5))
    assert copied.set_aside(key.name) != aside
    assert len(names_in(copied.root)) == 2


def test_a_manifest_that_cannot_be_read_is_not_called_damaged(copied):
    """The state that was found is said: here its manifest is a folder, which the system refuses to read."""
    folder, _ = files_of(copied)
    (folder / MANIFEST).unlink()
    (folder / MANIFEST).mkdir()
    with pytest.raises(StoreError, match=r"manifest.json cannot be read \(Is a directory\)") as refused:
        copied.files(folder.name)
    assert "damaged" not in str(refused.value)


def test_a_folder_without_manifest_is_no_store(store, key):
    (store.path(key.name) / DATA).mkdir(parents=True)
    assert not store.has(key.name)
    with pytest.raises(StoreError, match="does not exist"):
        store.open(key.name)
    with pytest.raises(StoreError, match=r"has no manifest.json: it is damaged"):
        store.verify(key.name)


def leave_partial(store, key):
    """What a killed writer leaves: its folder and its lock file, which is free."""
    path = store.root / f"{key.name}.partial-{os.getpid()}-0123abcd"
    (path / DATA).mkdir(parents=True)
    (path / MANIFEST).write_text("{}")
    path.with_name(f"{path.name}.lock").touch()
    return path


HOLDS = """
import sys, pathlib
from universality.base import locks
with locks.held(pathlib.Path(sys.argv[1])):
    print("held", flush=True)
    input()
"""


def test_a_draft_is_kept_while_its_writer_holds_it_and_removed_when_the_writer_is_killed(store, key):
    """Whatever its process number is: here it is this process's own."""
    stale = leave_partial(store, key)
    live = stale.rename(stale.with_name(f"{stale.name[:-1]}e"))
    lock = live.with_name(f"{live.name}.lock")
    stale = leave_partial(store, key)
    with subprocess.Popen(
        [sys.executable, "-c", HOLDS, lock], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout.readline() == b"held\n"
        assert set(store.partial()) == {stale, live}
        assert not store.has(key.name)
        assert store.remove_partial() == 1
        assert store.partial() == [live]
        process.kill()
    assert store.remove_partial() == 1
    assert names_in(store.root) == []


def test_a_draft_of_another_thread_is_no_leftover(store, key):
    values = values_of((STIMULI, UNITS))
    with store.writing(key, parameters(), values.shape, "float32", {}) as writer:
        removed = []
        thread = threading.Thread(target=lambda: removed.append(store.remove_partial()))
        thread.start()
        thread.join()
        assert removed == [0]
        writer.append(values)
    assert store.has(key.name)


def test_removing_partials_leaves_stores_alone(copied, key):
    leave_partial(copied, key)
    copied.remove_partial()
    assert not is_found(copied)
    assert names_in(copied.root) == [key.name]


def test_a_folder_of_another_name_does_not_stop_the_removal(store, key):
    """A user's own folder is not removed as a leftover."""
    foreign = store.root / "notes.partial-draft"
    foreign.mkdir(parents=True)
    stale = leave_partial(store, key)
    store.remove_partial()
    assert foreign.exists()
    assert not stale.exists()


def test_two_interleaved_writers_of_one_key(store, key):
    values = values_of((STIMULI, UNITS))
    with store.writing(key, parameters(), values.shape, "float32", {}) as first:
        first.append(values[:4])
        with store.writing(key, parameters(), values.shape, "float32", {}) as second:
            second.append(values)
        first.append(values[4:])
    assert names_in(store.root) == [key.name]
    np.testing.assert_array_equal(store.open(key.name)["activation"].values, values)


def test_many_threads_write_one_key(store, key):
    values, errors, start = values_of((600, 4)), [], threading.Barrier(4)

    def work():
        start.wait()
        try:
            write(store, key, values, batch=50)
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert names_in(store.root) == [key.name]
    np.testing.assert_array_equal(store.open(key.name)["activation"].values, values)


def test_a_writer_does_not_take_over_a_folder_without_manifest(store, key):
    """It may be somebody's damaged store: the commit says so and leaves it as it is."""
    (store.path(key.name) / DATA).mkdir(parents=True)
    with pytest.raises(StoreError, match="cannot be written"):
        write(store, key, values_of((STIMULI, UNITS)))
    assert names_in(store.root) == [key.name]
    assert not store.has(key.name)


def test_the_format_is_zarr_version_3_that_others_can_read(store, key):
    values = values_of((STIMULI, UNITS))
    write(store, key, values)
    group = zarr.open_group(store.path(key.name) / DATA, mode="r")
    assert group.metadata.zarr_format == 3
    np.testing.assert_array_equal(group["activation"][:], values)
    assert np.isnan(group["activation"].fill_value)
