"""Specifications: what is accepted, what is refused and in which words, digests and round trips."""

import json
import re
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from universality.activations.spec import ExtractionSpec
from universality.base.errors import CardError, JobError, StimulusError, UniversalityError
from universality.base.paths import resource
from universality.base.spec import digest, inner_path
from universality.base.toml import parse_toml, validate
from universality.features.families import FAMILIES
from universality.models import catalogue
from universality.models.card import ModelCard, Tap, read_card
from universality.runs.job import ComparisonSpec, Job, read_job
from universality.stimuli.curves import CurveStimuli

ROOT = Path(__file__).parents[1]
JOB = """
name = "two"
seed = 3

[[models]]
id = "package/efficientnet_lite0"
taps = ["blocks.2.1.bn2"]

[[models]]
id = "package/efficientnet_lite1"

[extraction]
reduction = "center"
"""
SAME_JOB_IN_ANOTHER_ORDER = """
# a comment
extraction = { reduction = "center" }
models = [{ taps = ["blocks.2.1.bn2"], id = "package/efficientnet_lite0" }, { id = "package/efficientnet_lite1" }]
seed = 3
name = "two"
"""
ALEXNET = resource("model_zoo/torchvision/alexnet.toml").read_text(encoding="utf-8")


@pytest.fixture
def write(tmp_path):
    def to_file(text):
        path = tmp_path / "written.toml"
        path.write_text(text, encoding="utf-8")
        return path

    return to_file


def changed(text, old, new):
    assert old in text, "the test's own replacement fails"
    return text.replace(old, new, 1)


def one_sentence(error):
    message = str(error)
    assert "\n" not in message
    assert "Traceback" not in message and "pydantic" not in message
    said = message.split(" (came: ")[0]  # what came is quoted as it is
    assert not re.search(r"\. [A-Z]", said), "more than one sentence"
    return message


def refused(read, path, kind):
    with pytest.raises(kind) as caught:
        read(path)
    assert str(path) in str(caught.value), "the message does not say which file"
    return one_sentence(caught.value)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=8,
)


def reversed_keys(value):
    if isinstance(value, dict):
        return {key: reversed_keys(value[key]) for key in reversed(value)}
    return [reversed_keys(item) for item in value] if isinstance(value, list) else value


@given(json_values)
def test_digest_does_not_depend_on_the_order_of_keys(value):
    assert digest(value) == digest(reversed_keys(value))


@given(st.dictionaries(st.text(max_size=5), json_values, min_size=1, max_size=4), json_values)
def test_digest_depends_on_every_value(value, other):
    key = next(iter(value))
    same = json.dumps(value[key], sort_keys=True) == json.dumps(other, sort_keys=True)
    assert (digest(value) == digest({**value, key: other})) == same


def test_digest_is_the_hash_of_canonical_json():
    assert digest({"b": [1, 2.5], "a": "ä"}) == sha256('{"a":"ä","b":[1,2.5]}'.encode()).hexdigest()


def test_digest_refuses_nan():
    with pytest.raises(ValueError, match="JSON"):
        digest({"a": float("nan")})


def test_job_digest_ignores_order_and_comments(write):
    first = read_job(write(JOB))
    second = read_job(write(SAME_JOB_IN_ANOTHER_ORDER))
    assert first == second
    assert first.digest() == second.digest()
    assert first.digest() != read_job(write(changed(JOB, "seed = 3", "seed = 4"))).digest()


def test_job_digest_is_that_of_before_there_was_a_choice_of_device_stages_further_sets_and_own_images(write):
    job = read_job(write(JOB))
    values = job.plain()
    del values["stages"], values["interventions"], values["stimuli"]["also"], values["nulls"]["noisy_copies"]
    del values["nulls"]["copied"]
    del values["stimuli"]["natural"]["folders"], values["stimuli"]["natural"]["images"]
    without_device = {**values, "extraction": {k: v for k, v in values["extraction"].items() if k != "device"}}
    assert job.digest() == digest(without_device)
    on_gpus = job.model_copy(update={"extraction": job.extraction.model_copy(update={"device": "cuda"})})
    assert on_gpus.digest() == digest({**values, "extraction": on_gpus.extraction.plain()}) != job.digest()
    further = job.model_copy(update={"stimuli": job.stimuli.model_copy(update={"also": ("gratings",)})})
    assert further.digest() != job.digest()
    with_copies = job.model_copy(update={"nulls": job.nulls.model_copy(update={"noisy_copies": (0.84,)})})
    assert with_copies.digest() != job.digest()
    of_one = with_copies.nulls.model_copy(update={"copied": (job.models[0].id,)})
    assert with_copies.model_copy(update={"nulls": of_one}).digest() != with_copies.digest()


