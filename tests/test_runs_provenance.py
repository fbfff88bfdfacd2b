"""Every exported file carries its provenance, and two runs write the same bytes."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

import universality
from universality.figures import FIGURES, drawings, save
from universality.jobs.reproduce import compared
from universality.jobs.stages import STAGES
from universality.models import catalogue
from universality.runs.run import Run

ROOT = Path(__file__).parents[1]


def test_every_exported_file_knows_the_same(small, tmp_path):
    expected = small.run.record["provenance"]
    files = [p for p in small.out.rglob("*") if p.suffix in (".parquet", ".png", ".pdf", ".html")]
    assert len(files) == len(small.run.tables) + 2 * len(small.run.record["figures"]) + 1
    for file in files:
        alone = shutil.copy(file, tmp_path / f"alone{file.suffix}")
        assert universality.provenance(alone) == expected, file.name
    assert universality.provenance(small.out) == expected


def test_it_names_everything_that_decides_numbers(small):
    facts = universality.provenance(small.out / "units.parquet")
    assert facts["job"] == small.run.job.plain()
    assert facts["job_digest"] == small.run.job.digest()
    for model, known in facts["models"].items():
        card = catalogue.card(model)
        assert known["card_digest"] == card.digest()
        assert known["weights"] == card.weights.state_dict_sha256
        assert set(known["untrained"]) == {"0"}
    assert set(facts["stimuli"]) == {"natural", "curves", "curve_controls"}
    assert facts["seeds"] == {"job": 3, "untrained": [0]}
    assert [made["device"] for made in facts["extraction"]] == ["cpu"]
    assert facts["extraction"][0]["packages"] == facts["packages"]
    assert "unix" not in json.dumps(facts), "times are in the record only"


@pytest.mark.parametrize("suffix", [".png", ".pdf", ".svg"])
def test_facts_come_back_from_every_kind_of_figure(tmp_path, suffix):
    facts = {"job": {"question": 'Why (not) \\ "<b>&amp;" é 任務 \U0001f9ea\n?'}}
    (file,) = save(Figure(), tmp_path / "figure", facts, (suffix,))
    assert universality.provenance(file) == facts
    first = file.read_bytes()
    save(Figure(), tmp_path / "figure", facts, (suffix,))
    assert file.read_bytes() == first


def test_models_of_one_name_and_two_sources_have_figures_of_their_own(small):
    def renamed(table, columns):
        both = table.copy()
        for column in columns:
            both[column] = both[column].map(lambda model: f"{'timm' if model.endswith('0') else 'torchvision'}/vgg16")
        return both

    run = small.run
    pair = ["model_a", "model_b"]
    tables = {name: renamed(run.table(name), pair) for name in ("similarity", "correspondence")}
    tables |= {name: renamed(run.table(name), ["model"]) for name in ("families", "units", "units_curve")}
    there = {table.name for name in ("families", "similarity", "correspondence") for table in STAGES[name].tables}
    kinds = [kind for stage in STAGES.values() for kind in stage.figures if set(FIGURES[kind].tables) <= there]
    pairs = [("timm/vgg16", "torchvision/vgg16"), ("torchvision/vgg16", "timm/vgg16")][:1]
    stems = [
        drawing.stem for drawing in drawings(tables, pairs, run.job.matched_by(), run.job.comparison.families, kinds)
    ]
    assert len(stems) == len(set(stems))
    assert "similarity__timm.vgg16__torchvision.vgg16" in stems


class TestReproduction:
    def again(self, small, tmp_path, change):
        """The same run with one table changed."""
        record = json.loads(json.dumps(small.run.record))
        record["tables"]["similarity.parquet"] = "other"
        run = Run(tmp_path, record, tables={name: small.run.table(name).copy() for name in small.run.tables})
        change(run)
        return compared(small.run, run)

    def test_the_same_is_reproduced(self, small, tmp_path):
        found = compared(small.run, small.run)
        assert found.equal
        assert found.verdict() == f"reproduced: all {len(small.run.tables)} tables are equal to the byte"
        assert "in every value" in self.again(small, tmp_path, lambda run: None).verdict()

    @pytest.mark.parametrize(("step", "equal"), [(1e-9, True), (1e-3, False)])
    def test_largest_difference_decides(self, small, tmp_path, step, equal):
        def change(run):
            run.similarity.loc[3, "value"] += step

        found = self.again(small, tmp_path, change)
        (column,) = found.columns
        assert (column.table, column.column, column.rows) == ("similarity", "value", 1)
        assert column.largest == pytest.approx(step, rel=1e-3)
        assert found.equal is equal
        assert ("similarity.value" in found.verdict()) is not equal

    @pytest.mark.parametrize(("column", "value"), [("value", np.nan), ("measure", "other")])
    def test_what_cannot_be_subtracted_is_no_small_difference(self, small, tmp_path, column, value):
        def change(run):
            run.similarity.loc[3, column] = value

        assert not self.again(small, tmp_path, change).equal

    def test_rows_and_inputs_are_compared(self, small, tmp_path):
        def shorter(run):
            again = run.table("similarity")
            run._tables["similarity"] = again.iloc[:-1]

        def other_weights(run):
            run.record["provenance"]["models"]["package/efficientnet_lite0"]["weights"] = "x"

        def other_package(run):
            run.record["provenance"]["packages"]["numpy"] = "0"

        assert "another number of rows" in self.again(small, tmp_path, shorter).verdict()
        found = self.again(small, tmp_path, other_weights)
        assert "models.package/efficientnet_lite0.weights" in found.verdict()
        assert not found.equal
        found = self.again(small, tmp_path, other_package)
        assert found.equal
        assert list(found.circumstances) == ["packages.numpy"]

    def test_tables_of_lists_are_compared(self, small, tmp_path):
        def change(run):
            cells = run.units["tuning_sigma"].tolist()
            cells[0] = np.asarray(cells[0]) + 0.5
            run.units["tuning_sigma"] = pd.Series(cells, index=run.units.index)
            run.record["tables"]["units.parquet"] = "other"

        found = self.again(small, tmp_path, change)
        assert [c.column for c in found.columns] == ["tuning_sigma"]


def test_analysis_of_an_unfinished_run_is_one_sentence(tmp_path):
    (tmp_path / "run.json").write_text('{"status": "started", "job_digest": "x", "job": {}}')
    script = ROOT / "analyses" / "detectors_against_depth.py"
    done = subprocess.run([sys.executable, script, tmp_path], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
    assert "was not finished" in done.stderr
