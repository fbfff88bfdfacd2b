"""Real layers whose correspondence is known: copies of a network, and networks that share nothing."""

from dataclasses import replace

import numpy as np
import torch
from torch import nn

from universality.activations import extraction
from universality.activations.bases import Basis
from universality.activations.layer import Layer, LayerRef, Shown
from universality.activations.network import Network
from universality.activations.nulls import NullPlan
from universality.activations.spec import ExtractionSpec
from universality.base.schema import STIMULUS
from universality.correspondence.search import Contender, MatchingPlan
from universality.correspondence.tables import correspondence_rows
from universality.features import answers
from universality.features.families import FAMILIES
from universality.models import catalogue
from universality.stimuli import sets
from universality.stimuli.spec import StimuliSpec

EXTRACTION = ExtractionSpec(reduction="center", batch_size=128)


class Turned(nn.Module):
    """A network that sees every image turned by 90 degrees, counter-clockwise."""

    def __init__(self, network):
        super().__init__()
        self.network = network
        self.eval()

    def forward(self, images):
        return self.network(torch.rot90(images, 1, (2, 3)))


def turned_back(images):
    """Images (image, channel, y, x) turned so that a `Turned` network sees them as they were."""
    return np.ascontiguousarray(np.rot90(images, -1, (2, 3)))


def pocket(card_id, tap_name, spec, seed=None):
    """A network of the pocket zoo (trained, or its untrained twin), and the tap."""
    card = catalogue.card(card_id)
    tap = card.tap(tap_name)
    return Network(card, seed, (tap,), spec, EXTRACTION, spec), tap


def layer(network, family="curve", turned=False, natural_turned=False):
    """The layer of a pocket network at its tap; `turned` gives the network's copy that sees everything turned."""
    (tap,) = network.taps
    module, shown_tap = network.load(), tap
    if turned:
        module, shown_tap = Turned(module), tap.model_copy(update={"path": f"network.{tap.path}"})
    spec = network.stimuli

    def activations(kind, back=False):
        batches = (turned_back(batch) if back else batch for batch in network.batches(kind))
        found = extraction.collect(
            extraction.extract(module, [shown_tap], batches, EXTRACTION, network.card.preprocessing.size_px)
        )
        return found[tap.name].astype(np.float64)

    table = sets.parameters("natural", spec)
    photograph = np.unique(table["photograph"].values, return_inverse=True)[1]
    assert table.sizes[STIMULUS] == len(photograph)
    return Layer(
        LayerRef(network.card.id, network.seed, tap, "", {}), activations("natural", natural_turned), table["fold"].values,
        photograph, {kind: Shown(activations(kind), sets.parameters(kind, spec)) for kind in FAMILIES[family].sets},
    )  # fmt: skip


def permuted(made, seed=0):
    """The layer with its units in another order, and the order."""
    order = np.random.default_rng(seed).permutation(made.natural.shape[1])
    return made.in_basis(Basis("permuted", lambda values: values[:, order])), order


def noisy(made, level, seed=0):
    """The layer with noise of `level` standard deviations of each unit (over the scored images) on natural images."""
    spread = made.natural[made.fold == 1].std(axis=0)
    noise = np.random.default_rng(seed).standard_normal(made.natural.shape)
    return replace(made, natural=made.natural + level * spread * noise)


def replaced(made, other, units):
    """The layer with some of its units' answers to natural images taken from another layer."""
    natural = made.natural.copy()
    natural[:, units] = other.natural[:, units]
    return replace(made, natural=natural)


def oriented(made, family="curve"):
    """Which units vary and prefer an orientation."""
    table = answers.units(made, family)
    return (table["live"] & table["preferred_deg"].notna()).to_numpy()


def contender(made, plan, twins=(), every_unit=False):
    """A layer with its nulls; with `every_unit` each live unit that prefers an orientation counts as a detector.

    Then the verdict rests on the evidence for the pair alone.
    """
    found = Contender(made, twins, plan)
    if every_unit:
        tables = {family: answers.units(made, family) for family in plan.families}
        found.__dict__["tables"] = {
            family: table.assign(detector=oriented(made, family), near=oriented(made, family))
            for family, table in tables.items()
        }
    return found


def rows(a, b, plan, every_unit=False):
    """The table ``correspondence`` of two layers."""
    return correspondence_rows(*(contender(made, plan, (), every_unit) for made in (a, b)))


def plan(haar=12, bootstraps=300, permutations=99):
    """One-to-one matching."""
    return MatchingPlan(("curve",), ("hungarian",), bootstraps, permutations, NullPlan(haar, 1, 0))


def spec(crops, shapes, orientations=24):
    """Stimuli of a truth test."""
    return StimuliSpec.model_validate(
        {"natural": {"crops": crops, "shapes": shapes}, "curves": {"orientations": orientations}}
    )
