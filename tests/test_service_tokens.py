import re

import pytest

from universality.base.errors import MissingError, ServiceError
from universality.service.database import Database, SessionRow, TokenRow
from universality.service.principals import SCOPES, Principal
from universality.service.rates import Counter
from universality.service.tokens import Tokens, well_formed


@pytest.fixture
def tokens(tmp_path):
    database = Database(f"sqlite:///{tmp_path / 'service.db'}")
    database.upgrade()
    yield Tokens(database)
    database.close()


def test_a_token_says_whose_it_is_and_what_it_allows(tokens):
    made = tokens.new("submit", "anna")
    assert re.fullmatch(r"uvs_[a-z2-7]{8}_[a-z2-7]{32}_[0-9a-f]{8}", made.text)
    assert tokens.of_token(made.text) == Principal(made.id, "submit", shown="anna")


def test_of_a_token_the_database_keeps_no_secret(tokens, tmp_path):
    made = tokens.new("admin")
    cookie = tokens.open_session(tokens.of_token(made.text))
    tokens._database.close()
    kept = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    for secret in (made.text, made.text.split("_")[2], cookie):
        assert secret.encode() not in kept
    assert made.id.encode() in kept


def test_one_wrong_character_is_found_before_anything_is_looked_up(tokens, monkeypatch):
    text = tokens.new("read").text
    monkeypatch.setattr(tokens, "_remembered", lambda *_: pytest.fail("it was looked up"))
    for place in range(len(text)):
        wrong = text[:place] + ("x" if text[place] != "x" else "y") + text[place + 1 :]
        assert not well_formed(wrong) and tokens.of_token(wrong) is None
    assert well_formed(text)


def test_a_revoked_token_is_worthless_at_once_and_ends_its_sessions(tokens):
    made, other = tokens.new("read"), tokens.new("read")
    cookie = tokens.open_session(tokens.of_token(made.text))
    assert tokens.of_session(cookie).name == made.id
    tokens.revoke(made.id)
    assert tokens.of_token(made.text) is None and tokens.of_session(cookie) is None
    assert tokens.of_token(other.text) is not None and tokens.any()
    tokens.revoke(other.id)
    assert not tokens.any()
    with pytest.raises(MissingError, match="there is no token 'nobody'"):
        tokens.revoke("nobody")


def test_another_process_notices_a_revocation_within_seconds(tokens, monkeypatch):
    made = tokens.new("read")
    assert tokens.of_token(made.text)
    Tokens(tokens._database).revoke(made.id)
    monkeypatch.setattr("universality.service.tokens._REMEMBERED_S", 0.0)
    assert tokens.of_token(made.text) is None


def test_a_session_ends(tokens):
    cookie = tokens.open_session(tokens.of_token(tokens.new("read").text))
    tokens.close_session(cookie)
    assert tokens.of_session(cookie) is None and tokens.of_session("guessed") is None
    old = tokens.open_session(tokens.of_token(tokens.new("read").text))
    with tokens._database.session() as session:
        for row in session.query(SessionRow):
            row.until = 0.0
    assert tokens.of_session(old) is None


def test_when_a_token_was_used_is_noted(tokens):
    made = tokens.new("read")
    tokens.of_token(made.text)
    with tokens._database.reading() as session:
        assert session.get(TokenRow, made.id).used is not None


def test_scopes_include_those_before_them(tokens):
    for have, scope in enumerate(SCOPES):
        assert [Principal("t", scope).may(wanted) for wanted in SCOPES] == [n <= have for n in range(3)]
    with pytest.raises(ServiceError, match="unknown scope 'write', expected one of read, submit, admin"):
        tokens.new("write")


def test_who_asks_too_often_has_to_wait_and_nobody_else():
    now = [0.0]
    counter = Counter(60, lambda: now[0])
    assert all(counter.take("anna") for _ in range(60)) and not counter.take("anna")
    assert counter.take("berta")
    now[0] = 1.0
    assert counter.take("anna") and not counter.take("anna")
    assert not counter.take("anna", 0) and counter.take("berta", 0)
