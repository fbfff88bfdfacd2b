"""What the tests of the service's pages share: a run among others, one with markup for names, and an application that shows both."""

import json
import shutil
from contextlib import contextmanager
from html.parser import HTMLParser

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from service_parts import HERE, settings
from starlette.testclient import TestClient

from universality.base.spec import sealed
from universality.runs.run import Run, file_sha256
from universality.service.app import create_app

EVIL = """</script><script>alert(1)</script><img src=x onerror="alert(2)">'"""
PAGE = {"accept": "text/html"}


class Direct:
    """The helper's calls, made here: Torch is in this process already. What goes in and comes out passes through JSON as there."""

    def call(self, name, timeout_s=None, **arguments):
        from universality.service.calls import CALLS

        return json.loads(json.dumps(CALLS[name](**json.loads(json.dumps(arguments))), default=float))

    def close(self):
        pass


class Page(HTMLParser):
    """What a page is made of: elements with their attributes, and its text."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.texts = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.texts.append(data)

    @property
    def text(self):
        return " ".join(self.texts)

    def addresses(self):
        """Every address of this service that the page names for reading."""
        found = [a.get(name) for tag, a in self.elements for name in ("href", "src", "hx-get") if tag != "form"]
        return [address for address in dict.fromkeys(found) if address and address.startswith("/")]


def rows_of(text):
    """The cells of the body of a page's table of rows, as text."""
    body = text.split('<tbody id="rows">')[1].split("</tbody>")[0]
    rows = []
    for row in body.split("<tr>")[1:]:
        cells = [Page(cell).text.strip() for cell in row.split("<td")[1:]]
        rows.append([cell.split(">", 1)[-1].strip() for cell in cells])
    return rows


def hostile_copy(run, folder, name="hostile"):
    """A copy of a finished run in which one network, one of its taps, the question and a verdict are called `EVIL`."""
    out = folder / name
    shutil.copytree(run.path, out)
    renamed = run.job.models[1]
    tap = next(t for m, t, _ in run.trained_keys if m == renamed.id)

    def changed(rows):
        for model, at in (("model", "tap"), ("model_a", "tap_a"), ("model_b", "tap_b")):
            if model in rows and at in rows:
                rows = rows.assign(**{at: rows[at].mask((rows[model] == renamed.id) & (rows[at] == tap), EVIL)})
        return rows.assign(**{c: rows[c].replace(renamed.id, EVIL) for c in rows if c.startswith("model")})

    record = json.loads((out / "run.json").read_text())
    for file in record["tables"]:
        known = pq.read_schema(out / file)
        rows = changed(pd.read_parquet(out / file))
        pq.write_table(pa.Table.from_pandas(rows, preserve_index=False).cast(known), out / file)
        record["tables"][file] = file_sha256(out / file)
    record["job"]["question"] = EVIL
    entry = next(entry for entry in record["job"]["models"] if entry["id"] == renamed.id)
    entry["id"], entry["taps"] = EVIL, None
    for key in ("pairs", "figure_pairs"):
        record["job"][key] = [
            [EVIL if m == renamed.id else m for m in pair] for pair in record["job"].get(key) or []
        ] or None
    for store in record["stores"]:
        if store["model"] == renamed.id:
            store["model"] = EVIL
            store["tap"] = EVIL if store["tap"] == tap else store["tap"]
    for drawing in record.get("figures", {}).values():
        drawing["caption"] = EVIL
    record.pop("digest", None)
    (out / "run.json").write_text(json.dumps(sealed(record)))
    return Run(out, json.loads((out / "run.json").read_text()), run.store)


@contextmanager
def served(run, folder, *, hostile=True):
    """An application that shows a run as ``one``, and the same with markup for names as ``hostile``; its catalogue asks nobody else."""
    runs = folder / "runs"
    runs.mkdir()
    shutil.copytree(run.path, runs / "one")
    if hostile:
        hostile_copy(run, runs)
    app = create_app(settings(folder))
    app.state.catalogue._helper = app.state.helper = Direct()
    with TestClient(app, base_url=HERE, headers=PAGE, follow_redirects=False) as client:
        yield client
