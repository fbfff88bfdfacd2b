"""Manifests: which files of a folder are images, with their hashes, folds, groups and labels.

A manifest is a TOML file: one ``[[image]]`` per file with `file` (a path below the folder), `sha256`, and if wanted `fold`
(0 decides matches, 1 scores them), `group` (what belongs together: one photographer, video or scene) and `label`. The images
lie in the manifest's own folder, or in that which its key `folder` names. Files that differ from it are refused.
`universality stimuli manifest FOLDER` writes one.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import Field, model_validator

from universality.base.errors import StimulusError
from universality.base.spec import InnerPath, Sha256, Spec, digest
from universality.base.toml import parse_toml, validate
from universality.stimuli import image_files

NAME = "manifest.toml"
MOST_BYTES = 512 << 20
"""Some millions of images."""
MOST_NAMED = 10
"""Files that a message names; it counts the others."""


class ManifestImage(Spec):
    """A row of the manifest."""

    file: InnerPath = Field(min_length=1, description="path below the manifest's folder, with /")
    sha256: Sha256 = Field(description="of the file's bytes")
    fold: Literal[0, 1] | None = Field(None, description="0 decides matches, 1 scores them")
    group: str = Field("", description="what it belongs to: one photographer, video or scene; empty for itself alone")
    label: str = Field("", description="what the image shows")


class Manifest(Spec):
    """The images of a folder."""

    folder: str = Field("", description="where the images lie, from the manifest's folder; empty for that folder")
    image: Annotated[tuple[ManifestImage, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _files_once(self) -> Manifest:
        seen: set[str] = set()
        for row in self.image:
            if row.file in seen:
                raise ValueError(f"file '{row.file}' is listed twice; name each file once")
            seen.add(row.file)
        return self


@dataclass(frozen=True, eq=False)
class Listed:
    """A manifest that was read: the folder of its images, and a row for each."""

    root: Path
    rows: tuple[ManifestImage, ...]

    @cached_property
    def _hashes(self) -> dict[str, str]:
        return {row.file: row.sha256 for row in self.rows}

    @cached_property
    def digest(self) -> str:
        """Digest of the rows: not of where the folder lies."""
        return digest([row.plain() for row in self.rows])

    def image(self, name: str) -> Image.Image:
        """Return a listed image upright and as 8-bit RGB.

        Raises
        ------
        StimulusError
            A file that is missing, differs from the manifest, is no image or too large a one.
        """
        path = self.root / name
        content = _read(path)
        came, stated = hashlib.sha256(content).hexdigest(), self._hashes[name]
        if came != stated:
            raise StimulusError(
                f"image '{path}' has SHA-256 {came[:12]}..., its manifest states {stated[:12]}...; restore the file or "
                "write the manifest again"
            )
        return image_files.decoded(content, path)[0]


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except (OSError, ValueError) as cause:
        reason = getattr(cause, "strerror", None) or cause
        raise StimulusError(
            f"image '{path}' cannot be read ({reason}); restore the file or write the manifest again"
        ) from None


def path_of(place: str) -> Path:
    """Return the path of the manifest that `place` names: a manifest, or a folder that holds a `NAME`."""
    path = Path(place)
    try:
        return path / NAME if path.is_dir() else path
    except (OSError, ValueError):
        return path  # reading it says what is wrong


def stamp(place: str) -> tuple[int, int]:
    """Return time and size of a manifest's file, which change when it is written again."""
    try:
        stat = path_of(place).stat()
    except (OSError, ValueError):
        return (-1, -1)  # reading it says what is wrong
    return (stat.st_mtime_ns, stat.st_size)


def read(place: str) -> Listed:
    """Return the images that a manifest lists; raise `StimulusError` if it is missing or malformed."""
    path = path_of(place)
    if path.name == NAME and path.parent.is_dir() and not path.exists():
        raise StimulusError(
            f"manifest '{path}' does not exist; check the path, or write it with `universality stimuli manifest {path.parent}`"
        )
    return _read_manifest(path, stamp(place))


@lru_cache(maxsize=64)
def _read_manifest(path: Path, changed: tuple[int, int]) -> Listed:
    del changed  # part of the cache's key
    stated = validate(
        Manifest, parse_toml(path, "manifest", StimulusError, MOST_BYTES), f"manifest '{path}'", StimulusError
    )
    return Listed(path.parent / stated.folder, stated.image)


