"""`deploy/nginx.conf` for real: nginx with TLS before a service that has a name, and a browser before nginx."""

import re
import shutil
import socket
import subprocess
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
import uvicorn
from chromium import needs_browser
from service_parts import SMALL, settings

from universality.service.app import create_app
from universality.service.web import configured

NAME = "compare.localhost"
"""Browsers take every name below localhost for this machine."""
SHIPPED = Path(__file__).parent.parent / "deploy/nginx.conf"
pytestmark = pytest.mark.skipif(
    not (shutil.which("nginx") and shutil.which("openssl")), reason="needs nginx and openssl, which are not installed"
)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        return found.getsockname()[1]


@contextmanager
def proxied(folder: Path, service: int):
    """nginx with the shipped file, but for ports, names and the certificate; yields the ports of TLS and of plain HTTP."""
    tls, plain = free_port(), free_port()
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj", f"/CN={NAME}",
         "-keyout", folder / "key.pem", "-out", folder / "cert.pem"],
        check=True, capture_output=True,
    )  # fmt: skip
    text = SHIPPED.read_text()
    for shipped, here in (
        ("listen 443 ssl;", f"listen 127.0.0.1:{tls} ssl;"), ("listen 80;", f"listen 127.0.0.1:{plain};"), ("http://127.0.0.1:8000", f"http://127.0.0.1:{service}"),
        ("/etc/ssl/compare.example.org.pem", f"{folder}/cert.pem"), ("/etc/ssl/private/compare.example.org.key", f"{folder}/key.pem"), ("compare.example.org", NAME),
    ):  # fmt: skip
        assert shipped in text, shipped
        text = text.replace(shipped, here)
    paths = "".join(f"{kind}_temp_path {folder}/{kind};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))  # fmt: skip
    (folder / "nginx.conf").write_text(
        f"daemon off;\nmaster_process off;\npid {folder}/nginx.pid;\nevents {{}}\nhttp {{\naccess_log off;\n{paths}{text}}}\n"
    )
    process = subprocess.Popen(
        ["nginx", "-p", folder, "-e", folder / "errors.log", "-c", folder / "nginx.conf"], stderr=subprocess.PIPE
    )
    try:
        for _ in range(200):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", tls)) == 0:
                    break
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.02)
        yield tls, plain
    finally:
        process.terminate()
        process.communicate()


@pytest.fixture(scope="module")
def behind(tmp_path_factory):
    """A service behind nginx: its application, the ports of TLS and of plain HTTP, and a token."""
    folder = tmp_path_factory.mktemp("proxy")
    app = create_app(settings(folder, names=(NAME,), limits={"refusals_per_minute": 5}))
    app.state.helper.call = lambda *_, **__: {"taps": 2, "images": 64}
    listening = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(configured(app))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    with proxied(folder, listening.getsockname()[1]) as (tls, plain):
        yield app, tls, plain, app.state.tokens.new("submit").text
        server.should_exit = True
        thread.join()


def client_at(port, scheme="https", **headers):
    """A client of nginx under the service's name, which only browsers look up."""
    return httpx.Client(
        base_url=f"{scheme}://127.0.0.1:{port}", verify=False, headers={"host": NAME, **headers}, timeout=60
    )


@pytest.fixture(scope="module")
def script(behind):
    """A script with a token."""
    with client_at(behind[1], authorization=f"Bearer {behind[3]}", **{"content-type": "application/toml"}) as client:
        yield client


def test_plain_http_leads_to_tls(behind):
    with client_at(behind[2], "http") as client:
        answer = client.get("/runs/x?y=1")
    assert (answer.status_code, answer.headers["location"]) == (301, f"https://{NAME}/runs/x?y=1")


def test_events_arrive_as_they_happen(behind, script):
    app = behind[0]
    job = script.post("/api/v1/jobs", content=SMALL).json()["id"]
    claim = app.state.queue.claim("tester")
    with script.stream("GET", f"/api/v1/jobs/{job}/events") as answer:
        lines = answer.iter_lines()
        for word in ("first", "second"):
            app.state.queue.note("tester", claim, [("say", {"text": word})])
            began = time.monotonic()
            next(line for line in lines if word in line)
            assert time.monotonic() - began < 5  # and the stream goes on


def test_what_is_too_long_is_refused_by_the_service_and_before_it(script):
    for megabytes, says in ((2, "this service takes 1048576"), (9, "Request Entity Too Large")):
        answer = script.post("/api/v1/jobs", content=b"x" * (megabytes << 20))
        assert answer.status_code == 413 and says in answer.text


@needs_browser
def test_a_person_signs_in_and_submits_a_job(behind, browser):
    context = browser.new_context(ignore_https_errors=True)
    tab = context.new_page()
    tab.goto(f"https://{NAME}:{behind[1]}/jobs/new")
    tab.get_by_label("Token").fill(behind[3])
    tab.get_by_role("button", name=re.compile("sign in", re.IGNORECASE)).click()
    tab.wait_for_url("**/jobs/new")
    (cookie,) = context.cookies()
    assert cookie["secure"] and cookie["httpOnly"] and cookie["sameSite"] == "Strict"
    tab.get_by_label("TOML").fill(SMALL)
    tab.locator("#paste").get_by_role("button", name="Submit").click()
    tab.wait_for_url(re.compile("/jobs/[0-9a-f]{12}$"))
    assert tab.locator("h1").inner_text() == "small"
    context.close()


def test_wrong_tokens_count_against_the_visitor_whatever_address_it_states(behind):
    with client_at(behind[1]) as guesser:
        answers = [
            guesser.get("/api/v1/jobs", headers={"authorization": "Bearer guess", "x-forwarded-for": f"10.0.0.{n}"}).status_code
            for n in range(7)
        ]  # fmt: skip
    assert answers == [401] * 5 + [429] * 2
