"""``universality serve``: the service, and the tokens of those who may use it from elsewhere."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from universality.base.errors import ServiceError
from universality.base.paths import DEFAULT_RUNS
from universality.cli.options import JsonOption, StoreOption, ThreadsOption
from universality.cli.output import line, print_json

if TYPE_CHECKING:
    from universality.service.tokens import Tokens

serve_app = typer.Typer(
    invoke_without_command=True, rich_markup_mode=None, help="Serve jobs, runs and units over HTTP."
)
token_app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Make, list and revoke tokens of a service.")
serve_app.add_typer(token_app, name="token")

_PACKAGES = ("alembic", "duckdb", "fastapi", "httpx", "multipart", "sqlalchemy", "uvicorn")
DatabaseOption = Annotated[
    str | None,
    typer.Option("--database", help="SQLAlchemy URL [default: sqlite:///data/service/service.db].", metavar="URL"),
]


@serve_app.callback()
def serve_command(
    context: typer.Context,
    host: Annotated[
        str, typer.Option("--host", help="Address to listen at; any but this machine's needs tokens.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", help="Port to listen at.", min=0, max=65535)] = 8000,
    name: Annotated[
        list[str] | None,
        typer.Option(
            "--name",
            help="Host name of a reverse proxy before the service; everybody then needs a token.",
            metavar="NAME",
        ),
    ] = None,
    runs: Annotated[Path, typer.Option("--runs", help="Folder of the runs.", metavar="DIR")] = Path(DEFAULT_RUNS),
    store: StoreOption = None,
    database: DatabaseOption = None,
    scheduler: Annotated[
        str | None, typer.Option("--scheduler", help="Address of a Dask scheduler.", metavar="ADDRESS")
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option("--workers", help="Local worker processes of each job [default: threads of its own].", min=1),
    ] = None,
    threads: ThreadsOption = None,
    at_once: Annotated[
        int, typer.Option("--at-once", help="Jobs that run at the same time; 0: this service runs none.", min=0)
    ] = 1,
    limits: Annotated[
        Path | None, typer.Option("--limits", help="TOML file with limits of requests and jobs.", metavar="FILE")
    ] = None,
) -> None:
    """Serve jobs, runs and units over HTTP and in a browser, at http://127.0.0.1:8000 unless told otherwise.

    Example: universality serve
    """
    if context.invoked_subcommand is not None:
        return
    _require_packages()
    from universality.service import settings, web

    given: dict[str, Any] = {"stores": store, "database": database}
    web.serve(
        settings.Settings(
            host=host, port=port, names=tuple(n.lower() for n in name or ()), runs=runs, scheduler=scheduler, workers=workers, threads=threads,
            at_once=at_once, limits=settings.read_limits(limits), **{key: value for key, value in given.items() if value is not None},
        ),
        say=line,
    )  # fmt: skip


@token_app.command("new")
def new_command(
    scope: Annotated[
        str, typer.Option("--scope", help="read, submit or admin; each includes those before it.")
    ] = "read",
    name: Annotated[str, typer.Option("--for", help="Whose it is, for lists.")] = "",
    database: DatabaseOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a token and print it; it is not kept and cannot be shown again.

    Example: universality serve token new --scope submit --for anna
    """
    token = _tokens(database).new(scope, name).text
    if as_json:
        print_json({"token": token, "scope": scope, "name": name})
    else:
        line(token)


@token_app.command("list")
def list_command(database: DatabaseOption = None, as_json: JsonOption = False) -> None:
    """List tokens: id, scope, whose, when last used, whether revoked.

    Example: universality serve token list
    """
    from datetime import UTC, datetime

    def when(at: float | None) -> str:
        return "never" if at is None else datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M UTC")

    rows = _tokens(database).list()
    if as_json:
        shown = ("id", "name", "scope", "made", "used", "revoked")
        print_json([{field: getattr(row, field) for field in shown} for row in rows])
        return
    for row in rows:
        state = f"revoked {when(row.revoked)}" if row.revoked else f"last used {when(row.used)}"
        line(f"{row.id}  {row.scope:6}  {row.name or '-'}  made {when(row.made)}, {state}")


@token_app.command("revoke")
def revoke_command(
    identity: Annotated[str, typer.Argument(help="The token's id, as the list shows it.", metavar="ID")],
    database: DatabaseOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a token worthless from now on.

    Example: universality serve token revoke abcdefgh
    """
    _tokens(database).revoke(identity)
    if as_json:
        print_json({"id": identity, "revoked": True})
    else:
        line(f"token {identity} is revoked; a running service refuses it within seconds")


def _tokens(url: str | None) -> Tokens:
    _require_packages()
    from universality.service.database import Database
    from universality.service.settings import Settings
    from universality.service.tokens import Tokens

    database = Database(url or Settings().database)
    database.upgrade()
    return Tokens(database)


def _require_packages() -> None:
    missing = [name for name in _PACKAGES if find_spec(name) is None]
    if missing:
        raise ServiceError(
            f"the service needs packages that are not installed ({', '.join(missing)}); install them with pip install 'universality[serve]'"
        )