def groups_of(rows: Sequence[ManifestImage], names: Sequence[str]) -> list[str]:
    """Return the name of every image's group: what the rows state, the image's own name where they state nothing.

    Equal files are one group, and so are the groups that hold them: the first of their names in the alphabet stands for all.

    Parameters
    ----------
    names : a name of its own for each image
    """
    above: dict[str, str] = {}

    def first(name: str) -> str:
        while above.setdefault(name, name) != name:
            above[name] = name = above[above[name]]
        return name

    holder: dict[str, str] = {}
    stated = [row.group or name for row, name in zip(rows, names, strict=True)]
    for row, name in zip(rows, stated, strict=True):
        one, other = sorted((first(name), first(holder.setdefault(row.sha256, name))))
        above[other] = one
    return [first(name) for name in stated]


def folds_of(rows: Sequence[ManifestImage], groups: Sequence[str]) -> NDArray[np.int64]:
    """Return every image's fold (image,): that of its group, as the rows state it or as few images as possible apart.

    Groups without a fold are taken by size, of one size by the digest of their names, so neither the order of the images nor
    where they lie has a part in it; each joins the fold that has fewer images.

    Raises
    ------
    StimulusError
        A group whose images state both folds.
    """
    stated: dict[str, ManifestImage] = {}
    for row, group in zip(rows, groups, strict=True):
        if row.fold is not None and stated.setdefault(group, row).fold != row.fold:
            raise StimulusError(
                f"group '{group}' has images in both folds ('{stated[group].file}' in {stated[group].fold}, '{row.file}' in "
                f"{row.fold}), expected one, because images of a group and equal files resemble one another; state one fold, or "
                "other groups, in the manifest"
            )
    sizes = Counter(groups)
    fold = {group: int(row.fold or 0) for group, row in stated.items()}
    held = [sum(size for group, size in sizes.items() if fold.get(group) == number) for number in (0, 1)]
    for group in sorted(sizes.keys() - fold.keys(), key=lambda group: (-sizes[group], digest(group))):
        fold[group] = int(held[1] < held[0])
        held[fold[group]] += sizes[group]
    return np.array([fold[group] for group in groups], dtype=np.int64)


@dataclass(frozen=True)
class Written:
    """What became of a folder's files.

    Attributes
    ----------
    path : of the manifest
    images : how many it lists
    ignored : how many names were passed over, by kind: what programs leave beside people's files, and links in a circle
    skipped : how many files are no images, by suffix
    left_out : by file that cannot be used, what is wrong, in words that name it
    odd : the same by file that is listed although its metadata cannot be read
    """

    path: Path
    images: int
    ignored: dict[str, int]
    skipped: dict[str, int]
    left_out: dict[str, str]
    odd: dict[str, str]

    def summary(self) -> str:
        """Return it in one line."""
        said = [f"{self.images} images"]
        for title, counts in (("ignored", self.ignored), ("skipped, no images", self.skipped)):
            if counts:
                said.append(f"{title}: {_counted(counts)}")
        if self.left_out:
            said.append(f"left out: {len(self.left_out)} that cannot be used")
        if self.odd:
            said.append(f"warning: {len(self.odd)} used as stored, their metadata cannot be read")
        return "; ".join(said)


def _counted(counts: dict[str, int]) -> str:
    return ", ".join(f"{number} {kind}" for kind, number in sorted(counts.items()))


@dataclass
class _Found:
    files: list[Path] = field(default_factory=list)
    ignored: Counter[str] = field(default_factory=Counter)
    skipped: Counter[str] = field(default_factory=Counter)


_COMPANIONS = {"thumbs.db": "Thumbs.db", "desktop.ini": "desktop.ini", "__macosx": "__MACOSX", "@eadir": "@eaDir"}
_AGAIN = "links to a folder that is listed or holds this one"
_DOT_NAMES = (".ipynb_checkpoints", ".DS_Store")


def _companion(name: str) -> str:
    """Return what kind of leftover a name stands for; "" for one of people's own."""
    if name.startswith("._"):
        return "._*"
    if name.startswith("."):
        return name if name in _DOT_NAMES else "other names with a dot before"
    return _COMPANIONS.get(name.lower(), "")


