"""An attack a line: what somebody who can send requests, and no more, may try."""

import io
import json
import struct
import time
from contextlib import closing
from http.client import HTTPConnection

import pytest
from service_parts import HERE, SMALL, client_of, listening
from starlette.testclient import TestClient

from universality.base.errors import CardError, ServiceError, TooMuchError, WeightsError
from universality.models.catalogue import card
from universality.service import models, submission, web
from universality.service.answers import HEADERS
from universality.service.principals import SESSION_COOKIE
from universality.service.settings import Limits, Settings

API = "/api/v1"
TOML = {"content-type": "application/toml"}
LIMITS = Limits()


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    """A service that only this machine reaches: nobody needs a token."""
    folder = tmp_path_factory.mktemp("here")
    (folder / "secret").write_text("a secret")
    with client_of(folder, limits={"body_bytes": 100_000}) as client:
        client.app.state.helper.call = lambda *_, **__: {"taps": 2, "images": 64}
        yield client


@pytest.fixture(scope="module")
def there(tmp_path_factory):
    """A service that others reach under a name: everybody needs a token."""
    limits = {"requests_per_minute": 100_000, "refusals_per_minute": 5}
    with client_of(tmp_path_factory.mktemp("there"), names=("lab.example.org",), limits=limits) as client:
        client.app.state.helper.call = lambda *_, **__: {"taps": 2, "images": 64}
        client.base_url = "http://lab.example.org"
        yield client


@pytest.fixture(scope="module")
def bearer(there):
    """Headers of tokens of each scope, and of a second user."""
    made = {
        name: there.app.state.tokens.new(scope).text
        for name, scope in (("read", "read"), ("submit", "submit"), ("other", "submit"), ("admin", "admin"))
    }
    return {name: {"authorization": f"Bearer {text}"} for name, text in made.items()}


# Files and addresses


@pytest.mark.parametrize(
    "path",
    [
        "/api/v1/runs/../secret", "/api/v1/runs/..%2f..%2fsecret", "/api/v1/runs/%2e%2e/record", "/api/v1/runs/.../record", "/api/v1/runs/x%00/record",
        "/api/v1/runs//etc/record", "/api/v1/runs/small/files/..%2f..%2fsecret", "/static/../secret", "/static/..%2f..%2fsecret", "/static//etc/passwd",
        "/runs/..%2f..%2fsecret", "/api/v1/jobs/..%2f..%2fsecret/events",
    ],
)  # fmt: skip
def test_no_path_leads_out_of_the_folders(here, path):
    answer = here.get(path)
    assert answer.status_code in (400, 404, 405) and "a secret" not in answer.text and "root:" not in answer.text


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ('store = "http://169.254.169.254/latest"', "unknown key 'store'"),
        ('scheduler = "tcp://10.0.0.1:8786"', "unknown key 'scheduler'"),
        ('out = "/etc"', "unknown key 'out'"),
        ('runs = "/"', "unknown key 'runs'"),
    ],
)
def test_a_job_names_no_store_scheduler_or_folder_of_the_service(here, line, says):
    answer = here.post(f"{API}/jobs", content=line + "\n" + SMALL, headers=TOML)
    assert answer.status_code == 400 and says in answer.json()["error"]


@pytest.mark.parametrize("folder", ["/etc", "../../secret", "http://169.254.169.254/", "s3://bucket/x", "file:///etc"])
def test_a_job_names_no_folder_of_images(here, folder):
    text = SMALL.replace("crops = 64", f'crops = 64\nfolders = ["{folder}"]')
    assert "names folders" in here.post(f"{API}/jobs", content=text, headers=TOML).json()["error"]


@pytest.mark.parametrize("name", ["../../x", "/etc/x", "..", ".hidden", "x/y", "x\\u0000", "x\\ny", "x" * 65, ""])
def test_the_name_of_a_job_is_no_path(here, name):
    text = SMALL.replace('name = "small"', f'name = "{name}"')
    assert "'name'" in here.post(f"{API}/jobs", content=text, headers=TOML).json()["error"]


# Bombs


