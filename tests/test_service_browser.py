"""The pages in a real browser: nothing runs that is not the service's own, and what a person does by mouse and by keyboard."""

import io
import re
import socket
import threading
import time
from pathlib import Path
from urllib.parse import quote

import pytest
import tomli_w
import uvicorn
from chromium import needs_browser, playwright
from service_pages_parts import EVIL, served
from service_parts import SMALL

from universality.models.catalogue import card
from universality.runs.run import open_run
from universality.service import attempt, trying
from universality.service.pages.rendering import unit_url
from universality.service.states import Action

expect = playwright.expect
POCKET_ZOO = Path(__file__).parent.parent / "data/pocket_zoo"
pytestmark = needs_browser


@pytest.fixture(scope="module")
def site(whole, tmp_path_factory):
    """The address of a service, and its application."""
    with served(whole, tmp_path_factory.mktemp("service")) as client:
        listening = socket.create_server(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(client.app, log_level="error", lifespan="off"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        while not server.started:
            time.sleep(0.01)
        yield f"http://127.0.0.1:{listening.getsockname()[1]}", client.app
        server.should_exit = True
        thread.join()


@pytest.fixture
def opened(browser, site):
    """A function that opens a page; when the test ends, nothing may have been reported, and nothing asked of another host."""
    contexts, complaints = [], []

    def open_(path, width=1280, scheme="light"):
        contexts.append(browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme))
        contexts[-1].set_default_timeout(120_000)  # machines that do much else besides
        tab = contexts[-1].new_page()
        tab.on("console", lambda message: complaints.append(f"console {message.type}: {message.text}"))
        tab.on("pageerror", lambda error: complaints.append(f"error: {error}"))
        tab.on("request", lambda request: None if request.url.startswith(site[0]) else complaints.append(request.url))
        tab.on(
            "response",
            lambda answer: complaints.append(f"{answer.status} {answer.url}") if answer.status >= 400 else None,
        )
        tab.on("dialog", lambda dialog: (complaints.append(f"dialog: {dialog.message}"), dialog.dismiss()))
        tab.goto(site[0] + path)
        return tab

    yield open_
    for context in contexts:
        context.close()
    assert complaints == []


@pytest.fixture(scope="module")
def unit(whole):
    table = whole.correspondence[whole.correspondence["method"] == whole.job.matched_by()]
    best = table.sort_values("r_natural").iloc[-1]
    return best["model_a"], best["tap_a"], int(best["unit_a"])


def test_a_network_called_a_script_is_harmless_on_every_page(opened, site, unit):
    hostile = open_run(site[1].state.settings.runs / "hostile")
    model, tap = quote(EVIL, safe=""), quote(next(t for m, t, _ in hostile.trained_keys if m == EVIL), safe="")
    tab = opened("/")
    for path in ("/runs/hostile", "/runs/hostile/tables/correspondence", "/runs/hostile/figures", "/runs/hostile/similarity", "/runs/hostile/atlas", "/zoo", "/compare",
                 f"/models/{model}", f"/models/{model}/taps/{tap}", f"/compare?a={model}&b={quote(unit[0])}&run=hostile", f"/search?q={model}", "/lists", "/jobs"):  # fmt: skip
        answer = tab.goto(site[0] + path)
        assert answer.status == 200, path
        tab.wait_for_load_state("networkidle")
        assert tab.evaluate("document.querySelectorAll('script:not([src]), img[src=x]').length") == 0
        assert tab.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth"), path
    assert "alert(1)" in tab.goto(f"{site[0]}/runs/hostile").text()


def test_a_table_is_filtered_as_one_types_and_sorted_by_keyboard(opened, whole):
    tab = opened("/runs/one/tables/correspondence")
    table = whole.correspondence
    assert f"of {len(table)}." in tab.locator("#count").inner_text()
    tab.get_by_label("Filter r_natural", exact=True).fill("0.3..0.9")
    fitting = table["r_natural"].between(0.3, 0.9)
    expect(tab.locator("#count")).to_contain_text(f"of {fitting.sum()} that match")
    assert tab.get_by_label("Filter r_natural", exact=True).input_value() == "0.3..0.9" and "f.r_natural" in tab.url
    tab.get_by_label("Filter method", exact=True).select_option("mutual_nearest")
    both = table[fitting & (table["method"] == "mutual_nearest")]
    expect(tab.locator("#count")).to_contain_text(f"of {len(both)} that match" if len(both) else "No row matches")
    tab.get_by_role("link", name="Clear").press("Enter")
    tab.locator("th", has=tab.locator("[name='f.r_natural']")).get_by_role("link").press("Enter")
    tab.wait_for_url("**sort=-r_natural**")
    place = tab.locator("thead th").evaluate_all(
        "heads => heads.findIndex(head => head.getAttribute('aria-sort') === 'descending')"
    )
    shown = [float(text) for text in tab.locator(f"#rows td:nth-child({place + 1})").all_inner_texts()]
    expected = table["r_natural"].sort_values(ascending=False).head(len(shown))
    assert shown == pytest.approx(expected.tolist(), abs=6e-4)
    with tab.expect_download() as download:
        tab.get_by_role("link", name="CSV").click()
    assert len(download.value.path().read_text().splitlines()) == len(table) + 1


def test_a_mistake_in_a_filter_is_said_on_the_page(browser, site):
    tab = browser.new_page()
    tab.goto(f"{site[0]}/runs/one/tables/correspondence")
    tab.get_by_label("Filter r_natural", exact=True).fill("much")
    expect(tab.locator("[data-errors]")).to_contain_text("'r_natural' is 'much', expected a number")
    tab.close()


def test_a_unit_by_keyboard_its_null_and_where_else_it_is(opened, unit):
    tab = opened(unit_url(*unit, "one"))
    assert tab.locator("h1").inner_text() == f"Unit {unit[2]}"
    tab.get_by_role("button", name="Look in all taps").press("Enter")
    tab.wait_for_selector("#elsewhere table")
    other = tab.locator("#elsewhere tbody tr").first.locator("a.unit")
    other.press("Enter")
    tab.wait_for_url("**/units/**")
    assert tab.locator("h1").inner_text().startswith("Unit ")
    number = int(tab.locator("h1").inner_text().split()[1])
    tab.locator("body").press("ArrowRight" if tab.locator("a[rel=next]").count() else "ArrowLeft")
    expect(tab.locator("h1")).not_to_have_text(f"Unit {number}")
    tab.locator("body").press("/")
    assert tab.evaluate("document.activeElement.id") == "search"
    tab.keyboard.type(f"{unit[0].split('/')[1]} {unit[1]} {unit[2]}")
    tab.keyboard.press("Enter")
    tab.get_by_role("listitem").filter(has_text="in run one").get_by_role("link").click()
    assert tab.locator("h1").inner_text() == f"Unit {unit[2]}"


def test_a_note_and_a_list_are_kept_over_a_reload(opened, unit):
    tab = opened(unit_url(*unit, "one"))
    tab.get_by_label("New note").fill("an arc, <b>open</b> to the left")
    tab.get_by_role("button", name="Write").click()
    tab.get_by_label("New list").fill("to look at again")
    tab.get_by_role("button", name="Put the unit on it").click()
    tab.reload()
    assert tab.get_by_text("an arc, <b>open</b> to the left").count() == 1
    assert tab.get_by_role("button", name="✓ on").get_attribute("aria-pressed") == "true"


def test_a_job_from_the_form_and_its_page(opened, site):
    tab = opened("/jobs/new")
    tab.get_by_label("Name").fill("from-the-form")
    for model in ("pocket/vgg-focus-s0", "pocket/alexnet-focus-s0"):
        tab.locator("#networks li", has_text=model).get_by_role("checkbox").first.check()
        tab.locator("#networks li", has_text=model).locator("summary").press("Enter")
        tab.locator("#networks li", has_text=model).get_by_label("features.4", exact=True).check()
    tab.get_by_label("curve", exact=True).uncheck()
    tab.locator("[name='stimuli.natural.crops']").fill("64")
    tab.locator("[name='extraction.reduction']").select_option("center")
    tab.get_by_role("button", name="Submit this job").wait_for(timeout=60_000)
    assert 'reduction = "center"' in tab.locator("#plan pre").inner_text()
    tab.get_by_role("button", name="Submit this job").click()
    tab.wait_for_url("**/jobs/*")
    assert tab.locator("h1").inner_text() == "from-the-form" and "waiting" in tab.locator("#now").inner_text()
    job = tab.url.split("/")[-1]
    claim = site[1].state.queue.claim("tester")
    site[1].state.queue.note(
        "tester", claim, [("stage", {"description": "similarity (tasks)", "done": 1, "total": 4, "seconds": 2.0})]
    )
    tab.wait_for_selector("#now progress")
    assert "1 of 4" in tab.locator("#now").inner_text() and "running" in tab.locator("#now").inner_text()
    tab.reload()
    assert "1 of 4" in tab.locator("#now").inner_text()
    tab.get_by_role("button", name="Cancel").click()
    tab.get_by_text("being cancelled").wait_for()
    assert site[1].state.queue.get(job).cancel


def test_a_network_of_ones_own_from_its_files_to_the_page_of_its_run(opened, site, tmp_path, monkeypatch):
    for variable, folder in (("UNIVERSALITY_MODEL_ZOO", "zoo"), ("UNIVERSALITY_WEIGHTS", "weights")):
        monkeypatch.setenv(variable, str(tmp_path / folder))
    values = card("pocket/vgg-focus-s1").model_dump(mode="json", exclude_none=True, exclude_defaults=True)
    values = {name: value for name, value in values.items() if name not in ("training", "void_twin")}
    values |= {"id": "own/mine", "source": "file", "weights": {"name": "mine"}}
    (tmp_path / "mine.toml").write_text(tomli_w.dumps(values))
    tab = opened("/zoo")
    tab.get_by_label("Card (.toml)").set_input_files(tmp_path / "mine.toml")
    tab.get_by_label("Checkpoint (.safetensors)").set_input_files(POCKET_ZOO / "vgg-focus-s1.safetensors")
    tab.get_by_role("button", name="Upload").click()
    tab.wait_for_url("**/models/own/mine")
    assert "weights at hand" in tab.inner_text("body")
    tab.get_by_role("link", name="Submit a job with it").click()
    assert tab.locator("#networks li", has_text="own/mine").get_by_role("checkbox").first.is_checked()
    tab.get_by_label("TOML").fill(SMALL.replace("pocket/vgg-focus-s0", "own/mine"))
    tab.locator("#paste").get_by_role("button", name="Submit").click()
    tab.wait_for_url(re.compile("/jobs/[0-9a-f]{12}$"))
    queue, claim = site[1].state.queue, None
    while claim is None or claim.id not in tab.url:  # jobs of other tests stand before it
        claim = queue.claim("tester")
    settings = site[1].state.settings
    asked = {"job": claim.job, "out": str(settings.runs / claim.run), "store": settings.stores, "workers": {"threads": 1}}  # fmt: skip
    assert trying.outcome(asked, attempt.Told(io.StringIO())) == {"ended": "done"}
    queue.end("tester", claim, Action.FINISH)
    tab.get_by_role("link", name="Open the run").click()
    tab.wait_for_url(f"**/runs/{claim.run}")
    # Not as a page: a browser asks for the icon of whatever it shows.
    assert "own/mine" in tab.request.get(f"{site[0]}/api/v1/runs/{claim.run}/tables/similarity").text()


def test_the_theme_that_is_chosen_is_kept(opened):
    tab = opened("/", scheme="dark")
    dark = tab.evaluate("getComputedStyle(document.body).backgroundColor")
    tab.get_by_role("button", name="Theme: system").press("Enter")
    tab.get_by_role("button", name="Theme: light").wait_for()
    assert tab.evaluate("getComputedStyle(document.body).backgroundColor") != dark
    tab.goto(tab.url.replace("/", "/", 1) + "zoo")
    assert tab.evaluate("document.documentElement.dataset.theme") == "light"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_narrow_pages_are_no_wider_than_the_window(opened, site, unit, scheme):
    tab = opened("/", width=390, scheme=scheme)
    for path in (
        "/",
        "/zoo",
        "/jobs/new",
        "/runs/one",
        "/runs/one/tables/units",
        "/runs/one/similarity",
        "/runs/one/atlas",
        unit_url(*unit, "one"),
        "/compare",
    ):
        tab.goto(site[0] + path)
        assert tab.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth"), path