def _search(folder: Path, manifest: Path) -> _Found:
    """Return the files below a folder whose suffix is that of an image, by path; links are followed, each folder once.

    Folders come before links to them, so that a link to what lies below `folder` anyway is the one that is passed over.
    """
    found, root = _Found(), folder.resolve()
    seen = {root}
    folders, links = deque([folder]), deque[Path]()
    while folders or links:
        if not folders:
            link = links.popleft()
            target = link.resolve()
            if target in seen or root.is_relative_to(target):
                found.ignored[_AGAIN] += 1
                continue
            seen.add(target)
            folders.append(link)
        try:
            with os.scandir(folders.popleft()) as entries:
                here = sorted(entries, key=lambda entry: entry.name)
        except OSError as cause:
            raise StimulusError(
                f"folder '{cause.filename}' cannot be read ({cause.strerror}); allow it, or move it away"
            ) from None
        for entry in here:
            kind, path = _companion(entry.name), Path(entry.path)
            if kind:
                found.ignored[kind] += 1
            elif entry.is_dir() and entry.is_symlink():
                links.append(path)
            elif entry.is_dir():
                if (target := path.resolve()) in seen:
                    found.ignored[_AGAIN] += 1
                else:
                    seen.add(target)
                    folders.append(path)
            elif path.suffix.lower() in image_files.suffixes() and (entry.is_file() or not path.exists()):
                found.files.append(path)
            elif path != manifest:
                found.skipped[path.suffix.lower() or "without suffix"] += 1
    found.files.sort()
    return found


def write(
    folder: Path, out: Path | None = None, *, group_by_folder: bool = False, skip_broken: bool = False
) -> Written:
    """Write a manifest of every image in and below `folder` and return what became of the files.

    The label is the first sub-folder's name; folds are left for the reader to fill in.

    Parameters
    ----------
    out : where the manifest goes; ``manifest.toml`` in the folder when left out
    group_by_folder : images of one sub-folder (the innermost) are one group
    skip_broken : leave out files that cannot be used; they are an error otherwise

    Raises
    ------
    StimulusError
        No folder, no image in it, images that cannot be used (all of them in one error), or a manifest that exists already.
    """
    if not folder.is_dir():
        raise StimulusError(f"'{folder}' is no folder, expected one of images; check the path")
    path = folder / NAME if out is None else out
    if path.exists():
        raise StimulusError(f"manifest '{path}' exists; remove it first, it may hold folds and labels of your own")
    found = _search(folder, path)
    rows, broken, odd = [], {}, {}
    for file in found.files:
        place = file.relative_to(folder)
        try:
            content = _read(file)
            _, remark = image_files.decoded(content, file)
        except StimulusError as error:
            broken[place.as_posix()] = str(error).rpartition("; ")[0]
            continue
        if remark:
            odd[place.as_posix()] = f"'{file}' ({remark})"
        inner = len(place.parts) > 1
        rows.append(
            {
                "file": place.as_posix(),
                "sha256": hashlib.sha256(content).hexdigest(),
                "group": place.parent.as_posix() if inner and group_by_folder else "",
                "label": place.parts[0] if inner else "",
            }
        )
    if broken and not skip_broken:
        raise StimulusError(
            f"{len(broken)} of {len(found.files)} images of '{folder}' cannot be used: {named(broken.values())}; replace or drop "
            "them, or leave them out with --skip-broken"
        )
    if not rows:
        beside = _counted(dict(found.skipped + found.ignored))
        raise StimulusError(
            f"folder '{folder}' holds no image{f' that can be used, beside {beside}' if beside else ''}; put files there that Pillow "
            f"reads ({', '.join(image_files.suffixes())})"
        )
    _write_rows(path, None if out is None else folder.resolve(), rows)
    return Written(path, len(rows), dict(found.ignored), dict(found.skipped), broken, odd)


def named(texts: Iterable[str]) -> str:
    """Return the first `MOST_NAMED` texts, and how many more there are."""
    every = list(texts)
    more = f", and {len(every) - MOST_NAMED} more" if len(every) > MOST_NAMED else ""
    return ", ".join(every[:MOST_NAMED]) + more


def _write_rows(path: Path, folder: Path | None, rows: Sequence[dict[str, str]]) -> None:
    validate(Manifest, {"image": rows}, f"manifest '{path}'", StimulusError)
    head = "# Images by SHA-256; fold = 0 or 1, and group, may be added to each.\n"
    if folder is not None:
        head += f"folder = {_toml(folder.as_posix())}\n"
    tables = ["\n".join(f"{key} = {_toml(row[key])}" for key in row if row[key]) for row in rows]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(head + "".join(f"\n[[image]]\n{table}\n" for table in tables), encoding="utf-8")
    except UnicodeEncodeError as cause:
        raise StimulusError(f"manifest '{path}' cannot be written: {cause}; rename that file or folder") from None
    except OSError as cause:
        raise StimulusError(
            f"manifest '{path}' cannot be written ({cause.strerror}); name another place with --out, the images stay where they are"
        ) from None


def _toml(text: str) -> str:
    # A JSON string is a TOML string but for the character DEL.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007F")
