"""The page in a real browser: no error, no request, and everything a reader does with it, by mouse and by keyboard."""

import re
from itertools import pairwise

import pandas as pd
import pytest
from chromium import needs_browser

from universality import report
from universality.report import pages
from universality.runs.run import Run

pytestmark = needs_browser


@pytest.fixture
def opened(browser, small):
    """A function that opens a page file and, when the test ends, asserts that nothing was reported and nothing requested."""
    contexts, complaints = [], []

    def open_(path=small.out / "report.html", width=1280, scheme="light"):
        contexts.append(browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme))
        tab = contexts[-1].new_page()
        tab.on("console", lambda message: complaints.append(f"console {message.type}: {message.text}"))
        tab.on("pageerror", lambda error: complaints.append(f"error: {error}"))
        tab.on("request", lambda request: complaints.append(request.url) if request.url.startswith("http") else None)
        tab.on("dialog", lambda dialog: (complaints.append(f"dialog: {dialog.message}"), dialog.dismiss()))
        tab.goto(path.as_uri())
        return tab

    yield open_
    for context in contexts:
        context.close()
    assert complaints == []


def counted(tab, table):
    return tab.locator(f"#t-{table}-count").inner_text()


def column(tab, table, name):
    heads = tab.locator(f'[data-table="{table}"] th').evaluate_all("nodes => nodes.map(n => n.dataset.column)")
    return tab.locator(f'[data-table="{table}"] tbody td:nth-child({heads.index(name) + 1})').all_inner_texts()


def test_tables_are_searched_and_filtered(opened, small):
    tab = opened()
    units = small.run.units[small.run.units["seed"] == -1]
    assert f"of {len(units)}." in counted(tab, "units")
    tab.get_by_label("Filter detector", exact=True).select_option("true")
    assert f"of {units['detector'].sum()} that match, out of {len(units)}." in counted(tab, "units")
    tab.get_by_label("Filter r1", exact=True).fill("0.6..0.8")
    both = units[units["detector"] & units["r1"].map(lambda v: float(f"{v:.4g}")).between(0.6, 0.8)]
    assert f" of {len(both)} that match" in counted(tab, "units") if len(both) else "No row" in counted(tab, "units")
    tab.locator('[data-table="units"]').get_by_role("button", name="Clear").click()
    assert f"of {len(units)}." in counted(tab, "units")
    tab.get_by_label("Search Units and what they fail").fill("lite1 early")
    early = units[units["model"].str.contains("lite1") & units["level"].eq("early")]
    assert f" of {len(early)} that match" in counted(tab, "units") if len(early) else "No row" in counted(tab, "units")


def test_tables_are_sorted_by_their_heads(opened, small):
    tab = opened()
    head = tab.locator('[data-table="families"] th[data-column="share"]')
    assert head.get_attribute("aria-sort") == "none"
    head.get_by_role("button").click()
    assert head.get_attribute("aria-sort") == "descending"
    shares = [float(v) for v in column(tab, "families", "share")]
    assert shares == sorted(shares, reverse=True) and max(shares) == pytest.approx(
        small.run.families["share"].max(), abs=5e-4
    )
    head.get_by_role("button").click()
    assert [float(v) for v in column(tab, "families", "share")] == sorted(shares)


IMPORTANT = {
    "families": "share_untrained", "correspondence": "q", "similarity": "value_shuffled", "units": "invariance", "pairs": "n_met_haar",
    "correspondence_nulls": "r_natural_haar",
}  # fmt: skip
"""The last column of each table that a reader sees without scrolling."""


