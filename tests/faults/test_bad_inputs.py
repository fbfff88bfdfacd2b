"""Every bad input gives one sentence, a status other than 0 and no traceback, and nothing is written."""

import os
import sys
from pathlib import Path

import bad_inputs
import pytest

from universality import cli
from universality.base import paths
from universality.models import catalogue, weight_files


def lay(folder: Path, files: dict) -> None:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, bad_inputs.Link):
            path.symlink_to(content.to)
        elif callable(content):
            content(path)
        else:
            path.write_bytes(content.encode() if isinstance(content, str) else content)


def everything(folder: Path) -> dict[str, bytes | None]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() if path.is_file() and not path.is_symlink() else None
        for path in folder.rglob("*")
    }


def test_there_are_enough_and_each_is_another():
    names = [case[0] for case in bad_inputs.CASES]
    assert len(names) == len(set(names)) >= 100


def encodable(*names) -> bool:
    """Whether this process can name such files."""
    try:
        return all(os.fsencode(name) is not None for name in names)
    except UnicodeEncodeError:
        return False


@pytest.mark.parametrize(("files", "arguments", "named"), [c[1:] for c in bad_inputs.CASES], ids=[c[0] for c in bad_inputs.CASES])  # fmt: skip
def test_one_sentence_and_nothing_written(monkeypatch, capsys, tmp_path, files, arguments, named):
    if not encodable(*files, *arguments):
        pytest.skip("file names are ASCII under this locale")
    lay(tmp_path, files)
    monkeypatch.chdir(tmp_path)
    if (tmp_path / "weights").exists():
        monkeypatch.setenv(weight_files.WEIGHTS_FOLDER_VARIABLE, "weights")
    if (tmp_path / "model_zoo").exists():
        shipped = paths.resource
        monkeypatch.setattr(
            catalogue, "resource", lambda name: tmp_path / name if name == "model_zoo" else shipped(name)
        )
    before = everything(tmp_path)
    monkeypatch.setattr(sys, "argv", ["universality", *arguments])
    with pytest.raises(SystemExit) as leaving:
        cli.main()
    out, err = capsys.readouterr()
    assert leaving.value.code == 1
    # A run says how far it came before the mistake showed.
    *progress, sentence = err.splitlines()
    assert sentence.startswith("error: ")
    assert not progress or arguments[0] == "run"
    assert "Traceback" not in err + out
    assert "this must never be printed" not in err + out
    for text in named:
        assert text in sentence
    assert everything(tmp_path) == before
    assert Path.cwd() == tmp_path
