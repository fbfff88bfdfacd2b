"""The verdict: its rule, its evidence against brute force and simulated truth, and that all who ask get the same one."""

import numpy as np
import pytest
from scipy import stats

import universality
from universality.activations.layer import Halves, load_layer
from universality.atlas import index
from universality.atlas.cells import atlas, cliques, same_feature_graph
from universality.base import arrays
from universality.correspondence import resampling, verdict
from universality.correspondence.census import count_links, joined
from universality.jobs.trace import trace
from universality.runs.layers import references

SAME = "same_feature"


def found(**changes):
    base = {
        "detector_a": True, "detector_b": True, "rank_ab": 1, "rank_ba": 1, "excess_low": 0.1, "apart_deg": 5.0,
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
        ({"detector_b": False}, "correlated_only", "two detectors"),
        ({"excess_low": 0.0}, "family_only", "above random bases"),
        ({"excess_low": np.nan}, "family_only", "above random bases"),
        ({"excess_low": -0.1, "detector_a": False}, "unmatched", "two detectors, above random bases"),
    ],
)
def test_every_condition_of_a_verdict_counts(changes, said, lacks):
    judged = verdict.judge(found(**changes))
    assert (judged.verdict.tolist(), judged.lacks.tolist()) == ([said], [lacks])


def test_units_of_no_family_have_to_be_each_others_best():
    low = np.array([0.1, 0.1, 0.1, 0.0, np.nan])
    ranks = np.array([1, 2, 1, 1, 1]), np.array([1, 1, 2, 1, 1])
    assert verdict.same_unit(*ranks, low).tolist() == [True, False, False, False, False]


def halves(values, fold):
    live = np.flatnonzero(np.all([arrays.live_units(values[fold == f]) for f in (0, 1)], axis=0))
    return Halves(live, *(arrays.standardised(values[fold == f][:, live]) for f in (0, 1)))


@pytest.fixture(scope="module")
def layers():
    """Two layers that share half of their units, three random bases of each, and photographs of one crop or of several."""
    rng = np.random.default_rng(0)
    photograph = np.r_[np.repeat(np.arange(24), 4), np.arange(24, 104)]
    fold = photograph % 2
    common = np.maximum(rng.standard_normal((len(fold), 8)) + 0.5 * rng.standard_normal((104, 8))[photograph], 0)
    a, b = (np.c_[common, rng.standard_normal(common.shape)] + 0.4 * rng.standard_normal((len(fold), 16)) for _ in "ab")
    bases = [
        [halves(x @ arrays.haar_orthogonal(16, rng), fold) for _ in range(3)] for x in (a, b)
    ]  # fmt: skip
    of_row = np.unique(photograph[fold == 1], return_inverse=True)[1]
    return halves(a, fold), halves(b, fold), bases, resampling.Photographs.of(of_row, 1)


def judged_pairs(layers, pairs):
    a, b, (bases_a, bases_b), shown = layers
    nulls = verdict.in_bases(a, bases_b, shown), verdict.in_bases(b, bases_a, shown)
    return verdict.scored(a, b, pairs, nulls, shown)


def test_excess_and_its_interval_from_loops(layers):
    """Photographs left out one by one and every correlation computed anew; the variance over bases is that of all units."""
    a, b, bases, shown = layers
    pairs = np.array([(0, 0), (3, 3), (9, 12), (5, 2)])
    got = judged_pairs(layers, pairs)
    strata = [np.arange(12), np.arange(12, 52)]
    assert [s.tolist() for s in shown.strata] == [s.tolist() for s in strata]
    assert shown.count == 12
    for place, (i, j) in enumerate(pairs):
        ends = []
        for own, unit, other, partner, null in ((a, i, b, j, bases[1]), (b, j, a, i, bases[0])):
            best = [int(np.argmax(own.decide[:, unit] @ basis.decide)) for basis in null]

            def excess(rows, own=own, unit=unit, other=other, partner=partner, null=null, best=best):
                x = own.score[rows, unit]
                in_bases = [np.corrcoef(x, n.score[rows, k])[0, 1] for n, k in zip(null, best, strict=True)]
                return np.corrcoef(x, other.score[rows, partner])[0, 1] - np.mean(in_bases)

            variance = 0.0
            for stratum in strata:
                without = np.array([excess(shown.of_row != k) for k in stratum])
                variance += (len(stratum) - 1) / len(stratum) * ((without - without.mean()) ** 2).sum()
            every = [
                np.var([np.max(own.decide[:, u] @ n.decide) * 0 + own.score[:, u] @ n.score[:, np.argmax(own.decide[:, u] @ n.decide)]
                        for n in null], ddof=1)
                for u in range(16)
            ]  # fmt: skip
            variance += (1 + 1 / 3) * np.mean(every)
            middle = excess(np.ones(len(shown.of_row), dtype=bool))
            half = stats.t.ppf(0.975, 11) * np.sqrt(variance)
            ends.append((middle, middle - half, middle + half))
        assert (got.excess[place], got.low[place], got.high[place]) == pytest.approx(np.min(ends, axis=0), abs=1e-10)