def test_important_columns_are_visible_on_a_laptop_and_rows_keep_their_first_cell(opened):
    tab = opened(width=1400)
    assert tab.evaluate("document.documentElement.scrollWidth") == 1400
    edges = "([table, column]) => ['.scroll', `th[data-column=${column}]`].map((at) => document.querySelector(`[data-table=${table}] ${at}`).getBoundingClientRect().right)"
    for names in IMPORTANT.items():
        box, last = tab.evaluate(edges, names)
        assert last <= box, names
    pairs = tab.locator('[data-table="correspondence"]')
    pairs.get_by_label("more columns").check()
    first = pairs.locator("tbody tr td").first
    before = first.bounding_box()["x"]
    moved = pairs.locator(".scroll").evaluate("node => { node.scrollLeft = 1e6; return node.scrollLeft; }")
    assert moved > 500 and first.bounding_box()["x"] == pytest.approx(before, abs=1)


def test_pairs_are_sorted_by_verdict_and_strength(opened, monkeypatch, tmp_path, small):
    """Verdicts in the order of what they claim, and among equals the strongest first, by a press of a key on the head."""
    pairs = small.run.correspondence
    claims = ["unmatched", "correlated_only", "same_feature", "family_only"]
    rows = pd.concat([pairs] * 3, ignore_index=True)
    rows = rows.assign(
        verdict=[claims[i % 4] for i in range(len(rows))], r_natural=[0.1 * ((7 * i) % 11) for i in range(len(rows))]
    )
    tables = {name: small.run.table(name) for name in small.run.tables} | {"correspondence": rows}
    page = tmp_path / "pairs.html"
    page.write_text(report.render(Run(small.out, small.run.record, small.store, tables), {}), encoding="utf-8")
    tab = opened(page)
    order = ["same_feature", "correlated_only", "family_only", "unmatched"]

    def shown():
        verdicts, strengths = column(tab, "correspondence", "verdict"), column(tab, "correspondence", "r_natural")
        return [(order.index(v), round(float(r), 3)) for v, r in zip(verdicts, strengths, strict=True)]

    assert shown() == sorted(shown(), key=lambda row: (row[0], -row[1])) and len({v for v, _ in shown()}) == 4
    heads = tab.locator('[data-table="correspondence"] th')
    heads.locator("visible=true").filter(has_text="r_natural").first.get_by_role("button").focus()
    tab.keyboard.press("Enter")
    assert [r for _, r in shown()] == sorted((r for _, r in shown()), reverse=True)
    tab.locator('[data-table="correspondence"] tbody button.unit').first.click()
    matches = tab.locator("dialog#card table").last
    strength = matches.locator("th", has_text="held-out r")
    strength.get_by_role("button").press("Enter")
    values = [float(v.split()[0]) for v in matches.locator("tbody td:nth-child(3)").all_inner_texts()]
    assert strength.get_attribute("aria-sort") == "descending" and len(values) > 2
    assert values == sorted(values, reverse=True)
    strength.get_by_role("button").press("Enter")
    assert [float(v.split()[0]) for v in matches.locator("tbody td:nth-child(3)").all_inner_texts()] == sorted(values)


def test_pictures_enlarge_and_escape_closes_them_alone(opened):
    tab = opened()
    viewer, link = tab.locator("dialog#viewer"), tab.locator("#detectors a.enlarge").first
    tab.evaluate("document.querySelectorAll('details').forEach((node) => { node.open = true; })")
    link.focus()
    tab.keyboard.press("Enter")
    assert viewer.is_visible()
    assert viewer.locator("img").evaluate("n => n.getBoundingClientRect().width") >= link.locator("img").evaluate("n => n.getBoundingClientRect().width")  # fmt: skip
    tab.keyboard.press("Escape")
    assert not viewer.is_visible() and link.evaluate("node => node === document.activeElement")
    tab.locator("#units button.unit").first.click()
    small = tab.locator("dialog#card .thumb")
    small.first.press("Enter")
    assert (
        viewer.locator("img").evaluate("async (n) => { await n.decode(); return n.getBoundingClientRect().width; }")
        > 400
    )
    said = viewer.inner_text()
    tab.keyboard.press("ArrowRight")
    assert viewer.inner_text() != said and small.nth(1).get_attribute("title") in viewer.inner_text()
    tab.keyboard.press("Escape")
    assert not viewer.is_visible() and tab.locator("dialog#card").is_visible()