@pytest.mark.parametrize(
    "body",
    [
        "a = " + "[" * 50_000, "." .join(["a"] * 20_000) + " = 1", "a" * 90_000, "x = " + "9" * 90_000, "[[" + "a." * 10_000 + "b]]",
        "{" + '"a":{' * 15_000, '{"a": ' + "[" * 50_000, '{"a": ' + "9" * 90_000 + "}", '{"seed": NaN}', "\x00" * 1000, "[" * 80_000,
        SMALL + "\n".join(f"[k{n}]" for n in range(9000)),
        json.dumps({"models": [{"id": "x"}] * 2000}), json.dumps({"pairs": [["a", "b"]] * 8000}),
    ],
    ids=str,
)  # fmt: skip
def test_a_text_that_explodes_is_one_sentence_in_short_time(body):
    began = time.process_time()
    with pytest.raises((ServiceError, submission.JobError)) as error:
        submission.parse(body, LIMITS)
    assert time.process_time() - began < 2 and "\n" not in str(error.value)[:200]


@pytest.mark.parametrize("length", ["100001", "999999999999999", "-1", "1e9", "9" * 40])
def test_a_body_that_says_it_is_too_long_is_refused_before_it_comes(here, length):
    answer = here.post(f"{API}/jobs", content=b"x", headers=TOML | {"content-length": length})
    assert answer.status_code in (400, 413)


def test_a_body_that_is_too_long_and_does_not_say_so_is_refused(here):
    answer = here.post(f"{API}/jobs", content=(b"x" * 50_000 for _ in range(10)), headers=TOML)
    assert answer.status_code == 413 and "more than the 100000 bytes" in answer.json()["error"]


def test_who_sends_what_is_too_long_is_told_so_and_not_cut_off(here):
    """As a proxy sends it: all of the body, and only then it looks for an answer."""
    said = {"content-type": "application/toml", "connection": "close"}
    with listening(here.app) as port, closing(HTTPConnection("127.0.0.1", port, timeout=60)) as connection:
        connection.request("POST", f"{API}/jobs", b"x" * (6 << 20), said)
        assert connection.getresponse().status == 413


def card_of(**changed) -> bytes:
    import tomli_w

    values = card("pocket/vgg-focus-s0").model_dump(mode="json", exclude_none=True, exclude_defaults=True)
    weights = {"name": "mine"} | changed.pop("weights", {})
    values = {name: value for name, value in values.items() if name not in ("training", "void_twin")}
    return tomli_w.dumps(values | {"id": "own/mine", "source": "file", "weights": weights} | changed).encode()


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"weights": {"package": "os", "package_file": "x"}}, "names weights.package, weights.package_file"),
        ({"weights": {"url": "http://169.254.169.254/x"}}, "names weights.url"),
        ({"weights": {"hub_file": "x.bin"}}, "names weights.hub_file"),
        ({"weights": {"package_file": "../../x"}}, "leaves its root"),
        ({"library": "factory", "architecture": "os:system"}, "has the library 'factory'"),
        ({"library": "hand"}, "has the library 'hand'"),
        ({"library": "timm", "architecture": "hf-hub:somebody/model"}, "has the architecture 'hf-hub:somebody/model'"),
        ({"library": "timm", "architecture": "local-dir:/etc"}, "has the architecture"),
        ({"kwargs": {"checkpoint_path": 1}}, "arguments by which files are read (checkpoint_path)"),
        ({"kwargs": {"pretrained": True}}, "arguments by which files are read (pretrained)"),
        ({"kwargs": {"pretrained_cfg_overlay": 1}}, "arguments by which files are read"),
        ({"kwargs": {"act_layer": "os.system"}}, "texts as arguments (act_layer)"),
        ({"kwargs": {"num_classes": 10**9}}, "arguments beyond 65536 (num_classes)"),
        ({"kwargs": {"embed_dims": [64, 10**9]}}, "arguments beyond 65536 (embed_dims)"),
        ({"kwargs": {"depth_multiplier": 1e12}}, "arguments beyond 65536 (depth_multiplier)"),
        ({"id": "own/../../x"}, "id"),
        ({"id": "pocket/mine"}, "expected own/NAME"),
        ({"id": "own/.mine"}, "expected own/NAME"),
        ({"source": "pocket"}, "has the source 'pocket'"),
        ({"source": "timm"}, "has the source 'timm'"),
    ],
)
def test_a_card_names_no_file_address_or_package(changed, says):
    with pytest.raises(CardError) as error:
        models.check_card(card_of(**changed), LIMITS)
    assert says in str(error.value)


def test_a_plain_card_passes():
    assert models.check_card(card_of(), LIMITS).id == "own/mine"


def safetensors(header: dict | bytes, data: bytes = b"", length: int | None = None) -> io.BytesIO:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return io.BytesIO(struct.pack("<Q", len(text) if length is None else length) + text + data)


def tensor(shape=(2,), offsets=(0, 8), dtype="F32"):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


