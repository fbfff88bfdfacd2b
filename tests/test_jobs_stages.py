"""The table of stages: a stage is one line, and everything else learns of it from there."""

import json
import shutil
import tomllib

import numpy as np
import pandas as pd
import pins
import pytest

import universality
from universality.activations.store import ActivationStore
from universality.base.errors import JobError, RunError
from universality.base.schema import Column, Table
from universality.features.tables import columns_of
from universality.figures import FIGURES
from universality.jobs.reproduce import compared, reproduce
from universality.jobs.stage import Stage
from universality.jobs.stages import STAGES, chosen, lineage
from universality.jobs.tasks import Task
from universality.report import data
from universality.runs import provenance, upkeep
from universality.runs.job import Job
from universality.runs.run import Run, file_sha256, read_record, row_counts, write_record

TOY = Table(
    "toy",
    "one layer",
    (Column("tap", "string", "1", "tap name", "layer"), Column("n", "int", "units", ">= 1", "its units")),
)
DONE = []
"""Which taps the toy stage has computed."""


def toy_task(tap, units):
    DONE.append(tap)
    return {"toy": pd.DataFrame({"tap": [tap], "n": [units]})}


def toy_tasks(inputs):
    for (model, seed), layers in inputs.layers.items():
        for place, ref in enumerate(layers):
            key = f"{inputs.identity(model, place, seed)[:24]}{STAGES['toy'].version:08d}"
            yield Task("toy", {"": key}, f"toy of {model}, {ref.tap.name}", toy_task, (ref.tap.name, ref.tap.channels))


@pytest.fixture
def toy(monkeypatch):
    """A stage in one line."""
    DONE.clear()
    stage = Stage(
        "toy", "sizes of layers", (TOY,), 1, work=lambda inputs: 6.0, tasks=toy_tasks,
        count=lambda inputs: sum(map(len, inputs.layers.values())),
    )  # fmt: skip
    monkeypatch.setitem(STAGES, "toy", stage)
    return stage


@pytest.fixture
def store(small, tmp_path):
    shutil.copytree(small.store, tmp_path / "store")
    return tmp_path / "store"


class Lines:
    def __init__(self):
        self.said, self.tracked = [], {}

    def say(self, text):
        self.said.append(text)

    def prepare(self, description):
        pass

    def track(self, description, total):
        self.tracked[description] = total
        return lambda steps: None


def test_a_stage_in_one_line_is_planned_run_resumed_verified_reproduced_and_shown(small, store, tmp_path, toy):
    run_toy = {"store": store, "only": ["toy"]}
    planned = universality.plan(small.job, tmp_path / "run", **run_toy)
    assert [stage.name for stage in planned.stages] == ["toy"]
    assert (planned.n_tasks, planned.kept()) == (6, 0)

    lines = Lines()
    run = universality.run(small.job, tmp_path / "run", reporter=lines, **run_toy)
    assert lines.tracked["toy (tasks)"] == 6 and "families (tasks)" not in lines.tracked
    assert run.tables == ["toy"] and run.record["stages"] == {"toy": 1}
    assert run.table("toy")["n"].tolist() == [
        ref.tap.channels for refs in planned.inputs.layers.values() for ref in refs
    ]

    # Resumed: the results are kept, so a lost table is written again without computing anything.
    assert len(DONE) == 6
    (tmp_path / "run" / "toy.parquet").unlink()
    universality.run(small.job, tmp_path / "run", **run_toy)
    assert len(DONE) == 6 and run.table("toy").shape == (6, 2)
    assert universality.plan(small.job, tmp_path / "run", **run_toy).tables_exist

    # Shown and counted.
    assert data.page_data(run)["tables"]["toy"]["total"] == row_counts(run)["toy"] == 6

    # Reproduced: another directory has the same bytes.
    again = universality.run(small.job, tmp_path / "again", **run_toy)
    assert compared(run, again).identical == ["toy"]

    # Verified.
    assert list(upkeep.problems(tmp_path / "again", store)) == []
    with (tmp_path / "again" / "toy.parquet").open("ab") as file:
        file.write(b"x")
    (problem,) = upkeep.problems(tmp_path / "again", store)
    assert "toy.parquet' differs from its checksum" in problem

    # Cleaned: an unfinished run's files are known from its record.
    record = read_record(tmp_path / "again")
    write_record(tmp_path / "again", {**record, "status": "started"})
    upkeep.remove(tmp_path / "again", ActivationStore(store))
    assert not (tmp_path / "again" / "toy.parquet").exists()


