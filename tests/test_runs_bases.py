"""Jobs whose layers are seen in another basis than their units: what they say, and what they refuse."""

import numpy as np
import pytest
import torch
from torch import nn
from undrawn import drawn

import universality
from universality.activations.dictionaries.kept import FOLDER, sample
from universality.activations.layer import load_layer
from universality.activations.places import place_of
from universality.base.errors import JobError, RunError
from universality.base.recent import Recent
from universality.circuits.reading import between
from universality.models import catalogue
from universality.report.cautions import of_basis
from universality.report.pages import address
from universality.report.sentences import findings
from universality.runs.job import Job
from universality.runs.layers import references

PREPARED = {"size_px": 40, "mean": (0.5,) * 3, "std": (0.25,) * 3}
UNITS = {"first": 12, "second": 16}
JOB = {
    "name": "bases",
    "models": [{"id": "one", "taps": list(UNITS)}, {"id": "other", "taps": list(UNITS)}],
    "stimuli": {"natural": {"crops": 40}, "high_low": {"orientations": 8, "phases": 1}},
    "extraction": {"reduction": "positions", "positions": 3},
    "comparison": {
        "families": ["high_low_frequency"],
        "matching": ["mutual_nearest"],
        "bootstraps": 100,
        "permutations": 19,
    },
    "nulls": {"calibration_crops": 32, "haar_rotations": 1, "shuffles": 1},
    "dictionary": {"directions": 10, "active": 3, "steps": 40, "batch": 64},
}


class Net(nn.Module):
    """Two convolutions, of which the second sees 11 px."""

    def __init__(self, seed):
        super().__init__()
        torch.manual_seed(seed)
        self.first = nn.Sequential(nn.Conv2d(3, 12, 5, 2, 2), nn.ReLU())
        self.second = nn.Sequential(nn.Conv2d(12, 16, 3, 1, 1), nn.ReLU())
        self.head = nn.Linear(16, 4)

    def forward(self, x):
        return self.head(self.second(self.first(x)).mean((2, 3)))


def job(basis, **dictionary):
    return Job.model_validate({**JOB, "basis": basis, "dictionary": {**JOB["dictionary"], **dictionary}})


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    yield tmp_path_factory.mktemp("bases")
    catalogue.IN_HAND.clear()


def ran(folder, basis, only, **dictionary):
    models = {"one": (Net(0), PREPARED), "other": (Net(1), PREPARED)}
    return universality.run(
        job(basis, **dictionary), folder / basis, store=folder / "store", models=models, only=only, threads=1
    )


@pytest.fixture(scope="module")
def run(folder):
    with drawn():
        return ran(folder, "universal_sae", ["dictionaries", "correspondence", "families", "circuits", "recovery"])


def layers(run, seed=None):
    return {(ref.model, ref.tap.name): ref for ref in references(run) if ref.seed == seed}


def test_every_table_is_about_the_directions(run):
    table = run.table("dictionaries")
    assert set(zip(table["model"], table["tap"], table["seed"], strict=True)) == {
        (model, tap, seed) for model in ("one", "other") for tap in UNITS for seed in (-1, 0)
    }
    assert (
        (table["n_directions"] == 10).all() and (table["n_networks"] == 2).all() and (table["n_learnt"] == 9 * 20).all()
    )
    assert table[["r2", "r2_frozen", "r2_haar", "stability", "cofiring", "share_independent"]].notna().all(axis=None)
    assert (table["l0"] <= 3).all() and table["r2"].max() < 1
    assert len(run.table("directions")) == 8 * 10 and set(run.units["unit"]) == set(range(10))
    assert (run.families["n_units"] == 10).all()
    (said, *_) = findings(run)
    assert said.topic == "dictionaries" and "universal_sae" in said.text
    assert any("corresponds by itself" in text or "no finding by itself" in text for text in of_basis(run.job))


def test_a_layer_is_the_codes_of_its_stored_activations(run):
    for ref in layers(run).values():
        layer = load_layer(ref)
        dictionary = ref.basis.dictionary(ref.store_root, 0)
        np.testing.assert_array_equal(layer.natural, dictionary.codes(layer.in_units.natural))
        assert layer.in_units.natural.shape[1] == UNITS[ref.tap.name] and layer.shown
        turned = layer.in_random(0, 0)  # of the units, in as many directions
        assert turned.natural.shape == layer.natural.shape
        np.testing.assert_allclose(turned.natural, layer.in_units.in_random(0, 0).natural[:, :10])
        # What is standardised are the units, not the codes.
        even = layer.standardised().in_random(0, 0)
        np.testing.assert_allclose(even.natural, layer.in_units.standardised().in_random(0, 0).natural[:, :10])


