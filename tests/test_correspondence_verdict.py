"""The verdict: its rule, its evidence against brute force and simulated truth, and that all who ask get the same one."""

import dataclasses

import numpy as np
import pytest
import zoos
from scipy import stats
from undrawn import undrawn

import universality
from universality.activations.bases import haar
from universality.activations.layer import load_layer
from universality.atlas import index
from universality.atlas.cells import atlas, cliques, same_feature_graph
from universality.base import arrays
from universality.correspondence import random_bases, resampling, verdict
from universality.correspondence.census import count_links, joined
from universality.jobs.trace import trace
from universality.runs.layers import references

SAME = "same_feature"


def found(**changes):
    base = {
        "detector_a": True, "detector_b": True, "near_a": True, "near_b": True, "rank_ab": 1, "rank_ba": 1, "excess_low": 0.1, "excess_z": 3.0,
        "apart_deg": 5.0,
    } | changes  # fmt: skip
    return verdict.Evidence(**{name: np.array([value]) for name, value in base.items()})


@pytest.mark.parametrize(
    ("changes", "said", "lacks"),
    [
        ({}, SAME, ""),
        ({"apart_deg": -20.0}, SAME, ""),
        ({"rank_ab": 3, "rank_ba": 3}, SAME, ""),
        ({"apart_deg": 20.1}, "correlated_only", "same tuning"),
        ({"apart_deg": np.nan}, "correlated_only", "same tuning"),
        ({"rank_ab": 4}, "correlated_only", "among each other's best 3"),
        ({"rank_ba": 4}, "correlated_only", "among each other's best 3"),
        ({"detector_a": False}, SAME, ""),
        ({"detector_b": False}, SAME, ""),
        ({"detector_a": False, "detector_b": False}, "correlated_only", "both of the family"),
        ({"detector_b": False, "near_b": False}, "correlated_only", "both of the family"),
        ({"excess_low": 0.0}, "family_only", "above random bases"),
        ({"excess_low": np.nan}, "family_only", "above random bases"),
        ({"excess_z": 2.3}, "family_only", "above random bases"),
        ({"excess_z": np.nan}, "family_only", "above random bases"),
        (
            {"excess_low": -0.1, "detector_a": False, "near_a": False},
            "unmatched",
            "both of the family, above random bases",
        ),
    ],
)
def test_every_condition_of_a_verdict_counts(changes, said, lacks):
    judged = verdict.judge(found(**changes))
    assert (judged.verdict.tolist(), judged.lacks.tolist()) == ([said], [lacks])


def test_units_of_no_family_have_to_be_each_others_best():
    above = np.array([True, True, True, False])
    ranks = np.array([1, 2, 1, 1]), np.array([1, 1, 2, 1])
    assert verdict.same_unit(*ranks, above).tolist() == [True, False, False, False]


def shown_layer(model, values, photograph, fold):
    return dataclasses.replace(zoos.layer(model, values, photograph=photograph), fold=fold)


@pytest.fixture(scope="module")
def layers():
    """Two layers that share half of their units, whose scales differ a lot; photographs of one crop or of several."""
    rng = np.random.default_rng(0)
    photograph = np.r_[np.repeat(np.arange(24), 4), np.arange(24, 104)]
    common = np.maximum(rng.standard_normal((176, 8)) + 0.5 * rng.standard_normal((104, 8))[photograph], 0)
    return [
        shown_layer(
            name,
            (np.c_[common, rng.standard_normal(common.shape)] + 0.4 * rng.standard_normal((176, 16)))
            * rng.uniform(0.2, 5.0, 16),
            photograph,
            photograph % 2,
        )
        for name in "ab"
    ]


def judged_pairs(a, b, pairs, bases=20):
    photographs = resampling.Photographs.of(a.scored_photographs, a.places)
    x, y = a.halves(), b.halves()
    nulls = [
        random_bases.in_bases([(own, np.unique(units))], random_bases.RandomBases.of(other, bases, 0), photographs)[0]
        for own, units, other in ((x, pairs[:, 0], b), (y, pairs[:, 1], a))
    ]
    return verdict.scored(x, y, pairs, nulls, photographs)


def best_r(own, basis):
    """Held-out correlation of every unit of a layer with its best partner in a basis (row, direction)."""
    decide, score = (
        np.corrcoef(own.natural[own.fold == fold], basis[own.fold == fold], rowvar=False)[:16, 16:] for fold in (0, 1)
    )
    return score[np.arange(16), decide.argmax(axis=1)]