@pytest.mark.parametrize(
    "path", sorted(resource("model_zoo").glob("*/*.toml")), ids=lambda path: f"{path.parent.name}/{path.stem}"
)
def test_card_survives_plain_data_and_json(path):
    card = read_card(path)
    assert ModelCard.model_validate(card.plain()) == card
    assert ModelCard.model_validate_json(json.dumps(card.plain())) == card
    assert ModelCard.model_validate(card.plain()).digest() == card.digest()


def test_job_survives_plain_data_and_json(write):
    job = read_job(write(JOB))
    assert Job.model_validate(json.loads(json.dumps(job.plain()))) == job


def test_quickstart_holds_four_pocket_architectures_a_second_seed_and_two_imagenet_networks():
    models = [entry.id for entry in read_job(resource("analyses/quickstart/job.toml")).models]
    assert [name for name in models if name.startswith("package/")] == [
        "package/efficientnet_lite0",
        "package/efficientnet_lite1",
    ]
    assert {name.split("-")[0] for name in models if name.startswith("pocket/")} == {
        f"pocket/{architecture}" for architecture in ("alexnet", "vgg", "inceptionv1", "resnet")
    }
    assert {"pocket/vgg-focus-s0", "pocket/vgg-focus-s1"} <= set(models)


@pytest.mark.parametrize("path", sorted((ROOT / "analyses").rglob("job*.toml")), ids=lambda path: path.parent.name)
def test_every_analysis_is_a_valid_job_of_known_networks(path):
    job = read_job(path)
    # Cards of the source own are made by the notebook that uses them.
    assert {entry.id for entry in job.models if not entry.id.startswith("own/")} <= set(catalogue.cards())


def job_of(models, head=""):
    entries = "".join(f'[[models]]\nid = "{name}"\n' for name in models)
    return f'name = "some"\n{head}\n{entries}[extraction]\nreduction = "center"\n'


def test_pairs_choose_what_is_compared_and_drawn(write):
    three = ("a/a", "b/b", "c/c")
    job = read_job(write(job_of(three, 'pairs = [["b/b", "a/a"], ["a/a", "c/c"]]')))
    assert job.compared() == [("a/a", "b/b"), ("a/a", "c/c")]
    assert job.drawn() == job.compared()
    assert read_job(write(job_of(three))).compared() == [("a/a", "b/b"), ("a/a", "c/c"), ("b/b", "c/c")]
    assert read_job(write(job_of(three, "pairs = []"))).compared() == []
    assert read_job(write(job_of(three, 'figure_pairs = [["c/c", "b/b"]]'))).drawn() == [("b/b", "c/c")]


@pytest.mark.parametrize(
    ("pairs", "said"),
    [
        ('[["a/a", "z/z"]]', "pairs names 'z/z'"),
        ('[["a/a", "a/a"]]', "its units would be"),
        ('[["a/a", "b/b"], ["b/b", "a/a"]]', "appear twice"),
        ('[["a/a"]]', "pairs.0"),
    ],
)
def test_impossible_pairs_are_refused(write, pairs, said):
    with pytest.raises(JobError, match=re.escape(said)):
        read_job(write(job_of(("a/a", "b/b"), f"pairs = {pairs}")))


