"""The tables of motifs: where sources lie in a field, equivariance, unions over cases, superposition, branches, and the strongest sources of each detector."""

from __future__ import annotations

from universality.base.schema import Column, Table

_RMS = "rms of the target's weights"
_P = "0 to 1"
_WHERE = (
    Column("model", "string", "1", "card id", "network, trained"),
    Column("source_tap", "string", "1", "tap name", "the earlier layer"),
    Column("target_tap", "string", "1", "tap name", "the later layer"),
)
_TARGET = Column("target_family", "string", "1", "name in FAMILIES", "family of the targets")
_SOURCE = Column("source_family", "string", "1", "name in FAMILIES", "family of the sources")
LAYOUTS = Table(
    "layouts",
    "where in a field the detectors of one family excite or inhibit one detector, or the detectors of one family in the mean",
    (
        *_WHERE,
        _TARGET,
        _SOURCE,
        Column("unit", "int", "1", ">= -1", "the target; -1 for the mean over the family's detectors"),
        Column("frame", "string", "1", "image | own", "image: x to the right, y down; own: x along each target's preferred direction"),
        Column("difference_deg", "float", "degrees", "0 to the period", "preferred angle of the sources less that of the target, middle of the bin; NaN: all of them"),
        Column("n_sources", "int", "1", ">= 1", "detectors among the sources that count"),
        Column("n_targets", "int", "1", ">= 1", "targets that have one"),
        Column("square_px", "float", "px", "> 0", "side of a square of the map"),
        Column("weight", "float", _RMS, "any", "mean weight, summed over space: above 0 where they excite"),
        Column("weight_null_low", "float", _RMS, "any", "2.5 % quantile of it with labels exchanged: as many sources of the layer, scaled to equal norm"),
        Column("weight_null_high", "float", _RMS, "any", "97.5 % quantile of it"),
        Column("p_weight", "float", "1", _P, "share of exchanges that lie as far from their mean"),
        Column("q_weight", "float", "1", _P, "Benjamini-Hochberg of it within a network, a frame and families or units"),
        Column("side_deg", "float", "degrees", "0 to 360", "where excitation lies, clockwise from +x of the frame; NaN where a frame is known up to half a turn"),
        Column("side_px", "float", "px", ">= 0", "how far from the middle: sum of weight times offset / sum of |weight|"),
        Column("asymmetry", "float", "1", "0 to 1", "share of the map's sum of squares that changes sign when it is turned by half a turn"),
        Column("asymmetry_null", "float", "1", "0 to 1", "mean of it with labels exchanged"),
        Column("asymmetry_null_95", "float", "1", "0 to 1", "95 % quantile of that"),
        Column("p_asymmetry", "float", "1", _P, "share of exchanges with an asymmetry as large"),
        Column("q_asymmetry", "float", "1", _P, "Benjamini-Hochberg of it, as for the weight"),
        Column("map", "floats", _RMS, "any", "mean weight in 5 x 5 squares around the middle of the field, row by row from above"),
        Column("map_null_low", "floats", _RMS, "any", "2.5 % quantile of each square with labels exchanged"),
        Column("map_null_high", "floats", _RMS, "any", "97.5 % quantile of each"),
    ),
)  # fmt: skip


def _share(name: str, of: str) -> tuple[Column, ...]:
    return (
        Column(
            name, "float", "1", "0 to 1", f"share of the variance that the mean by difference of angles holds: of {of}"
        ),
        Column(f"{name}_permuted", "float", "1", "0 to 1", "mean of it with the sources' angles exchanged"),
        Column(f"{name}_permuted_95", "float", "1", "0 to 1", "95 % quantile of that"),
        Column(f"p_{name}", "float", "1", _P, "share of exchanges with one as large"),
        Column(f"{name}_untrained", "float", "1", "0 to 1", "mean over untrained twins with the trained labels"),
    )