def test_excess_and_its_interval_from_loops(layers):
    """Bases of the layers themselves, photographs left out one by one, every correlation computed anew."""
    a, b = layers
    pairs = np.array([(0, 0), (9, 12), (5, 2)])
    got = judged_pairs(a, b, pairs)
    shown = a.scored_photographs
    strata = [np.arange(12), np.arange(12, 52)]
    for place, (i, j) in enumerate(pairs):
        sides = []
        for own, unit, other, partner in ((a, i, b, j), (b, j, a, i)):
            for scaled in (other, other.standardised()):
                once = [scaled.in_basis(haar(k, 0)).natural for k in range(random_bases.LEAST_BASES)]
                turned = [*once, *(-basis for basis in once)]
                decide, score = (own.natural[own.fold == fold][:, unit] for fold in (0, 1))
                best = [
                    int(np.argmax([np.corrcoef(decide, basis[own.fold == 0][:, k])[0, 1] for k in range(16)]))
                    for basis in turned
                ]
                found = [basis[own.fold == 1][:, k] for basis, k in zip(turned, best, strict=True)]
                true = other.natural[own.fold == 1][:, partner]

                def excess(rows, bases, score=score, found=found, true=true):
                    in_bases = [np.corrcoef(score[rows], one[rows])[0, 1] for one in found[:bases]]
                    return np.corrcoef(score[rows], true[rows])[0, 1] - np.mean(in_bases)

                images = 0.0
                for stratum in strata:
                    without = np.array([excess(shown != k, random_bases.PARTS_BASES) for k in stratum])
                    images += (len(stratum) - 1) / len(stratum) * ((without - without.mean()) ** 2).sum()
                variance = np.var([np.corrcoef(score, one)[0, 1] for one in found], ddof=1)
                # All 16 units of the layer say what is usual.
                usual = np.mean(
                    [np.var(one, ddof=1) for one in zip(*(best_r(own, basis) for basis in turned), strict=True)]
                )
                bases = len(turned)
                spread = np.sqrt(0.25 * variance + 0.75 * usual)
                middle = excess(np.ones(len(shown), dtype=bool), bases)
                half = np.sqrt((stats.t.ppf(0.975, 11) ** 2) * images + 1.959963984540054**2 * spread**2 / bases)
                error = np.sqrt(images + spread**2 / bases)
                needed = max(half, stats.norm.ppf(0.995) * spread)
                sides.append(
                    (middle, middle - half, middle + half, middle / spread, stats.norm.cdf((middle - needed) / error))
                )
        expected = np.min(sides, axis=0)
        values = (got.excess, got.low, got.high, got.z, got.power)
        assert [value[place] for value in values] == pytest.approx(expected, abs=1e-5)


def test_what_a_unit_finds_does_not_depend_on_what_else_is_asked(layers):
    a, b = layers
    photographs = resampling.Photographs.of(a.scored_photographs, a.places)
    bases, every = random_bases.RandomBases.of(b, 20, 0), np.arange(16)
    halves = [a.halves(), a.in_basis(haar(200, 1)).halves()]
    both = random_bases.in_bases([(of, every) for of in halves], bases, photographs)
    some = np.array([3, 11])
    for of, together in zip(halves, both, strict=True):
        (alone,) = random_bases.in_bases([(of, some)], bases, photographs)
        part = together.of(some)
        for name in ("units", "partner", "r", "parts", "usual"):
            np.testing.assert_allclose(getattr(part, name), getattr(alone, name), atol=1e-12, err_msg=name)


def test_pair_of_the_confirmable_correlation_has_the_stated_power(layers):
    got = judged_pairs(*layers, np.array([(i, i) for i in range(16)]))
    moved = dataclasses.replace(got, r=got.confirmable, side=got.side + got.confirmable - got.r)
    np.testing.assert_allclose(moved.power, verdict.POWER, atol=1e-9)


def test_evidence_does_not_depend_on_the_other_pairs_asked_about(layers):
    every = np.array([(i, j) for i in range(16) for j in range(16)])
    together = judged_pairs(*layers, every)
    for place in (0, 17, 200):
        alone = judged_pairs(*layers, every[[place]])
        for name in ("r", "excess", "low", "high", "z", "power"):
            assert getattr(alone, name)[0] == pytest.approx(getattr(together, name)[place], abs=1e-12)