def test_rows_to_learn_from_are_all_places_of_the_images_that_decide(run, monkeypatch):
    ref = layers(run)["one", "second"]
    units = load_layer(ref).in_units
    rows = sample(ref.store_root, ref.basis.own, ref.basis.spec)
    np.testing.assert_array_equal(rows, units.natural[units.fold == 0].astype(np.float32))
    monkeypatch.setattr("universality.activations.dictionaries.kept.BLOCK_BYTES", 1)  # image by image
    np.testing.assert_array_equal(rows, sample(ref.store_root, ref.basis.own, ref.basis.spec))
    fewer = sample(ref.store_root, ref.basis.own, ref.basis.spec.model_copy(update={"samples": 70}))
    assert len(fewer) == 70 and all((rows == row).all(axis=1).any() for row in fewer)
    shuffled = sample(ref.store_root, ref.basis.own, ref.basis.spec, shuffled=1)
    assert not np.array_equal(shuffled, rows)
    np.testing.assert_array_equal(np.sort(shuffled, axis=0), np.sort(rows, axis=0))


def test_weights_are_projected_on_the_directions(run):
    from universality.circuits.reading import weights_of
    from universality.runs.networks import networks_of

    (network,) = (n for n in networks_of(run.job) if n.card.id == "one" and n.trained)
    first, second = (load_layer(layers(run)["one", tap]) for tap in UNITS)
    found = between(weights_of(network), first, second)(first.ref.tap, second.ref.tap, np.eye(10))
    module = Net(0).second[0]
    # By hand: a direction written into the middle position and its neighbours, through the convolution, read by the encoder.
    expected = np.einsum(
        "du,uvyx,sv->dsyx", second.basis.read, module.weight.detach().double().numpy(), first.basis.written
    )
    assert found.shape == (10, 10, 3, 3)
    np.testing.assert_allclose(found.values, expected, atol=1e-4)
    assert run.table("circuits").columns.size and found["unit_a"].values.tolist() == list(range(10))


def test_what_is_learnt_is_kept_and_found_again(run, folder, monkeypatch):
    def learnt_again(*_, **__):
        raise AssertionError("it was kept")

    monkeypatch.setattr("universality.activations.dictionaries.kept.learn", learnt_again)
    monkeypatch.setattr("universality.activations.dictionaries.kept._READ", Recent(0, lambda of: 1))
    assert place_of(str(folder / "store")).names(FOLDER)
    again = ran(folder, "universal_sae", ["dictionaries", "recovery"])
    assert again.table("dictionaries").equals(run.table("dictionaries"))
    for ref in layers(run).values():
        ref.basis.dictionary(ref.store_root, 1)
    # A damaged one counts as absent: it is learnt again.
    (first, *_) = (folder / "store" / FOLDER).glob("*/*")
    kept = first.read_bytes()
    first.write_bytes(kept[:-1])
    with pytest.raises(AssertionError, match="it was kept"):
        for ref in [*layers(run).values(), *layers(run, 0).values()]:
            for seed in (0, 1):
                ref.basis.dictionary(ref.store_root, seed)
                ref.basis.dictionary(ref.store_root, 0, frozen=True)
    first.write_bytes(kept)


