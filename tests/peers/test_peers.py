"""Other packages as oracles: where they agree with this package, and where they do not, which value is right and why.

They are no dependencies: `make peers` installs them and runs this file; elsewhere its tests are skipped.
"""

import numpy as np
import pytest
import torch
from scipy.spatial.distance import pdist

from universality import LinearCKAAccumulator, score
from universality.similarity.cca import prepare_variance99

# What the other packages warn of while they are imported or run is theirs.
pytestmark = pytest.mark.filterwarnings("ignore")


def peer(module, package):
    return pytest.importorskip(module, reason=f"{package} is not installed: pip install 'universality[peers]'")


def few():
    """The published pair: 30 stimuli, 25 units."""
    legacy = np.random.RandomState(0)
    return legacy.uniform(size=(30, 25)), legacy.uniform(size=(30, 25))


def many():
    rng = np.random.default_rng(0)
    latent = rng.standard_normal((200, 3))
    return tuple(latent @ rng.standard_normal((3, p)) + rng.standard_normal((200, p)) for p in (6, 8))


def tensors(layers):
    return tuple(torch.tensor(layer) for layer in layers)


LAYERS = pytest.mark.parametrize("layers", [few(), many()], ids=["few", "many"])


def value(name, layers):
    return score(name, *layers).value


# pytorch-cka


@LAYERS
def test_pytorch_cka_agrees_on_the_debiased_form(layers):
    cka = peer("cka", "pytorch-cka")
    theirs = float(cka.cka_from_features(*tensors(layers)))
    assert value("cka_linear_debiased", layers) == pytest.approx(theirs, abs=1e-12)


def test_pytorch_cka_hides_negative_values():
    """It clamps to 0 to 1. The estimator of independent layers scatters about 0, so half of its values are negative.

    Ours is right: with the negative ones cut off, the mean over independent layers is no longer 0.
    """
    cka = peer("cka", "pytorch-cka")
    pairs = [np.random.default_rng(seed).standard_normal((2, 40, 20)) for seed in range(150)]
    ours = np.array([value("cka_linear_debiased", pair) for pair in pairs])
    theirs = np.array([float(cka.cka_from_features(*tensors(pair))) for pair in pairs])
    np.testing.assert_allclose(theirs, np.maximum(ours, 0), atol=1e-12)
    error = ours.std() / np.sqrt(150)
    assert abs(ours.mean()) < 3 * error
    assert theirs.mean() > 3 * error


# ckatorch


@LAYERS
def test_ckatorch_agrees_on_linear_cka(layers):
    core = peer("ckatorch.core", "ckatorch")
    x, y = tensors(layers)
    assert value("cka_linear_biased", layers) == pytest.approx(float(core.cka_base(x, y)), abs=1e-12)
    debiased = float(core.cka_base(x, y, unbiased=True))
    assert value("cka_linear_debiased", layers) == pytest.approx(debiased, abs=1e-12)


def test_ckatorch_ignores_unbiased_with_one_of_its_methods():
    """Its documentation says that the method does not influence the output; with `hsic` it gives the biased value.

    Ours is right: the published debiased value is 0.0236, not 0.4893.
    """
    core = peer("ckatorch.core", "ckatorch")
    theirs = float(core.cka_base(*tensors(few()), unbiased=True, method="hsic"))
    assert theirs == pytest.approx(value("cka_linear_biased", few()), abs=1e-12)
    assert abs(theirs - value("cka_linear_debiased", few())) > 0.4


