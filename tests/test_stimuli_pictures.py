"""Turned crops and folders of images: turned by other means, read by other means, and every bad file refused."""

import hashlib
import io
import sys

import numpy as np
import pytest
import scipy.ndimage
import xarray as xr
from PIL import Image
from typer.testing import CliRunner

from universality.base.errors import StimulusError
from universality.cli import app
from universality.stimuli import manifest, natural, rotated, sets
from universality.stimuli.folder import FolderStimuli
from universality.stimuli.natural import NaturalStimuli
from universality.stimuli.rotated import RotatedStimuli
from universality.stimuli.spec import StimuliSpec

SIZE = 64


def turned(crops=(0, 4), angles=8, **changes):
    return StimuliSpec(rotated=RotatedStimuli(crops=crops, orientations=angles, **changes))


def radius(size):
    axis = np.arange(size) - (size - 1) / 2
    return np.hypot(axis[:, None], axis[None, :])


# Turned crops


def test_rotated_table_names_crops_of_the_natural_set():
    table = sets.parameters("rotated", turned(crops=(30, 2), angles=3, seed=5))
    crops = sets.parameters("natural", StimuliSpec(natural=NaturalStimuli(crops=31, seed=5)))
    assert table["crop"].values.tolist() == [30] * 3 + [2] * 3
    assert table["angle_deg"].values.tolist() == [0.0, 120.0, 240.0] * 2
    for name in ("photograph", "fold", "crop_x_px", "crop_y_px", "crop_side_px"):
        assert (table[name].values == crops[name].values[table["crop"].values]).all()


def test_at_angle_0_a_rotated_crop_is_the_natural_crop_behind_a_disc():
    images = sets.render("rotated", turned(crops=(0, 4, 7), angles=2), SIZE)[::2].values
    crops = sets.render("natural", StimuliSpec(), SIZE, np.array([0, 4, 7])).values
    inside, outside = radius(SIZE) < 0.475 * SIZE - 1, radius(SIZE) > 0.475 * SIZE + 1
    # A crop at the photograph's edge is resampled with what lies beyond it, so the last rows may differ by a step.
    np.testing.assert_allclose(images[..., inside], crops[..., inside], atol=1.5 / 255)
    assert (images[..., outside] == 0.5).all()


@pytest.mark.parametrize("size", [63, 64])
def test_quarter_turns_only_exchange_pixels(size):
    images = sets.render("rotated", turned(angles=4), size).values
    for first in (0, 4):
        for quarter in range(4):
            expected = np.rot90(images[first], k=-quarter, axes=(1, 2))  # clockwise
            np.testing.assert_allclose(images[first + quarter], expected, atol=1e-6)


@pytest.mark.parametrize("step", [1, 3, 5, 10])
def test_turned_crop_is_what_another_rotation_makes_of_it(step):
    """SciPy's cubic spline turns against the clock as seen with y down, so its angle is minus ours."""
    images = sets.render("rotated", turned(crops=(0, 3), angles=12), SIZE).values
    inside = radius(SIZE) < 0.475 * SIZE - 4
    for first in (0, 12):
        source, came = images[first], images[first + step]
        right, wrong = (
            scipy.ndimage.rotate(source, sign * 30 * step, axes=(1, 2), reshape=False, order=3) for sign in (-1, 1)
        )
        errors = [np.abs(other - came)[:, inside].mean() for other in (right, wrong)]
        assert errors[0] < 0.02
        assert errors[0] < errors[1] / 4


def test_nothing_empty_shows_in_the_disc_at_any_angle(monkeypatch):
    """A white photograph stays white to the rim of the disc, also in the crop that is the whole photograph."""
    white = Image.new("RGB", (1200, 1200), "white")
    monkeypatch.setattr(natural, "load_photograph", lambda name: white)
    rotated._with_margin.cache_clear()
    spec = turned(crops=(0, 1), angles=9, aperture=1.0, min_side_px=2000)
    images = sets.render("rotated", spec, 33).values
    rotated._with_margin.cache_clear()
    shown = np.clip(0.5 - (radius(33) - 33 / 2), 0, 1)
    np.testing.assert_allclose(images, np.broadcast_to(0.5 + 0.5 * shown, images.shape), atol=1e-6)


def test_rotated_crops_show_the_same_picture_at_two_sizes():
    small, large = (sets.render("rotated", turned(angles=5), size).values for size in (48, 96))
    back = large.reshape(*large.shape[:2], 48, 2, 48, 2).mean(axis=(3, 5))
    for one, other in zip(back, small, strict=True):
        assert np.corrcoef(one.ravel(), other.ravel())[0, 1] > 0.98