@pytest.mark.parametrize(
    ("file", "says"),
    [
        (io.BytesIO(b"PK\x03\x04" + b"\x00" * 100), "no safetensors file"),
        (io.BytesIO(b"\x80\x04\x95" + b"." * 100), "no safetensors file"),
        (io.BytesIO(b""), "no safetensors file"),
        (safetensors(b"{}", length=2**62), "no safetensors file"),
        (safetensors(b"[" * 100_000), "header is damaged"),
        (safetensors({"a": tensor(shape=(2**40,))}, b"x" * 8), "another length than its shape"),
        (safetensors({"a": tensor(shape=(-2,))}, b"x" * 8), "unknown kind or shape"),
        (safetensors({"a": tensor(shape=(1,) * 100, offsets=(0, 4))}, b"x" * 4), "unknown kind or shape"),
        (safetensors({"a": tensor(dtype="object")}, b"x" * 8), "unknown kind or shape"),
        (safetensors({"a": tensor(), "b": tensor()}, b"x" * 8), "overlap or leave gaps"),
        (safetensors({"a": tensor(offsets=(8, 16))}, b"x" * 16), "overlap or leave gaps"),
        (safetensors({"a": tensor()}, b"x" * 80), "describes 8 bytes, came 80"),
        (safetensors({"a": tensor()}, b"x" * 4), "describes 8 bytes, came 4"),
        (safetensors({"a": 3}), "header is damaged"),
        (safetensors({}), "describes 0 bytes"),
    ],
    ids=range(15),
)  # fmt: skip
def test_a_checkpoint_is_safetensors_as_its_header_says(file, says):
    if says == "describes 0 bytes":
        says = "describes 0 bytes, came 0"
    with pytest.raises(WeightsError) as error:
        models.check_safetensors(file, LIMITS)
    assert says in str(error.value)


def test_a_checkpoint_of_many_tensors_or_bytes_is_refused():
    header = {f"t{n}": tensor(shape=(0,), offsets=(0, 0)) for n in range(20)}
    with pytest.raises(TooMuchError, match="has 20 tensors, this service takes 10"):
        models.check_safetensors(safetensors(header), Limits(upload_tensors=10))
    with pytest.raises(TooMuchError, match="bytes, this service takes 10"):
        models.check_safetensors(safetensors(header), Limits(upload_bytes=10))


def test_a_network_is_sent_once_and_is_then_known(here, tmp_path, monkeypatch):
    monkeypatch.setenv("UNIVERSALITY_MODEL_ZOO", str(tmp_path / "zoo"))
    monkeypatch.setenv("UNIVERSALITY_WEIGHTS", str(tmp_path / "weights"))
    good = safetensors({"a": tensor()}, b"x" * 8)
    files = {"card": ("../../x", card_of()), "weights": ("../../y", good)}
    scripts = {"authorization": f"Bearer {here.app.state.tokens.new('submit').text}"}
    assert here.post(f"{API}/models", files=files, headers=scripts).json() == {"id": "own/mine"}
    assert (tmp_path / "weights/own/mine.safetensors").read_bytes() == good.getvalue()
    assert card("own/mine").library == "pocket"
    again = here.post(f"{API}/models", files=files, headers=scripts)
    assert again.status_code == 400 and "there is a network 'own/mine' already" in again.json()["error"]
    reader = {"authorization": f"Bearer {here.app.state.tokens.new('read').text}"}
    assert here.post(f"{API}/models", files=files, headers=reader).status_code == 403
    assert sorted(path.name for path in tmp_path.rglob("*") if path.is_file()) == ["mine.safetensors", "mine.toml"]


# Other sites


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://evil.example"}, {"origin": "null"}, {"sec-fetch-site": "cross-site"}, {"sec-fetch-site": "same-site"},
        {"origin": "http://127.0.0.1:9999"}, {"origin": f"{HERE}.evil.example"}, {"origin": HERE}, {"origin": HERE, "sec-fetch-site": "same-origin"},
        {"content-type": "text/plain"}, {"content-type": "application/x-www-form-urlencoded"}, {"x-csrf-token": "guessed", "origin": HERE},
    ],
)  # fmt: skip
def test_a_page_of_another_site_changes_nothing(here, headers):
    before = len(here.app.state.queue.list())
    for path in (f"{API}/jobs", "/jobs", "/session", f"{API}/jobs/x/cancel"):
        assert here.post(path, content=SMALL, headers=TOML | headers).status_code == 403, path
    assert len(here.app.state.queue.list()) == before