def test_parts_of_photographs_are_the_bootstraps_error():
    """The jackknife's variance is that of real resamples, and to first order the parts give every resample."""
    rng = np.random.default_rng(3)
    photographs = np.repeat(np.arange(150), 4)
    x = rng.standard_normal((600, 1)) + 0.7 * rng.standard_normal((150, 1))[photographs]
    y = 0.5 * x + np.maximum(rng.standard_normal((600, 1)) + 0.7 * rng.standard_normal((150, 1))[photographs], 0)
    x, y = arrays.standardised(x), arrays.standardised(y)
    parts = resampling.correlation_parts(x, y, resampling.Photographs.of(photographs, 1))
    assert parts.sum() == pytest.approx(0.0, abs=1e-12)
    weights, _ = resampling.bootstrap_weights(photographs, 1, 3000, 0)
    exact = resampling.bootstrap_correlations(x, y, photographs, weights)[:, 0]
    assert np.sqrt((parts**2).sum()) == pytest.approx(exact.std(), rel=0.05)
    assert np.corrcoef((weights - 1) @ parts[:, 0], exact)[0, 1] > 0.98


def test_unit_that_varies_within_one_photograph_has_the_first_order_part_there():
    """A step of the derivative of the correlation by that photograph's weight, which the jackknife cannot take as a whole."""
    spiky = np.zeros((40, 1))
    spiky[0] = 1.0
    x = arrays.standardised(spiky)
    y = arrays.standardised(spiky + 0.3 * np.random.default_rng(0).standard_normal((40, 1)))
    shown = resampling.Photographs.of(np.arange(40), 1)
    parts = resampling.correlation_parts(x, y, shown)[:, 0]
    weights = np.ones((2, 40))
    weights[:, 0] += (-1e-5, 1e-5)
    down, up = resampling.bootstrap_correlations(x, y, np.arange(40), weights)[:, 0]
    others = parts[1:].mean()
    assert parts[0] - others == pytest.approx((up - down) / 2e-5 * np.sqrt(39 / 40), rel=0.1)
    assert np.isfinite(parts).all()
    copy = resampling.correlation_parts(x, x, shown)
    np.testing.assert_allclose(copy, 0.0, atol=1e-9)


def simulated(seed, images=480, units=24, noise=0.7):
    """Rectified mixtures of sources of unequal strength, and the same with noise: every unit has a true partner."""
    rng = np.random.default_rng([seed, 5])
    sources = rng.standard_normal((images, units)) * (1.0 + np.arange(units)) ** -0.5
    mixed = sources @ rng.standard_normal((units, units))
    clean = np.maximum(mixed - 0.3 * mixed.std(), 0.0)
    noisy = clean + noise * clean.std(axis=0) * rng.standard_normal(clean.shape)
    return [zoos.layer(name, values) for name, values in (("noisy", noisy), ("clean", clean))]


def best_pairs(a, b):
    x, y = a.halves(), b.halves()
    return np.stack([np.arange(x.live.size), (x.decide.T @ y.decide).argmax(axis=1)], axis=1)


def test_random_basis_is_rarely_above_others_and_true_partners_are():
    above, true = [], []
    for seed in range(12):
        noisy, clean = simulated(seed)
        # Its nulls are bases of the same layer, with it one more of them.
        for other, found in ((clean.in_basis(haar(77, 9)), above), (clean, true)):
            found.append(judged_pairs(noisy, other, best_pairs(noisy, other)).above)
    assert np.mean(above) <= 0.025
    assert np.mean(true) >= 0.95


