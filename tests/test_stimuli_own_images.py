"""One's own images: what a manifest lists of a folder, what belongs together, and jobs that show them or rest on them alone."""

import hashlib
import os
import warnings
import zlib

import numpy as np
import pytest
import torch
from PIL import Image, ImageFile
from rounding import float32_slack
from undrawn import draw_no_figures

import universality
from universality.base.errors import StimulusError
from universality.models import catalogue, zoo
from universality.report import cautions, page
from universality.runs.job import read_job
from universality.runs.networks import networks_of
from universality.stimuli import image_files, manifest, sets
from universality.stimuli.natural import NaturalStimuli
from universality.stimuli.spec import StimuliSpec

JOB = """
name = "own_images"
pairs = []

[[models]]
id = "pocket/vgg-focus-s0"
taps = ["features.4"]

[[models]]
id = "pocket/vgg-focus-s1"
taps = ["features.4"]

[stimuli.natural]
crops = 0
shapes = 32

[stimuli.high_low]
orientations = 8
phases = 1

[stimuli.folder]
manifest = "{manifest}"

[extraction]
reduction = "center"

[comparison]
families = ["high_low_frequency"]
measures = ["cka_linear_debiased"]
bootstraps = 100

[nulls]
calibration_crops = 32
"""


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    root = tmp_path_factory.mktemp("own")
    rng = np.random.default_rng(0)
    for place in ("leaf/a.png", "leaf/b.png", "stone/c.png"):
        (root / "photos" / place).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(root / "photos" / place)
    manifest_path = manifest.write(root / "photos").path
    (root / "job.toml").write_text(JOB.format(manifest=manifest_path.as_posix()), encoding="utf-8")
    return read_job(root / "job.toml"), _without_figures(root), root


def _without_figures(root):
    with pytest.MonkeyPatch.context() as patch:
        draw_no_figures(patch)
        return universality.run(root / "job.toml", root / "run", store=root / "store")


def test_activations_of_the_folder_are_those_of_a_plain_forward_pass(own):
    job, run, _ = own
    shown = run.activations("pocket/vgg-focus-s1", "features.4", "folder")
    assert list(shown.file.values) == ["leaf/a.png", "leaf/b.png", "stone/c.png"]
    assert list(shown.label.values) == ["leaf", "leaf", "stone"]
    card = catalogue.card("pocket/vgg-focus-s1")
    images = sets.normalise(sets.render("folder", job.stimuli, 64).values, card.preprocessing)
    layers = zoo.pretrained(card).features[:5]
    with torch.inference_mode():
        maps = layers(torch.from_numpy(images)).numpy()
    middle = card.tap("features.4").center_index(64)
    around = slice(middle - 1, middle + 2)
    terms = sum(layer.weight[0].numel() for layer in layers if isinstance(layer, torch.nn.Conv2d))
    slack = float32_slack(maps, terms)
    np.testing.assert_allclose(shown.values, maps[:, :, around, around].max(axis=(2, 3)), rtol=0, atol=slack)


def test_untrained_twins_see_the_folder_too(own):
    _, run, _ = own
    trained, twin = (run.activations("pocket/vgg-focus-s0", "features.4", "folder", seed=seed) for seed in (None, 0))
    assert trained.shape == twin.shape == (3, 32) and not np.allclose(trained.values, twin.values)


def test_the_folder_decides_no_match_and_no_other_number(own, tmp_path):
    """The same job without the folder gives the same tables."""
    job, run, root = own
    without = job.model_copy(update={"stimuli": StimuliSpec(**{**dict(job.stimuli), "folder": StimuliSpec().folder})})
    other = universality.run(without, tmp_path / "run", store=root / "store")
    assert run.units.equals(other.units) and run.families.equals(other.families)
    assert {entry["stimuli"] for entry in other.record["stores"]} == {"natural", "high_low"}


def test_a_job_without_pairs_has_families_findings_and_a_report(own):
    _, run, _ = own
    assert len(run.families) == 2 and len(run.correspondence) == len(run.similarity) == len(run.pairs) == 0
    assert (run.path / "report.html").stat().st_size > 10_000
    assert {finding.topic for finding in universality.findings(run)} >= {"detectors"}


# Manifests


def picture(path, seed=0, size=(20, 24), **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path, **options)
    return pixels


def files_of(written):
    return [row.file for row in manifest.read(str(written.path)).rows]