def test_a_form_needs_the_token_of_its_own_browser(there, bearer):
    tokens = there.app.state.tokens
    who = tokens.of_token(bearer["submit"]["authorization"].split()[1])
    mine, other = tokens.open_session(who), tokens.open_session(who)
    origin = {"origin": "http://lab.example.org"}

    def csrf(cookie):
        import hashlib
        import hmac

        return hmac.new(
            there.app.state.secret, f"csrf:{hashlib.sha256(cookie.encode()).hexdigest()}".encode(), "sha256"
        ).hexdigest()

    def asked(cookie, token):
        return there.post(
            f"{API}/jobs",
            content=SMALL,
            headers=TOML | origin | {"cookie": f"{SESSION_COOKIE}={cookie}", "x-csrf-token": token},
        ).status_code

    assert asked(mine, csrf(mine)) == 201
    assert (
        asked(mine, csrf(other)) == 403
        and asked(mine, csrf("")) == 403
        and asked(mine, "") == 403
        and asked("guessed", csrf("")) != 201
    )


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:8000",
        "127.0.0.1.evil.example",
        "169.254.169.254",
        "x@127.0.0.1",
        "",
        "a b",
        "[::1",
        "lab.example.org",
    ],
)
def test_a_name_that_leads_here_is_not_the_service(here, host):
    assert here.get("/api/v1/jobs", headers={"host": host}).status_code in (400, 421)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.1:8000", "localhost:8000", "[::1]:8000", "LOCALHOST"])
def test_this_machine_reaches_the_service_by_its_own_names(here, host):
    assert here.get("/api/v1/jobs", headers={"host": host}).status_code == 200


def test_every_answer_forbids_scripts_frames_and_guessing(here, there):
    for client, path in (
        (here, "/"),
        (here, "/nowhere"),
        (here, f"{API}/jobs"),
        (here, "/static/nothing"),
        (there, f"{API}/jobs"),
    ):
        headers = client.get(path).headers
        assert {name: headers.get(name) for name in HEADERS} == HEADERS
    policy = HEADERS["content-security-policy"]
    assert (
        "unsafe" not in policy
        and "default-src 'none'" in policy
        and "frame-ancestors 'none'" in policy
        and "data:" not in policy
    )


@pytest.mark.parametrize(
    "next",
    [
        "//evil.example",
        "https://evil.example",
        "/\\evil.example",
        "\\\\evil.example",
        "/x\r\nset-cookie: a=b",
        "javascript:alert(1)",
        "",
        "/\t/evil.example",
    ],
)
def test_giving_a_token_leads_to_no_other_site_and_sets_no_other_header(there, bearer, next):
    text = bearer["read"]["authorization"].split()[1]
    from starlette.requests import Request

    from universality.service.principals import csrf_token

    csrf = csrf_token(Request({"type": "http", "app": there.app, "principal": None}))
    answer = there.post(
        "/session", data={"token": text, "csrf": csrf, "next": next}, headers={"origin": "http://lab.example.org"}
    )
    assert answer.status_code == 303 and answer.headers["location"] == "/"
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie and "SameSite=strict" in cookie and text not in cookie
    there.cookies.clear()


@pytest.mark.parametrize("name", ['x"; evil=1', "x\r\nset-cookie: a=b", "\u202e"])
def test_names_in_headers_bring_no_headers(here, name):
    from urllib.parse import quote

    answer = here.get(f"{API}/runs/{quote(name)}/tables/units?format=csv")
    assert (
        answer.status_code == 404 and "set-cookie" not in answer.headers and "content-disposition" not in answer.headers
    )


# Tokens and other people


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/jobs",
        "/zoo",
        "/lists",
        f"{API}/jobs",
        f"{API}/runs",
        f"{API}/models",
        f"{API}/search?q=x",
        f"{API}/jobs/x/events",
        "/jobs/x/events",
    ],
)
def test_without_a_token_there_is_nothing_to_see(there, path):
    assert there.get(path).status_code == 401
    page = there.get(path, headers={"accept": "text/html"})
    assert page.status_code in (303, 401) and page.headers.get("location", "/login").startswith("/login")


def test_every_address_but_a_few_needs_a_token(there):
    """No route was forgotten: what answers without a token is listed here."""
    open_ = {"/login", "/session", "/session/end", "/static", "/api/v1/openapi.json"}
    for route in there.app.routes:
        path = getattr(route, "path", None)
        if path is None or path in open_:
            continue
        shown = path.replace("{", "").replace("}", "").replace(":path", "").replace(":int", "").replace("/unit", "/3")
        for method in getattr(route, "methods", None) or ("GET",):
            if method in ("GET", "HEAD"):
                assert there.request(method, shown).status_code == 401, (method, path)


