"""``examples``, ``visualise`` and ``report --pages``: what they write, and one sentence for what cannot be."""

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from test_cli_machines import UNIT, end


def test_examples_are_drawn_with_their_table(whole, tmp_path, monkeypatch, capsys):
    status, out, err = end(monkeypatch, capsys, "examples", whole.path, "--unit", UNIT, "--out", tmp_path / "seen")
    assert status == 0, err
    files = sorted(file.name for file in (tmp_path / "seen").iterdir())
    assert files == [f"package.efficientnet_lite0__blocks.1.1.bn2__0{suffix}" for suffix in (".pdf", ".png")]
    assert f"examples of {UNIT}" in out
    assert "100%" in out


def test_matched_units_are_drawn_beside_their_nulls(whole, tmp_path, monkeypatch, capsys):
    """Whatever verdicts the small run has: at its taps two matched units are called detectors."""
    table = whole.correspondence
    first = table[table["method"] == whole.job.matched_by()].iloc[[0]]
    taps = first["tap_a"].iloc[0], first["tap_b"].iloc[0]
    changed = first.assign(detector_a=True, detector_b=True)
    monkeypatch.setattr("universality.figures.example_sheets.drawn_taps", lambda *_: taps)
    monkeypatch.setattr("universality.runs.run.Run.correspondence", property(lambda run: changed))
    status, out, err = end(monkeypatch, capsys, "examples", whole.path, "--matched", "--out", tmp_path)
    assert status == 0, err
    (png,) = tmp_path.glob("matched_examples__*.png")
    with Image.open(png) as image:
        assert image.width == pytest.approx(183 / 25.4 * 300, abs=2)
        assert np.asarray(image.convert("RGB")).std() > 20
    assert str(png) in out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["examples", "{run}"], "nothing to draw, or too much: give either --unit or --matched"),
        (["examples", "{run}", "--unit", UNIT, "--matched"], "nothing to draw, or too much"),
        (["examples", "{run}", "--unit", "nonsense"], "'nonsense' names no unit, expected MODEL:TAP:INDEX"),
        (["examples", "{run}", "--matched", "--family", "curvy"], "has no family 'curvy', expected one of curve"),
        (["visualise", "{run}"], "no unit to visualise; give --unit, --detectors or --matched"),
        (["visualise", "pocket/vgg-focus-s0", "--detectors"], "'pocket/vgg-focus-s0' is no run directory, expected one for --detectors and --matched"),
        (["visualise", "pocket/vgg-focus-s9", "--unit", "features.4:1"], "unknown model 'pocket/vgg-focus-s9'; did you mean"),
        (["report", "{run}", "--pages", "{tmp}/pages", "--out", "{tmp}/page.html"], "--out names one file and --pages a folder"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_one_sentence(words, said, whole, tmp_path, monkeypatch, capsys):
    given = [word.format(run=whole.path, tmp=tmp_path) for word in words]
    status, out, err = end(monkeypatch, capsys, *given)
    assert status != 0 and out == ""
    assert said in err.replace("\n", " ")
    assert "Traceback" not in err


def test_images_are_written_with_what_they_reach(tmp_path, monkeypatch, capsys):
    words = [
        "visualise",
        "pocket/alexnet-focus-s0",
        "--unit",
        "features.4:3",
        "--unit",
        "-features.4:5",
        "--together",
        "--steps",
        "3",
    ]
    words = [*words, "--out", tmp_path / "seen", "--store", tmp_path / "store"]
    status, out, err = end(monkeypatch, capsys, *words)
    assert status == 0, err
    table = pd.read_csv(tmp_path / "seen" / "visualisations.csv")
    assert table["unit"].tolist() == ["pocket/alexnet-focus-s0:features.4:3", "-pocket/alexnet-focus-s0:features.4:5"]
    with Image.open(tmp_path / "seen" / table["file"][0]) as image:
        assert image.size == (64, 64)
    assert (tmp_path / "seen" / "sheet.png").stat().st_size > 1000
    assert "what 1 images reach" in out


def test_strongest_detectors_of_each_tap_are_taken(whole, monkeypatch):
    from universality.cli import seeing

    units = whole.units
    trained = units[units["seed"] == -1]
    few = (
        trained.groupby("tap")
        .head(3)
        .assign(detector=True, score=[float(k % 3) for k in range(len(trained.groupby("tap").head(3)))])
    )
    monkeypatch.setattr("universality.runs.run.Run.units", property(lambda run: few))
    found = seeing._detectors(whole, None, 1)
    best = (
        few.sort_values("score", ascending=False, kind="stable").groupby(["model", "tap", "family"], sort=False).head(1)
    )
    assert set(found) == {f"{row.model}:{row.tap}:{row.unit}" for row in best.itertuples()}
