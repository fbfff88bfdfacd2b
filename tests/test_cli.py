"""The command line: what it prints, and one sentence for every mistake."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch
from matplotlib.figure import Figure

from universality import cli
from universality.models import catalogue, weight_files, zoo
from universality.similarity import COMPARATORS

GOOD = """
name = "bad"
[[models]]
id = "package/efficientnet_lite0"
taps = ["blocks.1.1.bn2"]
[[models]]
id = "package/efficientnet_lite1"
taps = ["blocks.1.1.bn2"]
[stimuli.natural]
crops = 60
[extraction]
reduction = "center"
"""

# (what is changed in the good job, what the sentence has to name)
BAD_JOBS = [
    (("lite0", "lite9"), ("unknown model 'package/efficientnet_lite9'", "did you mean 'package/efficientnet_lite")),
    (("blocks.1.1.bn2", "blocks.1.1.bn3"), ("no tap 'blocks.1.1.bn3'", "did you mean 'blocks.1.1.bn2'")),
    (
        ("[extraction]", '[comparison]\nmeasures = ["cka_linaer_debiased"]\n[extraction]'),
        ("unknown measure 'cka_linaer_debiased'", "did you mean 'cka_linear_debiased'"),
    ),
    (("[extraction]", "[extraction"), ("is not valid TOML", "line")),
    (("reduction =", "reductoin ="), ("unknown key 'extraction.reductoin'", "did you mean 'reduction'")),
    (('reduction = "center"', "batch_size = 8"), ("key 'extraction.reduction' is missing", "add it")),
    (('"center"', '"centre"'), ("key 'extraction.reduction'", "'center'", "came: 'centre'")),
    (("crops = 60", "crops = 0"), ("stimulus set 'natural' is empty", "set stimuli.natural.crops")),
    (("crops = 60", "crops = -3"), ("key 'stimuli.natural.crops'", "came: -3")),
    (("lite1", "lite0"), ("values appear twice", "name each once")),
    (('name = "bad"', 'name = "../bad"'), ("key 'name'", "came: '../bad'")),
    (("[extraction]", "[stimuli.curves]\ncurvatures = [1.0, 2.0]\n[extraction]"), ("contain 0, the straight line",)),
    (("[extraction]", "[stimuli.curves]\ncurvatures = [0, 1e-9]\n[extraction]"), ("must be at least 0.01",)),
    (("crops = 60", "crops = true"), ("key 'stimuli.natural.crops'", "came: True")),
    (("crops = 60", 'crops = "60"'), ("key 'stimuli.natural.crops'", "came: '60'")),
    (('"center"', '"positions"\npositions = 4'), ("positions = 4 has no middle place", "give an odd number")),
    (("[extraction]", "[nulls]\nuntrained_seeds = [-1]\n[extraction]"), ("nulls.untrained_seeds", "came: -1")),
    (("[extraction]", "[nulls]\nuntrained_seeds = [9223372036854775808]\n[extraction]"), ("nulls.untrained_seeds",)),
]


def command(monkeypatch, capsys, *arguments):
    """Run the command line in this process; return (exit status, standard output, standard error)."""
    monkeypatch.setattr(sys, "argv", ["universality", *map(str, arguments)])
    status = 0
    try:
        cli.main()
    except SystemExit as leaving:
        status = leaving.code or 0
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def assert_one_sentence(error: str, *named: str) -> None:
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert "Traceback" not in error
    for text in named:
        assert text in error


@pytest.mark.parametrize("verb", ["run", "plan"])
@pytest.mark.parametrize(("change", "named"), BAD_JOBS)
def test_bad_job_is_one_sentence_and_writes_nothing(monkeypatch, capsys, tmp_path, verb, change, named):
    monkeypatch.chdir(tmp_path)
    Path("job.toml").write_text(GOOD.replace(change[0], change[1], 1), encoding="utf-8")
    status, out, err = command(monkeypatch, capsys, verb, "job.toml")
    assert status == 1
    assert_one_sentence(err, *named)
    assert out == ""
    assert [path.name for path in tmp_path.iterdir()] == ["job.toml"]


def test_missing_job_file(monkeypatch, capsys, tmp_path):
    status, _, err = command(monkeypatch, capsys, "run", tmp_path / "none.toml")
    assert status == 1
    assert_one_sentence(err, "none.toml' does not exist")


def test_binary_job_file(monkeypatch, capsys, tmp_path):
    (tmp_path / "job.toml").write_bytes(bytes(range(256)))
    status, _, err = command(monkeypatch, capsys, "plan", tmp_path / "job.toml")
    assert status == 1
    assert_one_sentence(err, "cannot be read as UTF-8 text")


def test_folder_as_job_file(monkeypatch, capsys, tmp_path):
    status, _, err = command(monkeypatch, capsys, "plan", tmp_path)
    assert status == 1
    assert_one_sentence(err, "is a folder, expected a TOML file")


class TestWeights:
    @pytest.fixture
    def job(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        monkeypatch.delenv(weight_files.WEIGHTS_FOLDER_VARIABLE, raising=False)
        path = tmp_path / "job.toml"
        path.write_text(GOOD, encoding="utf-8")
        return path

    def put(self, state) -> Path:
        path = Path("data/weights/package/efficientnet_lite0.pth")
        path.parent.mkdir(parents=True)
        torch.save(state, path)
        return path

    def test_missing_with_no_hub(self, monkeypatch, capsys, job):
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
        monkeypatch.setattr(weight_files, "_unreachable", lambda url: "cannot be reached (URLError)")
        monkeypatch.setattr(torch.hub, "get_dir", lambda: str(job.parent / "hub"))
        job.write_text(
            GOOD.replace("package/efficientnet_lite0", "torchvision/alexnet").replace("blocks.1.1.bn2", "features.4", 1)
        )
        status, _, err = command(monkeypatch, capsys, "run", job)
        assert status == 1
        assert_one_sentence(err, "weights of 'torchvision/alexnet' are missing", "data/weights/torchvision/alexnet")

    def test_other_hash_than_the_card(self, monkeypatch, capsys, job):
        state = dict(zoo.build(catalogue.card("package/efficientnet_lite0")).state_dict())
        self.put(state)
        status, _, err = command(monkeypatch, capsys, "run", job)
        assert status == 1
        assert_one_sentence(err, "have the state-dict hash", "the card states 4c6ab284cc48...")

    def test_wrong_shape(self, monkeypatch, capsys, job):
        state = dict(zoo.build(catalogue.card("package/efficientnet_lite0")).state_dict())
        state["conv_stem.weight"] = torch.zeros(32, 3, 5, 5)
        self.put(state)
        status, _, err = command(monkeypatch, capsys, "run", job)
        assert status == 1
        assert_one_sentence(err, "shape (32, 3, 5, 5) for 'conv_stem.weight'", "expected (32, 3, 3, 3)")

    def test_file_with_code(self, monkeypatch, capsys, job):
        self.put({"x": Path("code")})
        status, _, err = command(monkeypatch, capsys, "run", job)
        assert status == 1
        assert_one_sentence(err, "is not a plain state dict", "files with code are refused")

    def test_damaged_file(self, monkeypatch, capsys, job):
        path = self.put({"x": torch.zeros(3)})
        path.write_bytes(path.read_bytes()[:40])
        status, _, err = command(monkeypatch, capsys, "run", job)
        assert status == 1
        assert_one_sentence(err, "is not a plain state dict")


def test_run_prints_tables_findings_and_files(monkeypatch, capsys, small):
    status, out, err = command(monkeypatch, capsys, "run", small.job, "--out", small.out, "--store", small.store)
    assert status == 0
    assert "extracted nothing" in err
    assert "computed nothing" in err
    assert "blocks.2.1.bn2" in out
    assert "untrained" in out
    for name in ("similarity.parquet", "correspondence.parquet", "families.parquet", "figures", "report.html"):
        assert f"{small.out / name}\n" in out


def test_plan_prints_what_exists(monkeypatch, capsys, small, tmp_path):
    _, out, _ = command(monkeypatch, capsys, "plan", small.job, "--out", small.out, "--store", small.store)
    assert "18 of 18 stores exist, 0 to extract" in out
    assert "nothing to compute" in out
    assert "same_field_of_view: every network sees the same scenes" in out
    _, out, _ = command(monkeypatch, capsys, "plan", small.job, "--out", tmp_path / "r", "--store", tmp_path / "s")
    assert "0 of 18 stores exist, 18 to extract" in out
    assert re.search(r"disk: \d+ MB expected, \d+ MB at most, \d+ MB free", out)
    assert "memory: about" in out
    assert re.search(r"time: about \d+ s on idle cores .* from the defaults", out)


def test_plan_is_short_unless_every_row_is_asked_for(monkeypatch, capsys, small, tmp_path):
    places = ("--out", tmp_path / "r", "--store", tmp_path / "s")
    _, short, _ = command(monkeypatch, capsys, "plan", small.job, *places)
    _, whole, _ = command(monkeypatch, capsys, "plan", small.job, *places, "--all")
    # Two networks with 2 and 1 taps and their twins, each shown 60, 64 and 48 images.
    assert "networks: 2 trained, 2 untrained, with 6 taps, shown 3 stimulus sets: 688 images" in short
    assert "efficientnet_lite1" not in short
    assert len(short.splitlines()) <= 12
    # The disk is used by others in between.
    assert {line for line in short.splitlines() if "MB free" not in line} <= set(whole.splitlines())
    assert len(re.findall("(?m)^.*efficientnet_lite[01].*$", whole)) >= 4 * 3


def test_damaged_store_is_one_sentence(monkeypatch, capsys, small, tmp_path):
    import shutil

    shutil.copytree(small.store, tmp_path / "store")
    victim = next(tmp_path.glob("store/*/manifest.json"))
    victim.write_text(victim.read_text()[:100])
    status, _, err = command(
        monkeypatch, capsys, "run", small.job, "--out", tmp_path / "r", "--store", tmp_path / "store"
    )
    assert status == 1
    assert_one_sentence(err, "manifest.json", "it is damaged", "--repair")


def test_runs_show_is_short_for_a_run_and_whole_for_a_file(monkeypatch, capsys, small):
    _, out, _ = command(monkeypatch, capsys, "runs", "show", small.out)
    lines = dict(text.split(": ", 1) for text in out.splitlines())
    whole = json.loads(command(monkeypatch, capsys, "runs", "show", small.out, "--json")[1])["provenance"]
    assert lines["packages"] == ", ".join(f"{name} {version}" for name, version in whole["packages"].items())
    assert lines["weights"].count(", ") == len(whole["models"]) - 1
    for model, facts in whole["models"].items():
        assert f"{model} {facts['weights'][:12]}" in lines["weights"]
    counted = {name: len(pd.read_parquet(small.out / f"{name}.parquet")) for name in small.run.tables}
    assert lines["rows"] == ", ".join(f"{name} {count}" for name, count in counted.items())
    assert lines["the whole provenance"].endswith("--json")
    file = command(monkeypatch, capsys, "runs", "show", small.out / "units.parquet")[1]
    assert json.loads(file)["inputs_digest"] == whole["inputs_digest"]


def test_foreign_run_directory_is_one_sentence(monkeypatch, capsys, small, tmp_path):
    other = tmp_path / "other.toml"
    other.write_text(small.job.read_text(encoding="utf-8").replace('"small"', '"other"'))
    status, _, err = command(monkeypatch, capsys, "run", other, "--out", small.out, "--store", small.store)
    assert status == 1
    assert_one_sentence(err, "belongs to another job ('small'", "give another folder with --out")


@pytest.mark.parametrize("option", ["--out", "--store"])
def test_path_that_the_system_refuses_is_one_sentence(monkeypatch, capsys, small, tmp_path, option):
    monkeypatch.chdir(tmp_path)
    status, _, err = command(monkeypatch, capsys, "run", small.job, option, "x" * 300)
    assert status == 1
    assert_one_sentence(err, "too long")


def test_weights_folder_that_is_none_is_named(monkeypatch, capsys, tmp_path):
    (tmp_path / "weights").write_text("")
    monkeypatch.setenv(weight_files.WEIGHTS_FOLDER_VARIABLE, str(tmp_path / "weights"))
    (tmp_path / "job.toml").write_text(GOOD, encoding="utf-8")
    status, _, err = command(
        monkeypatch, capsys, "run", tmp_path / "job.toml", "--out", tmp_path / "r", "--store", tmp_path / "s"
    )
    assert status == 1
    assert_one_sentence(err, weight_files.WEIGHTS_FOLDER_VARIABLE, "is a file")


def test_zoo_list_names_every_card(monkeypatch, capsys):
    status, out, _ = command(monkeypatch, capsys, "zoo", "list")
    assert status == 0
    for model in catalogue.cards():
        assert model in out


def test_zoo_show_prints_taps(monkeypatch, capsys):
    _, out, _ = command(monkeypatch, capsys, "zoo", "show", "torchvision/googlenet")
    assert "Not the InceptionV1 of the circuits articles" in out
    assert "inception3a" in out


def test_zoo_show_unknown(monkeypatch, capsys):
    status, _, err = command(monkeypatch, capsys, "zoo", "show", "torchvision/alexnt")
    assert status == 1
    assert_one_sentence(err, "did you mean 'torchvision/alexnet'?")


def test_measures_lists_the_whole_registry(monkeypatch, capsys):
    status, out, _ = command(monkeypatch, capsys, "measures")
    assert status == 0
    for name, entry in COMPARATORS.items():
        (line,) = [line for line in out.splitlines() if f" {name} " in line]
        assert entry.direction in line
        assert f" {entry.min_n} " in line


def test_measures_shows_one_record_in_full(monkeypatch, capsys):
    status, out, _ = command(monkeypatch, capsys, "measures", "soft_matching_distance")
    assert status == 0
    entry = COMPARATORS["soft_matching_distance"]
    shown = dict(line.split(": ", 1) for line in out.splitlines())
    assert shown["name"] == entry.name
    assert shown["variant"] == entry.variant
    assert shown["high"] == "2"
    assert shown["invariances"] == "permutation, isotropic_scale, translation"
    assert (shown["metric"], shown["reference"]) == ("yes", entry.reference)


def test_measures_unknown(monkeypatch, capsys):
    status, out, err = command(monkeypatch, capsys, "measures", "cka_linear")
    assert status == 1
    assert out == ""
    assert_one_sentence(
        err, "'cka_linear' names several measures", "cka_linear_debiased, cka_linear_biased or cka_linear_offdiagonal"
    )


def test_versions(monkeypatch, capsys):
    _, out, _ = command(monkeypatch, capsys, "versions")
    assert f"torch {torch.__version__.split('+')[0]}" in out
    assert out.startswith("universality 0.")


def test_the_package_run_as_a_module_is_the_command_line():
    answer = subprocess.run(
        [sys.executable, "-m", "universality", "--help"], capture_output=True, text=True, check=True
    )
    assert "universality" in answer.stdout
    assert "reproduce" in answer.stdout


def test_help_of_every_command_has_a_sentence(monkeypatch, capsys):
    for arguments in (["--help"], ["run", "--help"], ["plan", "--help"], ["zoo", "--help"], ["zoo", "show", "--help"]):
        status, out, _ = command(monkeypatch, capsys, *arguments)
        assert status == 0
        assert "Usage:" in out


def test_installed_command_reports_a_mistake_without_a_traceback(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "universality.cli", "plan", "none.toml"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr == "error: job 'none.toml' does not exist; check the path\n"


def test_stimuli_are_listed_and_drawn(monkeypatch, capsys, tmp_path):
    status, out, _ = command(monkeypatch, capsys, "stimuli", "list")
    assert status == 0
    assert all(name in out for name in ("curves", "high_low", "shapes", "natural"))
    sheet = tmp_path / "new" / "sheet.png"
    status, _, err = command(monkeypatch, capsys, "stimuli", "show", "high_low", "--images", "6", "--out", sheet)
    assert status == 0, err
    assert sheet.stat().st_size > 5000


def test_stimuli_are_drawn_as_a_tap_sees_them(monkeypatch, capsys, tmp_path):
    from universality import figures
    from universality.models import catalogue
    from universality.stimuli.framing import Frame

    shown = {}
    monkeypatch.setattr(
        figures, "contact_sheet", lambda images, labels, title: shown.update(images=images, title=title)
    )
    monkeypatch.setattr(figures, "figure_of", lambda _: Figure())
    where = ("--out", tmp_path / "a.png", "--tap", "pocket/vgg-focus-s0:features.13")
    asked = ("stimuli", "show", "curves", "--images", "3", *where)
    assert command(monkeypatch, capsys, *asked)[0] == 0
    card = catalogue.card("pocket/vgg-focus-s0")
    frame = Frame.of(card.tap("features.13"), card.preprocessing.size_px)
    assert f"the scene is {frame.side_px} px in the middle of {frame.size_px} px" in shown["title"]
    # Nothing of a drawing in the middle of its scene reaches the border, which the whole image would show larger.
    framed = shown["images"]
    assert command(monkeypatch, capsys, *asked[:-2], "--size", str(frame.size_px))[0] == 0
    assert framed.shape == shown["images"].shape and frame.side_px < frame.size_px
    dark = [(image != image[:, :1, :1]).any(axis=1).sum() for image in (framed[-1], shown["images"][-1])]
    assert dark[0] < dark[1]


@pytest.mark.parametrize(
    ("tap", "said"),
    [
        ("pocket/vgg-focus-s0", "names no tap, expected MODEL:TAP"),
        ("pocket/vgg-focus-s0:features.14", "has no tap 'features.14'"),
    ],
)
def test_taps_that_see_nothing_are_refused_in_one_sentence(monkeypatch, capsys, tmp_path, tap, said):
    status, _, err = command(
        monkeypatch, capsys, "stimuli", "show", "curves", "--out", tmp_path / "a.png", "--tap", tap
    )
    assert status == 1 and said in err
    assert_one_sentence(err, said)


def test_unknown_stimuli_are_refused_in_one_sentence(monkeypatch, capsys, tmp_path):
    status, _, err = command(monkeypatch, capsys, "stimuli", "show", "curvs", "--out", tmp_path / "sheet.png")
    assert status == 1
    assert_one_sentence(err, "unknown stimulus set 'curvs'; did you mean 'curves'")
    assert not (tmp_path / "sheet.png").exists()