def test_interval_holds_the_excess_of_the_population():
    """Units as decided, scored on fresh images again and again; the truth comes from the covariance of normal units."""
    rng = np.random.default_rng(2)
    units, scored, bases = 8, 120, 200
    mixing = [rng.standard_normal((units, units)) for _ in "ab"]
    mixing[1] = mixing[0] + 0.5 * mixing[1]
    across = mixing[0].T @ mixing[1]
    own = [weights.T @ weights + 0.64 * np.eye(units) for weights in mixing]

    def answers(images):
        sources = rng.standard_normal((images, units))
        return [sources @ weights + 0.8 * rng.standard_normal((images, units)) for weights in mixing]

    def layers_of(deciding, score):
        fold = np.repeat([0, 1], [len(deciding[0]), len(score[0])])
        return [
            shown_layer(name, np.concatenate(parts), np.arange(fold.size), fold)
            for name, *parts in zip("ab", deciding, score, strict=True)
        ]

    def level(side, unit, deciding, scaled):
        """Mean correlation in the population with the best partner in a basis, chosen on the images that decide."""
        scale = 1 / np.sqrt(np.diag(own[1 - side])) if scaled else np.ones(units)
        shared = (across if side == 0 else across.T)[unit] * scale
        covariance = own[1 - side] * np.outer(scale, scale)
        x, y = deciding[side][:, unit], deciding[1 - side] * scale
        found = []
        for basis in range(bases):
            turned = zoos.rotation(units, basis, 0)
            best = turned[:, np.argmax(np.corrcoef(x, y @ turned, rowvar=False)[0, 1:])]
            found.append(shared @ best / np.sqrt(own[side][unit, unit] * (best @ covariance @ best)))
        return np.mean(found)

    deciding = answers(200)
    pairs = best_pairs(*layers_of(deciding, answers(scored)))
    r = across[pairs[:, 0], pairs[:, 1]] / np.sqrt(np.diag(own[0])[pairs[:, 0]] * np.diag(own[1])[pairs[:, 1]])
    levels = [
        [level(side, unit, deciding, scaled) for unit in pairs[:, side]] for side in (0, 1) for scaled in (False, True)
    ]
    truth, held = r - np.array(levels), []
    for _ in range(60):
        got = judged_pairs(*layers_of(deciding, answers(scored)), pairs)
        held.append(np.abs(got.side - truth) <= got.half)
    assert 0.92 <= np.mean(held) <= 0.98


def test_job_never_has_fewer_bases_than_the_least():
    (layer,) = zoos.zoo(["a"], 4, 4)[0]
    assert random_bases.RandomBases.of(layer, 3, 0).count == random_bases.LEAST_BASES
    assert random_bases.RandomBases.of(layer, 130, 0).count == 130


def test_nothing_is_above_the_bases_of_a_layer_without_live_units():
    layer, dead = zoos.layer("a", zoos.latents(3, 0)), zoos.layer("b", np.ones((zoos.IMAGES, 3)))
    photographs = resampling.Photographs.of(layer.scored_photographs, 1)
    own = layer.halves()
    (none,) = random_bases.in_bases([(own, np.arange(3))], random_bases.RandomBases.of(dead, 20, 0), photographs)
    got = verdict.scored(own, own, np.array([(0, 0), (1, 1)]), (none, none), photographs)
    assert np.isnan(got.low).all()
    assert not got.above.any()


# Everyone who asks about a pair of units of a run gets the same verdict

JOB = """
name = "agreement"

[[models]]
id = "pocket/vgg-focus-s0"
taps = ["features.13"]

[[models]]
id = "pocket/vgg-focus-s1"
taps = ["features.13"]

[stimuli.natural]
crops = 0
shapes = 300

[stimuli.high_low]
orientations = 12
phases = 1

[extraction]
reduction = "center"

[comparison]
families = ["high_low_frequency"]
bootstraps = 100
permutations = 19

[nulls]
calibration_crops = 32

[stages]
without = ["natural", "examples", "circuits", "recovery", "motifs", "atlas"]
"""
FAMILY = "high_low_frequency"
PAIR = ["model_a", "tap_a", "unit_a", "model_b", "tap_b", "unit_b"]


@pytest.fixture(scope="module")
def run(once):
    def make(folder):
        (folder / "job.toml").write_text(JOB, encoding="utf-8")
        with undrawn():
            universality.run(folder / "job.toml", folder / "run", store=folder / "store", threads=1)

    folder = once("agreement", make)
    return universality.open_run(folder / "run")


@pytest.fixture(scope="module")
def counted(run):
    refs, compared, families = list(references(run)), run.job.compared(), run.job.comparison.families
    return joined(
        count_links(
            [load_layer(ref) for ref in refs if ref.seed == seed], compared, families, run.job.seed, bases=1, resamples=10,
            haar_rotations=run.job.nulls.haar_rotations,
        )
        for seed in (None, *run.job.nulls.untrained_seeds)
    )  # fmt: skip


@pytest.fixture(scope="module")
def table(run):
    """The rows of ``correspondence`` by pair; a pair that both methods chose is one pair, and says the same twice."""
    rows = run.correspondence
    pairs = rows.groupby(PAIR, sort=False)
    assert (pairs["verdict"].nunique() == 1).all()
    assert (pairs["excess_low"].nunique() == 1).all()
    firsts = pairs.first()
    assert (firsts["verdict"] == SAME).sum() >= 3
    assert firsts["verdict"].nunique() >= 3
    return firsts