@LAYERS
def test_ckatorch_takes_the_median_over_zeros_too(layers):
    """Its kernel width is the lower median of all n^2 squared distances, the n zeros of the diagonal among them.

    Ours is right: the rule is about the distance of two stimuli, and a stimulus is not one of its own pairs. With the
    width put right through its factor, it gives our value.
    """
    core = peer("ckatorch.core", "ckatorch")
    theirs = float(core.cka_base(*tensors(layers), kernel="rbf"))
    ours = value("cka_rbf_median_biased", layers)
    assert 1e-6 < abs(theirs - ours) < 1e-2
    widths = [pdist(layer) for layer in layers]
    # One factor serves both layers, so each layer is brought to the same ratio of the two medians first.
    factors = []
    for layer, width in zip(layers, widths, strict=True):
        squares = np.square(np.subtract.outer(layer, layer).diagonal(axis1=1, axis2=3)).sum(axis=-1)
        factors.append(np.median(width) / np.sqrt(np.sort(squares.ravel())[(squares.size - 1) // 2]))
    kernels = [
        peer("ckatorch.utils", "ckatorch").rbf_kernel(torch.tensor(layer), factor)
        for layer, factor in zip(layers, factors, strict=True)
    ]
    centre = peer("ckatorch.utils", "ckatorch").center_gram_matrix
    k, m = (centre(kernel).numpy() for kernel in kernels)
    assert ours == pytest.approx(np.sum(k * m) / np.sqrt(np.sum(k * k) * np.sum(m * m)), abs=1e-10)
    k, m = (centre(kernel, True).numpy() for kernel in kernels)
    debiased = np.sum(k * m) / np.sqrt(np.sum(k * k) * np.sum(m * m))
    assert value("cka_rbf_median_debiased", layers) == pytest.approx(debiased, abs=1e-10)


def test_ckatorch_minibatch_form_depends_on_the_batches():
    """It sums HSIC within batches: pairs of stimuli in different batches are left out, so the value depends on the cut.

    Ours is right for all stimuli, whatever the batches; with one batch both agree.
    """
    core = peer("ckatorch.core", "ckatorch")
    x, y = few()
    whole = value("cka_linear_debiased", (x, y))
    sums = LinearCKAAccumulator()
    for start in range(0, 30, 10):
        sums.add(x[start : start + 10], y[start : start + 10])
    in_tens = [torch.tensor(layer.reshape(3, 10, 25)) for layer in (x, y)]
    assert sums.value("debiased") == pytest.approx(whole, abs=1e-12)
    assert float(core.cka_batch(*(torch.tensor(layer)[None] for layer in (x, y)))) == pytest.approx(whole, abs=1e-12)
    assert abs(float(core.cka_batch(*in_tens)) - whole) > 0.05


# repsim


@LAYERS
def test_repsim_agrees_on_biased_cka_with_both_kernels(layers):
    repsim = peer("repsim", "repsim")
    assert value("cka_linear_biased", layers) == pytest.approx(
        repsim.cka(list(layers), "linear", "gretton")[0, 1], abs=1e-12
    )
    assert value("cka_rbf_median_biased", layers) == pytest.approx(
        repsim.cka(list(layers), "rbf", "gretton")[0, 1], abs=1e-12
    )


@LAYERS
def test_repsim_mixes_estimators_in_debiased_cka(layers):
    """It divides the unbiased HSIC of the pair by the *biased* HSIC of each layer, and then writes 1 on the diagonal.

    Ours is right: a layer's similarity with itself has to come out as 1, and the published value is 0.0236, not 0.0124.
    With its own HSIC matrix normalised by its own diagonal it agrees with us.
    """
    repsim = peer("repsim", "repsim")
    theirs = repsim.cka(list(layers), "linear", "song")[0, 1]
    ours = value("cka_linear_debiased", layers)
    n = len(layers[0])
    k, m = (layer - layer.mean(axis=0) for layer in layers)
    pair, *selves = (hsic_by_song(a, b) for a, b in ((k, m), (k, k), (m, m)))
    biased = [np.sum(np.square(a.T @ a)) / (n - 1) ** 2 for a in (k, m)]
    assert ours == pytest.approx(pair / np.sqrt(np.prod(selves)), abs=1e-10)
    assert theirs == pytest.approx(pair / np.sqrt(np.prod(biased)), abs=1e-10)
    assert abs(theirs - ours) > 1e-3


def hsic_by_song(x, y):
    """Song et al. 2012, equation 5, as printed."""
    n = len(x)
    k, m = (a @ a.T * (1 - np.eye(n)) for a in (x, y))
    total = np.trace(k @ m) + k.sum() * m.sum() / ((n - 1) * (n - 2))
    return (total - 2 / (n - 2) * (k @ m).sum()) / (n * (n - 3))


@LAYERS
def test_repsim_agrees_on_cca_under_other_names(layers):
    """Its `yanai` is our mean squared correlation, its `pillai` our mean correlation (the trace itself is neither)."""
    repsim = peer("repsim", "repsim")
    assert value("cca_mean_rho_squared", layers) == pytest.approx(repsim.cca(list(layers), "yanai")[0, 1], abs=1e-9)
    assert value("cca_mean_rho", layers) == pytest.approx(repsim.cca(list(layers), "pillai")[0, 1], abs=1e-9)


def test_repsim_agrees_on_symmetric_pwcca_where_it_is_defined():
    repsim = peer("repsim", "repsim")
    assert value("pwcca_symmetric", many()) == pytest.approx(repsim.pwcca(list(many()))[0, 1], abs=1e-9)


def test_repsim_gives_a_pwcca_that_depends_on_its_solver():
    """30 stimuli, 25 and 25 units: 21 correlations are exactly 1, and how their variates are turned is up to the solver.

    Ours is right to say so: rotating the basis of the tied variates changes the weights, and the value with them.
    """
    repsim = peer("repsim", "repsim")
    assert np.isfinite(repsim.pwcca(list(few()))[0, 1])
    got = score("pwcca_symmetric", *few())
    assert np.isnan(got.value)
    assert "21 of 25 canonical correlations are exactly 1" in got.reason


def test_repsim_keeps_more_components_than_99_percent_of_the_variance_need():
    """Four of six directions carry 99 % of the variance; its svcca equals its cca of the whole layers.

    Ours is right: its documentation states the same rule, and the published value of the small pair is 0.7832 (ours),
    not 0.8295 (theirs).
    """
    repsim = peer("repsim", "repsim")
    rng = np.random.default_rng(0)
    x = rng.standard_normal((300, 6)) * [10, 5, 2, 1, 0.3, 0.1]
    y = x[:, :5] + rng.standard_normal((300, 5))
    variance = np.linalg.svd(x - x.mean(axis=0), compute_uv=False) ** 2
    assert variance[:4].sum() / variance.sum() > 0.99
    assert prepare_variance99(x).q.shape[1] <= 4
    theirs = repsim.svcca([x, y], "pillai")[0, 1]
    assert theirs == pytest.approx(repsim.cca([x, y], "pillai")[0, 1], abs=1e-9)
    assert abs(theirs - value("svcca_variance99", (x, y))) > 0.1
    published = 0.783181412265
    assert abs(repsim.svcca(list(few()), "pillai")[0, 1] - published) > 0.04
    assert value("svcca_variance99", few()) == pytest.approx(published, abs=1e-9)


# rsatoolbox


@LAYERS
@pytest.mark.parametrize("kind", ["sqeuclidean", "correlation"])
@pytest.mark.parametrize(("ours", "theirs"), [("pearson", "corr"), ("spearman", "spearman"), ("cosine", "cosine")])
def test_rsatoolbox_agrees(layers, kind, ours, theirs):
    """Its `euclidean` is the squared distance (per unit), as its documentation says."""
    rdm = peer("rsatoolbox.rdm", "rsatoolbox")
    data = peer("rsatoolbox.data", "rsatoolbox")
    method = kind.removeprefix("sq")
    a, b = (rdm.calc_rdm(data.Dataset(layer), method=method) for layer in layers)
    expected = float(rdm.compare(a, b, method=theirs)[0, 0])
    assert value(f"rsa_{kind}_{ours}", layers) == pytest.approx(expected, abs=1e-9)