def test_evidence_does_not_depend_on_the_other_pairs_asked_about(layers):
    every = np.array([(i, j) for i in range(16) for j in range(16)])
    together = judged_pairs(layers, every)
    for place in (0, 17, 200):
        alone = judged_pairs(layers, every[[place]])
        for name in ("r", "excess", "low", "high"):
            assert getattr(alone, name)[0] == pytest.approx(getattr(together, name)[place], abs=1e-13)


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


def null_units(seed, images, units=20, bases=3, clustered=False):
    """Excess of units over random bases where the layer they are compared with is itself one of them."""
    rng = np.random.default_rng([seed, 5])
    fold = np.arange(images) % 2
    latent = np.maximum(rng.standard_normal((images, units)) - 0.5, 0)
    a = latent + 0.7 * rng.standard_normal((images, units))
    turned = [halves(latent @ arrays.haar_orthogonal(units, rng), fold) for _ in range(bases + 1)]
    own, shown = halves(a, fold), resampling.Photographs.of(np.arange(images // 2), 1)
    pairs = np.stack([np.arange(units), (own.decide.T @ turned[0].decide).argmax(axis=1)], axis=1)
    null = verdict.in_bases(own, turned[1:], shown)
    got = verdict.scored(own, turned[0], pairs, (null, null), shown)
    return got.side[0], got.half[0]


@pytest.mark.parametrize("images", [60, 240])
def test_a_random_basis_exceeds_others_as_rarely_as_the_interval_says(images):
    side, half = np.concatenate([null_units(seed, images) for seed in range(60)], axis=1)
    assert np.mean(side > half) <= 0.03
    assert 0.94 <= np.mean(np.abs(side) <= half) <= 0.99


def test_a_single_basis_is_not_enough():
    assert len(list(verdict.null_bases(1, 0))) == 2
    assert len(list(verdict.null_bases(4, 0))) == 4
    layer = halves(np.random.default_rng(0).standard_normal((40, 3)), np.arange(40) % 2)
    shown = resampling.Photographs.of(np.arange(20), 1)
    null = verdict.in_bases(layer, [layer], shown)
    got = verdict.scored(layer, layer, np.array([[0, 0]]), (null, null), shown)
    assert np.isnan(got.low[0])


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
without = ["natural", "atlas"]
"""
FAMILY = "high_low_frequency"
PAIR = ["model_a", "tap_a", "unit_a", "model_b", "tap_b", "unit_b"]


@pytest.fixture(scope="module")
def run(once):
    def make(folder):
        (folder / "job.toml").write_text(JOB, encoding="utf-8")
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
        np.testing.assert_allclose(both[name], both[f"census_{other}"].astype(float), atol=1e-12)
    # The census only leaves out pairs that lack more than an excess.
    rest = table[~table.index.isin(edges.index)]
    near = rest["delta_theta_deg"].abs() <= verdict.NEAR_DEG
    top = (rest["rank_ab"] <= verdict.TOP_K) & (rest["rank_ba"] <= verdict.TOP_K)
    assert not (rest["detector_a"] & rest["detector_b"] & near & top).any()


def test_index_counts_the_units_of_these_verdicts(counted, table, edges):
    rows = index.tally(counted).rows
    rows = rows[(rows["rule"] == FAMILY) & (rows["seed"] == -1)]
    shared = set(rows.loc[rows["shared"], ["model", "tap", "unit", "partner"]].itertuples(index=False, name=None))
    linked = [key for key, yes in edges["linked"].items() if yes]
    assert shared == {(*k[:3], k[3]) for k in linked} | {(*k[3:], k[0]) for k in linked}
    for key in table.index[table["verdict"] == SAME]:
        assert {(*key[:3], key[3]), (*key[3:], key[0])} <= shared


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
                assert partner[name] == pytest.approx(row[name], abs=1e-12), name
