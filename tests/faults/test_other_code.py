"""Workers that compute with other code are refused before and after they join, and put nothing into a store."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import cloudpickle
import pytest
import tiny
from distributed import Client, LocalCluster
from distributed.comm.core import CommClosedError

import universality
from universality.base.errors import SchedulerLostError, WorkersError
from universality.jobs import agreement, scheduling

ROOT = Path(__file__).parents[2]


@pytest.fixture
def other_code(tmp_path):
    """A cluster whose only worker runs a copy of the package in which one line is changed."""
    copy = tmp_path / "copy" / "universality"
    shutil.copytree(ROOT / "universality", copy, ignore=shutil.ignore_patterns("__pycache__"))
    with (copy / "similarity" / "cka.py").open("a", encoding="utf-8") as file:
        file.write("\nCHANGED = True\n")
    for folder in ("model_zoo", "data"):
        (copy.parent / folder).symlink_to(ROOT / folder)
    with (
        LocalCluster(n_workers=0, dashboard_address="127.0.0.1:0", silence_logs=50) as cluster,
        Client(cluster) as client,
    ):
        call = [
            sys.executable,
            "-m",
            "distributed.cli.dask_worker",
            cluster.scheduler_address,
            "--nthreads",
            "1",
            "--no-nanny",
            "--no-dashboard",
        ]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        with subprocess.Popen(call, env=os.environ | {"PYTHONPATH": str(copy.parent)}, cwd=tmp_path, **quiet) as worker:
            try:
                client.wait_for_workers(1, timeout=60)
                yield client
            finally:
                worker.terminate()


@pytest.mark.slow
def test_a_changed_line_on_a_worker_is_refused_and_stores_nothing(other_code, tmp_path):
    source = agreement.here()["its source"]
    job = tiny.write_job(tmp_path)
    with pytest.raises(WorkersError, match=f"computes with its source .*, expected its source {source}"):
        universality.run(job, tmp_path / "run", store=tmp_path / "store", client=other_code)
    # One that joined after the question is asked again by every task.
    with scheduling.watching(other_code) as watch:
        late = watch.submit("late", os.getcwd)
        assert isinstance(late.exception(timeout=60), WorkersError)
    assert not list(tmp_path.glob("store/*"))


def test_workers_without_the_package_are_refused_by_name():
    """The question is sent to a process in which the package cannot be imported."""

    class Bare:
        def run(self, function, on_error):
            blocked = "import sys; sys.modules['universality'] = None; import cloudpickle"
            code = f"{blocked}; print(cloudpickle.loads(sys.stdin.buffer.read())())"
            done = subprocess.run(
                [sys.executable, "-c", code], input=cloudpickle.dumps(function), capture_output=True, check=True
            )
            return {"tcp://bare": done.stdout.decode().strip(), "tcp://same": dict(agreement.here())}

    with pytest.raises(WorkersError, match=r"worker 'tcp://bare' cannot import universality .*ModuleNotFoundError"):
        agreement.require(Bare())


def test_every_version_that_differs_is_named():
    class Older:
        def run(self, function, on_error):
            return {f"tcp://{n}": {**agreement.here(), "numpy": "1.0", "timm": "0.1"} for n in (1, 2)}

    expected = agreement.here()
    said = f"computes with numpy 1.0, timm 0.1, expected numpy {expected['numpy']}, timm {expected['timm']} as here"
    with pytest.raises(WorkersError, match=rf"{said}; .*2 of 2 workers differ"):
        agreement.require(Older())


def test_a_worker_that_goes_away_while_it_is_asked_is_not_one_without_the_package():
    class Leaving:
        def __init__(self, *others):
            self.others = others

        def run(self, function, on_error):
            return {"tcp://gone": CommClosedError("in <TCP>: Connection reset by peer"), **dict(self.others)}

    agreement.require(Leaving(("tcp://same", dict(agreement.here()))))
    with pytest.raises(SchedulerLostError, match="1 worker\\(s\\) went away while they were asked for their versions"):
        agreement.require(Leaving())
    with pytest.raises(WorkersError, match="worker 'tcp://bare' cannot import universality"):
        agreement.require(Leaving(("tcp://bare", "ModuleNotFoundError: no")))


def test_who_computes_with_the_same_is_asked_nothing_more():
    assert agreement.run_as(dict(agreement.here()), sum, [1, 2]) == 3