def test_units_drawn_and_random_directions_are_bases_too(run, folder):
    del run  # its stores are used
    for basis in ("units", "haar", "nmf"):
        models = {"one": (Net(0), PREPARED), "other": (Net(1), PREPARED)}
        values = {**JOB, "basis": basis}
        values["dictionary"] = {"directions": 10} if basis != "nmf" else {"directions": 10, "seeds": [0]}
        found = universality.run(
            Job.model_validate(values),
            folder / basis,
            store=folder / "store",
            models=models,
            only=["families"],
            threads=1,
        )
        assert (found.families["n_units"] == 10).all()
        (ref, *_) = references(found)
        layer = load_layer(ref)
        if basis == "units":
            assert all((layer.in_units.natural == column[:, None]).all(axis=0).any() for column in layer.natural.T)
        if basis == "haar":
            np.testing.assert_allclose(layer.basis.read @ layer.basis.read.T, np.eye(10), atol=1e-9)
        if basis == "nmf":
            assert layer.natural.min() >= 0


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"basis": "units", "dictionary": {"steps": 3}}, "dictionary.steps is about dictionaries that are learnt"),
        ({"basis": "sae", "dictionary": {"shuffled_images": True}}, "needs basis = 'universal_sae', came 'sae'"),
        ({"basis": "pca"}, "'units', 'haar', 'nmf', 'sae' or 'universal_sae'"),
    ],
)
def test_what_a_job_cannot_ask_for_is_one_sentence(values, said, tmp_path):
    from universality.base.toml import validate

    with pytest.raises(JobError, match=said):
        validate(Job, {**JOB, "dictionary": {}, **values}, "job", JobError)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (
            {"basis": "sae", "dictionary": {"active": 13}},
            "dictionary.active = 13 is more than the 12 directions of tap 'first' of 'one'",
        ),
        ({"basis": "units", "dictionary": {"directions": 13}}, "is more than the 12 units of tap 'first' of 'one'"),
        (
            {"basis": "universal_sae", "models": [JOB["models"][0], {"id": "other", "taps": ["first"]}]},
            "expected as many taps of each, came 'one' 2, 'other' 1",
        ),
    ],
)
def test_what_a_job_asks_of_its_networks_in_vain_is_one_sentence(run, values, said, tmp_path):
    del run  # its networks are in hand
    with pytest.raises(JobError, match=said):
        universality.plan(Job.model_validate({**JOB, **values}), tmp_path / "run", tmp_path / "store")


def test_a_job_in_units_has_no_dictionaries_and_the_digest_of_before(tmp_path):
    plain = Job.model_validate({**JOB, "dictionary": {}})
    assert "basis" not in plain.plain() and "dictionary" not in plain.plain() and plain.in_units
    assert plain.digest() != job("sae").digest()
    with pytest.raises(JobError, match="stage 'dictionaries' is about dictionaries, and the job's basis is none"):
        from universality.jobs.stages import chosen

        chosen(["dictionaries"], lacking=["dictionaries"])


def test_directions_have_addresses_of_their_own():
    assert address(("a/b", "t", 3), ".json", "nmf") == "a/b/t/bases/nmf/directions/3.json"


class Tokens(nn.Module):
    """Patches as tokens, a residual stream with one MLP."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.patches, self.stream = nn.Conv2d(3, 8, 8, 8), nn.Identity()
        self.up, self.act, self.down = nn.Linear(8, 12), nn.GELU(), nn.Linear(12, 8)

    def forward(self, x):
        tokens = self.patches(x).flatten(2).transpose(1, 2)
        return self.stream(tokens + self.down(self.act(self.up(tokens))))


def test_units_of_a_residual_stream_are_said_to_be_no_features(tmp_path):
    from universality.jobs.execute import take_in_hand

    def warnings(basis):
        asked = Job.model_validate(
            {**JOB, "models": [{"id": "vit", "taps": ["act", "stream"]}], "pairs": [], "basis": basis, "dictionary": {}}
        )
        take_in_hand({"vit": (Tokens(), PREPARED)}, asked, lambda text: None)
        planned = universality.plan(asked, tmp_path / "run", tmp_path / "store", only=["families"])
        return [text for text in planned.warnings if "no privileged basis" in text]

    (said,) = warnings("units")
    assert said.startswith("'stream' of 'vit' holds tokens") and "basis = 'sae'" in said
    assert not warnings("sae")
    catalogue.IN_HAND.pop("vit")


def test_the_image_of_a_direction_drives_the_direction_and_not_the_unit_of_its_number(run):
    found = universality.visualise(run, ["one:first:9"], steps=16)
    layer = load_layer(layers(run)["one", "first"])
    pixels = torch.from_numpy(found["image"].values[0].copy()).permute(2, 0, 1)[None].float() / 255
    with torch.no_grad():
        answers = Net(0).eval().first((pixels - 0.5) / 0.25)[0, :, 10, 10].double().numpy()
    natural = layer.in_units.natural[layer.fold == 1] @ layer.basis.read[9]
    assert found["reached_sigma"].values[0, 0] == pytest.approx(answers @ layer.basis.read[9] / natural.std(), rel=1e-3)
    assert found["natural_sigma"].values[0, 0] == pytest.approx(natural.max() / natural.std())
    assert found["percentile"].values[0, 0] == 100
    with pytest.raises(RunError, match="'one' has no unit 10 at 'first', expected 0 to 9"):
        universality.visualise(run, ["one:first:10"], steps=1)
