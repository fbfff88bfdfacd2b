"""The page holds everything it needs, only its own script can run, and it is the same for the same run."""

import base64
import hashlib
import html.parser
import io
import json
import re
import shutil
import subprocess
from pathlib import Path

import html5lib
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from universality import report
from universality.base.errors import RunError, StoreError
from universality.cli.results import report_command
from universality.report import data, page, pictures
from universality.runs.run import Run, open_run

STATIC = Path(report.__file__).parent / "static"


class Elements(html.parser.HTMLParser):
    """Every start tag with its attributes, and the text of script and style elements."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.inline, self._open = [], {"script": [], "style": []}, None
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self._open = tag if tag in self.inline else None
        if self._open:
            self.inline[tag].append("")

    def handle_endtag(self, tag):
        self._open = None

    def handle_data(self, data):
        if self._open:
            self.inline[self._open][-1] += data


@pytest.fixture(scope="module")
def text(small):
    return (small.out / "report.html").read_text(encoding="utf-8")


def test_a_layer_is_shown_with_the_stores_of_the_trained_network(small):
    run = open_run(small.out)
    twins = {entry["key"] for entry in run.record["stores"] if entry["seed"] is not None}
    assert twins
    assert not twins & set(run.trained_keys.values())
    assert len(run.trained_keys) + len(twins) == len(run.record["stores"])


@pytest.fixture(scope="module")
def elements(text):
    return Elements(text)


@pytest.fixture(scope="module")
def embedded(elements):
    return json.loads(elements.inline["script"][0])


def test_page_is_sound_html_and_every_name_in_it_is_there(text, elements):
    document = html5lib.HTMLParser(strict=False)
    document.parse(text)
    assert [error for _, error, _ in document.errors] == []
    ids = [attrs["id"] for _, attrs in elements.tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    links = [attrs["href"] for tag, attrs in elements.tags if tag == "a"]
    assert links and all(link.removeprefix("#") in ids for link in links)
    labelled = [attrs["aria-labelledby"] for _, attrs in elements.tags if "aria-labelledby" in attrs]
    assert set(labelled) <= {*ids, "card-title", "viewer-title"}  # made when a card or a picture is opened
    script = (STATIC / "report.js").read_text(encoding="utf-8")
    assert set(re.findall(r'getElementById\("([^"$]+)"\)', script)) <= set(ids)


def test_page_needs_no_other_file_and_no_network(elements):
    for tag, attrs in elements.tags:
        for name in ("src", "href", "action", "data", "poster", "srcset"):
            assert attrs.get(name, "#").startswith(("#", "data:image/")), (tag, attrs)
        assert not [name for name in attrs if name.startswith("on")], "inline event handlers do not pass the policy"
        assert "style" not in attrs
    assert {tag for tag, _ in elements.tags}.isdisjoint({"iframe", "object", "embed", "link", "base", "form"})


def test_pictures_are_plain_links_that_enlarge_without_a_script(text, elements):
    targets = {attrs["id"] for tag, attrs in elements.tags if tag == "figure"}
    links = [attrs["href"] for tag, attrs in elements.tags if tag == "a" and attrs.get("class") == "enlarge"]
    assert len(links) == sum(tag == "img" for tag, _ in elements.tags) > 3
    assert {f"#{name}" for name in targets} == set(links)
    assert "figure:target img" in elements.inline["style"][0]


def test_pairs_to_sort_come_with_the_order_of_their_verdicts(small, embedded):
    """The page's own order of verdicts, from what claims most; every matched pair of detectors at drawn taps can be shown."""
    assert embedded["verdicts"] == ["same_feature", "correlated_only", "family_only", "unmatched"]
    pairs = small.run.correspondence
    for entry in embedded["gallery"]:
        here = pairs[(pairs["model_a"] == entry["a"]) & (pairs["model_b"] == entry["b"]) & (pairs["tap_a"] == entry["taps"][0]) & (pairs["tap_b"] == entry["taps"][1])]  # fmt: skip
        here = here[(here["family"] == entry["family"]) & here["detector_a"] & here["detector_b"] & (here["method"] == small.run.job.matched_by())]  # fmt: skip
        assert sorted(entry["all"]) == here.index.tolist() and set(entry["rows"]) <= set(entry["all"])


