"""The tables of circuits: matched units' weights beside their nulls, and how families are wired to families."""

from __future__ import annotations

from universality.base.schema import Column, Table, pair_columns

_R = "-1 to 1"
CIRCUITS = Table(
    "circuits",
    "the incoming weights of one matched pair of units, from one earlier layer of each network, set side by side in one way",
    (
        *pair_columns(),
        Column("source_a", "string", "1", "tap name", "the earlier layer of the first network"),
        Column("source_b", "string", "1", "tap name", "the earlier layer of the second network"),
        Column("back", "int", "1", "1 | 2", "how many connected taps of the job before the units' own they lie"),
        Column("family", "string", "1", "name in FAMILIES", "family of detectors"),
        Column("method", "string", "1", "hungarian | mutual_nearest", "how the pair was matched"),
        Column("unit_a", "int", "1", ">= 0", "unit (channel index) in layer A"),
        Column("unit_b", "int", "1", ">= 0", "unit (channel index) in layer B"),
        Column("r_natural", "float", "1", _R, "held-out Pearson r of the two units' responses"),
        Column("verdict_response", "string", "1", "same_feature | correlated_only | family_only", "verdict of correspondence"),
        Column(
            "sources", "string", "1", "match | angle",
            "match: by sources matched one to one between the networks, less the mean over sources; angle: by family and relative angle of the sources, in the "
            "detector's own frame",
        ),
        Column(
            "fidelity", "float", "1", _R,
            "correlation of a unit's linear weights with the mean of its gradients at natural images, over sources and squares (of mean gradients as weights: of those at one half of the "
            "images with those at the other, stepped up to all): of the unit where it is lower; below 0.5 the weights do not describe the circuit; NaN where one is silent at all of them",
        ),
        Column(
            "share_within", "float", "1", "0 to 1",
            "share of the squared weights (from all sources, in their deviations) that lies in the nine squares which are compared: of the unit where it is less; what lies beyond them is "
            "not compared",
        ),
        Column("n_sources", "int", "1", ">= 0", "sources that count: matched ones, or detectors in the network that has fewer"),
        Column("s_w", "float", "1", _R, "correlation of the two units' incoming weights"),
        Column("s_w_low", "float", "1", _R, "lower end of its 95 % interval, over sources (bootstrap about s_w): of what s_w is on average over as many sources"),
        Column("s_w_high", "float", "1", _R, "upper end of its 95 % interval"),
        Column("s_w_permuted", "float", "1", _R, "mean with the second network's sources exchanged (within their family)"),
        Column("s_w_permuted_95", "float", "1", _R, "95 % quantile of that"),
        Column("s_w_detectable", "float", "1", "-1 to 2", "smallest true s_w that exceeds that quantile in 80 % of cases, if it varies as with exchanged sources"),
        Column("power", "float", "1", "0 to 1", "chance that the pair would be same_circuit if its true s_w were the ceiling, its nulls as they are; NaN without a ceiling"),
        Column("s_w_haar", "float", "1", _R, "with the direction of a random basis of standardised units that answers most alike (mean over 20 bases; the larger side)"),
        Column("s_w_haar_95", "float", "1", _R, "95 % quantile over the bases (the larger side)"),
        Column("s_w_untrained", "float", "1", _R, "with the unit of an untrained twin that answers most alike (mean over seeds; the larger side); NaN where no twin has sources enough that are matched"),
        Column(
            "s_w_unmatched", "float", "1", _R,
            "match: mean of pairs of units that are no match and answer as alike (r within 0.05); angle: of both units with the family's other detectors",
        ),
        Column("n_unmatched", "int", "1", ">= 0", "pairs that this is the mean of"),
        Column("s_w_readout", "float", "1", _R, "with the ridge weights that read the partner's response from its sources (the larger side)"),
        Column(
            "s_w_ceiling", "float", "1", _R,
            "match: a unit with its own circuit carried over to the other network's sources, mean of both; angle: detectors of the family with one another within a "
            "network, geometric mean of both networks",
        ),
        Column("p", "float", "1", "0 to 1", "share of exchanges of sources with an s_w as large"),
        Column("q", "float", "1", "0 to 1", "Benjamini-Hochberg within a pair of networks, family, back and sources"),
        Column("verdict", "string", "1", "same_circuit | same_response_other_circuit | undecided", "see universality.circuits.pairs.judged"),
    ),
)  # fmt: skip
_OF_TWINS = [*pair_columns(), Column("seed", "int", "1", ">= 0", "seed of both untrained twins")]
CIRCUITS_UNTRAINED = Table(
    "circuits_untrained",
    "the same of units of two untrained twins, compared as if they were networks of their own: how often the rule calls what was never trained the same circuit",
    (
        *_OF_TWINS,
        *(
            column for column in CIRCUITS.columns
            if column.name not in {*(of.name for of in _OF_TWINS), "verdict_response", "verdict", "fidelity", "s_w_untrained", "method", "power"}
        ),
        Column("same_circuit", "bool", "1", "true | false", "whether the rule of the verdict same_circuit holds, less its untrained null"),
    ),
)  # fmt: skip
MEASURED = [name for name in CIRCUITS.names if name not in ("q", "verdict", "power")]