def test_specifications_cannot_be_changed(write):
    with pytest.raises(ValueError, match="frozen"):
        read_job(write(JOB)).seed = 4


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("name = ", "not valid TOML"),
        ("name = 'a'\nname = 'b'", "not valid TOML"),
        ("[models", "not valid TOML"),
        (JOB + "\nradius = 1", "'extraction.radius'; did you mean 'center_radius'"),
        (JOB + "\nbatchsize = 1", "'extraction.batchsize'; did you mean 'batch_size'"),
        (changed(JOB, "taps =", "tapz ="), "'models.0.tapz'; did you mean 'taps'"),
        (changed(JOB, "seed", "sead"), "'sead'; did you mean 'seed'"),
        (JOB + "\n[stimuli.curves]\norientation = 36", "'stimuli.curves.orientation'; did you mean 'orientations'"),
        (JOB + "\n[nulls]\nxyz = 1", "'nulls.xyz'; choose one of: calibration_crops, copied, haar_rotations"),
        (changed(JOB, 'reduction = "center"', ""), "'extraction.reduction' is missing"),
        (changed(JOB, 'name = "two"', ""), "'name' is missing"),
        (changed(JOB, 'id = "package/efficientnet_lite1"', ""), "'models.1.id' is missing"),
        ("seed = 3", "'name' is missing"),
        (changed(JOB, "seed = 3", 'seed = "three"'), "'seed'"),
        (changed(JOB, "seed = 3", "seed = [3]"), "'seed'"),
        (changed(JOB, "seed = 3", "seed = 3.5"), "'seed'"),
        (changed(JOB, "seed = 3", "seed = -1"), "'seed'"),
        (changed(JOB, '["blocks.2.1.bn2"]', '"blocks.2.1.bn2"'), "'models.0.taps'"),
        (changed(JOB, '["blocks.2.1.bn2"]', "[]"), "'models.0.taps'"),
        (changed(JOB, '["blocks.2.1.bn2"]', '["a", "b", "a"]'), "'models.0.taps': values appear twice: a"),
        (changed(JOB, '"center"', '"centre"'), "'extraction.reduction'"),
        (changed(JOB, '"two"', '"../two"'), "'name'"),
        (JOB + "\n[comparison]\nmeasures = 1", "'comparison.measures'"),
        (JOB + '\n[comparison]\nmeasures = ["a", "a"]', "'comparison.measures': values appear twice: a"),
        (JOB + "\n[comparison]\nmeasures = []", "'comparison.measures'"),
        (JOB + '\n[comparison]\nmatching = ["best"]', "'comparison.matching.0'"),
        (JOB + "\n[nulls]\nuntrained_seeds = []", "'nulls.untrained_seeds'"),
        (JOB + "\n[nulls]\nuntrained_seeds = [1, 1]", "'nulls.untrained_seeds': values appear twice: 1"),
        (JOB + "\n[stimuli.curves]\ncurvatures = [1.0, 2.0]", "curvatures must contain 0"),
        (JOB + "\n[stimuli.curves]\ncurvatures = [-1.0, 0.0]", "stimuli.curves.curvatures.0"),
        (JOB + "\n[stimuli.curves]\ncurvatures = [0.0]", "'stimuli.curves.curvatures'"),
        (JOB + "\n[stimuli.curves]\ncurvatures = [0.0, nan]", "'stimuli.curves.curvatures.1'"),
        (JOB + "\n[stimuli.curves]\ncurvatures = [0.0, inf]", "'stimuli.curves.curvatures.1'"),
        (JOB + "\n[stimuli.curves]\ncurvatures = [0.0, 3, 3.0]", "values appear twice: 3.0"),
        (JOB + "\n[stimuli.curves]\ncontrast = 0.6", "'stimuli.curves.contrast'"),
        (JOB + "\n[stimuli.curves]\narc_length_deg = 181.0", "'stimuli.curves.arc_length_deg'"),
        (JOB + "\n[stimuli.curves]\njitter = 0", "'stimuli.curves.jitter'"),
        (JOB + "\n[stimuli.curves]\nscale = 0.0", "'stimuli.curves.scale'"),
        (JOB + "\n[stimuli.high_low]\nscale = 2.1", "'stimuli.high_low.scale'"),
        (JOB + "\n[stimuli.curve_controls]\ncurvatures = [0.0]", "'stimuli.curve_controls.curvatures.0'"),
        (JOB + "\n[stimuli.curve_controls]\ncorner_deg = 180.0", "'stimuli.curve_controls.corner_deg'"),
        (JOB + "\n[stimuli.colours]\nhues = 7", "hues must be even"),
        (JOB + "\n[stimuli.rotated]\ncrops = [1, 1]", "values appear twice: 1"),
        (JOB + "\n[stimuli.folder]\nmanifests = 'x'", "'stimuli.folder.manifests'; did you mean 'manifest'"),
        ("seed = " + "[" * 3000 + "]" * 3000 + JOB, "nested too deeply"),
        (changed(JOB, "seed = 3", "seed = " + "[" * 60 + "]" * 60), "'seed'"),
    ],
)
def test_malformed_job_is_refused_in_one_sentence(text, named, write):
    assert named in refused(read_job, write(text), JobError)


def test_deeply_dotted_key_is_refused_in_one_sentence(write):
    refused(read_job, write(changed(JOB, "seed = 3", "seed" + ".a" * 3000 + " = 1")), JobError)