def test_rotated_rows_can_be_drawn_in_any_order():
    spec = turned(crops=(2, 9), angles=6)
    everything = sets.render("rotated", spec, 32)
    rows = np.array([11, 0, 7, 0, 5])
    xr.testing.assert_identical(sets.render("rotated", spec, 32, rows), everything[rows])
    assert everything.dtype == np.float32


# Folders


RNG = np.random.default_rng(0)
COLOURED = RNG.integers(0, 256, (40, 60, 3), dtype=np.uint8)


def save(path, array=COLOURED, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = array if isinstance(array, Image.Image) else Image.fromarray(array)
    image.save(path, **options)
    return path


def folder_spec(path):
    return StimuliSpec(folder=FolderStimuli(manifest=str(path)))


def listed(root, *names, extra=""):
    """A manifest by hand."""
    rows = [
        f'[[image]]\nfile = "{n}"\nsha256 = "{hashlib.sha256((root / n).read_bytes()).hexdigest()}"\n{extra}'
        for n in names
    ]
    path = root / "mine.toml"
    path.write_text("\n".join(rows), encoding="utf-8")
    return folder_spec(path)


def shown(root, array, name="a.png", size=40, **options):
    """What becomes of one file: (y, x, channel) in 0 to 255."""
    save(root / name, array, **options)
    return np.moveaxis(sets.render("folder", listed(root, name), size).values[0], 0, 2) * 255


def test_written_manifest_makes_the_folder_a_set(tmp_path):
    # Under the locale C a process can name files in ASCII only.
    odd = 'dogs/u "x".png' if sys.getfilesystemencoding() == "ascii" else 'dogs/ü "x".png'
    for name in ("b.png", "cats/one.png", "cats/deep/two.PNG", odd):
        save(tmp_path / name)
    (tmp_path / "notes.txt").write_text("no image")
    written = manifest.write(tmp_path)
    path = written.path
    table = sets.parameters("folder", folder_spec(path))
    assert written.images == 4
    assert table["file"].values.tolist() == ["b.png", "cats/deep/two.PNG", "cats/one.png", odd]
    assert table["label"].values.tolist() == ["", "cats", "cats", "dogs"]
    assert (table["fold"].values == -1).all()
    images = sets.render("folder", folder_spec(path), 20)
    assert images.dims == ("stimulus", "channel", "y", "x")
    xr.testing.assert_identical(sets.render("folder", folder_spec(path), 20, np.array([2, 0])), images[[2, 0]])


def test_manifest_states_fold_and_label(tmp_path):
    save(tmp_path / "a.png")
    table = sets.parameters("folder", listed(tmp_path, "a.png", extra='fold = 1\nlabel = "leaf"'))
    assert table["fold"].values.tolist() == [1]
    assert table["label"].values.tolist() == ["leaf"]


def test_the_centred_square_is_cut_and_resampled(tmp_path):
    np.testing.assert_allclose(shown(tmp_path, COLOURED), COLOURED[:, 10:50], atol=1e-3)
    tall = np.ascontiguousarray(COLOURED.transpose(1, 0, 2))
    np.testing.assert_allclose(shown(tmp_path, tall), tall[10:50], atol=1e-3)
    resized = Image.fromarray(COLOURED[:, 10:50]).resize((16, 16), Image.Resampling.BICUBIC)
    np.testing.assert_allclose(shown(tmp_path, COLOURED, size=16), np.asarray(resized), atol=1.001)


@pytest.mark.parametrize(
    ("orientation", "upright"),
    [
        (1, lambda a: a), (2, lambda a: a[:, ::-1]), (3, lambda a: a[::-1, ::-1]), (4, lambda a: a[::-1]),
        (5, lambda a: a.transpose(1, 0, 2)), (6, lambda a: np.rot90(a, -1)),
        (7, lambda a: a[::-1, ::-1].transpose(1, 0, 2)), (8, lambda a: np.rot90(a)),
    ],
)  # fmt: skip
def test_exif_orientation_is_applied(tmp_path, orientation, upright):
    square = COLOURED[:, :40]
    exif = Image.Exif()
    exif[0x0112] = orientation
    np.testing.assert_allclose(shown(tmp_path, square, exif=exif), upright(square), atol=1e-3)


def in_mode(mode):
    """A picture of 40 x 40 px in which the first channel tells its sides apart."""
    first = np.ascontiguousarray(COLOURED[:, :40, 0])
    if mode == "RGBA":
        return np.stack([first, first, first, np.full_like(first, 255)], axis=2)
    return first.astype(np.uint16) * 257 if mode == "I;16" else first


@pytest.mark.parametrize("mode", ["L", "I;16", "RGBA"])
def test_exif_orientation_is_applied_in_every_mode(tmp_path, mode):
    exif = Image.Exif()
    exif[0x0112] = 6
    came = shown(tmp_path, in_mode(mode), exif=exif)
    np.testing.assert_allclose(came[..., 0], np.rot90(in_mode("L"), -1), atol=1e-3)


def test_grey_becomes_three_equal_channels(tmp_path):
    grey = np.ascontiguousarray(COLOURED[:, :40, 0])
    np.testing.assert_allclose(shown(tmp_path, grey), np.repeat(grey[:, :, None], 3, axis=2), atol=1e-3)


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_16_bit_grey_is_divided_by_257(tmp_path, name):
    deep = np.arange(40 * 40, dtype=np.uint16).reshape(40, 40) * 40
    came = shown(tmp_path, deep, name)
    np.testing.assert_allclose(came[..., 0], np.rint(deep / 257), atol=1e-3)
    assert np.ptp(came) > 240


def test_transparency_is_laid_on_grey(tmp_path):
    above = np.concatenate([COLOURED[:, :40], np.full((40, 40, 1), 255, np.uint8)], axis=2)
    above[:20, :, 3] = 0
    above[20:30, :, 3] = 51
    came = shown(tmp_path, above)
    assert (np.rint(came[:20]) == 128).all()
    np.testing.assert_allclose(came[20:30], 0.8 * 128 + 0.2 * COLOURED[20:30, :40], atol=1.01)
    np.testing.assert_allclose(came[30:], COLOURED[30:, :40], atol=1e-3)


def test_palette_and_first_frame(tmp_path):
    red, blue = (Image.new("P", (40, 40), 0) for _ in range(2))
    red.putpalette([200, 10, 20] + [0] * 765)
    blue.putpalette([0, 0, 255] + [0] * 765)
    came = shown(tmp_path, red, "a.gif", save_all=True, append_images=[blue])
    assert np.unique(np.rint(came).reshape(-1, 3), axis=0).tolist() == [[200, 10, 20]]


def test_digest_follows_the_content_and_not_the_place(tmp_path):
    specs = []
    for name in ("one", "two"):
        save(tmp_path / name / "a.png")
        specs.append(folder_spec(manifest.write(tmp_path / name).path))
    first, second = (sets.stimulus_digest("folder", spec) for spec in specs)
    assert first == second != sets.stimulus_digest("folder", StimuliSpec())
    save(tmp_path / "two" / "a.png", COLOURED[::-1])
    (tmp_path / "two" / "manifest.toml").unlink()
    manifest.write(tmp_path / "two")
    assert sets.stimulus_digest("folder", specs[1]) != first


# Folders: refusals


def refused(action, match):
    with pytest.raises(StimulusError, match=match) as caught:
        action()
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500


def test_changed_and_missing_files_are_refused(tmp_path):
    save(tmp_path / "a.png")
    spec = listed(tmp_path, "a.png")
    save(tmp_path / "a.png", COLOURED[::-1])
    refused(lambda: sets.render("folder", spec, 16), r"a.png' has SHA-256 .* its manifest states .* restore the file")
    (tmp_path / "a.png").unlink()
    refused(lambda: sets.render("folder", spec, 16), r"a.png' cannot be read \(No such file or directory\)")


@pytest.mark.parametrize("name", ["../outside.png", "/outside.png", "x/../../outside.png", "x\\\\..\\\\outside.png"])
def test_paths_that_leave_the_folder_are_refused(tmp_path, name):
    path = tmp_path / "m.toml"
    path.write_text(f'[[image]]\nfile = "{name}"\nsha256 = "{"0" * 64}"\n')
    refused(lambda: sets.parameters("folder", folder_spec(path)), "image.0.file.*leaves its root")


def test_a_link_out_of_the_folder_shows_the_file_that_was_listed_and_no_other(tmp_path):
    outside = save(tmp_path / "outside.png")
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "a.png").symlink_to(outside)
    spec = folder_spec(manifest.write(tmp_path / "inner").path)
    assert (sets.render("folder", spec, 16) == sets.render("folder", listed(tmp_path, "outside.png"), 16)).all()
    save(outside, COLOURED[::-1])
    refused(lambda: sets.render("folder", spec, 16), "inner/a.png' has SHA-256")