def test_what_programs_leave_is_passed_over_and_counted_by_kind(tmp_path):
    for seed, name in enumerate(
        ("a/1.png", "b/2.png", "a/.ipynb_checkpoints/1-checkpoint.png", "__MACOSX/1.png", ".trash/1.png")
    ):
        picture(tmp_path / name, seed)
    for name in ("a/._1.png", "b/._2.png", "b/Thumbs.db", ".DS_Store", "notes.TXT", "more.txt", "README"):
        (tmp_path / name).write_bytes(b"x")
    written = manifest.write(tmp_path)
    assert files_of(written) == ["a/1.png", "b/2.png"]
    assert written.ignored == {
        "._*": 2, ".ipynb_checkpoints": 1, "__MACOSX": 1, "Thumbs.db": 1, ".DS_Store": 1, "other names with a dot before": 1,
    }  # fmt: skip
    assert written.skipped == {".txt": 2, "without suffix": 1}
    assert "skipped, no images: 2 .txt, 1 without suffix" in written.summary()


def test_links_are_followed_and_circles_end(tmp_path):
    picture(tmp_path / "elsewhere/deep/1.png", 1)
    picture(tmp_path / "photos/own/2.png", 2)
    for name, target in {"linked": "elsewhere", "again": "photos/own", "up": ".", "own/self": "photos/own"}.items():
        (tmp_path / "photos" / name).symlink_to(tmp_path / target, target_is_directory=True)
    (tmp_path / "photos/file.png").symlink_to(tmp_path / "elsewhere/deep/1.png")
    (tmp_path / "elsewhere/back").symlink_to(tmp_path / "photos", target_is_directory=True)
    written = manifest.write(tmp_path / "photos")
    assert files_of(written) == ["file.png", "linked/deep/1.png", "own/2.png"]
    assert written.ignored == {"links to a folder that is listed or holds this one": 4}


def test_every_broken_file_is_named_in_one_error_and_can_be_left_out(tmp_path):
    picture(tmp_path / "good.png")
    for k in range(12):
        (tmp_path / f"bad{k:02d}.jpg").write_bytes(b"\xff\xd8\xff\xe0" + bytes(50))
    (tmp_path / "lost.png").symlink_to(tmp_path / "gone.png")
    with pytest.raises(
        StimulusError, match=r"13 of 14 images of .* cannot be used: .*bad00.*bad09.*, and 3 more; .*--skip-broken"
    ) as caught:
        manifest.write(tmp_path)
    assert "bad10" not in str(caught.value) and "\n" not in str(caught.value)
    written = manifest.write(tmp_path, skip_broken=True)
    assert files_of(written) == ["good.png"] and len(written.left_out) == 13
    assert "No such file" in written.left_out["lost.png"]


def chunk(name, body, checksum=None):
    checksum = zlib.crc32(name + body) if checksum is None else checksum
    return len(body).to_bytes(4, "big") + name + body + checksum.to_bytes(4, "big")


def test_pixels_count_where_metadata_cannot_be_read(tmp_path):
    """EXIF that is none, and a text of a PNG with a wrong checksum: the pictures are those of the files without."""
    plain = picture(tmp_path / "exif.png", 1, exif=b"Exif\0\0no TIFF at all")
    picture(tmp_path / "text.png", 1)
    content = (tmp_path / "text.png").read_bytes()
    (tmp_path / "text.png").write_bytes(content[:33] + chunk(b"tEXt", b"Comment\0x", checksum=7) + content[33:])
    picture(tmp_path / "whole.png", 1)
    written = manifest.write(tmp_path)
    assert written.images == 3 and set(written.odd) == {"exif.png", "text.png"}
    assert "warning: 2 used as stored" in written.summary()
    for name in files_of(written):
        assert (np.asarray(manifest.read(str(tmp_path)).image(name)) == plain).all()


def test_pixels_with_a_wrong_checksum_are_no_metadata(tmp_path):
    picture(tmp_path / "a.png")
    content = bytearray((tmp_path / "a.png").read_bytes())
    content[60] ^= 255
    (tmp_path / "a.png").write_bytes(bytes(content))
    with pytest.raises(StimulusError, match="1 of 1 images"):
        manifest.write(tmp_path)


