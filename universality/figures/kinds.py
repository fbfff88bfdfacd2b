"""The kinds of figures: one table of what is drawn, from which tables, under which caption."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from universality.base.names import HAAR_NAME
from universality.features.families import FAMILIES, definition_of
from universality.features.tables import joined, own_name
from universality.figures.atlas import atlas_cells, atlas_data
from universality.figures.chords import chord_data, correspondence_chords
from universality.figures.circuits import (
    circuit_data,
    circuit_words,
    circuits_and_nulls,
    wiring_data,
    wiring_profiles,
    wiring_words,
)
from universality.figures.cliques import clique_data, clique_matrix, clique_words
from universality.figures.depth import depth_data, depth_words, detectors_against_depth
from universality.figures.heatmaps import similarity_data, similarity_heatmaps, similarity_words
from universality.figures.index import feature_data, index_by_feature, index_by_group, index_data
from universality.figures.interventions import ablation_by_class, class_data, transplant_data, transplants_and_nulls
from universality.figures.similarity import (
    depth_difference_data,
    depth_difference_words,
    group_comparison,
    group_data,
    group_words,
    similarity_against_depth,
)
from universality.figures.style import DOUBLE_MM, Panels, distinct, figure_of
from universality.figures.thresholds import curves_of, threshold_curves, threshold_data
from universality.figures.unit_wiring import diagram_data, matched_weights, matched_weights_data, unit_circuits
from universality.figures.units import (
    family_data,
    family_words,
    matched_data,
    matched_pairs,
    matched_words,
    matches_and_nulls,
    nulls_data,
    nulls_words,
    tuning_family,
)
from universality.figures.wiring import (
    equivariance_data,
    equivariance_matrices,
    equivariance_words,
    field_layouts,
    layout_data,
    layout_words,
)
from universality.models.catalogue import training_sets
from universality.runs.drawn import Pair, Per, drawn_taps
from universality.similarity.matching import HOW

ALL_UNITS = "any_unit"
OF_NO_FAMILY = "data-driven"


@dataclass(frozen=True)
class Kind:
    """One kind of figure.

    Attributes
    ----------
    name : its files' stem, and what ``--kind`` takes
    per : of what a run has one figure each
    draw, data : plot function, and the function that returns what it draws as a table
    needs : of a `Subject`, by name: tables and facts that both take, one after the other
    labels : by name, what only `draw` takes, as keywords
    caption : with the fields of `Subject.facts` and of `words`
    words : from what `draw` takes to what the caption says of this one figure: how many are drawn of how many, what is left out
    """

    name: str
    per: Per
    draw: Callable[..., Any]
    data: Callable[..., pd.DataFrame]
    needs: tuple[str, ...]
    labels: tuple[str, ...]
    caption: str
    words: Callable[..., dict[str, str]] = lambda *_, **__: {}

    @property
    def tables(self) -> list[str]:
        """The tables without which it cannot be drawn."""
        found = {name: None for need in (*self.needs, *self.labels) for name in _TABLES_OF.get(need, (need,))}
        return list(found)


FIGURES: dict[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind("detectors_against_depth", "family", detectors_against_depth, depth_data, ("families",), ("noun",),
             "Share of {noun} against relative depth in {networks}, beside the layers' untrained twins and a {haar} of each{panels}.", depth_words),
        Kind("tuning_family", "family", tuning_family, family_data, ("units", "families", "period_deg"), ("noun", "angle"),
             "The {noun} of {which} at its best tap, ordered by preferred {angle}{most}; below, what a naive test would find in "
             "the untrained twin.", family_words),
        Kind("similarity", "pair", similarity_heatmaps, similarity_data, ("similarity",), (),
             "{of}, layer by layer, by {measures}: {states}.{left_out}", similarity_words),
        Kind("matched_pairs", "family and pair", matched_pairs, matched_data,
             ("correspondence", "units", "method", "period_deg", "taps"), ("noun", "angle"),
             "{a} and {b}: {which}, among all units. Above each: r on held-out images, in "
             "brackets that of the best partner in a {haar} and in an untrained twin.", matched_words),
        Kind("matches_and_nulls", "family and pair", matches_and_nulls, nulls_data, ("correspondence", "method"),
             ("noun",),
             "Held-out correlation of {count} of {noun} of {a} and {b} matched {how} among all units, beside that of the same units with their best partners in a "
             "{haar} of the other layer and in its untrained twin (of the two sides, the larger).", nulls_words),
        Kind("wiring_profiles", "family", wiring_profiles, wiring_data, ("wired",), ("noun",),
             "Weights into {noun} from detectors of the tap before, summed over space, by the difference of preferred angles, in every network; beside them sources with "
             "their angles exchanged, random directions of the layer, and untrained twins with the trained labels.{left_out}", wiring_words),
        Kind("circuits_and_nulls", "family", circuits_and_nulls, circuit_data, ("circuits",), ("noun",),
             "Correlation s_w of the wiring (incoming weights, or mean gradients where the job asks for these) of {noun} that are the same feature by their responses, from the tap before, beside those with a {haar} and untrained twins, its other nulls and its ceiling{verdicts}.",
             circuit_words),
        Kind("field_layouts", "family", field_layouts, layout_data, ("laid",), ("noun",),
             "Where detectors of the tap before excite (red) and inhibit (blue) {noun}: means over the targets, each field turned so that the preferred angle points to the right, of all "
             "sources and by the preferred angle of the source less that of the target. Second column: the middle of 95 % of exchanges of labels (as many sources of the layer, scaled to equal norm); dots: squares outside. Below "
             "each: sources. Each row has its own scale.{left_out}", layout_words),
        Kind("equivariance_matrices", "family", equivariance_matrices, equivariance_data, ("matrices",), ("noun",),
             "Mean weights into {noun} by preferred angle of target and source, summed over space (red excites, blue inhibits; each panel has its own scale; grey: no unit). Circulant: share of the variance "
             "that the difference of angles holds, beside 95 % of exchanges of the sources' angles and untrained twins with the trained labels.{left_out}", equivariance_words),
        Kind("unit_circuits", "family", unit_circuits, diagram_data, ("edges", "units"), ("noun",),
             "The sources that excite (red) and inhibit (blue) one of the {noun} of each network most: that of the largest score at the last tap with a tap before it. Icons: tuning over {angle}, "
             "grey where a unit is no detector; beside them the map of weights in the field; numbers: weight, summed over space, in rms of the target's weights. Dashed: not above 95 % of the weights into the same unit of untrained twins."),
        Kind("matched_weights", "family and pair", matched_weights, matched_weights_data, ("correspondence", "edges", "method"), ("noun",),
             "Incoming weights of {noun} of {a} and {b} that are matched, those with the largest held-out r, from {noun} of the tap before: mean maps in the field, in the frame of the image, by the "
             "preferred angle of the source less their own; below each how many sources. Each unit has its own scale. How alike such weights are beside those with a {haar} and untrained twins: circuits_and_nulls."),
        Kind("ablation_by_class", "family", ablation_by_class, class_data, ("ablation_classes",), ("noun",),
             "Change of the accuracy within every class with the {noun} of a layer removed (maps of other images in their place), beside as many random units of equal activity: "
             "mean and 5 % quantile over sets."),
        Kind("transplants_and_nulls", "family", transplants_and_nulls, transplant_data, ("transplants",), ("noun",),
             "Recovery R of the answers (divergence from the intact ones) with the {noun} of one network replaced by the units of another that they match, two scalars each, beside the best other "
             "units, the best directions of a {haar}, random directions, the best units of untrained twins, the same units at other images, and ceilings; each point is one layer into another."),
        Kind("similarity_against_depth", "run", similarity_against_depth, depth_difference_data, ("similarity",), (),
             "Similarity of every pair of taps of all compared networks against the difference of their relative depths; lines "
             "are means over bins of 0.1: {states}.", depth_difference_words),
        Kind("correspondence_chords", "family", correspondence_chords, chord_data, ("pairs", "method"), ("noun",),
             "{Noun} matched {how} between the taps of all compared networks, beside what a one-to-one matching of all units "
             "at random gives in the mean, untrained twins, and one of both layers in a {haar}; one scale of widths."),
        Kind("threshold_curves", "family", threshold_curves, threshold_data, ("curves", "chosen"), ("title",),
             "Share of {noun} among all units of all networks of a class (by what they were trained on) as one threshold of the definition moves and the others stay, "
             "trained and untrained."),
        Kind("atlas", "family", atlas_cells, atlas_data, ("atlas", "units", "period_deg"), ("noun", "angle"),
             "The {noun} of every network at its best tap, one per bin of preferred {angle}; filled: another network has the "
             "same feature. The title counts such units in the untrained twins, too."),
        Kind("group_comparison", "run", group_comparison, group_data, ("similarity_pairs", "similarity_groups"), (),
             "Similarity of networks by what differs between them, over taps of like depth, with the 95 % interval of the mean "
             "(networks resampled; none below three pairs){nulls}.", group_words),
        Kind("index_by_group", "run", index_by_group, index_data, ("index_by_pair", "index_by_group"), ("nouns",),
             "Index of universality by what differs between the networks: share of units with a partner, less that in random "
             "bases (Haar), with 95 % intervals, trained beside untrained."),
        Kind("index_by_feature", "run", index_by_feature, feature_data, ("index_by_feature", "nouns"), (),
             "Index of universality of every bin of the preferred angle over all pairs of networks, with 95 % intervals; 0 is "
             "what units share with random bases (Haar)."),
        Kind("cliques", "run", clique_matrix, clique_data, ("cliques", "clique_counts", "families"), ("clique_nouns",),
             "Cliques, by family: a column each, {which}the largest first, a dot where a network has a unit of it (open: re-formed in less "
             "than half of the resamples of photographs). Bars: cliques that share no unit, found by one rule in the trained networks, in their "
             "untrained twins (mean over seeds) and in a {haar} of every layer (mean over bases).", clique_words),
    )
}  # fmt: skip
"""Every kind of figure that ``universality figures`` exports."""


@dataclass(frozen=True)
class Drawing:
    """One figure that is to be drawn: all that it needs and nothing else, so that it can be drawn anywhere.

    Attributes
    ----------
    kind, stem, caption : name in `FIGURES`, its file's stem, its caption
    needs : what both the plot function and that of its data take, in their order
    keywords, labels : what both take by name; what only the plot function takes by name
    """

    kind: str
    stem: str
    caption: str
    needs: tuple[Any, ...]
    keywords: Mapping[str, Any]
    labels: Mapping[str, Any]

    def figure(self, width_mm: float = DOUBLE_MM) -> Figure:
        """Draw it."""
        axes: Panels = FIGURES[self.kind].draw(*self.needs, **self.keywords, **self.labels, width_mm=width_mm)
        return figure_of(axes)

    def data(self) -> pd.DataFrame:
        """Return what is drawn as a table."""
        return FIGURES[self.kind].data(*self.needs, **self.keywords)


class Subject:
    """What one figure is about: the tables, restricted to one family and one pair of models where it has them.

    `method` is how the matched units that are drawn were matched.
    """

    def __init__(
        self, tables: Mapping[str, pd.DataFrame], method: str, family: str | None = None, pair: Pair | None = None
    ) -> None:
        self._tables, self.method, self.family, self.pair = tables, method, family, pair

    def __getitem__(self, name: str) -> Any:
        """Return a table, restricted, or a fact about it."""
        return _FACTS[name](self) if name in _FACTS else self._restricted(self._tables[name])

    def _restricted(self, table: pd.DataFrame) -> pd.DataFrame:
        wanted = {"family": self.family} | dict(zip(("model_a", "model_b"), self.pair or (), strict=False))
        for column, value in wanted.items():
            if value is not None and column in table:
                table = table[table[column] == value]
        return table

    @property
    def stem(self) -> str:
        """What a file's name says after the kind."""
        return "".join(
            f"__{part}" for part in (self.family, None if self.pair is None else _pair_stem(*self.pair)) if part
        )

    def facts(self) -> dict[str, str]:
        """Return what a caption may name."""
        of_family = {} if self.family is None else {name: self[name] for name in ("noun", "angle")}
        if self.family is not None:
            of_family["Noun"] = of_family["noun"].capitalize()
        return (
            {"haar": HAAR_NAME, "how": HOW[self.method]}
            | of_family
            | {side: distinct(self.pair or ())[model] for side, model in zip("ab", self.pair or (), strict=False)}
        )

    def into(self, name: str) -> pd.DataFrame:
        """Return the rows of a table whose targets are of the family."""
        table = self[name]
        found: pd.DataFrame = table[table["target_family"] == self.family]
        return found

    @cached_property
    def thresholds(self) -> tuple[dict[str, pd.DataFrame], dict[str, float]]:
        """Return how the rates of the family's rule move with its thresholds, by what the networks were trained on, and its thresholds."""
        units = self.units()
        classes = training_sets(units["model"])
        several = len(set(classes.values())) > 1
        return curves_of(definition_of(self.family or ""), units, classes if several else None)

    def units(self) -> pd.DataFrame:
        """Return the units of the family with all their columns."""
        family = self.family or ""
        return joined(family, self["units"], self._tables[own_name(family)])

    def taps(self) -> Pair:
        """Return the taps that a figure of matched units is about."""
        if self.pair is None or self.family is None:
            raise ValueError("taps are of one family and one pair of models")
        return drawn_taps(self._tables["similarity"], self._tables["families"], self.family, *self.pair)