def broken_files():
    whole = io.BytesIO()
    Image.fromarray(RNG.integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(whole, "PNG")
    png, jpeg = whole.getvalue(), io.BytesIO()
    Image.fromarray(COLOURED).save(jpeg, "JPEG")
    return {
        "empty": b"",
        "text": b"no image at all",
        "cut": png[: len(png) // 2],
        "header only": png[:30],
        "flipped": png[:200] + bytes(255 - b for b in png[200:300]) + png[300:],
        "cut jpeg": jpeg.getvalue()[:300],
    }


@pytest.mark.parametrize("kind", broken_files())
def test_broken_images_are_refused(tmp_path, kind):
    (tmp_path / "a.png").write_bytes(broken_files()[kind])
    spec = listed(tmp_path, "a.png")
    refused(lambda: sets.render("folder", spec, 16), r"a.png' is no image that can be decoded \(.*replace or drop it")
    refused(lambda: manifest.write(tmp_path), r"a.png' is no image that can be decoded")


@pytest.mark.parametrize("limit", [39 * 60, 10 * 60])
def test_pillows_limit_is_respected(tmp_path, monkeypatch, limit):
    """Just above it, where Pillow warns, and far above it, where it raises."""
    save(tmp_path / "a.png")
    spec = listed(tmp_path, "a.png")
    sets.render("folder", spec, 16)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    refused(lambda: sets.render("folder", spec, 16), f"more than {limit} pixels, Pillow's limit.*scale it down")
    refused(lambda: manifest.write(tmp_path), "Pillow's limit")


def test_values_without_a_known_range_are_refused(tmp_path):
    save(tmp_path / "a.tif", Image.fromarray(np.ones((20, 20), np.float32)))
    refused(lambda: sets.render("folder", listed(tmp_path, "a.tif"), 16), "mode F that are neither 8 nor 16 bits")
    save(tmp_path / "b.tif", Image.fromarray(np.full((20, 20), 70_000, np.int32)))
    refused(lambda: sets.render("folder", listed(tmp_path, "b.tif"), 16), "mode I that are neither 8 nor 16 bits")


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("", "key 'image' is missing"),
        ("image = []", "key 'image'"),
        ("[[image]]\nfile = 'a.png'", "key 'image.0.sha256' is missing"),
        (f"[[image]]\nfile = 'a.png'\nsha256 = '{'0' * 63}'", "key 'image.0.sha256'"),
        (f"[[image]]\nfile = 'a.png'\nsha256 = '{'0' * 64}'\nfold = 2", "key 'image.0.fold'"),
        (f"[[image]]\nfile = ''\nsha256 = '{'0' * 64}'", "key 'image.0.file'"),
        (f"[[image]]\nfile = 'a.png'\nsha256 = '{'0' * 64}'\nfolds = 1", "folds'; did you mean 'fold'"),
        (f"[[image]]\nfile = 'a.png'\nsha256 = '{'0' * 64}'\n" * 2, "'a.png' is listed twice"),
        ("[[image", "not valid TOML"),
    ],
)
def test_malformed_manifests_are_refused(tmp_path, text, match):
    (tmp_path / "m.toml").write_text(text)
    refused(lambda: sets.parameters("folder", folder_spec(tmp_path / "m.toml")), match)


