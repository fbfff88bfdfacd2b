"""The tables of interventions: units removed, exchanged between images, and replaced by matched units of other networks."""

from __future__ import annotations

from universality.base.schema import Column, Table, pair_columns

_BASE = Column(
    "base", "string", "1", "resample | mean | zero", "what stands for a removed unit: its map at another image, its mean over images and positions, or zero"
)  # fmt: skip
_LABELS = Column(
    "labels", "string", "1", "shape | texture | own", "what the loss and the accuracy are measured against: the network's task, or its own intact answers"
)  # fmt: skip
_PLACE = (
    Column("model", "string", "1", "card id", "network"),
    Column("tap", "string", "1", "tap name", "layer that is edited"),
    Column("depth", "float", "1", "0 to 1", "relative depth of the layer"),
)
_WHAT = (
    Column("what", "string", "1", "unit | family", "whether a row is about one unit, or about all detectors of a family together"),
    Column("family", "string", "1", "name in FAMILIES", "family of the unit or of the set; empty for a unit of none"),
    Column("unit", "int", "1", ">= -1", "unit (channel index); -1 for a family"),
    Column("n_units", "int", "units", ">= 1", "units that were removed together"),
)  # fmt: skip


def _beside(name: str, unit: str, range_: str, meaning: str) -> tuple[Column, ...]:
    """Return the columns of one effect: its value, its interval, and what random units do."""
    return (
        Column(name, "float", unit, range_, meaning),
        Column(f"{name}_low", "float", unit, range_, f"lower end of the 95 % interval of {name}, over images (bootstrap)"),
        Column(f"{name}_high", "float", unit, range_, f"upper end of the 95 % interval of {name}"),
        Column(f"{name}_random", "float", unit, range_, f"mean of {name} over random sets of as many units of equal activity"),
        Column(f"{name}_random_95", "float", unit, range_, "95 % quantile over these sets, of the harmful side"),
        Column(f"{name}_norm", "float", unit, range_, "mean over random sets whose edit has equal norm: for families the same sets with the edit scaled"),
    )  # fmt: skip