def test_a_stage_that_takes_tables_waits_for_them(small, store, tmp_path, monkeypatch):
    def task(model, families):
        return {"toy": pd.DataFrame({"tap": families["tap"], "n": families["n_units"]})}

    def tasks(inputs):
        for model in inputs.models:
            late = lambda tables, model=model: (tables["families"].query("model == @model"),)  # noqa: E731
            yield Task("toy", {"": f"{inputs.of_model(model)[:32]}"}, model, task, (model,), late)

    stage = Stage(
        "toy", "sizes", (TOY,), 1, work=lambda inputs: 2.0, tasks=tasks, count=lambda inputs: 2, needs=("families",), waits=True,
    )  # fmt: skip
    monkeypatch.setitem(STAGES, "toy", stage)
    run = universality.run(small.job, tmp_path / "run", store=store, only=["toy"])
    assert sorted(run.tables) == ["families", "toy", "units", "units_curve"]
    assert run.table("toy")["n"].tolist() == run.families["n_units"].tolist()


def test_only_adds_to_what_a_directory_holds(small, store, tmp_path, toy):
    shutil.copytree(small.out, tmp_path / "run")
    run = universality.run(small.job, tmp_path / "run", store=store, only=["toy"])
    assert sorted(run.tables) == sorted([*small.run.tables, "toy"])
    for name in small.run.tables:
        pd.testing.assert_frame_equal(run.table(name), small.run.table(name))
    # Without it again, its table goes, and that is said.
    lines = Lines()
    left_out = ["toy", "natural", "examples", "circuits", "recovery", "motifs", "atlas"]
    run = universality.run(small.job, tmp_path / "run", store=store, reporter=lines, without=left_out)
    assert run.tables == small.run.tables and not (tmp_path / "run" / "toy.parquet").exists()
    assert any("toy.parquet': the stage 'toy' is left out" in text for text in lines.said)


def test_needs_come_with_a_stage_and_go_with_it():
    assert [stage.name for stage in chosen(["pairs"])] == ["families", "similarity", "correspondence", "pairs"]
    assert [stage.name for stage in chosen(without=["similarity"])] == [
        "dictionaries",
        "families",
        "correspondence",
        "ceilings",
        "natural",
        "examples",
        "circuits",
        "recovery",
        "motifs",
        "ablations",
        "patches",
        "transplants",
        "roles",
        "atlas",
    ]
    assert [stage.name for stage in chosen(without=["families"])] == [
        "dictionaries",
        "similarity",
        "correspondence",
        "ceilings",
        "recovery",
    ]
    assert [stage.name for stage in chosen(lacking=["copies"])] == [name for name in STAGES if name != "ceilings"]
    of_edits = {"ablations", "patches", "transplants", "roles"}
    assert [stage.name for stage in chosen(lacking=["edits"])] == [name for name in STAGES if name not in of_edits]
    assert [stage.name for stage in chosen()] == list(STAGES)


@pytest.mark.parametrize(
    ("only", "without", "said"),
    [
        (["familes"], (), "unknown stage 'familes'; did you mean 'families'"),
        (None, ["everything"], "unknown stage 'everything'; choose one of: ablations, atlas, ceilings, circuits"),
        (["pairs"], ["similarity"], "stage 'pairs' is asked for and needs one that is left out"),
        (
            None,
            ["dictionaries", "families", "similarity", "correspondence", "ceilings", "recovery"],
            "no stage is left without",
        ),
    ],
)
def test_a_choice_that_cannot_be_is_one_sentence(only, without, said):
    with pytest.raises(JobError, match=said):
        chosen(only, without)


def test_a_job_chooses_its_stages(small):
    job = Job.model_validate(tomllib.loads(small.job.read_text()) | {"stages": {"only": ["similarity"]}})
    assert [stage.name for stage in universality.plan(job, store="memory://none").stages] == ["similarity"]
    # It decides which tables there are, and no number: a directory stays the same job's.
    assert job.digest() == small.run.job.digest()


def test_the_table_is_sound():
    names = list(STAGES)
    tables = [table.name for stage in STAGES.values() for table in stage.tables]
    assert len(tables) == len(set(tables))
    for name, stage in STAGES.items():
        assert stage.name == name and stage.version >= 1
        assert all(names.index(need) < names.index(name) for need in stage.needs)
        assert set(stage.packages) <= set(provenance.PACKAGES)
        assert {kind: FIGURES[kind].per for kind in stage.figures} == dict(stage.figures)
        # A figure that a run draws of a stage needs the tables of that stage and of those before it only.
        there = {table.name for of in lineage(stage) for table in of.tables}
        assert all(set(FIGURES[kind].tables) <= there for kind in stage.figures)


_STAGES = [name for name, stage in STAGES.items() if not {"copies", "edits", "dictionaries"} & {*stage.asks}]
"""Those of a job without noisy copies, interventions and dictionaries."""