def test_missing_manifest_is_refused(tmp_path):
    refused(lambda: sets.parameters("folder", folder_spec(tmp_path / "none.toml")), "none.toml' does not exist")
    refused(lambda: sets.parameters("folder", StimuliSpec()), "'folder' is empty.*stimuli.folder.manifest")


def test_a_manifest_is_not_written_over_nor_without_images(tmp_path):
    refused(lambda: manifest.write(tmp_path / "none"), "is no folder")
    refused(lambda: manifest.write(tmp_path), "holds no image")
    save(tmp_path / "a.png")
    manifest.write(tmp_path)
    refused(lambda: manifest.write(tmp_path), "manifest.toml' exists; remove it first")


def test_a_changed_manifest_is_read_again(tmp_path):
    for name in ("a.png", "b.png"):
        save(tmp_path / name)
    assert sets.parameters("folder", listed(tmp_path, "a.png")).sizes["stimulus"] == 1
    assert sets.parameters("folder", listed(tmp_path, "a.png", "b.png")).sizes["stimulus"] == 2


# Folders: the command line


def test_commands_write_a_manifest_and_show_it(tmp_path):
    for k in range(3):
        save(tmp_path / "leaves" / f"{k}.png")
    runner = CliRunner()
    written = runner.invoke(app, ["stimuli", "manifest", str(tmp_path)])
    assert written.exit_code == 0
    assert f"{tmp_path / manifest.NAME}: 3 images" in written.output
    out = tmp_path / "sheet.png"
    arguments = ["stimuli", "show", "folder", "--manifest", str(tmp_path / manifest.NAME), "--out", str(out)]
    assert runner.invoke(app, arguments).exit_code == 0
    with Image.open(out) as image:
        assert image.size[0] > 500


def test_list_names_every_set():
    listed_sets = CliRunner().invoke(app, ["stimuli", "list"])
    assert listed_sets.exit_code == 0
    for name in sets.STIMULI:
        assert name in listed_sets.output
