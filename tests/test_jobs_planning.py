"""What a plan says of taps without a receptive field and of twins that are no null, and what the run then holds."""

import shutil

import pytest
import torch
from safetensors.torch import save_file
from undrawn import draw_nothing

import universality
from universality.base.errors import TapError
from universality.base.paths import OWN_CARDS_VARIABLE, resource
from universality.models import catalogue, drafting, weight_files, zoo
from universality.models.card import ModelCard
from universality.models.drafting import Asked, draft
from universality.report.cautions import cautions
from universality.runs.job import Job

VOID = "Of an untrained twin 9 of 9 blocks (ConvNeXtBlock)"


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """Cards of one's own: a pocket network with a tap that sees the whole image and a vector, and one whose twin is void."""
    folder = tmp_path_factory.mktemp("own")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(OWN_CARDS_VARIABLE, str(folder / "cards"))
        patch.setenv(weight_files.WEIGHTS_FOLDER_VARIABLE, str(folder / "weights"))
        shipped = catalogue.card("pocket/vgg-focus-s0")
        whole = shipped.tap("features.13").model_copy(update={"name": "whole", "rf_px": None})
        vector = draft(Asked("own/drafted", "pocket", "vgg", {"n_classes": 12}, taps=("classifier.1",))).taps[0]
        mixed = {
            **shipped.plain(),
            "id": "own/mixed",
            "source": "file",
            "taps": [t.plain() for t in (shipped.tap("features.9"), whole, vector)],
        }
        drafting.write(ModelCard.model_validate(mixed))
        void = draft(Asked("own/void", "timm", "test_convnext", size_px=64, taps=("stages.0.blocks.0.mlp.act",)))
        drafting.write(void)
        (folder / "weights" / "own").mkdir(parents=True)
        file = resource("data/pocket_zoo") / "vgg-focus-s0.safetensors"
        shutil.copyfile(file, folder / "weights" / "own" / "mixed.safetensors")
        torch.manual_seed(0)
        save_file(zoo.build(void).state_dict(), str(folder / "weights" / "own" / "void.safetensors"))
        yield folder


def job(policy="same_receptive_field", reduction="center", **first):
    return Job.model_validate(
        {
            "name": "mixed",
            "models": [{"id": "own/mixed", **first}, {"id": "own/void"}],
            "stimuli": {
                "policy": policy, "natural": {"crops": 30, "shapes": 30}, "curves": {"orientations": 8, "curvatures": [0.0, 5.0]},
                "curve_controls": {"orientations": 8, "curvatures": [5.0], "variants": ["thin_dark"]},
            },
            "extraction": {"reduction": reduction},
            "comparison": {"families": ["curve"], "measures": ["cka_linear_debiased"], "bootstraps": 100, "permutations": 19},
            "nulls": {"calibration_crops": 32, "haar_rotations": 1, "shuffles": 1},
            "stages": {"without": ["natural", "examples", "circuits", "recovery", "motifs"]},
        }
    )  # fmt: skip


def counted(planned):
    return {stage.name: stage.count(planned.inputs) for stage in planned.stages}


def test_taps_without_a_field_are_left_out_by_name_where_scenes_are_scaled(own):
    planned = universality.plan(job(), own / "run", own / "store")
    left_out = [text for text in planned.warnings if "no receptive field" in text]
    assert [text.split("'")[1] for text in left_out] == ["whole", "classifier.1"]
    assert all("left out of families, correspondence, pairs, atlas" in text for text in left_out)
    assert counted(planned) == {"families": 2, "similarity": 1, "correspondence": 1, "pairs": 0, "atlas": 2}
    (network,) = (n for n in planned.networks if n.card.id == "own/mixed" and n.seed is None)
    frames = {tap.name: network.frame(tap) for tap in network.taps}
    assert frames["features.9"].side_px == 26 and frames["whole"] is None and frames["classifier.1"] is None


def test_they_take_part_where_scenes_fill_the_image_or_the_job_states_their_side(own):
    every = universality.plan(job("same_field_of_view"), own / "run", own / "store")
    assert not any("no receptive field" in text for text in every.warnings) and counted(every)["families"] == 4
    stated = universality.plan(job(scene_px={"whole": 40}), own / "run", own / "store")
    assert counted(stated)["families"] == 3
    (network,) = (n for n in stated.networks if n.card.id == "own/mixed" and n.seed is None)
    assert network.frame(network.card.tap("whole")).side_px == 40


def test_a_model_of_which_nothing_is_left_is_refused_unless_layers_alone_are_compared(own):
    with pytest.raises(TapError, match="no tap of 'own/mixed' has a receptive field, expected one at least") as caught:
        universality.plan(job(taps=["whole", "classifier.1"]), own / "run", own / "store")
    assert "\n" not in str(caught.value)
    only = universality.plan(job(taps=["whole", "classifier.1"]), own / "run", own / "store", only=["similarity"])
    assert counted(only) == {"similarity": 1} and not any("left out" in text for text in only.warnings)


def test_a_vector_has_no_places(own):
    with pytest.raises(TapError, match=r"tap 'classifier\.1' is a vector and has no positions"):
        universality.plan(job("same_field_of_view", "positions"), own / "run", own / "store")


def test_what_a_card_says_of_its_twin_is_in_the_plan(own, monkeypatch):
    said = catalogue.card("own/void").model_copy(update={"void_twin": f"{VOID}."})
    known = catalogue.cards()
    monkeypatch.setattr(catalogue, "cards", lambda: {**known, "own/void": said})
    assert f"'own/void': {VOID}" in universality.plan(job(), own / "run", own / "store").warnings


def test_the_run_holds_them_as_layers_alone_and_its_report_says_so_and_which_twin_is_void(own):
    with pytest.MonkeyPatch.context() as patch:
        draw_nothing(patch)
        run = universality.run(job(), own / "run", store=own / "store")
    assert set(run.similarity["tap_a"]) == {"features.9", "whole", "classifier.1"}
    assert set(run.families["tap"]) == {"features.9", "stages.0.blocks.0.mlp.act"}
    assert set(run.table("pairs")["tap_a"]) == {"features.9"} and set(run.table("units")["tap"]) == set(
        run.families["tap"]
    )
    said = cautions(run)
    assert any(text.startswith("2 taps have no receptive field") and "whole of mixed" in text for text in said)
    # Measured when the twin was loaded: its card says nothing.
    assert any(VOID in text for text in said) and not any("mixed: Of an untrained twin" in text for text in said)


def test_scenes_that_fill_the_image_are_judged_at_vectors_too(own):
    with pytest.MonkeyPatch.context() as patch:
        draw_nothing(patch)
        run = universality.run(job("same_field_of_view"), own / "field of view", store=own / "store", only=["families"])
    rows = run.families.set_index("tap")
    assert (
        rows.loc["classifier.1", "rf_px"] == rows.loc["whole", "rf_px"] == 0 and rows.loc["features.9", "rf_px"] == 26
    )
    assert rows["n_dead"].lt(rows["n_units"]).all()
