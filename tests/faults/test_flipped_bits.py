"""60 flipped bits over stores, their metadata, tables, figures and weights: 60 found, each damaged file named."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from universality.activations.store import ActivationStore
from universality.base.errors import StoreError, WeightsError
from universality.base.paths import resource
from universality.models import catalogue, weight_files, zoo
from universality.runs.upkeep import problems, removable

MODEL = "pocket/vgg-focus-s0"


def flip(path: Path, bit: int) -> None:
    content = bytearray(path.read_bytes())
    content[bit // 8] ^= 1 << (bit % 8)
    path.write_bytes(content)


def spread(files: list[Path], count: int, seed: int) -> list[tuple[Path, int]]:
    """Bits of `count` files, each chosen evenly among its bits."""
    rng = np.random.default_rng(seed)
    chosen = [files[i] for i in rng.choice(len(files), count, replace=len(files) < count)]
    return [(file, int(rng.integers(0, 8 * file.stat().st_size))) for file in chosen]


@pytest.fixture(scope="module")
def copies(small, tmp_path_factory):
    folder = tmp_path_factory.mktemp("flips")
    shutil.copytree(small.out, folder / "run")
    shutil.copytree(small.store, folder / "store")
    assert list(problems(folder / "run", folder / "store")) == []
    return folder


KINDS = {
    "chunks": ("store", "*/data.zarr/*/c/**/*", 15),
    "metadata": ("store", "[0-9a-f]*/**/*.json", 15),
    "tables": ("run", "*.parquet", 10),
    "figures": ("run", "figures/*", 5),
    # Some of them change what the record says of other files; one sentence about the record has to do.
    "record": ("run", "run.json", 40),
    "report": ("run", "report.html", 3),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_flipped_bit_of_a_run_is_found_and_its_file_named(copies, kind, record_property):
    where, pattern, count = KINDS[kind]
    record_property("cases", count)
    files = sorted(path for path in (copies / where).glob(pattern) if path.is_file())
    for file, bit in spread(files, count, seed=7):
        flip(file, bit)
        found = list(problems(copies / "run", copies / "store"))
        flip(file, bit)
        assert len(found) == 1, f"bit {bit} of {file}: {found}"
        key = file.relative_to(copies / "store").parts[0] if where == "store" else file.name
        assert key in found[0], f"bit {bit} of {file}: {found}"
        assert "\n" not in found[0]
    assert list(problems(copies / "run", copies / "store")) == []


def test_every_flipped_bit_of_weights_is_found_and_the_file_named(tmp_path, monkeypatch, record_property):
    record_property("cases", 10)
    monkeypatch.setenv(weight_files.WEIGHTS_FOLDER_VARIABLE, str(tmp_path))
    file = tmp_path / f"{MODEL}.safetensors"
    file.parent.mkdir()
    shutil.copy(resource("data/pocket_zoo") / "vgg-focus-s0.safetensors", file)
    os.chmod(file, 0o600)  # noqa: PTH101
    zoo.pretrained(catalogue.card(MODEL))
    header = 8 * 200
    bits = [bit for _, bit in spread([file], 7, seed=3)] + np.random.default_rng(4).integers(0, header, 3).tolist()
    for bit in bits:
        flip(file, bit)
        with pytest.raises(WeightsError) as caught:
            zoo.pretrained(catalogue.card(MODEL))
        flip(file, bit)
        assert str(file) in str(caught.value)
        assert "\n" not in str(caught.value)


def test_damaged_register_of_runs_stops_the_cleaning(copies):
    """A run that it does not name rightly would lose its stores."""
    store = ActivationStore(copies / "store")
    (file,) = (copies / "store" / ".universality" / "runs").iterdir()
    for bit in range(0, 8 * file.stat().st_size, 11):
        flip(file, bit)
        with pytest.raises(StoreError, match="register of runs is damaged"):
            removable(copies / "none", store)
        flip(file, bit)
    assert removable(copies / "none", store) == []


def test_they_are_sixty_and_more():
    assert sum(count for *_, count in KINDS.values()) + 10 >= 60