EQUIVARIANCE = Table(
    "equivariance",
    "how far the weights from one family of detectors into another depend on the difference of their angles alone",
    (
        *_WHERE,
        _TARGET,
        _SOURCE,
        Column("n_targets", "int", "1", ">= 4", "detectors among the targets"),
        Column("n_sources", "int", "1", ">= 4", "detectors among the sources"),
        Column("n_cells", "int", "1", "1 to 64", "pairs of bins of 45 degrees (22.5 of an axis) that have both"),
        *_share("share", "weights summed over space"),
        *_share("share_placed", "weights in squares of the target's own frame"),
        Column("q", "float", "1", _P, "Benjamini-Hochberg of p_share within a network"),
        Column("matrix", "floats", _RMS, "any", "mean weight summed over space, by the target's bin (row) and the source's: 8 x 8; NaN where there is none"),
    ),
)  # fmt: skip
CASES = Table(
    "cases",
    "one case of one detector: a cluster of its gradients at the natural images that it answers most to",
    (
        Column("model", "string", "1", "card id", "network, trained"),
        Column("source_tap", "string", "1", "tap name", "the layer that gradients are taken by"),
        Column("between_tap", "string", "1", "tap name", "the tap between; empty where there is none"),
        Column("target_tap", "string", "1", "tap name", "the detector's layer"),
        Column("family", "string", "1", "name in FAMILIES", "family of the detector"),
        Column("unit", "int", "1", ">= 0", "the detector"),
        Column("n_shown", "int", "images", ">= 0", "images with a gradient at the middle of the map"),
        Column("n_silent", "int", "images", ">= 0", "images without one, left out"),
        Column("n_cases", "int", "1", "0 to 4", "cases found; 0 where there are fewer than 20 images"),
        Column("cluster_index", "float", "1", "0 to 1", "sum of squares within two clusters / in all; NaN where the gradient is the same at every image"),
        Column("cluster_index_null", "float", "1", "0 to 1", "mean of it in one Gaussian of the same covariance"),
        Column("cluster_index_null_5", "float", "1", "0 to 1", "5 % quantile of that"),
        Column("p", "float", "1", _P, "share of draws of the Gaussian with an index as small"),
        Column("q", "float", "1", _P, "Benjamini-Hochberg over the detectors of a network"),
        Column("exclusion", "float", "1", "-1 to 1", "of the two largest cases: above 0 where each is inhibited by what excites the other; the smaller of both ways"),
        Column("exclusion_null", "float", "1", "-1 to 1", "mean of it with the sources of one exchanged"),
        Column("exclusion_null_95", "float", "1", "-1 to 1", "95 % quantile of that"),
        Column("p_exclusion", "float", "1", _P, "share of exchanges with one as large"),
        Column("meeting", "float", "sigma", ">= 0", "how much more units of the tap between that excite the detector answer in one case than in the other; the smaller of both"),
        Column("meeting_null", "float", "sigma", ">= 0", "mean of it with images exchanged between the cases"),
        Column("meeting_null_95", "float", "sigma", ">= 0", "95 % quantile of that"),
        Column("p_meeting", "float", "1", _P, "share of exchanges with one as large"),
        Column("verdict", "string", "1", "too_few_images | one_case | cases | excluding_cases | excluding_cases_that_meet", "see universality.circuits.cases.judged"),
        Column("case", "int", "1", ">= 0", "this case: 0 is the largest"),
        Column("n_images", "int", "images", ">= 0", "images of this case"),
        Column("images", "floats", "1", ">= 0", "which natural images these are (row of the stimulus set natural, from 0), the largest answer first"),
        Column("answers_sigma", "floats", "sigma", "any", "what the detector answers to each of these at the middle of its map, standard deviations over the natural images"),
        Column("sources", "floats", "1", ">= 0", "its strongest sources, unit numbers"),
        Column("source_weights", "floats", "of a gradient of length one", "-1 to 1", "mean gradient by each of these, summed over space: below 0 it inhibits"),
    ),
)  # fmt: skip
SUPERPOSITION = Table(
    "superposition",
    "on how many units of the next tap the outgoing weights of one family's detectors fall",
    (
        *_WHERE,
        _SOURCE,
        Column("n_detectors", "int", "1", ">= 4", "detectors of the family in the earlier layer"),
        Column("n_units", "int", "1", ">= 1", "units of the later layer"),
        Column("ratio", "float", "1", "1 / n_units to 1", "participation ratio of a detector's outgoing weights, mean: 1 where all units read it alike"),
        Column("ratio_random", "float", "1", "1 / n_units to 1", "mean of as many units drawn from the layer (the ratio does not depend on their norm)"),
        Column("ratio_random_low", "float", "1", "1 / n_units to 1", "2.5 % quantile of that"),
        Column("ratio_random_high", "float", "1", "1 / n_units to 1", "97.5 % quantile of it"),
        Column("ratio_untrained", "float", "1", "1 / n_units to 1", "the same units of untrained twins, mean"),
        Column("p", "float", "1", _P, "share of draws that lie as far from their mean"),
        Column("q", "float", "1", _P, "Benjamini-Hochberg within a network"),
    ),
)  # fmt: skip
BRANCHES = Table(
    "branches",
    "one family of detectors in one branch of a layer whose branches are joined along the channels",
    (
        Column("model", "string", "1", "card id", "network, trained"),
        Column("tap", "string", "1", "tap name", "layer"),
        Column("family", "string", "1", "name in FAMILIES", "family of detectors"),
        Column("branch", "string", "1", "module path", "the module, within the tap's own, that gives these channels"),
        Column("first_unit", "int", "1", ">= 0", "its first unit (channel index)"),
        Column("n_units", "int", "1", ">= 0", "its units that vary over natural images"),
        Column("n_detectors", "int", "1", ">= 0", "detectors among them"),
        Column("n_family", "int", "1", ">= 1", "detectors in the whole layer"),
        Column("share", "float", "1", "0 to 1", "n_detectors / n_family"),
        Column("share_expected", "float", "1", "0 to 1", "the branch's share of the layer's units: what chance gives"),
        Column("p", "float", "1", _P, "hypergeometric chance of as many detectors or more"),
        Column("q", "float", "1", _P, "Benjamini-Hochberg within a network"),
    ),
)  # fmt: skip
EDGES = Table(
    "edges",
    "one source of one detector, of those of the tap before that excite or inhibit it most, or are detectors themselves",
    (
        *_WHERE,
        Column("unit", "int", "1", ">= 0", "the detector"),
        Column("source_unit", "int", "1", ">= 0", "the source"),
        Column("source_family", "string", "1", "name in FAMILIES", "family that the source is a detector of; empty for none"),
        Column("source_deg", "float", "degrees", "0 to the period", "its preferred angle; NaN where it is of no family"),
        Column("rank", "int", "1", ">= 1", "place among the detector's sources by |weight|, from the largest"),
        Column("weight", "float", _RMS, "any", "from a standard deviation of the source, summed over space"),
        Column("untrained_95", "float", _RMS, ">= 0", "95 % quantile of |weight| over all sources of the same unit of untrained twins; NaN without any"),
        Column("square_px", "float", "px", "> 0", "side of a square of the map"),
        Column("map", "floats", _RMS, "any", "weight in 5 x 5 squares around the middle of the field, row by row from above"),
    ),
)  # fmt: skip
UNITS_MOTIFS = Table(
    "units_motifs",
    "one unit of one trained layer and one family, with its cases and how many units of the next tap read it; `Run.units` has these columns, too",
    (
        Column("model", "string", "1", "card id", "network"),
        Column("seed", "int", "1", "-1", "-1: the trained network"),
        Column("tap", "string", "1", "tap name", "layer"),
        Column("family", "string", "1", "name in FAMILIES", "family of detectors"),
        Column("unit", "int", "1", ">= 0", "unit (channel index)"),
        Column("n_cases", "float", "1", "0 to 4", "cases that its gradients fall into, as in `cases`; 0 where too few images have a gradient; NaN where it was not asked: no detector of the family, not one of the eight that are, or no earlier tap"),
        Column("case_index", "float", "1", "0 to 1", "cluster index of two cases: sum of squares within / in all"),
        Column("case_index_null", "float", "1", "0 to 1", "mean of it in one Gaussian of the same covariance"),
        Column("case_index_null_5", "float", "1", "0 to 1", "5 % quantile of that"),
        Column("p_cases", "float", "1", _P, "share of draws of the Gaussian with an index as small"),
        Column("q_cases", "float", "1", _P, "Benjamini-Hochberg over the detectors of a network"),
        Column("n_case_images", "float", "images", ">= 0", "images with a gradient, which the cases are of"),
        Column("participation_ratio", "float", "1", "1 / units of the next tap to 1", "of its outgoing weights, as in `superposition`: 1 where all units of the next tap read it alike; NaN where no later tap was asked, or nothing reads it"),
        Column("participation_ratio_random", "float", "1", "0 to 1", "mean over the other units of its layer"),
    ),
)  # fmt: skip
MOTIF_TABLES: dict[str, Table] = {
    table.name: table for table in (LAYOUTS, EQUIVARIANCE, CASES, SUPERPOSITION, BRANCHES, EDGES, UNITS_MOTIFS)
}
LATER = {
    "layouts": ("q_weight", "q_asymmetry"), "equivariance": ("q",), "cases": ("q", "verdict"), "superposition": ("q",), "branches": ("q",), "edges": (), "units_motifs": ("q_cases",),
}  # fmt: skip
"""By table, the columns that follow from all rows of a network together."""