_OWN = Column(
    "n_random_own", "float", "units", ">= 0",
    "units of the family in a random set, mean over these: 0, unless the family is more than half of the layer and the sets are of all its units",
)  # fmt: skip
ABLATIONS = Table(
    "ablations",
    "one unit, or all detectors of one family, removed from one layer of one trained network in one way",
    (
        *_PLACE,
        *_WHAT,
        _BASE,
        _LABELS,
        Column("n_images", "int", "images", ">= 1", "images that were shown"),
        Column("edit_norm", "float", "1", ">= 0", "root mean square of the change of the layer, in units of the layer's own root mean square"),
        Column("n_random", "int", "sets", ">= 0", "random sets behind the columns _random; of a unit: other single units of like activity"),
        _OWN,
        *_beside("d_loss", "nats", "any", "rise of the cross-entropy"),
        *_beside("kl", "nats", ">= 0", "Kullback-Leibler divergence of the edited output from the intact one"),
        *_beside("d_accuracy", "1", "-1 to 1", "change of the accuracy (negative: lost)"),
        Column("accuracy", "float", "1", "0 to 1", "accuracy of the intact network"),
        Column("class_hit", "string", "1", "class", "class that loses most accuracy; empty where none loses any"),
        Column("d_accuracy_class", "float", "1", "-1 to 1", "change of accuracy within that class; 0 where there is none"),
        Column("d_accuracy_class_random", "float", "1", "-1 to 1", "the same of the class hit most, mean over the random sets: what the choice of a class alone gives"),
        Column("next_tap", "string", "1", "tap name", "next tap of the network's card, if the edit can be seen there; empty otherwise"),
        Column("next_change", "float", "1", ">= 0", "mean squared change of the next layer's units over their variance, over images and positions"),
        Column("next_change_random", "float", "1", ">= 0", "the same of the random sets (mean)"),
        Column("next_unit", "int", "1", ">= -1", "unit of the next layer that changes most; -1 where there is no such layer"),
    ),
)  # fmt: skip
ABLATION_CLASSES = Table(
    "ablation_classes",
    "the accuracy within one class, with one unit or family removed",
    (
        *_PLACE,
        *_WHAT,
        _BASE,
        _LABELS,
        Column("class", "string", "1", "class", "true class of the images"),
        Column("n_images", "int", "images", ">= 1", "images of the class"),
        Column("accuracy", "float", "1", "0 to 1", "of the intact network"),
        Column("d_accuracy", "float", "1", "-1 to 1", "change of it"),
        Column("d_accuracy_random", "float", "1", "-1 to 1", "change with random sets of as many units of equal activity (mean)"),
        Column("d_accuracy_random_low", "float", "1", "-1 to 1", "5 % quantile over these sets"),
    ),
)  # fmt: skip
ATTRIBUTIONS = Table(
    "attributions",
    "the effect of one unit in a linear regression of the output on which units are removed, over random ablations of one layer",
    (
        *_PLACE,
        Column("unit", "int", "1", ">= 0", "unit (channel index)"),
        _BASE,
        _LABELS,
        Column("n_ablations", "int", "ablations", ">= 1", "random ablations that the regression was fitted on"),
        Column("share_removed", "float", "1", "0 to 1", "chance of a unit to be removed in each of them"),
        Column("effect", "float", "nats", "any", "rise of the loss that removing the unit adds, among other removed units (ridge regression); NaN of a unit that none removed"),
        Column("effect_single", "float", "nats", "any", "rise of the loss with this unit alone removed"),
        Column("r_held_out", "float", "1", "-1 to 1", "of the layer: correlation of predicted and true loss over ablations that were not fitted"),
        Column("r_held_out_shuffled", "float", "1", "-1 to 1", "the same of a regression on exchanged losses (95 % quantile)"),
        Column("r_single", "float", "1", "-1 to 1", "of the layer: correlation of effect with effect_single over units"),
    ),
)  # fmt: skip
PATCHES = Table(
    "patches",
    "units of one layer set, while a corrupted image is shown, to what they answer to the clean one; mean over pairs of images",
    (
        *_PLACE,
        Column("parameter", "string", "1", "shape | texture | defocus", "what differs between the two images of a pair, all else equal: another figure; the figure's texture, where it alone tells the figure; the background's defocus, where it alone does"),
        Column("what", "string", "1", "layer | family | unit", "what was set: all units, the detectors of a family, or one unit"),
        Column("family", "string", "1", "name in FAMILIES", "family of the unit or of the set; empty for none"),
        Column("unit", "int", "1", ">= -1", "unit (channel index); -1 for a set"),
        Column("n_units", "int", "units", ">= 1", "units that were set together"),
        _LABELS,
        Column("n_tried", "int", "pairs", ">= 1", "pairs that were made"),
        Column("n_pairs", "int", "pairs", ">= 0", "pairs whose clean image is answered right and whose corrupted image is answered otherwise"),
        Column("restored", "float", "1", "any", "rise of the log odds of the clean against the corrupted answer, of their difference between the images; 1: restored"),
        Column("restored_low", "float", "1", "any", "lower end of its 95 % interval, over pairs (bootstrap)"),
        Column("restored_high", "float", "1", "any", "upper end"),
        Column("answered", "float", "1", "0 to 1", "share of the pairs whose answer becomes the clean one"),
        Column("restored_other", "float", "1", "any", "the same from the clean image of another pair"),
        Column("restored_random", "float", "1", "any", "the same of random sets of as many units of equal activity (mean); of a unit: of other single units"),
        Column("restored_random_95", "float", "1", "any", "95 % quantile over these sets"),
        _OWN,
        Column("rank", "int", "1", ">= 0", "rank of a unit in its layer by restored, 1 the largest; 0 for sets"),
    ),
)  # fmt: skip

