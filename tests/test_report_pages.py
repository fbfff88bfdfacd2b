"""Pages of units: what they say is what the tables say, every link leads somewhere, nothing is fetched, nothing runs."""

import json
import re
from html.parser import HTMLParser
from urllib.parse import unquote

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from universality.base.errors import RunError
from universality.circuits.motif_tables import MOTIF_TABLES
from universality.features.families import definition_of
from universality.report import pages
from universality.report.curves import weight_colours
from universality.runs.run import Run
from universality.stimuli import sets
from universality.stimuli.natural import photographs

MOST = 8


class Links(HTMLParser):
    """Addresses that a page names, and its elements."""

    def __init__(self, text):
        super().__init__()
        self.found, self.names = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.names.append(tag)
        self.found += [value for name, value in attrs if name in ("href", "src") and value]


@pytest.fixture(scope="module")
def made(whole, tmp_path_factory):
    folder = tmp_path_factory.mktemp("pages")
    every = pages.units_of(whole)
    matched = whole.correspondence[whole.correspondence["method"] == whole.job.matched_by()]
    best = matched.sort_values("r_natural").iloc[-1]
    pair = [(best[f"model_{s}"], best[f"tap_{s}"], int(best[f"unit_{s}"])) for s in "ab"]
    chosen = sorted({*pair, *every[: MOST - 3], every[-1]}, key=every.index)
    assert pages.write(whole, folder, units=chosen) == folder / "index.html"
    return folder, chosen, pair


def page_of(folder, unit):
    return json.loads((folder / pages.address(unit, ".json")).read_text())


def test_units_with_a_page_are_detectors_and_matched_units(whole):
    found = pages.units_of(whole)
    trained = whole.units[whole.units["seed"] == -1]
    detectors = set(trained.loc[trained["detector"], ["model", "tap", "unit"]].itertuples(index=False, name=None))
    matched = {
        (row[f"model_{s}"], row[f"tap_{s}"], row[f"unit_{s}"])
        for row in whole.correspondence.to_dict("records")
        for s in "ab"
    }
    assert set(found) == detectors | matched
    assert len(found) == len(set(found))


def test_a_page_says_what_the_tables_say(whole, made):
    folder, chosen, _ = made
    for unit in chosen:
        page = page_of(folder, unit)
        assert (page["model"], page["tap"], page["unit"]) == unit
        for family in page["families"]:
            units = whole.units_of(family["family"]).query("seed == -1")
            row = units[(units["model"] == unit[0]) & (units["tap"] == unit[1]) & (units["unit"] == unit[2])].iloc[0]
            assert family["detector"] == row["detector"]
            np.testing.assert_allclose(family["tuning_sigma"], row["tuning_sigma"])
            # The curve is the mean of its variants.
            np.testing.assert_allclose(
                np.mean([v["tuning_sigma"] for v in family["variants"]], axis=0), row["tuning_sigma"], atol=1e-9
            )
            failed = {c["column"] for c in family["criteria"] if not c["passes"]}
            assert failed == set(filter(None, row["failed"].split(", ")))
            assert [c["column"] for c in family["criteria"]] == [
                c.column for c in definition_of(family["family"]).criteria
            ]
        examples = whole.examples(*unit)
        assert [e["picture"] for e in page["examples"]] == examples["picture"].values.tolist()


def test_matches_are_those_of_the_table_with_their_nulls(whole, made):
    folder, _, (a, b) = made
    table = whole.correspondence[whole.correspondence["method"] == whole.job.matched_by()]
    for own, other, unit, partner in (("a", "b", a, b), ("b", "a", b, a)):
        rows = table[
            (table[f"model_{own}"] == unit[0]) & (table[f"tap_{own}"] == unit[1]) & (table[f"unit_{own}"] == unit[2])
        ]
        rows = rows.sort_values("r_natural", ascending=False, kind="stable")
        matches = page_of(folder, unit)["matches"]
        assert [m["partner"][2] for m in matches] == rows[f"unit_{other}"].tolist()
        first = matches[0]
        assert tuple(first["partner"]) == partner and first["has_page"]
        for name in ("r_natural", "r_natural_haar", "r_natural_untrained", "power"):
            assert first[name] == pytest.approx(rows[name].iloc[0])