def test_guessing_tokens_locks_the_guesser_out_and_nobody_else(tmp_path, monkeypatch):
    with client_of(tmp_path, names=("lab.example.org",), limits={"refusals_per_minute": 5}) as client:
        client.base_url = "http://lab.example.org"
        good = {"authorization": f"Bearer {client.app.state.tokens.new('read').text}"}
        answers = [
            client.get(f"{API}/jobs", headers={"authorization": f"Bearer guess{n}"}).status_code for n in range(8)
        ]
        assert answers == [401] * 5 + [429] * 3
        assert client.get(f"{API}/jobs", headers=good).status_code == 429
        elsewhere = TestClient(client.app, base_url="http://lab.example.org", client=("10.0.0.9", 4000))
        assert elsewhere.get(f"{API}/jobs", headers=good).status_code == 200


@pytest.mark.parametrize(
    "given",
    [
        "Bearer",
        "Bearer ",
        "Basic dXZzOnV2cw==",
        "bearer \x00",
        "Bearer uvs_aaaaaaaa_" + "a" * 32 + "_00000000",
        "x" * 5000,
    ],
)
def test_what_is_no_token_is_refused(tmp_path_factory, given):
    with client_of(tmp_path_factory.mktemp("tokens")) as client:
        assert client.get(f"{API}/jobs", headers={"authorization": given.encode("latin-1")}).status_code in (400, 401)


def test_a_token_does_what_its_scope_says(there, bearer):
    for name, status in (("read", 403), ("submit", 201), ("admin", 201)):
        assert there.post(f"{API}/jobs", content=SMALL, headers=TOML | bearer[name]).status_code == status


def test_another_users_job_is_not_cancelled_or_begun_again(there, bearer):
    job = there.post(f"{API}/jobs", content=SMALL, headers=TOML | bearer["submit"]).json()["id"]
    for action in ("cancel", "retry"):
        answer = there.post(f"{API}/jobs/{job}/{action}", headers=bearer["other"])
        assert answer.status_code == 403 and "somebody else's" in answer.json()["error"]
    assert there.get(f"{API}/jobs/{job}", headers=bearer["other"]).json()["state"] == "waiting"
    assert there.post(f"{API}/jobs/{job}/cancel", headers=bearer["admin"]).json()["state"] == "cancelled"


def test_the_same_key_of_another_user_shows_nothing_of_the_first(there, bearer):
    key = {"idempotency-key": "same"}
    mine, other = (
        there.post(f"{API}/jobs", content=SMALL, headers=TOML | key | bearer[name]).json()["id"]
        for name in ("submit", "other")
    )
    assert mine != other


def test_who_asks_too_often_is_refused(tmp_path):
    with client_of(tmp_path, names=("lab.example.org",), limits={"requests_per_minute": 3}) as client:
        client.base_url = "http://lab.example.org"
        good = {"authorization": f"Bearer {client.app.state.tokens.new('read').text}"}
        answers = [client.get(f"{API}/jobs", headers=good) for _ in range(5)]
        assert [answer.status_code for answer in answers] == [200] * 3 + [429] * 2 and answers[-1].headers[
            "retry-after"
        ]


@pytest.mark.parametrize(
    "how", [{"host": "0.0.0.0"}, {"host": "10.1.2.3"}, {"host": "::"}, {"names": ("lab.example.org",)}]
)
def test_nobody_elsewhere_reaches_a_service_without_tokens(tmp_path, how):
    of = Settings(runs=tmp_path, database=f"sqlite:///{tmp_path / 'service.db'}", port=0, **how)
    with pytest.raises(
        ServiceError, match="everybody needs a token, and there is none; make one with universality serve token new"
    ):
        web.serve(of, say=print)


def test_no_pickle_lies_between_service_and_user():
    from pathlib import Path

    folder = Path(web.__file__).parent
    for path in folder.rglob("*.py"):
        assert "pickle" not in path.read_text(encoding="utf-8").replace("unpickl", ""), path


def test_faults_of_the_service_show_nothing_of_its_inside(tmp_path, monkeypatch):
    with client_of(tmp_path) as client:
        monkeypatch.setattr(client.app.state.queue, "list", lambda *_: 1 / 0)
        outside = TestClient(client.app, base_url=HERE, raise_server_exceptions=False)
        answer = outside.get(f"{API}/jobs")
        assert answer.status_code == 500 and answer.json() == {
            "error": "this is a fault of the service, not yours; its log says what happened"
        }
        assert HEADERS.items() <= dict(answer.headers).items()