class TestKeys:
    def keys(self, job, **changed):
        planned = universality.plan(job.model_copy(update=changed), store="memory://none", only=_STAGES)
        found = {}
        for task in planned.tasks():
            found.setdefault(task.stage, set()).update(task.keys.values())
        return found

    @pytest.fixture
    def job(self, small):
        return small.run.job

    def test_text_of_the_code_is_in_none(self, job, monkeypatch):
        before = self.keys(job)
        monkeypatch.setattr(provenance, "code_digest", lambda: "other")
        monkeypatch.setattr(provenance, "source_digest", lambda *_: "other")
        assert self.keys(job) == before

    def test_version_of_a_stage_is_in_its_own_and_in_those_of_stages_that_need_it(self, job, monkeypatch):
        import dataclasses

        before = self.keys(job)
        monkeypatch.setitem(
            STAGES, "families", dataclasses.replace(STAGES["families"], version=STAGES["families"].version + 1)
        )
        after = self.keys(job)
        assert {name for name in before if before[name].isdisjoint(after[name])} == {
            "families",
            "natural",
            "examples",
            "circuits",
            "motifs",
            "atlas",
        }
        assert all(before[name] == after[name] for name in ("similarity", "correspondence"))

    def test_one_more_measure_computes_that_measure_only(self, job):
        before = self.keys(job)
        more = job.comparison.model_copy(update={"measures": (*job.comparison.measures, "rsa_sqeuclidean_spearman")})
        after = self.keys(job, comparison=more)
        assert after["similarity"] > before["similarity"] and len(after["similarity"] - before["similarity"]) == 1
        assert all(before[name] == after[name] for name in before if name != "similarity")

    def test_packages_that_decide_nothing_of_a_stage_are_not_in_its_keys(self, job, monkeypatch):
        before = self.keys(job)
        versions = provenance.package_versions() | {"torch": "0"}
        monkeypatch.setattr("universality.jobs.stages.package_versions", lambda: versions)
        after = self.keys(job)
        assert before["families"] == after["families"] and before["natural"].isdisjoint(after["natural"])


def test_a_table_that_a_run_lacks_is_one_sentence(small):
    record = json.loads(json.dumps(small.run.record))
    del record["tables"]["similarity.parquet"]
    with pytest.raises(
        RunError, match=r"has no table 'similarity', expected one of correspondence, .*; run its job again with"
    ):
        Run(small.out, record).table("similarity")


def test_units_of_a_family_come_with_its_own_columns_or_with_one_sentence(small, tmp_path, monkeypatch):
    wide = small.run.units_of("curve")
    assert list(wide) == [column.name for column in columns_of("curve")]
    with pytest.raises(
        RunError, match=r"no units of the family 'oriented_edge', expected one of curve; add it to comp"
    ):
        small.run.units_of("oriented_edge")

    # A directory of before the columns of families had tables of their own.
    shutil.copytree(small.out, tmp_path / "old")
    (tmp_path / "old" / "units_curve.parquet").unlink()
    wide.to_parquet(tmp_path / "old" / "units.parquet")
    record = {name: value for name, value in small.run.record.items() if name not in ("report", "digest")}
    sums = {name: value for name, value in record["tables"].items() if name != "units_curve.parquet"}
    sums["units.parquet"] = file_sha256(tmp_path / "old" / "units.parquet")
    write_record(tmp_path / "old", {**record, "tables": sums})
    old = universality.open_run(tmp_path / "old", small.store)
    assert len(old.similarity)
    monkeypatch.setattr("universality.jobs.execute.run", lambda *_, **__: pytest.fail("computed"))
    for read in (lambda: old.units, lambda: old.units_of("curve"), lambda: reproduce(old.path, tmp_path / "again")):
        with pytest.raises(
            RunError, match=r"table 'units' does not fit its schema: .*'symmetry'.*; rerun the job with"
        ):
            read()


@pytest.mark.parametrize("edits", [False, True])
def test_numbers_of_a_stage_change_with_its_version_only(edits, request):
    came = pins.pin(request.getfixturevalue("edited" if edits else "whole"), edits=edits)
    pinned = {
        name: of
        for name, of in json.loads(pins.FILE.read_text(encoding="utf-8")).items()
        if ("edits" in STAGES[name].asks) == edits
    }
    assert pinned.keys() == came.keys(), "write tests/golden/stages.json anew: python tests/pins.py"
    for stage, expected in pinned.items():
        remedy = (
            f"raise the version of stage '{stage}' if its numbers are meant to change, then run python tests/pins.py"
        )
        assert came[stage]["version"] == expected["version"], remedy
        for name, table in expected["tables"].items():
            found = came[stage]["tables"][name]
            assert found["rows"] == table["rows"] and found["columns"].keys() == table["columns"].keys(), remedy
            for column, was in table["columns"].items():
                now = found["columns"][column]
                assert now.keys() == was.keys(), f"{name}.{column}: {remedy}"
                if "words" in was:
                    assert now == was, f"{name}.{column}: {remedy}"
                else:
                    same = np.allclose(now["quantiles"], was["quantiles"], rtol=1e-3, atol=1e-6)
                    assert same and now["not_finite"] == was["not_finite"], f"{name}.{column}: {remedy}"
