"""Folders that may not be written or read: one sentence each that names the folder and says what to do, and no traceback."""

import shutil
from pathlib import Path

import apart
import pytest

JOB, RUN, STORE = "job.toml", "run", "store"
OUT, AT = ("--out", "made/run"), ("--store", "made/store")
READ, NOTHING = 0o555, 0o000

CASES = {
    "store below a folder": (["made"], READ, ["run", JOB, *OUT, *AT], ["made/run", "cannot be written", "--out"]),
    "store folder": (["empty"], READ, ["run", JOB, *OUT, "--store", "empty"], ["/empty'", "cannot be written", "lacks 12 stores and 4 results", "--store"]),
    "store that may not be read": ([STORE], NOTHING, ["run", JOB, *OUT, "--store", STORE], [STORE, "Permission denied"]),
    "shards": (["part", "part/shards"], READ, ["run", JOB, *OUT, "--store", "part"], ["part", "cannot be written", "--store"]),
    "results": (["bare/results"], READ, ["run", JOB, *OUT, "--store", "bare"], ["bare/results", "cannot be written", "--store"]),
    "run directory": (["empty"], READ, ["run", JOB, "--out", "empty", "--store", STORE], ["'empty'", "cannot be written", "--out"]),
    "figures of a run": (["old/figures", "old"], READ, ["run", JOB, "--out", "old", "--store", STORE], ["'old'", "cannot be written", "--out"]),
    "record that may not be read": (["old/run.json"], NOTHING, ["runs", "show", "old"], ["old/run.json", "cannot be read", "permissions"]),
    "report of a run": ([RUN], READ, ["report", RUN], [RUN, "Permission denied"]),
    "figures of a finished run": ([RUN], READ, ["figures", RUN, "--kind", "similarity"], [RUN, "Permission denied"]),
    "reproduction": (["made"], READ, ["reproduce", RUN, "--out", "made/again"], ["made/again", "cannot be written", "--out"]),
    "job": ([JOB], NOTHING, ["run", JOB, *OUT, *AT], [JOB, "cannot be read"]),
    "weights folder": (["weights"], NOTHING, ["run", JOB, *OUT, *AT], ["weights folder 'weights'", "may not be read"]),
    "weights file": (["weights/pocket/vgg-focus-s0.safetensors"], NOTHING, ["run", JOB, *OUT, *AT], ["vgg-focus-s0.safetensors", "cannot be read", "permissions"]),
    "cache of downloads": (["made"], READ, ["run", "far.toml", *OUT, "--store", "empty"], ["download", "ermission"]),
}  # fmt: skip
"""What may not be written or read: the folders, their mode, the command, and texts of its sentence."""


def lay(folder: Path, done: Path) -> None:
    """Copy a finished run and its store; beside them a store without results, one without stores, and an unfinished run."""
    from universality.base.paths import resource

    shutil.copy(done / JOB, folder)
    near, far = (
        'id = "pocket/alexnet-focus-s0"\ntaps = ["features.4"]',
        'id = "torchvision/vgg19"\ntaps = ["features.3"]',
    )
    (folder / "far.toml").write_text((done / JOB).read_text(encoding="utf-8").replace(near, far), encoding="utf-8")
    for name in (RUN, STORE):
        shutil.copytree(done / name, folder / name)
    shutil.copytree(done / STORE, folder / "bare")
    shutil.rmtree(folder / "bare" / "results")
    (folder / "bare" / "results").mkdir()
    for name in ("made", "empty", "part/shards", "old/figures", "weights/pocket"):
        (folder / name).mkdir(parents=True)
    shutil.copy(done / RUN / "run.json", folder / "old")
    shutil.copy(resource("data/pocket_zoo") / "vgg-focus-s0.safetensors", folder / "weights" / "pocket")


def refuse_all(folder: Path, done: Path) -> dict[str, tuple[apart.End, set[str]]]:
    """Run every case in a process that permissions hold for; return how it ended and what was written."""
    import os

    from universality.models import weight_files

    lay(folder, done)
    apart.obey_permissions()
    os.chdir(folder)
    os.environ["TORCH_HOME"] = str(folder / "made" / "torch")
    found = {}
    for name, (paths, mode, arguments, _) in CASES.items():
        before = set(folder.rglob("*"))
        modes = {path: (folder / path).stat().st_mode for path in paths}

        def plant(name: str = name) -> None:
            if "weights" in name:
                os.environ[weight_files.WEIGHTS_FOLDER_VARIABLE] = "weights"
            weight_files._unreachable = lambda url: ""

        for path in paths:
            (folder / path).chmod(mode)
        try:
            end = apart.command(*arguments, before=plant)
        finally:
            for path in reversed(paths):
                (folder / path).chmod(modes[path])
        found[name] = (end, {str(path.relative_to(folder)) for path in set(folder.rglob("*")) - before})
        shutil.rmtree(folder / "made")
        (folder / "made").mkdir()
    return found


@pytest.fixture(scope="module")
def ends(done, tmp_path_factory):
    return apart.alone(refuse_all, tmp_path_factory.mktemp("rights"), done)


@pytest.mark.parametrize("case", CASES)
def test_one_sentence_names_it(ends, case):
    end, _ = ends[case]
    assert apart.is_sentence(end, *CASES[case][3]), end.said