def test_a_model_given_twice_is_refused(write):
    message = refused(read_job, write(changed(JOB, "efficientnet_lite1", "efficientnet_lite0")), JobError)
    assert "values appear twice: package/efficientnet_lite0" in message


def test_long_values_are_cut_in_the_message(write):
    message = refused(read_job, write(changed(JOB, "seed = 3", f'seed = "{"x" * 5000}"')), JobError)
    assert len(message) < 400


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ("channels = 192", "chanels = 192", "'taps.0.chan"),
        ('path = "features.6"', 'path = "features.3"', "values appear twice: features.3"),
        ('activation = "pre"', 'activation = "pre"\ncall = 1', "call 1 is not below calls 1"),
        ('activation = "pre"', 'activation = "before"', "'taps.0.activation'"),
        ("relative_depth = 0.25", "relative_depth = 1.25", "'taps.0.relative_depth'"),
        ("relative_depth = 0.25", "relative_depth = 0.0", "'taps.0.relative_depth'"),
        ("std = [0.229", "std = [0.0", "std must be positive"),
        ("std = [0.229, ", "std = [", "'preprocessing': mean and std have 3 and 2 numbers"),
        ("size_px = 224", "size_px = 4", "'preprocessing.size_px'"),
        ('"7be5be79"', '"7BE5BE79"', "'weights.file_sha256_prefix'"),
        ("[weights]", '[weights]\nstate_dict_sha256 = "abc"', "'weights.state_dict_sha256'"),
        ("[weights]", '[weights]\npackage_file = "../w.pth"', "path '../w.pth' leaves its root"),
        ("[weights]", '[weights]\npackage_file = "a/../../w.pth"', "leaves its root"),
        ("[weights]", '[weights]\npackage_file = "/w.pth"', "path '/w.pth' leaves its root"),
        ("[weights]", "[weights]\npackage_file = 'a\\w.pth'", "leaves its root"),
        ("[weights]", '[weights]\nmapping = "by_luck"', "'weights.mapping'"),
        ('library = "torchvision"', 'library = "keras"', "'library'"),
        ('id = "torchvision/alexnet"', 'id = "alexnet"', "'id'"),
        ('id = "torchvision/alexnet"', 'id = "../torchvision/alexnet"', "'id'"),
        ('licence = "BSD-3-Clause (torchvision)"', "", "'licence' is missing"),
        ("[preprocessing]", "[preprocesing]", "'preprocess"),
    ],
)
def test_malformed_card_is_refused_in_one_sentence(old, new, named, write):
    assert named in refused(read_card, write(changed(ALEXNET, old, new)), CardError)


def test_wrong_kind_of_argument_names_the_key_as_written(write):
    """The key of the message can be searched for in the file: no part of it comes from the validator."""
    text = changed(ALEXNET, "[preprocessing]", "[kwargs]\naux_logits = ['a']\n[preprocessing]")
    assert "key 'kwargs.aux_logits':" in refused(read_card, write(text), CardError)


def test_missing_file_folder_and_binary_file(tmp_path):
    assert "does not exist" in refused(read_job, tmp_path / "none.toml", JobError)
    assert "is a folder" in refused(read_job, tmp_path, JobError)
    binary = tmp_path / "binary.toml"
    binary.write_bytes(b"name = '\xff\xfe'")
    assert "UTF-8" in refused(read_card, binary, CardError)


def test_no_photographs_is_an_empty_stimulus_set(write):
    message = refused(read_job, write(JOB + "\n[stimuli.natural]\ncrops = 0"), StimulusError)
    assert "stimuli.natural.crops" in message


def test_every_refusal_is_of_the_common_kind():
    assert issubclass(JobError, UniversalityError) and issubclass(CardError, UniversalityError)


def test_unknown_tap_suggests_the_nearest(write):
    card = read_card(write(ALEXNET))
    assert card.tap("features.3").channels == 192
    with pytest.raises(CardError, match=r"'torchvision/alexnet' has no tap 'featurs\.3'; did you mean 'features\.3'"):
        card.tap("featurs.3")


def test_tap_is_named_after_its_path_unless_named(write):
    named = read_card(write(changed(ALEXNET, 'path = "features.3"', 'path = "features.3"\nname = "conv2"')))
    assert [tap.name for tap in named.taps[:2]] == ["conv2", "features.6"]
    assert named.tap("conv2").path == "features.3"


@pytest.mark.parametrize("path", ["a", "a/b.c", "a..b", "..a/b", "a/..."])
def test_inner_paths_are_kept(path):
    assert inner_path(path) == path