def test_policy_allows_exactly_the_pages_own_script_and_style(elements):
    policy = next(a["content"] for t, a in elements.tags if a.get("http-equiv") == "Content-Security-Policy")
    script, style = elements.inline["script"][1], elements.inline["style"][0]
    for kind, content in (("script-src", script), ("style-src", style)):
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{kind} 'sha256-{digest}';" in policy
    assert "default-src 'none'" in policy and "unsafe" not in policy
    assert len(elements.inline["script"]) == 2 and len(elements.inline["style"]) == 1


def test_page_says_what_was_asked_found_and_used(small, text):
    assert "Does the whole path hold together?" in text
    assert small.run.record["job_digest"] in text
    shown = text.count('src="data:image/png;base64,')
    assert shown == len(list((small.out / "figures").glob("*.png")))
    for finding in report.findings(small.run):
        assert finding.text.replace("&", "&amp;").replace("'", "&#39;") in text
    for name in ("natural", "curves"):
        assert f"<b>{name}</b>" in text


def test_same_run_gives_the_same_bytes(small, text, tmp_path):
    again = report.write(Run(small.out, small.run.record), tmp_path / "again" / "r.html")
    assert again.read_text(encoding="utf-8") == text


def test_page_stays_small(text):
    assert len(text.encode()) < 10_000_000


def test_what_users_write_is_inert(hostile, small):
    text = report.render(hostile.run, {next((small.out / "figures").glob("*.png")).stem: hostile.text})
    elements = Elements(text)
    assert len(elements.inline["script"]) == 2, "a third script element came from a user's string"
    assert not [attrs for _, attrs in elements.tags if any(name.startswith("on") for name in attrs)]
    assert "<!--" not in text and "<img src=x" not in text
    levels = json.loads(elements.inline["script"][0])["tables"]["families"]["columns"][0]["levels"]
    assert hostile.text in levels  # it is there, as text


def test_embedded_tables_are_the_runs(small, embedded):
    table = embedded["tables"]["similarity"]
    column = next(c for c in table["columns"] if c["name"] == "value")
    expected = [None if np.isnan(v) else float(f"{v:.4g}") for v in small.run.similarity["value"]]
    assert column["values"] == expected
    assert column["meaning"] == "score of the trained layers"
    units = small.run.units[small.run.units["seed"] == -1]
    assert embedded["tables"]["units"]["rows"] == len(units) == len(embedded["tuning"])
    np.testing.assert_allclose(embedded["tuning"][7], units["tuning_sigma"].iloc[7], rtol=6e-3)
    assert {c["column"] for c in embedded["families"]["curve"]["criteria"]} <= {
        c["name"] for c in embedded["tables"]["units"]["columns"]
    }


def test_every_unit_shows_the_images_it_answers_most_and_least_to(small, embedded):
    ref = small.run.families.iloc[0]
    values = small.run.activations(ref["model"], ref["tap"]).values
    unit = int(np.argmax(values.std(axis=0)))
    shown = embedded["unit_pictures"][f"{ref['model']}|{ref['tap']}|{unit}"]
    numbers = {name: [int(re.match(r"natural (\d+):", embedded["pictures"][place]["alt"])[1]) for place in shown[name]] for name in ("top", "bottom")}  # fmt: skip
    assert numbers["top"][0] == int(values[:, unit].argmax())
    assert sorted(values[numbers["top"], unit]) == sorted(np.sort(values[:, unit])[-pictures.TOP :])
    assert sorted(values[numbers["bottom"], unit]) == sorted(np.sort(values[:, unit])[: pictures.BOTTOM])
    first = Image.open(io.BytesIO(base64.b64decode(embedded["pictures"][shown["top"][0]]["src"].split(",")[1])))
    drawn = pictures.sets.render("natural", small.run.job.stimuli, 56, np.array([numbers["top"][0]])).values[0]
    difference = np.asarray(first.convert("RGB"), np.float64) / 255 - np.moveaxis(drawn, 0, 2)
    assert np.abs(difference).mean() < 0.05  # lossy, but this image and no other


def test_album_holds_an_image_once_and_no_more_than_its_limit():
    album = pictures.Album(most=3)
    assert album.add([("natural", 5), ("natural", 2)]) == [0, 1]
    assert album.add([("natural", 2), ("curves", 2)]) == [1, 2]
    assert not album.full
    assert album.add([("natural", 9), ("natural", 5)]) is None
    assert album.full and len(album.numbers) == 3
    assert album.add([("natural", 5)]) == [0]


