"""`universality doctor` finds what is wrong, and only that."""

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from universality.base.paths import OWN_CARDS_VARIABLE
from universality.cli import app, doctor
from universality.models import catalogue, weight_files


def states(findings):
    return {finding.subject: finding.state for finding in findings}


def test_a_healthy_machine(tmp_path):
    found = doctor.examine(tmp_path / "store")
    assert not [finding for finding in found if finding.state == "fault"]
    assert {"python", "packages", "GPU", "model cards", "weights at hand", "disk"} <= states(found).keys()
    assert not (tmp_path / "store").exists()  # looking changes nothing


def test_a_store_that_is_a_file(tmp_path):
    (tmp_path / "store").write_text("x")
    assert states(doctor.examine(tmp_path / "store"))[f"store {tmp_path / 'store'}"] == "fault"


def test_a_malformed_card(tmp_path, monkeypatch):
    monkeypatch.setenv(OWN_CARDS_VARIABLE, str(tmp_path))
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "x.toml").write_text("id = 3")
    assert states(doctor.examine(tmp_path / "store"))["model cards"] == "fault"


def test_an_old_package(monkeypatch, tmp_path):
    monkeypatch.setattr(doctor, "version", lambda name: "0.1" if name == "zarr" else "99.0")
    (finding,) = [f for f in doctor.examine(tmp_path) if f.subject == "packages"]
    assert finding.state == "fault"
    assert "zarr is 0.1, expected >=3" in finding.detail


def test_weights_at_hand(tmp_path, monkeypatch):
    monkeypatch.setenv(weight_files.WEIGHTS_FOLDER_VARIABLE, str(tmp_path))
    alexnet = catalogue.card("torchvision/alexnet")
    monkeypatch.setattr(weight_files, "_torchvision_file", lambda _: tmp_path / "nowhere")
    assert weight_files.weights_at_hand(catalogue.card("pocket/vgg-focus-s0"))
    assert not weight_files.weights_at_hand(alexnet)
    place = tmp_path / "torchvision" / "alexnet.pth"
    place.parent.mkdir()
    place.write_bytes(b"any")
    assert weight_files.weights_at_hand(alexnet)


def test_online_asks_and_offline_does_not(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(weight_files, "_unreachable", lambda url: asked.append(url) or "cannot be reached (URLError)")
    monkeypatch.setattr(weight_files, "weights_at_hand", lambda card: card.source in ("pocket", "package"))
    doctor.examine(tmp_path)
    assert not asked
    doctor.examine(tmp_path, online=True)
    assert "https://huggingface.co/timm/resnet18.a1_in1k" in asked
    assert len(asked) == 10


def test_the_command_prints_json_and_its_status(tmp_path):
    runner = CliRunner()
    good = runner.invoke(app, ["doctor", "--json", "--store", str(tmp_path / "store")])
    assert good.exit_code == 0
    assert {"subject", "state", "detail"} == json.loads(good.stdout)[0].keys()
    (tmp_path / "file").write_text("x")
    bad = runner.invoke(app, ["doctor", "--store", str(tmp_path / "file")])
    assert bad.exit_code == 3
    assert "fault store" in bad.stdout


@pytest.mark.parametrize("words", [["zoo", "list"], ["zoo", "show", "torchvision/alexnet"], ["measures"], ["versions"]])
def test_lists_are_json_on_request(words):
    answer = CliRunner().invoke(app, [*words, "--json"])
    assert answer.exit_code == 0, answer.output
    assert json.loads(answer.stdout)


def test_json_has_no_nan():
    from universality.base.plain import plain

    assert plain({"a": [1.0, float("nan"), np.inf], "b": "x"}) == {"a": [1.0, None, None], "b": "x"}