def test_without_scripts_a_picture_is_a_link_that_enlarges_it(browser, small):
    context = browser.new_context(viewport={"width": 900, "height": 800}, java_script_enabled=False)
    tab = context.new_page()
    tab.goto((small.out / "report.html").as_uri())
    image = tab.locator("#detectors figure img").first
    before = image.bounding_box()["width"]
    image.click()
    assert tab.url.endswith("#figure-detectors-1") and image.bounding_box()["width"] > before
    context.close()


def test_units_come_with_detectors_first_and_pages_turn(opened, small):
    tab = opened()
    n = int((small.run.units["detector"] & (small.run.units["seed"] == -1)).sum())
    assert column(tab, "units", "detector")[: min(n, 25)] == ["true"] * min(n, 25)
    host = tab.locator('[data-table="units"]')
    host.get_by_role("button", name="rows after").click()
    assert counted(tab, "units").startswith("Rows 26 to 50 of")
    host.get_by_role("button", name="rows before").click()
    assert counted(tab, "units").startswith("Rows 1 to 25 of")


def test_a_click_opens_the_card_of_the_unit(opened, small):
    tab = opened()
    button = tab.locator("#units button.unit").first
    unit = button.inner_text()
    button.click()
    card = tab.locator("dialog#card")
    assert card.is_visible()
    assert re.fullmatch(rf"efficientnet_lite\d, [\w.]+, unit {unit}", tab.locator("#card-title").inner_text())
    assert card.locator("svg path.line-a").count() == len(small.run.families["family"].unique())
    pictures = card.locator(".thumb img")
    assert pictures.count() >= 10
    assert pictures.first.evaluate("image => image.decode().then(() => image.naturalWidth)") == 56
    text = card.inner_text()
    assert "invariance" in text and "meets" in text and "Matches in other networks" in text
    card.get_by_role("button", name="Close").click()
    assert not card.is_visible()


def test_a_match_leads_to_the_card_of_the_partner(opened, small):
    tab = opened()
    tab.locator('[data-table="correspondence"] tbody button.unit').first.click()
    before = tab.locator("#card-title").inner_text()
    tab.locator("dialog tbody button.unit").first.click()
    assert tab.locator("#card-title").inner_text() != before


def test_keyboard_alone_opens_walks_and_closes(opened):
    tab = opened()
    first = tab.locator("#units button.unit").first
    first.focus()
    tab.keyboard.press("ArrowDown")
    second = tab.locator("#units button.unit").nth(1)
    assert second.evaluate("node => node === document.activeElement")
    assert second.evaluate("node => getComputedStyle(node).outlineStyle") == "solid"
    tab.keyboard.press("Enter")
    title = tab.locator("#card-title")
    shown = title.inner_text()
    tab.keyboard.press("ArrowRight")
    assert title.inner_text() != shown
    tab.keyboard.press("ArrowLeft")
    assert title.inner_text() == shown
    tab.keyboard.press("Tab")
    assert tab.evaluate("document.activeElement.closest('dialog') !== null")
    tab.keyboard.press("Escape")
    assert not tab.locator("dialog#card").is_visible()
    assert second.evaluate("node => node === document.activeElement"), "focus returns to where the reader was"


def test_every_control_has_a_name(opened):
    tab = opened()
    tab.locator("#units button.unit").first.click()
    unnamed = tab.locator("button, input, select, [role=img], [role=region]").evaluate_all(
        "nodes => nodes.filter(n => !(n.getAttribute('aria-label') || n.getAttribute('aria-labelledby') || n.innerText.trim() "
        "|| n.closest('label') || n.hidden)).map(n => n.outerHTML)"
    )
    assert [node for node in unnamed if "hidden" not in node] == []
    assert tab.locator("img:not([alt])").count() == 0