def test_a_run_without_its_activations_goes_without_pictures(small, tmp_path):
    text = report.render(Run(small.out, {**small.run.record, "store": str(tmp_path / "gone")}), {})
    embedded = json.loads(Elements(text).inline["script"][0])
    assert embedded["pictures"] == [] and "there is nothing at" in embedded["no_pictures"]
    assert embedded["tables"]["units"]["rows"] > 0


def test_extremes_need_recorded_activations(small):
    with pytest.raises(StoreError, match=r"names no natural activations of 'm/x' at 't'"):
        pictures.stores_of(small.run, "m/x", "t")


def test_large_tables_are_cut_with_detectors_first(small):
    units, pairs = small.run.units, small.run.correspondence
    trained = units[units["seed"] == -1]
    few = data.chosen_units(units, pairs, most=40)
    assert len(few) == 40
    keys = ["model", "tap", "unit"]
    detectors = set(trained.loc[trained["detector"], keys].itertuples(index=False, name=None))
    assert len(detectors) <= 40 and detectors <= set(few[keys].itertuples(index=False, name=None))
    best = data.chosen_matches(pairs, most=3)
    both = pairs[pairs["detector_a"] & pairs["detector_b"]]
    assert set(best["r_natural"]) == set(both["r_natural"].nlargest(3)) if len(both) >= 3 else len(best) == 3
    cut = data.table_of("similarity", small.run.similarity.head(1), 99)
    assert (cut["rows"], cut["total"], cut["file"]) == (1, 99, "similarity.parquet")


def test_values_without_number_keep_their_meaning():
    table = data.table_of("checks", pd.DataFrame({"x": [np.nan, np.inf, -0.0], "holds": [True, None, False]}), 3)
    assert table["columns"][0]["values"] == [None, "inf", 0]
    assert table["columns"][1]["levels"] == ["True", "False"] and table["columns"][1]["values"] == [0, None, 1]


def test_tables_of_later_versions_are_shown_too(small):
    record = {**small.run.record, "tables": {**small.run.record["tables"], "extra.parquet": ""}}
    run = Run(small.out, record, tables={"extra": pd.DataFrame({"note": ["seen"]})})
    assert data.page_data(run)["tables"]["extra"]["columns"][0]["levels"] == ["seen"]


def test_figures_beyond_the_limit_are_named(small):
    captions = page.read_captions(small.run)
    shown, left_out = page.figures_within(small.out / "figures", captions, most_bytes=0)
    assert not any(shown.values()) and left_out == [f"figures/{stem}.png" for stem in captions]


def test_every_drawn_figure_has_its_caption_and_a_lost_one_none(small, tmp_path):
    shutil.copytree(small.out / "figures", tmp_path / "figures")
    lost = next((tmp_path / "figures").glob("*.png"))
    lost.unlink()
    captions = page.read_captions(Run(tmp_path, small.run.record))
    assert list(captions) == sorted({file.stem for file in (small.out / "figures").glob("*.png")} - {lost.stem})


def test_notebooks_show_a_summary(small, hostile):
    summary = small.run._repr_html_()
    assert "Does the whole path hold together?" in summary and "report.html" in summary
    first = small.run.families.iloc[0]
    assert f"<td>{first['tap']}</td>" in summary and f"{first['n_detectors']} of {first['n_units']}" in summary
    assert "<script" not in hostile.run._repr_html_() and "<img" not in hostile.run._repr_html_()


@pytest.mark.skipif(shutil.which("node") is None, reason="needs node, which checks the script's syntax")
def test_script_parses():
    subprocess.run(["node", "--check", str(STATIC / "report.js")], check=True, capture_output=True)


def test_command_writes_the_page_again(small, tmp_path, monkeypatch, capsys):
    from universality import cli

    out = tmp_path / "page.html"
    monkeypatch.setattr("sys.argv", ["universality", "report", str(small.out), "--out", str(out)])
    with pytest.raises(SystemExit) as left:
        cli.main()
    assert left.value.code == 0 and str(out) in capsys.readouterr().out.replace("\n", "")
    assert out.read_text(encoding="utf-8").startswith("<!doctype html>")
    with pytest.raises(RunError, match="is a folder, expected the name of an HTML file"):
        report_command(small.out, tmp_path)