_TABLES_OF: dict[str, tuple[str, ...]] = {
    "noun": ("families",), "angle": ("families",), "period_deg": ("families",), "taps": ("similarity", "families"), "method": (),
    "curves": ("units",), "chosen": ("units",), "title": ("families",), "wired": ("profiles",), "laid": ("layouts",), "matrices": ("equivariance",), "nouns": ("families",), "clique_nouns": ("families",),
}  # fmt: skip
"""From which tables the facts of a subject are read."""
_FACTS: dict[str, Callable[[Subject], Any]] = {
    "noun": lambda subject: FAMILIES[subject.family or ""].noun,
    "angle": lambda subject: FAMILIES[subject.family or ""].angle,
    "method": lambda subject: subject.method,
    "wired": lambda subject: subject.into("profiles"),
    "laid": lambda subject: subject.into("layouts"),
    "matrices": lambda subject: subject.into("equivariance"),
    "period_deg": lambda subject: FAMILIES[subject.family or ""].period_deg,
    "taps": Subject.taps,
    "curves": lambda subject: subject.thresholds[0],
    "chosen": lambda subject: subject.thresholds[1],
    "title": lambda subject: f"{subject['noun']}: one threshold moved at a time, the others as dotted",
    "nouns": lambda subject: {
        family: FAMILIES[family].noun if family in FAMILIES else "all units"
        for family in (ALL_UNITS, *dict.fromkeys(subject["families"]["family"]))
    },
    "clique_nouns": lambda subject: clique_nouns(dict.fromkeys(subject["families"]["family"])),
}


