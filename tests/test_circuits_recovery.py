"""Detectors found again in the next tap: handed on by single units, or spread over all of them."""

from dataclasses import replace

import numpy as np
import pytest
from test_correspondence_tables import layer, planted

from universality.base.arrays import haar_orthogonal
from universality.circuits.recovery import RECOVERY, recovery_rows


def at(made, name, depth):
    return replace(
        made, ref=replace(made.ref, tap=made.ref.tap.model_copy(update={"name": name, "relative_depth": depth}))
    )


def later(made, mixing, noise=0.05):
    """A later layer whose units are mixtures of those of an earlier one, with noise of their own."""
    natural = made.natural @ mixing
    natural = natural + noise * natural.std() * np.random.default_rng(5).standard_normal(natural.shape)
    return at(replace(made, natural=natural), "later", 0.9)


def rows(mixing):
    made = at(planted(), "earlier", 0.3)
    # The order in which the taps come does not matter.
    return recovery_rows([later(made, mixing), made], [], ("curve",), 0)


def test_a_feature_that_single_units_hand_on_loses_nothing():
    units = planted().natural.shape[1]
    (row,) = rows(np.eye(units)[:, ::-1]).to_dict("records")
    assert (row["tap"], row["next_tap"], row["family"], row["n_detectors"]) == ("earlier", "later", "curve", 12)
    assert row["r_unit"] > 0.95 and row["lost"] == pytest.approx(0, abs=0.03)
    assert row["r_haar"] < row["r_unit"] and np.isnan(row["r_probe_untrained"])


def test_a_feature_spread_over_units_is_found_by_the_probe_alone():
    units = planted().natural.shape[1]
    (row,) = rows(haar_orthogonal(units, np.random.default_rng(1))).to_dict("records")
    assert row["r_probe"] > 0.9 and row["r_unit"] < 0.8
    assert 0 < row["lost_low"] <= row["lost"] <= row["lost_high"]
    assert row["r_unit"] == pytest.approx(row["r_haar"], abs=0.2)  # its units are random directions


def test_layers_without_detectors_or_without_a_later_tap_have_no_rows():
    made = planted()
    assert list(recovery_rows([made], [], ("curve",), 0).columns) == RECOVERY.names
    dull = layer(
        made.natural[:, :2],
        np.zeros((made.shown["curves"].activations.shape[0] + made.shown["curve_controls"].activations.shape[0], 2)),
    )
    assert recovery_rows([at(dull, "x", 0.1), made], [], ("curve",), 0).empty
