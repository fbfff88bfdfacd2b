"""``universality serve``: what it starts with, and the commands of tokens."""

import json
import socket
import sys

import pytest

from universality import cli
from universality.cli import serve
from universality.service import web
from universality.service.database import Database
from universality.service.settings import Settings, from_plain
from universality.service.tokens import Tokens


@pytest.fixture
def command(monkeypatch, capsys, tmp_path):
    """Run the command line in this process, in an empty folder; return (exit status, standard output, standard error)."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["universality", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return (ended.value.code or 0, *capsys.readouterr())

    return run


@pytest.fixture
def started(monkeypatch):
    """The settings of the services that were started."""
    found = []
    monkeypatch.setattr(web, "serve", lambda settings, say: found.append(settings))
    return found


def test_without_options_only_this_machine_is_served(command, started):
    assert command("serve")[0] == 0
    assert started == [Settings()] and started[0].local and started[0].url == "http://127.0.0.1:8000"


def test_options_and_limits_reach_the_service(command, started, tmp_path):
    (tmp_path / "limits.toml").write_text("taps = 3\njob_seconds = 1.5")
    options = (
        "--port",
        9,
        "--name",
        "Lab.Example.org",
        "--store",
        "s",
        "--scheduler",
        "tcp://a:1",
        "--workers",
        2,
        "--at-once",
        0,
        "--limits",
        "limits.toml",
    )
    command("serve", *options)
    (of,) = started
    assert (of.port, of.names, of.stores, of.scheduler, of.workers, of.at_once) == (
        9,
        ("lab.example.org",),
        "s",
        "tcp://a:1",
        2,
        0,
    )
    assert (of.limits.taps, of.limits.job_seconds) == (3, 1.5) and not of.local


def test_settings_pass_to_the_runner_as_they_are(started, command):
    command("serve", "--runs", "elsewhere", "--name", "a.org")
    from dataclasses import asdict

    assert from_plain(json.loads(json.dumps(asdict(started[0]), default=str))) == started[0]


@pytest.mark.parametrize(
    ("text", "says"),
    [("tapz = 3", "unknown limit 'tapz'; did you mean 'taps'?"), ("taps = 0", "'taps' is 0, expected a number above 0"), ("taps = 'x'", "'taps' is 'x'"), ("taps =", "TOML")],
)  # fmt: skip
def test_what_is_no_limit_is_one_sentence(command, started, tmp_path, text, says):
    (tmp_path / "limits.toml").write_text(text)
    status, _, err = command("serve", "--limits", "limits.toml")
    assert status == 1 and says in err and not started


def test_the_shipped_limits_are_the_defaults():
    from pathlib import Path

    from universality.service.settings import Limits, read_limits

    assert read_limits(Path(__file__).parents[1] / "deploy" / "limits.toml") == Limits()


def test_a_token_is_printed_once_listed_and_revoked(command, tmp_path):
    _, text, _ = command("serve", "token", "new", "--scope", "submit", "--for", "anna")
    database = Database("sqlite:///data/service/service.db")
    assert Tokens(database).of_token(text.strip()).scope == "submit"
    identity = text.split("_")[1]
    _, shown, _ = command("serve", "token", "list")
    assert identity in shown and "submit" in shown and "anna" in shown and text.strip() not in shown
    assert [row["scope"] for row in json.loads(command("serve", "token", "list", "--json")[1])] == ["submit"]
    assert command("serve", "token", "revoke", identity)[0] == 0
    assert Tokens(database).of_token(text.strip()) is None and "revoked" in command("serve", "token", "list")[1]
    database.close()
    status, _, err = command("serve", "token", "revoke", "nobody")
    assert status == 1 and err == "error: there is no token 'nobody'; universality serve token list shows them\n"


def test_what_keeps_a_service_from_starting_is_one_sentence(command, monkeypatch):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        status, _, err = command("serve", "--port", port)
        assert (
            status == 1
            and f"cannot listen at 127.0.0.1, port {port} (Address already in use); choose another --port" in err
        )
    for url, says in {
        "mysql://x": "database 'mysql://x' is of a kind that is not known, expected sqlite:///FILE or postgresql://",
        "postgresql://user:secret@127.0.0.1:1/x": "the database 'postgresql+psycopg://user:***@127.0.0.1:1/x' cannot be used",
    }.items():
        status, _, err = command("serve", "--database", url)
        assert status == 1 and says in err and "secret" not in err
    monkeypatch.setattr(serve, "find_spec", lambda name: None if name == "fastapi" else name)
    assert (
        "the service needs packages that are not installed (fastapi); install them with pip install 'universality[serve]'"
        in command("serve")[2]
    )