def clique_nouns(families: Iterable[str]) -> dict[str, str]:
    """Return what the units of cliques are called: those of the families, then those of none."""
    known = {family: FAMILIES[family].noun for family in families if family in FAMILIES}
    return known | {OF_NO_FAMILY: "units of no known family"}


def drawing(kind: Kind, subject: Subject) -> Drawing:
    """Return the figure of a kind about a subject."""
    names = {name: subject[name] for name in kind.needs}
    keywords: dict[str, Any] = {name: names.pop(name) for name in ("method", "period_deg", "taps") if name in names}
    labels = {name: subject[name] for name in kind.labels}
    words = kind.words(*names.values(), **keywords, **labels)
    caption = kind.caption.format(**subject.facts(), **words)
    return Drawing(kind.name, kind.name + subject.stem, caption, tuple(names.values()), keywords, labels)


def drawings(
    tables: Mapping[str, pd.DataFrame],
    pairs: Sequence[Pair],
    method: str,
    families: Sequence[str],
    kinds: Sequence[str],
) -> Iterator[Drawing]:
    """Yield the figures of some kinds: of the run, of each family, of each pair of models, of each family in each pair.

    `pairs` of models get figures of their own; of matched units those are drawn that `method` matched.
    """
    subjects: list[tuple[Per, Subject]] = [("run", Subject(tables, method))]
    subjects += [("family", Subject(tables, method, family)) for family in families]
    for pair in pairs:
        subjects.append(("pair", Subject(tables, method, None, pair)))
        subjects += [("family and pair", Subject(tables, method, family, pair)) for family in families]
    for per, subject in subjects:
        for name in kinds:
            if FIGURES[name].per == per:
                yield drawing(FIGURES[name], subject)


def _pair_stem(a: str, b: str) -> str:
    """Return whose pair a file shows, with the models' sources: timm/vgg16 is not torchvision/vgg16."""
    return "__".join(model.replace("/", ".", 1) for model in (a, b))
