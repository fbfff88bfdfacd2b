"""An object store for tests: a folder in which objects appear whole or not at all, and nothing can be renamed.

Unlike ``memory://`` it can be shared by processes. Importing this module makes ``objects://`` known to fsspec.
"""

import uuid
from pathlib import Path

import fsspec
from fsspec.implementations.local import LocalFileSystem


class Objects(LocalFileSystem):
    protocol = "objects"

    def __init__(self, **options):
        super().__init__(**{**options, "auto_mkdir": True})

    @classmethod
    def _strip_protocol(cls, path):
        return LocalFileSystem._strip_protocol(str(path).removeprefix("objects://"))

    def unstrip_protocol(self, name):
        return f"objects://{self._strip_protocol(name)}"

    def pipe_file(self, path, value, mode="overwrite", **kwargs):
        path = self._strip_protocol(path)
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        draft = f"{path}.{uuid.uuid4().hex}~"
        with Path(draft).open("wb") as file:
            file.write(value)
        Path(draft).replace(path)

    def find(self, path, **options):
        found = super().find(path, **options)
        keep = {name for name in found if not name.endswith("~")}
        return {k: v for k, v in found.items() if k in keep} if isinstance(found, dict) else sorted(keep)

    def mv(self, *args, **kwargs):
        raise NotImplementedError("object stores do not rename")

    rename = move = mv_file = mv


fsspec.register_implementation("objects", Objects, clobber=True)
