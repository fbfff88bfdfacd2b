"""What notebooks show of cards, plans, findings and stimuli: facts beside their nulls, and no markup from cards or jobs."""

from html.parser import HTMLParser

import numpy as np
import pytest

import universality
from universality import figures
from universality.base import html
from universality.base.errors import StimulusError
from universality.models import catalogue
from universality.report import Finding, Findings
from universality.runs.job import Job, read_job
from universality.stimuli import sets
from universality.stimuli.spec import StimuliSpec

EVIL = """</td></table><script>alert(1)</script><img src=x onerror="alert(2)">'&"""


class Shown(HTMLParser):
    """Tags of a fragment, checked to be closed in order, and its text."""

    def __init__(self, fragment: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.text = ""
        self._open: list[str] = []
        self.feed(fragment)
        self.close()
        assert not self._open

    def handle_starttag(self, tag, attrs):
        assert not attrs
        self.tags.add(tag)
        self._open.append(tag)

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        self.text += data


def evil_card():
    card = catalogue.card("pocket/vgg-focus-s0")
    first = card.taps[0].model_copy(update={"name": EVIL})
    weights = card.weights.model_copy(update={"name": EVIL})
    texts = dict.fromkeys(("architecture", "training_set", "licence", "citation", "note"), EVIL)
    return card.model_copy(update={**texts, "weights": weights, "taps": (first, *card.taps[1:])})


def evil_plan(small):
    return universality.plan(read_job(small.job).model_copy(update={"question": EVIL}), small.out, small.store)


def evil_findings(small):
    return Findings([Finding(EVIL, EVIL, "above"), Finding(EVIL, EVIL, "none", detail=True)])


@pytest.mark.parametrize(
    ("show", "times"),
    [(lambda _: evil_card(), 7), (evil_plan, 1), (evil_findings, 3), (lambda small: _hostile_run(small), 2)],
    ids=["card", "plan", "findings", "run"],
)
def test_no_text_becomes_markup(small, show, times):
    shown = Shown(show(small)._repr_html_())
    assert shown.tags <= {"h4", "p", "table", "thead", "tbody", "tr", "th", "td", "ul", "li", "details", "summary"}
    assert shown.text.count(EVIL) == times


def _hostile_run(small):
    job = {**small.run.record["job"], "name": EVIL, "question": EVIL}
    return universality.Run(small.out, {**small.run.record, "job": job})


@pytest.mark.parametrize("make", [html.heading, html.paragraph, lambda text: html.folded(text, "")])
def test_every_helper_escapes(make):
    assert Shown(make(EVIL)).text == EVIL


def test_lists_and_facts_escape_and_leave_out_what_is_empty():
    assert Shown(html.items([EVIL])).text == EVIL and html.items([]) == ""
    assert Shown(html.facts([(EVIL, EVIL), ("note", "")])).text == EVIL * 2
    assert Shown(html.table([EVIL], [[EVIL]])).text == EVIL * 2
    assert html.paragraph("") == ""


def test_card_shows_accuracy_beside_chance_and_every_tap():
    card = catalogue.card("pocket/vgg-focus-s0")
    shown = Shown(card._repr_html_()).text
    assert f"{card.training.accuracy:.3f} (chance {card.training.chance:.3f})" in shown
    assert all(tap.name in shown and str(tap.rf_px) in shown for tap in card.taps)


def test_plan_says_what_exists(small, tmp_path):
    job: Job = read_job(small.job)
    done = Shown(universality.plan(job, small.out, small.store)._repr_html_()).text
    fresh = Shown(universality.plan(job, tmp_path / "run", tmp_path / "store")._repr_html_()).text
    stores = len(universality.plan(job, small.out, small.store).stores)
    assert f"0 of {stores} activation stores to extract" in done and "report exist in" in done
    assert f"{stores} of {stores} activation stores to extract" in fresh and "are to be made" in fresh
    assert list(tmp_path.iterdir()) == []


def test_verdicts_of_a_run_stand_beside_those_of_nulls(small):
    nulls = small.run.correspondence_nulls.copy()
    nulls.loc[nulls.index[:1], "verdict"] = "same_feature"
    run = universality.Run(small.out, small.run.record, tables={"correspondence_nulls": nulls})
    assert (
        f"untrained twins): same_feature {min(len(nulls), 1)} of {len(nulls)} pairs." in Shown(run._repr_html_()).text
    )


def test_findings_of_a_run_are_those_of_its_report(small):
    found = universality.findings(small.run)
    shown = Shown(found._repr_html_()).text
    assert found and all(finding.text in shown for finding in found)
    assert shown.count("[at its null]") == sum(finding.standing == "null" for finding in found)


def test_stimulus_sheet_draws_a_labelled_array_evenly():
    spec = StimuliSpec()
    drawn = sets.render("curves", spec, 16, slice(0, 50))
    figure = figures.stimulus_sheet(drawn, most=5, columns=3)
    images = [ax for ax in figure.axes if ax.images]
    assert figure.get_suptitle() == "curves: 5 of 50" and len(images) == 5
    for ax, row in zip(images, (0, 12, 24, 37, 49), strict=True):
        np.testing.assert_array_equal(ax.images[0].get_array(), np.moveaxis(drawn.values[row], 0, 2))
        assert ax.get_title() == sets.captions(drawn.isel(stimulus=[row]))[0]


def test_stimulus_sheet_needs_the_name_of_a_set():
    drawn = sets.render("curves", StimuliSpec(), 16, slice(0, 2)).rename("curvs")
    with pytest.raises(StimulusError, match="unknown stimulus set 'curvs'; did you mean 'curves'"):
        figures.stimulus_sheet(drawn)