def background(tab):
    return tab.evaluate("getComputedStyle(document.body).backgroundColor")


def test_light_and_dark_follow_the_system_and_the_switch(opened):
    assert background(opened(scheme="light")) == "rgb(255, 255, 255)"
    tab = opened(scheme="dark")
    dark = background(tab)
    assert dark == "rgb(20, 23, 27)"
    switch = tab.locator("#theme")
    switch.click()
    assert switch.inner_text() == "Theme: light" and background(tab) == "rgb(255, 255, 255)"
    switch.click()
    assert switch.inner_text() == "Theme: dark" and background(tab) == dark
    switch.click()
    assert switch.inner_text() == "Theme: as the system"


CONTRASTS = """() => {
  const channels = (text) => { const [r, g, b, a = 1] = text.match(/[\\d.]+/g).map(Number); return [r, g, b, a]; };
  const luminance = (rgb) => rgb.slice(0, 3).map((v) => v / 255).map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = (node) => {
    for (let at = node; at; at = at.parentElement) { const found = channels(getComputedStyle(at).backgroundColor); if (found[3] === 1) return found; }
    return [255, 255, 255, 1];
  };
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT), found = [];
  while (walker.nextNode()) {
    const node = walker.currentNode.parentElement, style = getComputedStyle(node);
    const hidden = node.closest("script, style, noscript, option, .visually-hidden, :disabled") || !node.getClientRects().length;
    if (!walker.currentNode.data.trim() || hidden) continue;
    const ink = channels(node.closest("svg") ? style.fill : style.color), two = [luminance(ink), luminance(behind(node))].sort((a, b) => b - a);
    const large = parseFloat(style.fontSize) >= 24 || (parseFloat(style.fontSize) >= 18.66 && Number(style.fontWeight) >= 700);
    found.push([(two[0] + 0.05) / (two[1] + 0.05), large ? 3 : 4.5, `${node.tagName}.${node.getAttribute("class")}: ${walker.currentNode.data.slice(0, 40)}`]);
  }
  return found;
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_all_text_has_the_contrast_of_wcag_aa(opened, scheme):
    tab = opened(scheme=scheme)
    tab.locator("details").evaluate_all("nodes => nodes.forEach((node) => { node.open = true; })")
    found = tab.evaluate(CONTRASTS)
    tab.locator("#units button.unit").first.click()
    found += tab.evaluate(CONTRASTS)
    assert len(found) > 500
    assert [(round(ratio, 2), what) for ratio, least, what in found if ratio < least] == []
    # The frame of the focus is no text: 3 is asked of it (WCAG 2, 1.4.11).
    tab.keyboard.press("Escape")
    tab.keyboard.press("Tab")
    frame = "node => [getComputedStyle(node).outlineColor, getComputedStyle(document.body).backgroundColor]"
    colours = tab.locator(":focus").evaluate(frame)
    assert contrast(*colours) >= 3


def contrast(one, other):
    """Contrast ratio of two CSS colours, WCAG 2.2, definition of relative luminance."""

    def luminance(text):
        shares = [int(value) / 255 for value in re.findall(r"\d+", text)[:3]]
        linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in shares]
        return sum(weight * value for weight, value in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_contrast_is_that_of_the_definition():
    assert contrast("rgb(0, 0, 0)", "rgb(255, 255, 255)") == pytest.approx(21)
    assert contrast("rgb(118, 118, 118)", "rgb(255, 255, 255)") == pytest.approx(4.54, abs=0.01)


def test_headings_leave_out_no_level(opened):
    tab = opened()
    tab.locator("#units button.unit").first.click()
    levels = tab.locator("h1, h2, h3, h4, h5, h6").evaluate_all("nodes => nodes.map((n) => Number(n.tagName[1]))")
    assert levels.count(1) == 1 and levels[0] == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))


@pytest.mark.parametrize(("wish", "behaviour"), [("reduce", "auto"), ("no-preference", "smooth")])
def test_nothing_moves_for_who_wants_no_motion(opened, wish, behaviour):
    tab = opened()
    tab.emulate_media(reduced_motion=wish)
    assert tab.evaluate("getComputedStyle(document.documentElement).scrollBehavior") == behaviour
    moving = "nodes => nodes.filter((n) => parseFloat(getComputedStyle(n).transitionDuration) || getComputedStyle(n).animationName !== 'none').length"
    assert tab.locator("*").evaluate_all(moving) == 0


PAPER_PX = 688
"""Width of A4 less 14 mm on either side, CSS px."""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_paper_shows_all_that_a_reader_cannot_open_there(opened, small, scheme):
    tab = opened(width=PAPER_PX, scheme=scheme)
    tab.emulate_media(media="print")
    assert background(tab) == "rgb(255, 255, 255)"
    assert [what for ratio, least, what in tab.evaluate(CONTRASTS) if ratio < least] == []
    tab.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    assert tab.evaluate("document.documentElement.scrollWidth") <= PAPER_PX
    wide = "nodes => nodes.filter((n) => n.getClientRects().length && n.getBoundingClientRect().right > document.documentElement.clientWidth + 1).map((n) => n.closest('[id], [data-table]').outerHTML.slice(0, 80))"
    assert tab.locator("main *:not(.scroll)").evaluate_all(wide) == []
    assert tab.locator('[data-table="families"] tbody tr').count() == len(small.run.families)
    assert not tab.locator('[data-table="units"]').is_visible() and tab.locator(".on-paper").is_visible()
    assert tab.locator("details:not([open])").count() == 0
    adjust = tab.locator("#heatmaps tbody td").evaluate_all(
        "nodes => nodes.map((n) => getComputedStyle(n).printColorAdjust)"
    )
    assert set(adjust) == {"exact"}, "browsers leave backgrounds out, and white numbers would stand on white"
    tab.evaluate("window.dispatchEvent(new Event('afterprint'))")
    tab.emulate_media(media="screen")
    assert tab.locator("details[open]").count() == 0 and tab.locator('[data-table="units"]').is_visible()


@pytest.mark.parametrize("width", [400, 1280])
def test_nothing_but_tables_scrolls_sideways(opened, width):
    tab = opened(width=width)
    assert tab.evaluate("document.documentElement.scrollWidth") == width
    tab.locator("#units button.unit").first.click()
    assert tab.locator("dialog#card").evaluate("node => node.scrollWidth <= node.clientWidth")


def test_heatmaps_show_trained_and_nulls_on_one_scale(opened, small):
    tab = opened()
    rows = small.run.similarity[small.run.similarity["measure"] == small.run.similarity["measure"].iloc[0]]
    maps = tab.locator("#heatmaps table")
    assert maps.count() == 4
    assert [float(v) for v in maps.first.locator("tbody td").all_inner_texts()] == pytest.approx(
        rows["value"], abs=6e-3
    )
    assert "-0.00" not in tab.locator("#heatmaps").inner_text()
    cells = tab.locator("#heatmaps tbody td").evaluate_all(
        "nodes => nodes.map(n => [Number(n.innerText), Number(getComputedStyle(n).backgroundColor.split(',')[1])])"
    )
    # The green of viridis grows with the value: with one scale it does so over all four maps together.
    greens = [green for _, green in sorted(cells)]
    assert len({value for value, _ in cells}) > 2 and greens == sorted(greens)


def test_atlas_opens_cards(opened):
    tab = opened()
    cell = tab.locator("#atlas-grid button").first
    unit = re.search(r"unit (\d+)", cell.get_attribute("aria-label"))[1]
    cell.click()
    assert tab.locator("#card-title").inner_text().endswith(f"unit {unit}")


def test_the_address_leads_to_a_card_whenever_it_changes(opened, small):
    rows = small.run.units[small.run.units["seed"] == -1].iloc[[3, 40]].to_dict("records")
    one, other = (f"#unit={row['model']}|{row['tap']}|{row['unit']}" for row in rows)
    tab = opened()
    card, title = tab.locator("dialog#card"), tab.locator("#card-title")
    tab.goto((small.out / "report.html").as_uri() + one)
    assert title.inner_text().endswith(f"unit {rows[0]['unit']}"), "edited in place: the page is not loaded again"
    tab.reload()
    assert title.inner_text().endswith(f"unit {rows[0]['unit']}")
    tab.evaluate(f"location.hash = {other!r}")
    title.get_by_text(f"unit {rows[1]['unit']}").wait_for()
    tab.go_back()
    title.get_by_text(f"unit {rows[0]['unit']}").wait_for()
    tab.keyboard.press("Escape")
    assert not card.is_visible() and "#unit" not in tab.url
    tab.locator("#units button.unit").first.click()
    assert "#unit=" in tab.url
    tab.go_back()
    card.wait_for(state="hidden")
    for broken in ("#unit=nobody|knows|7", "#unit=50%"):
        tab.evaluate(f"location.hash = {broken!r}")
        card.get_by_text(f'"{broken[6:]}"').wait_for()
        tab.keyboard.press("Escape")
    tab.evaluate("location.hash = '#figure-similarity-1'")
    tab.locator("#similarity details[open]").wait_for()


def test_a_hostile_name_runs_nothing(opened, hostile, tmp_path):
    tab = opened(report.write(hostile.run, tmp_path / "evil.html"))
    assert hostile.text in tab.locator(".question").inner_text()
    tab.locator("#units").get_by_label("Filter model", exact=True).select_option(f"={hostile.text}")
    tab.locator("#units button.unit").first.click()
    assert "<img src=x" in tab.locator("#card-title").inner_text()


@pytest.fixture(scope="module")
def book(whole, tmp_path_factory):
    """Pages of some units of a run, and their addresses."""
    folder = tmp_path_factory.mktemp("pages")
    chosen = pages.units_of(whole)[:5]
    return pages.write(whole, folder, units=chosen), [folder / pages.address(unit) for unit in chosen]


def test_pages_of_units_show_their_pictures(opened, book):
    tab = opened(book[1][0])
    shown = tab.locator("svg image").evaluate_all(
        "nodes => Promise.all(nodes.map(n => new Promise(done => { const i = new Image(); i.onload = () => done(i.naturalWidth); "
        "i.onerror = () => done(0); i.src = n.href.baseVal; })))"
    )
    assert len(shown) >= 15 and min(shown) > 0


def test_pages_are_turned_by_the_keyboard(opened, book):
    _, files = book
    tab = opened(files[1])
    for key, place in (("ArrowRight", 2), ("ArrowLeft", 1), ("ArrowLeft", 0)):
        tab.keyboard.press(key)
        tab.wait_for_url(files[place].as_uri())
    tab.keyboard.press("ArrowLeft")  # the first stays
    tab.keyboard.press("/")
    tab.wait_for_url("**/index.html#search")
    assert tab.evaluate("document.activeElement.id") == "search"


def test_units_are_searched(opened, book):
    index, files = book
    tab = opened(index)
    assert tab.locator("#found").inner_text() == "5 of 5 units"
    number = files[3].stem
    tab.locator("#search").fill(f"lite0 {number}")
    visible = tab.locator(".list li:visible")
    assert all(number in text for text in visible.all_inner_texts()) and visible.count() >= 1
    tab.locator("#search").fill("no such unit")
    assert tab.locator("#found").inner_text() == "0 of 5 units"
    tab.locator("#search").fill(number)
    tab.keyboard.press("Enter")
    tab.wait_for_url(next(file.as_uri() for file in files if number in file.stem))


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pages_fit_a_telephone(opened, book, scheme):
    tab = opened(book[1][0], width=400, scheme=scheme)
    assert tab.evaluate("document.documentElement.scrollWidth") <= 400
