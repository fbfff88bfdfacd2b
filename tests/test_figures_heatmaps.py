"""Heatmaps of all layers of two networks: what is drawn, what is left out, and what has room."""

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from drawn_texts import outside, overlaps, shown

from universality import figures
from universality.base.errors import FigureError
from universality.figures import figure_of
from universality.figures.heatmaps import similarity_data, similarity_words
from universality.figures.similarity import STATES

mpl.use("Agg")
CKA, MATCHED = "cka_linear_debiased", "unit_match_hungarian"
WIDTHS_MM = (89.0, 183.0)


def table(rows, columns, measures=(CKA,), model_b="m/b", **values):
    """Every pair of so many layers of two networks, in no order; the value says row and column."""
    pairs = [
        {"model_a": "m/a", "model_b": model_b, "measure": measure, "direction": "similarity", "tap_a": f"block.{i}.conv",
         "tap_b": f"block.{j}.conv", "depth_a": (i + 1) / rows, "depth_b": (j + 1) / columns, "value": (60 * i + j) / 3600}
        for measure in measures for i in range(rows) for j in range(columns)
    ]  # fmt: skip
    nulls = dict.fromkeys(STATES[1:], 0.25) | values
    mixed = pd.DataFrame(pairs).assign(**nulls).sample(frac=1.0, random_state=np.random.default_rng(3))
    return mixed.sort_values("measure", kind="stable", ignore_index=True)


def panels(figure):
    return [ax for ax in figure.axes if ax.axison]


@pytest.mark.parametrize("width", WIDTHS_MM)
@pytest.mark.parametrize(("rows", "columns"), [(2, 3), (60, 60), (50, 14)])
def test_one_measure_is_the_usual_figure(rows, columns, width):
    similarity = table(rows, columns, value_untrained=np.nan, value_haar=np.nan, value_shuffled=np.nan)
    figure = figure_of(figures.similarity_heatmaps(similarity, width_mm=width))
    with figures.style():
        texts = shown(figure)
        assert overlaps(texts) == []
        assert outside(texts) == []
    (ax,) = panels(figure)
    mesh = ax.collections[0]
    # In forward order from the corner at the top, and so in the numbers that go with it.
    expected = (60 * np.arange(rows)[:, None] + np.arange(columns)) / 3600
    np.testing.assert_allclose(mesh.get_array().reshape(rows, columns), expected)
    np.testing.assert_allclose(similarity_data(similarity)["value"], expected.ravel())
    assert ax.yaxis_inverted() and not ax.xaxis_inverted()
    box = ax.get_window_extent()
    assert box.width / columns == pytest.approx(box.height / rows, rel=0.02)
    assert (ax.get_xlabel(), ax.get_ylabel(), figure.get_suptitle()) == ("b", "a", "CKA (linear, debiased)")
    assert len(ax.child_axes) == 1  # the colour bar
    assert figure.get_figheight() * 25.4 <= 240.5
    # A number stands in its cell, or nowhere.
    assert len(ax.texts) == (rows * columns if rows <= 12 else 0)
    for text in ax.texts:
        inside = text.get_window_extent()
        assert inside.width < box.width / columns and inside.height < box.height / rows
    # Names of layers are those of their rows; which are left out is said.
    named = [int(label.get_text().split(".")[1]) for label in ax.get_yticklabels()]
    np.testing.assert_array_equal(named, ax.get_yticks() - 0.5)
    steps = [round(ticks[1] - ticks[0]) for ticks in (ax.get_yticks(), ax.get_xticks())]
    ends = {2: "nd", 3: "rd"}
    said = [f"every {k}{ends.get(k, 'th')} {what}" for k, what in zip(steps, ("row", "column"), strict=True) if k > 1]
    assert figure.get_supxlabel() == (f"named: {' and '.join(said)}" if said else "")


@pytest.mark.parametrize("width", WIDTHS_MM)
def test_sixty_layers_by_several_measures_have_room(width):
    figure = figure_of(figures.similarity_heatmaps(table(60, 60, (CKA, MATCHED)), width_mm=width))
    with figures.style():
        texts = shown(figure)
        assert overlaps(texts) == []
        assert outside(texts) == []
    assert len(panels(figure)) == 3 + 4 and not any(ax.texts for ax in panels(figure))
    assert "named: every" in figure.get_supxlabel()


def titles(figure):
    return [ax.get_title().replace("\n", " ") for ax in panels(figure)]


def test_a_state_that_says_nothing_has_no_panel_and_the_caption_says_why():
    absent = table(2, 3, (CKA, MATCHED), value_untrained=np.nan)
    figure = figure_of(figures.similarity_heatmaps(absent))
    assert titles(figure) == ["trained", "stimuli shuffled", "", "B in a random basis (Haar)", ""]
    assert len(figure.axes) == 2 * 3  # no column of untrained twins
    assert "value_untrained" not in similarity_data(absent)
    said = similarity_words(absent)
    assert said["states"] == "trained, B in a random basis (Haar) and stimuli shuffled"
    assert said["left_out"] == (
        " Not drawn: B in a random basis (Haar) for CKA (linear, debiased), which does not depend on the basis; "
        "untrained twins, of which there are no values."
    )
    alone = table(2, 3)
    assert titles(figure_of(figures.similarity_heatmaps(alone))) == ["trained", "untrained twins", "stimuli shuffled"]
    assert similarity_words(alone)["of"] == "a and b"
    assert similarity_words(table(2, 3, (MATCHED,)))["left_out"] == ""


def test_a_network_against_itself_is_called_so():
    itself = table(3, 3, (MATCHED,), model_b="m/a")
    figure = figure_of(figures.similarity_heatmaps(itself))
    assert titles(figure)[2] == "one side in a random basis (Haar)"
    assert (panels(figure)[0].get_ylabel(), panels(figure)[-1].get_xlabel()) == ("a", "a")
    assert similarity_words(itself)["of"] == "a with itself"


def test_layers_that_only_the_normalisation_tells_apart_keep_their_names():
    both = table(2, 2).replace({"block.0.conv": "block.1.conv.bn2"})
    ax = panels(figure_of(figures.similarity_heatmaps(both)))[0]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["block.1.conv.bn2 (50%)", "block.1.conv (100%)"]


def test_several_pairs_of_models_are_refused():
    mixed = pd.concat([table(2, 2), table(2, 2, model_b="m/c")], ignore_index=True)
    with pytest.raises(FigureError, match="the table holds 2 different model_a and model_b"):
        figures.similarity_heatmaps(mixed)