_PROFILE = (
    Column("source_family", "string", "1", "name in FAMILIES", "family of the sources"),
    Column("target_family", "string", "1", "name in FAMILIES", "family of the targets"),
)
PROFILES = Table(
    "profiles",
    "how the detectors of one layer are wired to those of the tap before, at one difference of preferred angles, in one trained network",
    (
        Column("model", "string", "1", "card id", "network"),
        Column("source_tap", "string", "1", "tap name", "the earlier layer"),
        Column("target_tap", "string", "1", "tap name", "the later layer"),
        *_PROFILE,
        Column("difference_deg", "float", "degrees", "0 to the period", "preferred angle of the source less that of the target, middle of the bin"),
        Column(
            "share_within", "float", "1", "0 to 1",
            "share of the squared weights (from all sources, in their deviations) that lies in the nine squares which are compared: of the unit where it is less; what lies beyond them is "
            "not compared",
        ),
        Column("n_sources", "int", "1", ">= 1", "detectors among the sources"),
        Column("n_targets", "int", "1", ">= 1", "targets that have a source of this difference"),
        Column("weight", "float", "size of the target's weights", "any", "mean over targets of their mean weight, summed over space"),
        Column("weight_low", "float", "size of the target's weights", "any", "lower end of its 95 % interval, over targets; NaN of one"),
        Column("weight_high", "float", "size of the target's weights", "any", "upper end"),
        Column("permuted_low", "float", "size of the target's weights", "any", "2.5 % quantile with the sources' angles exchanged"),
        Column("permuted_high", "float", "size of the target's weights", "any", "97.5 % quantile"),
        Column("haar_low", "float", "size of the target's weights", "any", "2.5 % quantile of the mean over as many random directions of the layer, each with a target's angle (normal)"),
        Column("haar_high", "float", "size of the target's weights", "any", "97.5 % quantile of it"),
        Column("untrained", "float", "size of the target's weights", "any", "mean over untrained twins with the trained labels"),
        Column("untrained_low", "float", "size of the target's weights", "any", "lower end of its 95 % interval, over targets of all twins"),
        Column("untrained_high", "float", "size of the target's weights", "any", "upper end"),
    ),
)  # fmt: skip
PROFILE_PAIRS = Table(
    "profile_pairs",
    "how alike the profiles of one family of targets are in two networks: over all families of sources and differences of angles",
    (
        *pair_columns(),
        Column("source_a", "string", "1", "tap name", "the earlier layer of the first network"),
        Column("source_b", "string", "1", "tap name", "the earlier layer of the second network"),
        Column("target_family", "string", "1", "name in FAMILIES", "family of the targets"),
        Column("n_values", "int", "1", ">= 6", "differences of angles and families of sources that both have"),
        Column("r", "float", "1", _R, "correlation of the profiles"),
        Column("r_permuted", "float", "1", _R, "mean with the differences of angles of the second network exchanged, within each family of sources"),
        Column("r_permuted_95", "float", "1", _R, "95 % quantile of that"),
        Column("r_untrained", "float", "1", _R, "of the untrained twins' profiles with the trained labels"),
        Column("p", "float", "1", "0 to 1", "share of exchanges with an r as large"),
    ),
)  # fmt: skip
CIRCUIT_TABLES: dict[str, Table] = {
    table.name: table for table in (CIRCUITS, CIRCUITS_UNTRAINED, PROFILES, PROFILE_PAIRS)
}
