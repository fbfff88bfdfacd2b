"""What a plan says it will need, beside what it needed."""

import shutil
from types import SimpleNamespace

import pytest

import universality
from universality.errors import StoreError
from universality.jobs import estimates, rehearsal


@pytest.fixture
def fresh(small, tmp_path):
    return universality.plan(small.job, tmp_path / "run", tmp_path / "store")


def test_disk_is_within_a_factor_of_what_was_written(small, fresh):
    written = sum(
        path.stat().st_size for folder in (small.store, small.out) for path in folder.rglob("*")
        if path.is_file() and "figures" not in path.parts and path.name != "report.html"
    )  # fmt: skip
    needed = estimates.disk(fresh)
    assert needed.expected / 1.5 < written < needed.expected * 1.5
    assert written < needed.most


def test_finished_job_needs_no_stores(small):
    done = universality.plan(small.job, small.out, small.store)
    assert estimates.disk(done).most < estimates.UNIT_BYTES * 10_000


def test_short_disk_is_refused_before_anything_is_extracted(small, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=10**5))
    with pytest.raises(StoreError, match=r"needs about \d+ MB, the disk has 0 MB free; free space or choose another"):
        universality.run(small.job, tmp_path / "run", store=tmp_path / "store")
    assert not (tmp_path / "store").exists()


def test_memory_grows_with_what_is_compared(fresh):
    natural = 60 * 8
    largest = natural * (144 + 240 + 240)
    nulls = fresh.job.nulls
    copies = 1 + len(nulls.untrained_seeds) + nulls.haar_rotations + nulls.shuffles
    assert estimates.comparison_bytes(fresh) == copies * largest


def test_time_is_that_of_every_image(fresh):
    trained = [network for network in fresh.networks if network.seed is None]
    image_s = {"natural": 1.0, "curves": 0.5, "curve_controls": 0.25}
    made_up = [estimates.Timed(network, load_s=10.0, twin_s=30.0, image_s=image_s, nbytes=0) for network in trained]
    shown = 60 * 1.0 + 64 * 0.5 + 240 * 0.25
    assert estimates.extraction_s(fresh, made_up) == 2 * (10 + shown) + 2 * (30 + shown)


def test_comparisons_can_be_rehearsed(fresh):
    assert 0 < rehearsal.comparisons_s(fresh) < 600