@pytest.mark.parametrize("path", ["/a", "..", "../a", "a/..", "a/../b", "a\\b", "\\\\host\\a"])
def test_paths_that_leave_their_root_are_refused(path):
    with pytest.raises(ValueError, match="leaves its root"):
        inner_path(path)


def test_architecture_digest_depends_on_the_architecture_only(write):
    card = read_card(write(ALEXNET))
    other_weights = read_card(write(changed(ALEXNET, '"7be5be79"', '"aaaaaaaa"')))
    other_arguments = read_card(write(changed(ALEXNET, "[preprocessing]", "[kwargs]\ndropout = 0.1\n[preprocessing]")))
    assert card.architecture_digest() == other_weights.architecture_digest()
    assert card.digest() != other_weights.digest()
    assert card.architecture_digest() != other_arguments.architecture_digest()


def test_extraction_key_holds_what_decides_the_values():
    def key(**values):
        return ExtractionSpec(**values).key()

    assert key(reduction="mean", batch_size=4) == key(reduction="mean", batch_size=64)
    assert key(reduction="mean", center_radius=0, positions=5) == key(reduction="mean", center_radius=2)
    assert key(reduction="center", center_radius=0) != key(reduction="center", center_radius=1)
    assert key(reduction="positions", positions=5) != key(reduction="positions", positions=3)
    assert key(reduction="mean", dtype="float64") != key(reduction="mean")
    assert len({digest(key(reduction=name)) for name in ("center", "mean", "max", "positions")}) == 4


def test_parse_and_validate_raise_the_kind_they_are_asked_for():
    with pytest.raises(StimulusError, match=r"thing 'nowhere\.toml' does not exist"):
        parse_toml(Path("nowhere.toml"), "thing", StimulusError)
    with pytest.raises(StimulusError, match="place: unknown key 'curvature'; did you mean 'curvatures'"):
        validate(CurveStimuli, {"curvature": [0, 1]}, "place", StimulusError)


half_pixels = st.integers(-200, 1200).map(lambda doubled: doubled / 2)


@given(
    start=half_pixels, stride=st.integers(1, 64), size=st.integers(1, 60), position=half_pixels | st.floats(-500, 900)
)
def test_index_at_is_the_nearest_centre(start, stride, size, position):
    """Ties go to the lower index, positions outside to the nearest end: argmin over all centres does just that."""
    tap = Tap(
        path="a",
        activation="post",
        channels=1,
        size=size,
        rf_px=1,
        stride_px=stride,
        rf_start_px=start,
        relative_depth=1.0,
    )
    distances = [abs(start + stride * index - position) for index in range(size)]
    came = tap.index_at(position)
    assert 0 <= came < size
    if (2 * position).is_integer():
        assert came == distances.index(min(distances))
    else:  # rounding may break a near tie either way
        assert distances[came] == pytest.approx(min(distances), abs=1e-9)


@given(start=half_pixels, stride=st.integers(1, 64), size=st.integers(1, 60), side=st.integers(8, 600))
def test_center_index_is_nearest_the_middle(start, stride, size, side):
    tap = Tap(
        path="a",
        activation="pre",
        channels=1,
        size=size,
        rf_px=1,
        stride_px=stride,
        rf_start_px=start,
        relative_depth=0.5,
    )
    distances = [abs(start + stride * index - (side - 1) / 2) for index in range(size)]
    assert tap.center_index(side) == distances.index(min(distances))


def test_description_of_families_names_every_family():
    said = str(ComparisonSpec.model_fields["families"].description)
    assert all(name in said for name in FAMILIES)


def test_a_mark_at_the_beginning_of_a_file_is_no_content(tmp_path):
    path = tmp_path / "job.toml"
    path.write_text(JOB, encoding="utf-8-sig")
    assert read_job(path) == read_job(_written(tmp_path / "plain.toml", JOB))


@pytest.mark.parametrize("folder", [r"C:\Users\me", r"\\server\share", r"D:\new"])
def test_a_path_of_windows_in_double_quotes_is_recognised(tmp_path, folder):
    path = _written(tmp_path / "job.toml", f'{JOB}\n[stimuli.folder]\nmanifest = "{folder}\\images.tsv"\n')
    with pytest.raises(JobError, match="write paths in single quotes"):
        read_job(path)


def _written(path, text):
    path.write_text(text, encoding="utf-8")
    return path
