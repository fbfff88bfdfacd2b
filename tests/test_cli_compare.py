"""``universality compare``: files and matrix of two networks' layers, or of one network's among themselves."""

import json

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

import universality
from universality.base.errors import CardError
from universality.cli import app
from universality.models.catalogue import card
from universality.runs.layers_job import chosen, layers_job

VGG = "pocket/vgg-focus-s0"


@pytest.mark.draws
def test_a_network_with_itself_ends_with_heatmap_and_matrix(tmp_path):
    out = tmp_path / "compared"
    call = [
        "compare",
        VGG,
        VGG,
        "--layers",
        "features.1?",
        "--out",
        str(out),
        "--store",
        str(tmp_path / "store"),
        "--json",
    ]
    done = CliRunner().invoke(app, call)
    assert done.exit_code == 0, done.output
    said = json.loads(done.stdout.splitlines()[-1])
    assert {path.rpartition(".")[2] for path in said["files"]} >= {"png", "pdf", "csv"}
    matrix = pd.read_csv(out / "matrix__cka_linear_debiased.csv", index_col=0)
    assert (
        matrix.index.tolist() == matrix.columns.tolist() == ["features.11", "features.13", "features.16", "features.18"]
    )
    np.testing.assert_allclose(np.diag(matrix), 1.0, atol=1e-9)
    run = universality.open_run(out / "run", tmp_path / "store")
    np.testing.assert_allclose(
        run.matrix("cka_linear_debiased", VGG, VGG).values, said["matrices"]["cka_linear_debiased"]["values"]
    )
    # The figure is the run's own, and no other is drawn.
    own = sorted((out / "run" / "figures").iterdir())
    assert [path.read_bytes() for path in own] == [(out / path.name).read_bytes() for path in own] and len(own) == 2
    # The nulls of the same layers stand beside the values.
    assert abs(run.matrix("cka_linear_debiased", VGG, VGG, "value_shuffled").values).max() < 0.1


def test_patterns_choose_taps_in_forward_order():
    assert chosen(card(VGG), ["features.18", "features.4"]) == ["features.4", "features.18"]
    assert chosen(card(VGG), ["all"]) == [tap.name for tap in card(VGG).taps]
    with pytest.raises(CardError, match="has no tap that fits 'layer"):
        chosen(card(VGG), ["layer*"])


def test_the_job_compares_layers_alone():
    job = layers_job([card(VGG), card("pocket/resnet-focus-s0")], ["cka_linear_debiased"])
    assert job.comparison.families == () and job.compared() == [(VGG, "pocket/resnet-focus-s0")]
