"""Arguments and options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from universality.cli.completion import model_ids, run_folders

JobArgument = Annotated[Path, typer.Argument(help="The job's TOML file.", metavar="JOB", readable=False)]
OutOption = Annotated[
    Path | None, typer.Option("--out", help="Run directory [default: data/runs/NAME].", metavar="DIR")
]
StoreOption = Annotated[
    str | None, typer.Option("--store", help="Folder or URL of the activations [default: data/store].", metavar="URL")
]
WorkersOption = Annotated[
    int | None, typer.Option("--workers", help="Local worker processes [default: threads of this one].", min=1)
]
ThreadsOption = Annotated[
    int | None, typer.Option("--threads", help="Threads of each worker [default: the cores].", min=1)
]
OnlyOption = Annotated[
    list[str] | None,
    typer.Option("--only", help="Only this stage and those it needs; may be given again.", metavar="STAGE"),
]
WithoutOption = Annotated[
    list[str] | None,
    typer.Option("--without", help="Not this stage, nor those that need it; may be given again.", metavar="STAGE"),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]
RunArgument = Annotated[Path, typer.Argument(help="Run directory.", metavar="RUN", autocompletion=run_folders)]
ModelArgument = Annotated[
    str, typer.Argument(help="A model: source/name.", metavar="ID", autocompletion=model_ids, show_default=False)
]