def opens(path):
    """Whether Pillow saves a picture under this name and loads it again."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # formats that Pillow will drop
        try:
            Image.new("RGB", (32, 32)).save(path)
            with Image.open(path) as image:
                image.load()
        except (OSError, ValueError, KeyError, AttributeError, TypeError):
            return False
    return True


def test_every_suffix_that_pillow_writes_and_reads_is_listed(tmp_path):
    """What Pillow saves under a suffix and loads again is an image here (but not what another program draws); a stub is none."""
    known = Image.registered_extensions()
    loads = {suffix for suffix, name in known.items() if name != "EPS" and opens(tmp_path / f"a{suffix}")}
    assert {".png", ".jpg", ".jfif", ".tga", ".webp"} <= loads <= set(image_files.suffixes())
    for suffix in image_files.suffixes():
        opener = Image.OPEN.get(known[suffix], (None,))[0]
        assert not (isinstance(opener, type) and issubclass(opener, ImageFile.StubImageFile)), suffix


def test_the_manifest_may_lie_elsewhere(tmp_path):
    pixels = picture(tmp_path / "photos/a/1.png", size=(16, 16))
    before = sorted(tmp_path.joinpath("photos").rglob("*"))
    written = manifest.write(tmp_path / "photos", tmp_path / "lists" / "mine.toml")
    assert sorted(tmp_path.joinpath("photos").rglob("*")) == before
    spec = StimuliSpec(natural=NaturalStimuli(crops=0, folders=(str(written.path),)))
    shown = sets.render("natural", spec, 16).values[0]
    np.testing.assert_array_equal(np.rint(np.moveaxis(shown, 0, 2) * 255), pixels)
    beside = manifest.write(tmp_path / "photos")
    same = StimuliSpec(natural=NaturalStimuli(crops=0, folders=(str(beside.path.parent),)))
    assert sets.stimulus_digest("natural", same) == sets.stimulus_digest("natural", spec)


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="folders cannot be made read-only for this user")
def test_a_folder_that_cannot_be_written_names_the_remedy(tmp_path):
    picture(tmp_path / "photos/1.png")
    (tmp_path / "photos").chmod(0o555)
    try:
        with pytest.raises(
            StimulusError, match=r"cannot be written \(Permission denied\); name another place with --out"
        ):
            manifest.write(tmp_path / "photos")
    finally:
        (tmp_path / "photos").chmod(0o755)


# What belongs together


def rows(*images):
    """Rows of a manifest: (file, group, fold, content)."""
    return [
        manifest.ManifestImage(
            file=file, group=group, fold=fold, sha256=hashlib.sha256((content or file).encode()).hexdigest()
        )
        for file, group, fold, content in images
    ]


def divided(images):
    listed = rows(*images)
    groups = manifest.groups_of(listed, [row.file for row in listed])
    return groups, manifest.folds_of(listed, groups)


def test_groups_stay_whole_and_folds_are_even_whatever_the_order():
    rng = np.random.default_rng(0)
    images = [(f"{k}.png", f"video {k % 9}" if k % 4 else "", None, "") for k in range(120)]
    groups, fold = divided(images)
    assert abs(int((fold == 0).sum()) - int((fold == 1).sum())) <= 1
    of = dict(zip(groups, fold.tolist(), strict=True))
    assert [of[group] for group in groups] == fold.tolist()
    assert groups[0] == "0.png" and groups[1] == "video 1"
    order = rng.permutation(120)
    shuffled, other = divided([images[k] for k in order])
    assert shuffled == [groups[k] for k in order] and (other == fold[order]).all()


def test_stated_folds_are_kept_and_the_others_fill_up():
    images = [(f"{k}.png", "", 1 if k < 6 else None, "") for k in range(12)]
    _, fold = divided(images)
    assert fold.tolist() == [1] * 6 + [0] * 6


def test_equal_files_are_one_group_and_join_theirs():
    groups, fold = divided(
        [
            ("a.png", "", None, "same"),
            ("b.png", "", None, "same"),
            ("c.png", "x", None, "twin"),
            ("d.png", "y", None, "twin"),
            ("e.png", "", None, ""),
        ]
    )
    assert groups == ["a.png", "a.png", "x", "x", "e.png"] and fold[0] == fold[1] and fold[2] == fold[3]


def test_a_group_in_both_folds_is_refused_by_name():
    with pytest.raises(StimulusError, match=r"group 'Ada' has images in both folds \('a.png' in 0, 'b.png' in 1\)"):
        divided([("a.png", "Ada", 0, ""), ("b.png", "Ada", 1, "")])


def natural(**values):
    return StimuliSpec(natural=NaturalStimuli(**{"crops": 0, **values}))


def photos(root, count=8, groups=4, fold=None):
    """A folder of pictures, `groups` sub-folders."""
    for k in range(count):
        picture(root / f"g{k % groups}" / f"{k}.png", seed=k)
    path = manifest.write(root, group_by_folder=True).path
    if fold is not None:
        path.write_text(path.read_text(encoding="utf-8").replace("sha256", f"fold = {fold}\nsha256"), encoding="utf-8")
    return str(root)


def test_sub_folders_are_the_photographs_of_the_natural_set(tmp_path):
    table = sets.parameters("natural", natural(folders=(photos(tmp_path),)))
    assert (
        table["photograph"].values.tolist()
        == table["label"].values.tolist()
        == ["g0", "g0", "g1", "g1", "g2", "g2", "g3", "g3"]
    )
    assert sorted(table["fold"].values.tolist()) == [0] * 4 + [1] * 4


def test_own_images_join_crops_and_shapes_without_touching_them(tmp_path):
    alone, joined = natural(crops=5, shapes=3), natural(crops=5, shapes=3, folders=(photos(tmp_path),))
    before, after = sets.parameters("natural", alone), sets.parameters("natural", joined)
    for name in before.coords:
        np.testing.assert_array_equal(after[name].values[:8], before[name].values)
    pixels = sets.render("natural", joined, 24).values
    np.testing.assert_array_equal(pixels[:8], sets.render("natural", alone, 24).values)
    np.testing.assert_array_equal(pixels[8:], sets.render("natural", natural(folders=(str(tmp_path),)), 24).values)
    np.testing.assert_array_equal(sets.render("natural", joined, 24, np.array([9, 2, 6])).values, pixels[[9, 2, 6]])


def test_files_of_one_name_in_two_folders_are_two(tmp_path):
    for name, seed in (("one", 1), ("two", 2)):
        picture(tmp_path / name / "a.png", seed)
        manifest.write(tmp_path / name)
    table = sets.parameters("natural", natural(folders=(str(tmp_path / "one"), str(tmp_path / "two"))))
    assert table["photograph"].values.tolist() == ["1/a.png", "2/a.png"] and set(table["fold"].values.tolist()) == {
        0,
        1,
    }


def test_the_key_follows_content_and_groups_and_not_the_place(tmp_path):
    one, two = (natural(folders=(photos(tmp_path / name),)) for name in ("one", "two"))
    key = sets.stimulus_digest("natural", one)
    assert key == sets.stimulus_digest("natural", two) != sets.stimulus_digest("natural", natural(shapes=8))
    assert key != sets.stimulus_digest("natural", natural(folders=(str(tmp_path / "one"),), images=6))
    assert sets.rows_digest("natural", one, range(0, 4)) == sets.rows_digest("natural", two, range(0, 4))
    path = tmp_path / "two/manifest.toml"
    path.write_text(path.read_text(encoding="utf-8").replace('group = "g3"', 'group = "g2"'), encoding="utf-8")
    assert key != sets.stimulus_digest("natural", two)


@pytest.mark.parametrize(
    ("groups", "fold", "match"),
    [(2, None, "fold 0 .* holds one group"), (4, 1, "fold 0 .* which decides matches, holds no image")],
)
def test_folds_that_cannot_decide_or_score_are_refused(tmp_path, groups, fold, match):
    spec = natural(folders=(photos(tmp_path, groups=groups, fold=fold),))
    with pytest.raises(StimulusError, match=match):
        sets.refuse("natural", spec, 32)


def test_a_folder_without_a_manifest_names_the_command(tmp_path):
    with pytest.raises(StimulusError, match="universality stimuli manifest"):
        sets.parameters("natural", natural(folders=(str(tmp_path),)))


# Jobs whose natural images are one's own


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    root = tmp_path_factory.mktemp("alone")
    photos(root / "photos", count=36, groups=12)
    text = JOB.replace("shapes = 32", f'shapes = 0\nfolders = ["{(root / "photos").as_posix()}"]').replace(
        "pairs = []\n", ""
    )
    text = text[: text.index("[stimuli.folder]")] + text[text.index("[extraction]") :]
    (root / "job.toml").write_text(text.replace("calibration_crops = 32", "calibration_crops = 48"), encoding="utf-8")
    return _without_figures(root)


def test_own_images_decide_score_and_calibrate(alone):
    shown = alone.activations("pocket/vgg-focus-s0", "features.4")
    assert shown.sizes["stimulus"] == 36 and set(shown.label.values) == {f"g{k}" for k in range(12)}
    assert len(alone.correspondence) and set(alone.correspondence["n_match"]) == set(
        alone.correspondence["n_score"]
    ) == {18}
    twin = next(network for network in networks_of(alone.job) if network.seed is not None)
    assert (
        twin.calibration.natural.images == 36 and twin.calibration.natural.crops + twin.calibration.natural.shapes == 0
    )
    units = alone.units[(alone.units["model"] == "pocket/vgg-focus-s0") & (alone.units["seed"] == -1)]
    sigma = shown.values.astype(float).std(axis=0)
    live = units["live"].to_numpy()
    relative = sigma[units["unit"].to_numpy()] / np.median(sigma[units["unit"].to_numpy()[live]])
    np.testing.assert_allclose(units["relative_sigma"].to_numpy()[live], relative[live], rtol=1e-4)


def test_the_report_says_what_the_natural_images_are(alone):
    assert page.natural_images(alone.job.stimuli.natural) == "36 own images, listed in 'photos'"
    text = (alone.path / "report.html").read_text(encoding="utf-8")
    assert "36 own images, listed in" in text and "of own images groups" in text and "natural 0: " in text
    assert any("18 of your own images in only 6 groups" in said for said in cautions.cautions(alone))
