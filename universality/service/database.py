"""The database of the service: jobs, events, tokens, sessions, and what people write about units."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, ForeignKey, Index, LargeBinary, String, Text, UniqueConstraint, create_engine, event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, sessionmaker

from universality.service.settings import refuse_database


class Base(DeclarativeBase):
    """The tables. Times are seconds since 1970."""


class JobRow(Base):
    """One job that was accepted; `states.py` says what happens to it."""

    __tablename__ = "jobs"
    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    name: Mapped[str] = mapped_column(String(64))
    run: Mapped[str] = mapped_column(String(128), unique=True)
    owner: Mapped[str] = mapped_column(String(64))
    state: Mapped[str] = mapped_column(String(16), index=True)
    job: Mapped[str] = mapped_column(Text)
    same: Mapped[str | None] = mapped_column(String(200), unique=True)
    submitted: Mapped[float] = mapped_column(default=time.time)
    started: Mapped[float | None]
    ended: Mapped[float | None]
    error: Mapped[str | None] = mapped_column(Text)
    attempts: Mapped[int] = mapped_column(default=0)
    deaths: Mapped[int] = mapped_column(default=0)
    gained: Mapped[int] = mapped_column(default=-1)
    cancel: Mapped[bool] = mapped_column(default=False)
    runner: Mapped[str | None] = mapped_column(String(64))
    lease_until: Mapped[float | None]
    not_before: Mapped[float] = mapped_column(default=0.0)


class EventRow(Base):
    """Something that happened to a job; `id` grows, and event streams resume from one."""

    __tablename__ = "events"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    job: Mapped[str] = mapped_column(ForeignKey("jobs.id"))
    at: Mapped[float] = mapped_column(default=time.time)
    kind: Mapped[str] = mapped_column(String(16))
    data: Mapped[str] = mapped_column(Text)
    __table_args__ = (Index("events_of_job", "job", "id"), {"sqlite_autoincrement": True})


class TokenRow(Base):
    """A token: of its secret only the SHA-256 is kept."""

    __tablename__ = "tokens"
    id: Mapped[str] = mapped_column(String(16), primary_key=True)
    name: Mapped[str] = mapped_column(String(64))
    scope: Mapped[str] = mapped_column(String(16))
    secret: Mapped[bytes] = mapped_column(LargeBinary(32), unique=True)
    made: Mapped[float] = mapped_column(default=time.time)
    used: Mapped[float | None]
    revoked: Mapped[float | None]


class SessionRow(Base):
    """A browser in which a token was given; of its cookie only the SHA-256 is kept."""

    __tablename__ = "sessions"
    secret: Mapped[bytes] = mapped_column(LargeBinary(32), primary_key=True)
    token: Mapped[str] = mapped_column(ForeignKey("tokens.id"))
    until: Mapped[float]


class SecretRow(Base):
    """A secret that all web processes of a service share."""

    __tablename__ = "secrets"
    name: Mapped[str] = mapped_column(String(16), primary_key=True)
    value: Mapped[bytes] = mapped_column(LargeBinary(32))


class UnitList(Base):
    """A list of units that a person named."""

    __tablename__ = "unit_lists"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    owner: Mapped[str] = mapped_column(String(64))
    name: Mapped[str] = mapped_column(String(100))
    made: Mapped[float] = mapped_column(default=time.time)
    __table_args__ = (UniqueConstraint("owner", "name"),)


class ListedUnit(Base):
    """One unit of a list."""

    __tablename__ = "listed_units"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    list: Mapped[int] = mapped_column(ForeignKey("unit_lists.id"))
    model: Mapped[str] = mapped_column(String(200))
    tap: Mapped[str] = mapped_column(String(200))
    unit: Mapped[int]
    added: Mapped[float] = mapped_column(default=time.time)
    __table_args__ = (UniqueConstraint("list", "model", "tap", "unit"),)


class UnitNote(Base):
    """What a person wrote about a unit."""

    __tablename__ = "unit_notes"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    owner: Mapped[str] = mapped_column(String(64))
    model: Mapped[str] = mapped_column(String(200))
    tap: Mapped[str] = mapped_column(String(200))
    unit: Mapped[int]
    text: Mapped[str] = mapped_column(Text)
    made: Mapped[float] = mapped_column(default=time.time)
    __table_args__ = (Index("notes_of_unit", "model", "tap", "unit"),)


class Database:
    """An engine and its sessions."""

    def __init__(self, url: str) -> None:
        refuse_database(url)
        self.engine = _engine(url)
        self._writing = sessionmaker(self.engine, expire_on_commit=False)
        self._reading = sessionmaker(self.engine.execution_options(reading=True), expire_on_commit=False)

    @contextmanager
    def session(self) -> Iterator[Session]:
        """Yield a session in a transaction that may write: committed at the end, rolled back on an error."""
        with self._writing.begin() as session:
            yield session

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """Yield a session that only reads: it waits for nobody who writes."""
        with self._reading.begin() as session:
            yield session

    def upgrade(self) -> None:
        """Make the tables, or bring older ones to today's form (`migrations`); of several services that start at once one does."""
        from alembic import command
        from alembic.config import Config

        config = Config()
        config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
        with self.engine.begin() as connection:
            if connection.dialect.name == "postgresql":
                connection.exec_driver_sql("select pg_advisory_xact_lock(812401)")
            config.attributes["connection"] = connection
            command.upgrade(config, "head")

    @property
    def shown(self) -> str:
        """The URL without its password."""
        return self.engine.url.render_as_string(hide_password=True)

    def secret(self, name: str) -> bytes:
        """Return 32 random bytes that stay the same as long as the database is kept."""
        with suppress(IntegrityError), self.session() as session:
            if session.get(SecretRow, name) is None:
                session.add(SecretRow(name=name, value=secrets.token_bytes(32)))
        with self.reading() as session:
            return session.get_one(SecretRow, name).value

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()


def _engine(url: str) -> Engine:
    parts = make_url(url)
    if parts.drivername == "postgresql":
        parts = parts.set(drivername="postgresql+psycopg")
    if parts.get_backend_name() != "sqlite":
        return create_engine(parts, pool_pre_ping=True, pool_size=10, max_overflow=20, pool_timeout=10)
    if parts.database and parts.database != ":memory:":
        Path(parts.database).parent.mkdir(parents=True, exist_ok=True)
    # As many connections as the web process has threads that answer requests: they cost a file descriptor each.
    engine = create_engine(parts, connect_args={"timeout": 30}, pool_size=50, max_overflow=50)
    event.listen(engine, "connect", _of_sqlite)
    event.listen(engine, "begin", _begin_writing)
    return engine


def _of_sqlite(connection: Any, _: Any) -> None:
    connection.isolation_level = None  # transactions are begun below, not by the driver's guess
    for pragma in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON", "busy_timeout = 30000"):
        connection.execute(f"PRAGMA {pragma}")


def _begin_writing(connection: Any) -> None:
    # A transaction that begins with reading and then writes may be refused at once, whatever the time-out.
    connection.exec_driver_sql("BEGIN IMMEDIATE" if not connection.get_execution_options().get("reading") else "BEGIN")