@pytest.fixture(scope="module")
def edges(counted):
    found = counted.edges
    own = found[(found["seed"] == -1) & (found["basis_a"] == -1) & (found["basis_b"] == -1) & (found["rule"] == FAMILY)]
    return own.set_index(PAIR)


def test_census_and_correspondence_agree_pair_by_pair(table, edges):
    linked = edges["linked"].astype(bool)
    assert set(table.index[table["verdict"] == SAME]) <= set(edges.index[linked])
    both = table.join(
        edges[["linked", "r", "excess", "excess_low"]].rename(columns=lambda n: f"census_{n}"), how="inner"
    )
    assert len(both) >= 10
    assert ((both["verdict"] == SAME) == both["census_linked"]).all()
    for name, other in (("r_natural", "r"), ("excess", "excess"), ("excess_low", "excess_low")):
        np.testing.assert_allclose(both[name], both[f"census_{other}"].astype(float), atol=1e-7)
    # The census only leaves out pairs that lack more than an excess.
    rest = table[~table.index.isin(edges.index)]
    near = rest["delta_theta_deg"].abs() <= verdict.NEAR_DEG
    top = (rest["rank_ab"] <= verdict.TOP_K) & (rest["rank_ba"] <= verdict.TOP_K)
    assert not (rest["detector_a"] & rest["detector_b"] & near & top).any()


def test_index_counts_the_units_of_these_verdicts(counted, table, edges):
    rows = index.tally(counted).rows
    rows = rows[(rows["rule"] == FAMILY) & (rows["seed"] == -1)]
    # A near miss is the partner of detectors and none that is counted.
    detectors = set(rows[["model", "tap", "unit"]].itertuples(index=False, name=None))
    shared = set(rows.loc[rows["shared"], ["model", "tap", "unit", "partner"]].itertuples(index=False, name=None))
    linked = [key for key, yes in edges["linked"].items() if yes]
    both = {(*k[:3], k[3]) for k in linked} | {(*k[3:], k[0]) for k in linked}
    assert shared == {key for key in both if key[:3] in detectors}
    for key in table.index[table["verdict"] == SAME]:
        assert {(*key[:3], key[3]), (*key[3:], key[0])} <= both


def test_cliques_and_atlas_link_pairs_of_these_verdicts(run, counted, table, edges):
    graph = same_feature_graph(run.correspondence, FAMILY)
    same = {frozenset((key[:3], key[3:])) for key in table.index[table["verdict"] == SAME]}
    assert {frozenset(edge) for edge in graph.edges} == same
    cells = atlas(run)
    assert (cells["links"] > 0).any()
    linked = {frozenset((key[:3], key[3:])) for key, yes in edges["linked"].items() if yes}
    units = cliques(counted, least=2)
    units = units[units["family"] == FAMILY]
    assert units["clique"].nunique() >= 3
    for _, clique in units.groupby("clique"):
        nodes = list(clique[["model", "tap", "unit"]].itertuples(index=False, name=None))
        pairs = {frozenset((a, b)) for place, a in enumerate(nodes) for b in nodes[:place]}
        assert pairs <= linked
        assert all(table["verdict"].get((*a, *b), SAME) == SAME for a in nodes for b in nodes)


def test_tracing_says_what_correspondence_says(run, table):
    mutual = table[table["mutual"]].reset_index().sort_values("excess_low")
    chosen = mutual.iloc[[0, len(mutual) // 2, -2, -1]]
    assert chosen["verdict"].nunique() >= 2
    for row in chosen.to_dict("records"):
        for here, there in ("ab", "ba"):
            found = trace(run, *(row[f"{name}_{here}"] for name in ("model", "tap", "unit")))
            (partner,) = found[found["model"] == row[f"model_{there}"]].to_dict("records")
            assert partner["unit"] == row[f"unit_{there}"]
            assert partner["verdict"] == row["verdict"]
            assert (partner["lacks"] == "") == (row["verdict"] == SAME)
            for name in ("r_natural", "r_natural_low", "r_natural_haar", "r_natural_untrained", "excess_low", "p"):
                assert partner[name] == pytest.approx(row[name], abs=1e-7), name