def test_a_circuit_is_the_strongest_of_the_edges(whole, made, tmp_path):
    _, _, (unit, other) = made
    edges = [
        {"model": of[0], "source_tap": of[1], "target_tap": of[1], "unit": of[2], "source_unit": k, "source_family": "", "source_deg": np.nan, "rank": 12 - k,
         "weight": float(k - 6), "untrained_95": 2.5, "square_px": 4.0, "map": np.linspace(-1, 1, 25)}
        for of in (unit, other) for k in range(12)
    ]  # fmt: skip
    run = Run(
        whole.path,
        whole.record,
        whole.store,
        {**{name: whole.table(name) for name in whole.tables}, "edges": pd.DataFrame(edges)},
    )
    pages.write(run, tmp_path, units=[unit])
    circuit = page_of(tmp_path, unit)["circuit"]
    assert [source["weight"] for source in circuit["sources"]] == [5, 4, 3, 2, 1, -2, -3, -4, -5, -6]
    assert [source["above"] for source in circuit["sources"]] == [True] * 3 + [False] * 3 + [True] * 4
    text = (tmp_path / pages.address(unit)).read_text()
    assert "Its circuit" in text and text.count('stroke-dasharray="5 4"') == 3


def test_a_sheet_shows_the_images_of_each_case(whole, made, tmp_path):
    _, _, (unit, other) = made
    count = whole.activations(unit[0], unit[1]).sizes["stimulus"]
    planted = [np.arange(30.0)[::-1], np.arange(40.0, 45.0)]
    assert count > 45
    row = dict.fromkeys(MOTIF_TABLES["cases"].names, np.nan) | {
        "model": unit[0], "target_tap": unit[1], "unit": unit[2], "source_tap": "s", "family": "curve", "n_shown": 35, "n_cases": 2, "cluster_index": 0.4,
        "cluster_index_null": 0.8, "p": 0.005, "q": 0.01, "verdict": "cases", "sources": np.zeros(0), "source_weights": np.zeros(0),
    }  # fmt: skip
    cases = [
        row | {"case": k, "n_images": len(of), "images": of, "answers_sigma": np.linspace(4, 1, len(of))}
        for k, of in enumerate(planted)
    ]
    one = row | {
        "model": other[0],
        "target_tap": other[1],
        "unit": other[2],
        "n_cases": 1,
        "case": 0,
        "n_images": 35,
        "images": planted[0],
        "answers_sigma": planted[0],
    }
    tables = {name: whole.table(name) for name in whole.tables} | {"cases": pd.DataFrame([*cases, one])}
    run = Run(whole.path, whole.record, whole.store, tables)
    neither = next(u for u in pages.units_of(whole) if u not in (unit, other))
    pages.write(run, tmp_path, units=[unit, other, neither])
    sheet = page_of(tmp_path, unit)["case_sheet"]
    assert [[of["image"] for of in case["examples"]] for case in sheet] == [
        [29, 28, 27, 26, 25, 24],
        [40, 41, 42, 43, 44],
    ]
    assert [round(case["share"], 3) for case in sheet] == [0.857, 0.143]
    natural = whole.activations(unit[0], unit[1])["photograph"].values
    shown = [of for case in sheet for of in case["examples"]]
    assert [of["picture"] for of in shown] == [natural[of["image"]] for of in shown]
    credits = {photo.name: photo.credit for photo in photographs()}
    assert [of["licence"] for of in shown] == [credits.get(of["picture"], "") for of in shown] and any(
        of["licence"] for of in shown
    )
    with Image.open((tmp_path / pages.address(unit)).with_suffix(".cases.webp")) as image:
        assert image.size == (11 * pages.PICTURE_PX, pages.PICTURE_PX)
        drawn = np.asarray(image.convert("RGB")).astype(float)
    # Each picture is the middle of the image that the network saw.
    network, ref = run.gallery.layer_of(*unit)
    canvas = network.card.preprocessing.canvas_px
    seen = sets.render("natural", network.stimuli, canvas, np.array([of["image"] for of in shown])).values
    for place, image in enumerate(seen):
        half = round(min(0.5 * ref.tap.rf_px, canvas) / 2)
        middle = image[:, canvas // 2 - half : canvas // 2 + half, canvas // 2 - half : canvas // 2 + half]
        of = drawn[:, place * pages.PICTURE_PX : (place + 1) * pages.PICTURE_PX]
        np.testing.assert_allclose(of.mean(axis=(0, 1)) / 255, middle.mean(axis=(1, 2)), atol=0.06)
    text, said, none = ((tmp_path / pages.address(u)).read_text() for u in (unit, other, neither))
    assert "Case 1: 30 images, 86 %" in text and "Case 2: 5 images, 14 %" in text and text.count(".cases.webp") == 11
    assert "The one case: 35 images" in said and "one Gaussian 0.80" in said and "Case 1" not in said
    assert ".cases.webp" not in none and not (tmp_path / pages.address(neither)).with_suffix(".cases.webp").exists()
    assert page_of(tmp_path, neither)["case_sheet"] == []
    with pytest.raises(RunError, match="has no cases of unit"):
        pages.Book(run).case_pictures(neither)


def test_a_map_of_weights_is_red_where_it_excites_and_blue_where_it_inhibits():
    assert weight_colours([2.0, 0.0, -2.0, 1.0], 2.0) == ["#b2182b", "#f7f7f7", "#2166ac", "#d48891"]
    assert weight_colours([0.0, 0.0], 0.0) == ["#f7f7f7", "#f7f7f7"]


def test_pictures_are_the_examples(whole, made):
    folder, chosen, _ = made
    for unit in chosen[:3]:
        with Image.open(folder / pages.address(unit, ".webp")) as image:
            pixels = np.asarray(image.convert("RGB")).astype(float)
        examples = whole.examples(*unit)["image"].values
        expected = np.concatenate(list(examples), axis=1).astype(float)
        assert pixels.shape == expected.shape
        assert np.abs(pixels - expected).mean() < 12  # kept with loss


def test_every_link_leads_to_a_file_and_nothing_is_fetched(made):
    folder, chosen, _ = made
    files = [folder / "index.html", *(folder / pages.address(unit) for unit in chosen)]
    for file in files:
        text = file.read_text()
        for address in Links(text).found:
            assert not re.match(r"[a-z]+:|//", address), address
            assert (file.parent / unquote(address.split("#")[0])).resolve().is_file(), address
        assert "default-src 'none'" in text


def test_neighbours_are_those_of_the_list(made):
    folder, chosen, _ = made
    for before, unit, after in zip([None, *chosen], chosen, [*chosen[1:], None], strict=False):
        page = page_of(folder, unit)
        assert page["previous"] == (before and pages.address(before))
        assert page["next"] == (after and pages.address(after))


@pytest.mark.parametrize(
    ("unit", "expected"),
    [
        (("pocket/vgg", "features.13", 7), "pocket/vgg/features.13/7.html"),
        (("mine", "a:pre", 0), "mine/a%3Apre/0.html"),
        (("mine", "..", 0), "mine/%2E%2E/0.html"),
        (("mine", "a/../../b", 0), "mine/a%2F..%2F..%2Fb/0.html"),
        (("x/..", "t", 1), "x/%2E%2E/t/1.html"),
    ],
)
def test_no_name_leaves_the_folder(unit, expected):
    assert pages.address(unit) == expected


def test_markup_in_names_stays_text(whole, tmp_path):
    """What a job calls itself, and what a criterion fails by, comes from files."""
    evil = "<script>alert(1)</script>"
    record = {**whole.record, "job": {**whole.record["job"], "question": evil}}
    unit = pages.units_of(whole)[0]
    named = Run(whole.path, record, whole.store)
    pages.write(named, tmp_path, units=[unit])
    for file in (tmp_path / "index.html", tmp_path / pages.address(unit)):
        assert evil not in file.read_text()
        assert Links(file.read_text()).names.count("script") == 1


def test_a_run_without_units_is_one_sentence(tmp_path, whole):
    alone = Run(whole.path, {**whole.record, "tables": {"similarity.parquet": ""}})
    with pytest.raises(
        RunError, match="has no detectors and no matched units, expected the stages families and correspondence"
    ):
        pages.write(alone, tmp_path / "pages")


def test_a_file_in_the_place_of_the_folder_is_one_sentence(tmp_path, whole):
    (tmp_path / "pages").write_text("mine")
    with pytest.raises(RunError, match=r"is a file, expected a folder for the pages; give another with --pages"):
        pages.write(whole, tmp_path / "pages")
    assert (tmp_path / "pages").read_text() == "mine"


def test_a_unit_without_examples_has_a_page(whole, tmp_path, monkeypatch):
    unit = pages.units_of(whole)[0]

    def none(self, *_, **__):
        raise RunError("answers the same")

    monkeypatch.setattr(Run, "examples", none)
    pages.write(whole, tmp_path, units=[unit])
    assert "so it has no examples" in (tmp_path / pages.address(unit)).read_text()