_R = "at most 1"
TRANSPLANTS = Table(
    "transplants",
    "units of one network replaced by the units of another that they match, each by two fitted scalars; by one base and one measure",
    (
        *pair_columns(),
        Column("into", "string", "1", "a | b", "network whose units are replaced: by those of the other"),
        Column("what", "string", "1", "unit | family | layer", "one matched pair, all matched detectors of a family, or all matched units of the layers"),
        Column("family", "string", "1", "name in FAMILIES", "family of the replaced unit or set; empty for a unit of none, and for a layer"),
        Column("unit_a", "int", "1", ">= -1", "unit in layer A; -1 for a set"),
        Column("unit_b", "int", "1", ">= -1", "unit in layer B; -1 for a set"),
        Column("n_units", "int", "units", ">= 1", "units that were replaced together"),
        Column("r", "float", "1", "-1 to 1", "correlation of the two units' maps, over positions of the images that R is measured on; of a set: mean"),
        Column("base", "string", "1", "resample | mean", "what recovery 0 is: the units at another image, or their means"),
        Column("measure", "string", "1", "kl | loss | next", "of the output: divergence from the intact one, or cross-entropy; or squared change of the next layer's units"),
        Column("n_images", "int", "images", ">= 1", "images that R is measured on; the scalars were fitted on as many others"),
        Column("ablated", "float", "nats", "any", "the measure with the units removed, less the intact one"),
        Column("ablated_low", "float", "nats", "any", "lower end of its 95 % interval: at 0 or below there is nothing to recover"),
        Column("recovery", "float", "1", _R, "R = (ablated - transplanted) / (ablated - intact)"),
        Column("recovery_low", "float", "1", _R, "lower end of its 95 % interval, over images (bootstrap)"),
        Column("recovery_high", "float", "1", _R, "upper end"),
        Column("recovery_unmatched", "float", "1", _R, "by the best other unit of the other network's layer"),
        Column("recovery_direction", "float", "1", _R, "by random directions of that layer (mean of several)"),
        Column("recovery_haar", "float", "1", _R, "by the best direction of a random basis of it (mean of several)"),
        Column("recovery_untrained", "float", "1", _R, "by the best unit of the other network's untrained twin (mean over seeds)"),
        Column("recovery_shuffled", "float", "1", _R, "by the matched unit at other images"),
        Column("recovery_seed", "float", "1", _R, "ceiling: by the matched unit of a network of the same architecture and another seed; NaN where the job has none"),
        Column("recovery_copy", "float", "1", _R, "ceiling: by the same unit of a noisy copy of the network itself; NaN where the job has none"),
        Column("detectable", "float", "1", _R, "smallest true R that lies above every null in 80 % of cases"),
        Column("verdict", "string", "1", "same_role | other_role | undecided", "see universality.causes.transplants.judged"),
    ),
)  # fmt: skip
CIRCUIT_AND_ROLE = Table(
    "circuit_and_role",
    "whether matched units with alike weights have the same role, beyond how alike they answer: recovery R regressed on s_w and r, networks as random effects",
    (
        Column("sources", "string", "1", "match | angle | response", "what explains R beside r: s_w by either way of setting sources side by side; or r itself, alone"),
        Column("back", "int", "1", "0 | 1 | 2", "taps back of s_w; 0 for r itself"),
        Column("family", "string", "1", "name in FAMILIES", "family; empty for all"),
        Column("base", "string", "1", "resample | mean", "base of R"),
        Column("measure", "string", "1", "kl | loss | next", "measure of R"),
        Column("n_pairs", "int", "pairs", ">= 0", "matched pairs of units, each replaced in both directions"),
        Column("n_models", "int", "networks", ">= 2", "networks that they lie in"),
        Column("slope", "float", "1", "any", "rise of R, in standard deviations, for one of s_w at equal r"),
        Column("slope_low", "float", "1", "any", "lower end of its 95 % interval (REML; Student's t of as many degrees as networks less one)"),
        Column("slope_high", "float", "1", "any", "upper end"),
        Column("partial_r", "float", "1", "-1 to 1", "partial correlation of R and s_w given r, within pairs of networks"),
        Column("partial_r_permuted_95", "float", "1", "0 to 1", "95 % quantile of its size with s_w exchanged within each pair of networks"),
        Column("partial_r_detectable", "float", "1", "0 to 1", "smallest partial correlation that exchanged ones fall short of in 80 % of cases"),
        Column("p", "float", "1", "0 to 1", "of the slope (two-sided)"),
        Column("q", "float", "1", "0 to 1", "Benjamini-Hochberg over all rows"),
        Column("reason", "string", "1", "text", "why there is no slope; empty otherwise"),
    ),
)  # fmt: skip
CAUSE_TABLES: dict[str, Table] = {
    table.name: table for table in (ABLATIONS, ABLATION_CLASSES, ATTRIBUTIONS, PATCHES, TRANSPLANTS, CIRCUIT_AND_ROLE)
}
