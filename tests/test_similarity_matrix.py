"""One measure between all layers of two networks as a matrix, and jobs that compare layers alone."""

import re
import shutil

import numpy as np
import pytest

import universality
from universality.base.errors import JobError, RunError
from universality.report import findings
from universality.runs.job import Job
from universality.similarity import score
from universality.similarity.matrix import layer_matrix


@pytest.fixture(scope="module")
def alone(small, once):
    """Layers of the small run compared with one another, those of each network among themselves too; no families."""

    def make(folder):
        values = universality.open_run(small.out).record["job"]
        values["comparison"] |= {"families": [], "measures": ["cka_linear_debiased", "ridge_a_to_b"]}
        models = [entry["id"] for entry in values["models"]]
        values |= {"pairs": [models, [models[0]] * 2], "figure_pairs": None}
        values["stages"] = {"only": None, "without": []}
        shutil.copytree(small.store, folder / "store")
        universality.run(Job.model_validate(values), folder / "run", store=folder / "store")

    folder = once("layers-alone", make)
    return universality.open_run(folder / "run", folder / "store")


def test_a_job_without_families_compares_layers_and_nothing_else(alone):
    assert alone.tables == ["similarity"]
    assert {entry["stimuli"] for entry in alone.record["stores"]} == {"natural"}
    names = sorted(path.name for path in (alone.path / "figures").glob("*.png"))
    assert len(names) == 2 and all(name.startswith("similarity__") for name in names)
    assert {found.topic for found in findings(alone)} == {"similarity"}


def test_a_matrix_holds_the_scores_of_its_layers_in_forward_order(alone):
    a, b = (entry["id"] for entry in alone.record["job"]["models"])
    matrix = alone.matrix("cka_linear_debiased", a, b)
    assert matrix.dims == ("tap_a", "tap_b") and matrix.attrs["model_a"] == a
    assert (np.diff(matrix["depth_a"]) > 0).all() and (np.diff(matrix["depth_b"]) > 0).all()
    for x in matrix["tap_a"].values:
        for y in matrix["tap_b"].values:
            # Layers are compared as they are handed on: both networks end each tap in ReLU6.
            layers = [np.minimum(alone.activations(*place).values, 6.0) for place in ((a, str(x)), (b, str(y)))]
            expected = score("cka_linear_debiased", *layers).value
            assert matrix.sel(tap_a=x, tap_b=y).item() == pytest.approx(expected, abs=1e-12)
    back = alone.matrix("cka_linear_debiased", b, a)
    np.testing.assert_array_equal(back.values, matrix.values.T)
    assert back.attrs["model_a"] == b and back["tap_a"].values.tolist() == matrix["tap_b"].values.tolist()


def test_a_network_with_itself_has_ones_on_the_diagonal(alone):
    model = alone.record["job"]["models"][0]["id"]
    matrix = alone.matrix("cka_linear_debiased", model, model)
    np.testing.assert_allclose(np.diag(matrix), 1.0, atol=1e-12)
    np.testing.assert_allclose(matrix.values, matrix.values.T, atol=1e-12)
    said = [found.text for found in findings(alone) if "with itself" in found.text]
    assert len(said) == 2 and all(re.search(r"means over \d+ pairs of neighbours", text) for text in said)


def test_what_was_not_computed_is_refused_by_name(alone):
    a, b = (entry["id"] for entry in alone.record["job"]["models"])
    for asked, said in (
        (("cka_linear", a, b), "no measure 'cka_linear'"),
        (("cka_linear_debiased", a, "pocket/none"), "no model 'pocket/none'"),
        (("cka_linear_debiased", b, b), "did not compare"),
        (("ridge_a_to_b", b, a), "is not symmetric"),
        (("cka_linear_debiased", a, b, "value_twins"), "no column 'value_twins'"),
    ):
        with pytest.raises(RunError, match=re.escape(said)):
            alone.matrix(*asked)


def test_an_undefined_score_stays_undefined(alone):
    rows = alone.similarity.assign(value=np.nan)
    a, b = (entry["id"] for entry in alone.record["job"]["models"])
    assert np.isnan(layer_matrix(rows, "cka_linear_debiased", a, b)).all()


def test_stages_about_units_are_refused_without_families(alone):
    with pytest.raises(JobError, match=re.escape("stage 'families' is about families of detectors")):
        universality.plan(alone.job, alone.path, alone.store, only=["families"])
