"""Bad inputs as data: what lies in the folder, the command, and what its one sentence must name. Add one: add a line.

A case is (what is wrong, files, arguments, texts of the sentence). `files` maps a path to text, bytes, a function of the
path that makes it, or a `Link`. Every command runs in a folder of its own that holds nothing else; cards and weights
come from ``model_zoo`` and ``weights`` there if it has them.
"""

import io
import pickle
import struct
import zipfile
import zlib
from dataclasses import dataclass

import torch
from PIL import Image
from safetensors.torch import load_file, save

from universality.base.paths import resource

MODEL = "pocket/vgg-focus-s0"
JOB = f"""
name = "bad"
[[models]]
id = "{MODEL}"
taps = ["features.4"]
[[models]]
id = "pocket/vgg-focus-s1"
taps = ["features.4"]
[stimuli.natural]
crops = 24
[stimuli.curves]
orientations = 8
curvatures = [0.0, 5.0]
[extraction]
reduction = "center"
"""
CARD = (resource("model_zoo") / f"{MODEL}.toml").read_text(encoding="utf-8")
OTHER_CARD = (resource("model_zoo") / "pocket/vgg-focus-s1.toml").read_text(encoding="utf-8")
HASH = "0" * 64
ROW = f'[[image]]\nfile = "a.png"\nsha256 = "{HASH}"\n'
DEFINITION = (
    'name = "mine"\nbase = "curve"\n[[criteria]]\ncolumn = "fwhm_deg"\nop = "<"\nthreshold = 90\nreason = "narrow"\n'
)


@dataclass(frozen=True)
class Link:
    to: str


def changed(text, old, new):
    assert old in text, f"the case changes nothing: '{old}' is not there"
    return text.replace(old, new, 1)


def job(old, new):
    return {"job.toml": changed(JOB, old, new)}


def job_with(section):
    return job("[extraction]", f"{section}\n[extraction]")


def card(old, new):
    return {f"model_zoo/{MODEL}.toml": changed(CARD, old, new)}


def card_job(old, new):
    """A card that only the network itself contradicts, and a job that uses it."""
    return {**card(old, new), "model_zoo/pocket/vgg-focus-s1.toml": OTHER_CARD, "job.toml": JOB}


def state(change=None):
    tensors = {k: v.clone() for k, v in load_file(resource("data/pocket_zoo") / "vgg-focus-s0.safetensors").items()}
    if change:
        change(tensors)
    return tensors


def weights(content, suffix=".pth"):
    return {"job.toml": JOB, f"weights/{MODEL}{suffix}": content}


def saved(value):
    buffer = io.BytesIO()
    torch.save(value() if callable(value) else value, buffer)
    return buffer.getvalue()


def saved_state(change):
    return lambda path: path.write_bytes(saved(state(change)))


def first(tensors):
    return next(name for name in tensors if name.endswith("weight"))


def put(value):
    def change(tensors):
        tensors[first(tensors)].view(-1)[0] = value

    return change


class Code:
    def __reduce__(self):
        return (print, ("this must never be printed",))


def zipped(*names):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in names:
            archive.writestr(name, b"x")
    return buffer.getvalue()


def png(width=8, height=8):
    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    rows = zlib.compress(b"".join(b"\0" + bytes(3 * width) for _ in range(height)) if width < 100 else b"\0")
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def jpeg():
    buffer = io.BytesIO()
    Image.new("RGB", (64, 64), "red").save(buffer, "JPEG")
    return buffer.getvalue()


PLAN, RUN = ["plan", "job.toml"], ["run", "job.toml"]
SHOW_CARD = ["zoo", "show", MODEL]
MANIFEST, SHEET = ["stimuli", "manifest", "images"], ["stimuli", "show", "folder", "--manifest", "m.toml"]
DEFINE = ["detectors", "none", "--definition", "d.toml"]
DAMAGED = '{"status": "complete", "job_digest": "x", "job": {}}'

JOBS = [
    ("job that is missing", {}, PLAN, ["job.toml' does not exist"]),
    ("job that is a folder", {"job.toml/x": ""}, PLAN, ["is a folder, expected a TOML file"]),
    ("job that is binary", {"job.toml": bytes(range(256))}, PLAN, ["cannot be read as UTF-8"]),
    ("job in UTF-16", {"job.toml": JOB.encode("utf-16")}, PLAN, ["cannot be read as UTF-8"]),
    ("job that is empty", {"job.toml": ""}, PLAN, ["key 'name' is missing"]),
    ("job below a file", {"job.toml": JOB}, ["plan", "job.toml/x"], ["job.toml/x"]),
    ("job that is a loop of links", {"job.toml": Link("b"), "b": Link("job.toml")}, PLAN, ["job.toml"]),
    ("job of a very long path", {}, ["plan", "x" * 5000], ["name too long"]),
    ("job of a path that is no UTF-8", {}, ["plan", "\udcff.toml"], ["does not exist"]),
    ("job of a unicode path", {}, ["plan", "Jöb 任務 \U0001f9ea.toml"], ["Jöb 任務", "does not exist"]),
    ("job that never ends", {"job.toml": Link("/dev/zero")}, PLAN, ["larger than"]),
    ("job of two megabytes", {"job.toml": JOB + "#" * 2_000_000}, PLAN, ["larger than"]),
    ("TOML broken", job("[extraction]", "[extraction"), PLAN, ["is not valid TOML", "line"]),
    ("TOML with a key twice", job('name = "bad"', 'name = "a"\nname = "b"'), PLAN, ["is not valid TOML"]),
    ("TOML bomb of brackets", {"job.toml": "a = " + "[" * 100_000}, PLAN, ["job.toml"]),
    ("TOML bomb of tables", {"job.toml": "a = " + "{a=" * 50_000}, PLAN, ["job.toml"]),
    ("TOML bomb of dots", {"job.toml": ".".join("a" * 40_000) + " = 1"}, PLAN, ["parts or more"]),
    ("TOML bomb of dots in quotes", {"job.toml": ".".join(['"a"'] * 40_000) + " = 1"}, PLAN, ["parts or more"]),
    ("TOML bomb of a dotted table", {"job.toml": "[" + ".".join("a" * 40_000) + "]"}, PLAN, ["parts or more"]),
    ("TOML bomb of digits", job("crops = 24", "crops = " + "9" * 10_000), PLAN, ["job.toml"]),
    ("unknown key", job("reduction =", "reductoin ="), PLAN, ["unknown key 'extraction.reductoin'"]),
    ("missing key", job('reduction = "center"', ""), PLAN, ["key 'extraction.reduction' is missing"]),
    ("unknown reduction", job('"center"', '"centre"'), PLAN, ["came: 'centre'"]),
    ("unknown model", job("focus-s0", "focus-s9"), PLAN, ["unknown model", "did you mean"]),
    ("unknown tap", job("features.4", "features.7x"), PLAN, ["no tap 'features.7x'"]),
    ("unknown measure", job_with('[comparison]\nmeasures = ["cka_linaer_debiased"]'), PLAN, ["did you mean"]),
    ("unknown matching", job_with('[comparison]\nmatching = ["best"]'), PLAN, ["comparison.matching"]),
    ("unknown family", job_with('[comparison]\nfamilies = ["cat"]'), PLAN, ["unknown family 'cat'"]),
    ("a model twice", job("focus-s1", "focus-s0"), PLAN, ["values appear twice"]),
    ("a tap twice", job('["features.4"]', '["features.4", "features.4"]'), PLAN, ["values appear twice"]),
    ("no taps", job('["features.4"]', "[]"), PLAN, ["taps"]),
    ("one model", {"job.toml": JOB.replace('[[models]]\nid = "pocket/vgg-focus-s1"\ntaps = ["features.4"]\n', "")}, PLAN, ["models"]),
    ("models that are no tables", job('name = "bad"', 'name = "bad"\npairs = 5'), PLAN, ["pairs"]),
    ("name that climbs", job('"bad"', '"../bad"'), PLAN, ["key 'name'"]),
    ("name that is absolute", job('"bad"', '"/bad"'), PLAN, ["key 'name'"]),
    ("name in other letters", job('"bad"', '"Größe"'), PLAN, ["key 'name'"]),
    ("name that is very long", job('"bad"', f'"{"x" * 300}"'), PLAN, ["key 'name'"]),
    ("name that is empty", job('"bad"', '""'), PLAN, ["key 'name'"]),
    ("no natural images", job("crops = 24", "crops = 0"), PLAN, ["'natural' is empty"]),
    ("too few natural images", job("crops = 24", "crops = 3"), PLAN, ["too few"]),
    ("negative crops", job("crops = 24", "crops = -3"), PLAN, ["came: -3"]),
    ("crops that are true", job("crops = 24", "crops = true"), PLAN, ["came: True"]),
    ("crops in quotes", job("crops = 24", 'crops = "24"'), PLAN, ["came: '24'"]),
    ("crops without end", job("crops = 24", "crops = inf"), PLAN, ["stimuli.natural.crops"]),
    ("NaN as a curvature", job("5.0", "nan"), PLAN, ["stimuli.curves.curvatures"]),
    ("no straight line", job("[0.0, 5.0]", "[1.0, 5.0]"), PLAN, ["contain 0"]),
    ("curves that are lines", job("5.0", "1e-9"), PLAN, ["at least 0.01"]),
    ("one variant", job("orientations = 8", 'orientations = 8\nvariants = ["thin_dark"]'), PLAN, ["two or more"]),
    ("even number of places", job('"center"', '"positions"\npositions = 4'), PLAN, ["no middle place"]),
    ("half precision", job('"center"', '"center"\ndtype = "float16"'), PLAN, ["extraction.dtype"]),
    ("no batch", job('"center"', '"center"\nbatch_size = 0'), PLAN, ["extraction.batch_size"]),
    ("no nulls", job_with("[nulls]\nuntrained_seeds = []"), PLAN, ["nulls.untrained_seeds"]),
    ("no rotations", job_with("[nulls]\nhaar_rotations = 0"), PLAN, ["nulls.haar_rotations"]),
    ("negative seed", job_with("[nulls]\nuntrained_seeds = [-1]"), PLAN, ["came: -1"]),
    ("seed beyond 64 bits", job_with(f"[nulls]\nuntrained_seeds = [{2**63}]"), PLAN, ["nulls.untrained_seeds"]),
    ("pair with itself", job('name = "bad"', f'name = "bad"\npairs = [["{MODEL}", "{MODEL}"]]'), PLAN, [MODEL, "comparison.families = []"]),
    ("pair of a stranger", job('name = "bad"', f'name = "bad"\npairs = [["{MODEL}", "a/b"]]'), PLAN, ["names 'a/b'"]),
    ("pair of three", job('name = "bad"', 'name = "bad"\npairs = [["a", "b", "c"]]'), PLAN, ["pairs"]),
    ("store that is a file", {"job.toml": JOB, "s": ""}, [*RUN, "--store", "s"], ["is a file, expected a folder"]),
    ("store below a file", {"job.toml": JOB, "s": ""}, [*RUN, "--store", "s/t"], ["s/t", "--store"]),
    ("store of an unknown protocol", {"job.toml": JOB}, [*RUN, "--store", "abc://b/x"], ["unknown protocol 'abc'"]),
    ("store of a very long path", {"job.toml": JOB}, [*RUN, "--store", "x" * 300], ["too long"]),
    ("run directory with other files", {"job.toml": JOB, "o/notes": ""}, [*RUN, "--out", "o"], ["holds files"]),
    ("run directory that is a file", {"job.toml": JOB, "o": ""}, [*RUN, "--out", "o"], ["'o'"]),
    ("run directory of a very long path", {"job.toml": JOB}, [*RUN, "--out", "x" * 300], ["too long"]),
    ("run directory with a damaged record", {"job.toml": JOB, "o/run.json": "{"}, [*RUN, "--out", "o"], ["is damaged"]),
]  # fmt: skip

CARDS = [
    ("card that is broken", {f"model_zoo/{MODEL}.toml": "x ="}, SHOW_CARD, ["is not valid TOML"]),
    ("card that is binary", {f"model_zoo/{MODEL}.toml": b"\xff\xfe"}, SHOW_CARD, ["cannot be read"]),
    ("card in another's place", card(MODEL, "pocket/other"), SHOW_CARD, ["expected 'pocket/vgg-focus-s0' from its path"]),
    ("card of an unknown source", card('source = "pocket"', 'source = "poket"'), SHOW_CARD, ["unknown source 'poket'"]),
    ("card of an unknown library", card('library = "pocket"', 'library = "keras"'), SHOW_CARD, ["key 'library'"]),
    ("card with an unknown key", card("id =", "colour = 1\nid ="), SHOW_CARD, ["unknown key 'colour'"]),
    ("card that leaves the package", card("package_file = \"", "package_file = \"../"), SHOW_CARD, ["leaves its root"]),
    ("card with an absolute file", card("package_file = \"", "package_file = \"/etc/"), SHOW_CARD, ["leaves its root"]),
    ("card with a short hash", card("state_dict_sha256 = \"", "state_dict_sha256 = \"zz"), SHOW_CARD, ["state_dict_sha256"]),
    ("tap without units", card("channels =", "channels = 0 #"), SHOW_CARD, ["channels"]),
    ("tap of no size", card("\nsize =", "\nsize = 0 #"), SHOW_CARD, ["size"]),
    ("tap too deep", card("relative_depth =", "relative_depth = 2.0 #"), SHOW_CARD, ["relative_depth"]),
    ("call that is never made", card("channels =", "call = 3\nchannels ="), SHOW_CARD, ["call 3 is not below calls 1"]),
    ("standard deviation of zero", card("std =", "std = [0.0, 1.0, 1.0] #"), SHOW_CARD, ["std must be positive"]),
    ("card of an unknown architecture", card_job('architecture = "', 'architecture = "no-'), RUN, [MODEL, "architecture"]),
    ("card with an unknown argument", card_job("n_classes = 12", "n_classes = 12\nfrobnicate = 3"), RUN, [MODEL, "frobnicate"]),
    ("tap of no module", card_job('path = "features.4"', 'name = "features.4"\npath = "features.46"'), RUN, ["features.46"]),
    ("tap of other channels", card_job("channels =", "channels = 7 #"), RUN, ["its card states"]),
    ("unknown card", {}, ["zoo", "show", "pocket/vg-focus-s0"], ["did you mean 'pocket/vgg-focus-s0'"]),
    ("unknown recipe", {}, ["zoo", "train", "pocket/nonsense"], ["names no pocket network"]),
    ("training into a file", {"o": ""}, ["zoo", "train", MODEL, "--out", "o"], ["'o' cannot be a folder"]),
    ("training on a damaged checkpoint", {"o/resume.pt": "x"}, ["zoo", "train", MODEL, "--out", "o"], ["is damaged"]),
]  # fmt: skip

WEIGHTS = [
    ("checkpoint with code", weights(pickle.dumps(Code())), RUN, ["not a plain state dict"]),
    ("checkpoint with code in Torch's form", weights(lambda path: path.write_bytes(saved(Code()))), RUN, ["not a plain state dict"]),
    ("checkpoint cut short", weights(lambda path: path.write_bytes(saved(state)[:1000])), RUN, ["not a plain state dict"]),
    ("checkpoint that is empty", weights(b""), RUN, ["not a plain state dict"]),
    ("checkpoint that is text", weights("weights"), RUN, ["not a plain state dict"]),
    ("archive that climbs", weights(zipped("../../evil", "archive/data.pkl")), RUN, ["not a plain state dict"]),
    ("archive with absolute names", weights(zipped("/etc/evil")), RUN, ["not a plain state dict"]),
    ("checkpoint that is a list", weights(saved([torch.zeros(1)])), RUN, ["holds no state dict"]),
    ("checkpoint of sparse tensors", weights(saved({"x": torch.zeros(2, 2).to_sparse()})), RUN, ["sparse or empty"]),
    ("weights with a NaN", weights(saved_state(put(float("nan")))), RUN, ["NaN or infinite"]),
    ("weights with an infinity", weights(saved_state(put(float("inf")))), RUN, ["NaN or infinite"]),
    ("weights of another hash", weights(saved_state(put(0.123))), RUN, ["state-dict hash"]),
    ("weights without a tensor", weights(saved_state(lambda t: t.pop(first(t)))), RUN, ["no tensor"]),
    ("weights with a tensor more", weights(saved_state(lambda t: t.update(extra=torch.zeros(1)))), RUN, ["unknown tensor 'extra'"]),
    ("weights of another shape", weights(saved_state(lambda t: t.update({first(t): torch.zeros(2)}))), RUN, ["shape (2,)"]),
    ("safetensors that is junk", weights(b"junk" * 10, ".safetensors"), RUN, ["not a plain state dict"]),
    ("safetensors with an endless header", weights(struct.pack("<Q", 2**62) + b"{", ".safetensors"), RUN, ["not a plain state dict"]),
    ("safetensors of another network", weights(save({"x": torch.zeros(1)}), ".safetensors"), RUN, ["no tensor"]),
    ("weights folder that is a file", {"job.toml": JOB, "weights": ""}, RUN, ["is a file"]),
]  # fmt: skip

IMAGES = [
    ("image folder that is missing", {}, MANIFEST, ["'images' is no folder"]),
    ("image folder that is a file", {"images": ""}, MANIFEST, ["'images' is no folder"]),
    ("image folder without images", {"images/a.txt": ""}, MANIFEST, ["holds no image"]),
    ("image folder with a manifest", {"images/manifest.toml": ""}, MANIFEST, ["exists; remove it first"]),
    ("image that is text", {"images/a.png": "text"}, MANIFEST, ["images/a.png"]),
    ("image that is empty", {"images/a.png": b""}, MANIFEST, ["images/a.png"]),
    ("image cut short", {"images/a.jpg": jpeg()[:400]}, MANIFEST, ["images/a.jpg"]),
    ("image without rows", {"images/a.png": png(90, 90)[:60]}, MANIFEST, ["images/a.png"]),
    ("image that is huge", {"images/a.png": png(100_000, 100_000)}, MANIFEST, ["decompression bombs"]),
    ("image that is a loop of links", {"images/a.png": Link("b.png"), "images/b.png": Link("a.png")}, MANIFEST, ["images/"]),
    ("manifest that is missing", {}, SHEET, ["m.toml' does not exist"]),
    ("manifest that is broken", {"m.toml": "x ="}, SHEET, ["is not valid TOML"]),
    ("manifest that climbs", {"m.toml": changed(ROW, "a.png", "../a.png")}, SHEET, ["leaves its root"]),
    ("manifest with an absolute file", {"m.toml": changed(ROW, "a.png", "/a.png")}, SHEET, ["leaves its root"]),
    ("manifest with a short hash", {"m.toml": changed(ROW, HASH, "00")}, SHEET, ["sha256"]),
    ("manifest with a third fold", {"m.toml": ROW + "fold = 2\n"}, SHEET, ["fold"]),
    ("manifest with a file twice", {"m.toml": ROW + ROW}, SHEET, ["twice"]),
    ("manifest of a missing image", {"m.toml": ROW}, SHEET, ["a.png' cannot be read"]),
    ("manifest of another image", {"m.toml": ROW, "a.png": png()}, SHEET, ["has SHA-256"]),
    ("unknown stimuli", {}, ["stimuli", "show", "curvs"], ["did you mean 'curves'"]),
    ("contact sheet that is no PNG", {}, ["stimuli", "show", "curves", "--out", "a.gif"], ["is no PNG file"]),
]  # fmt: skip

RUNS = [
    ("definition that is missing", {}, DEFINE, ["definition 'd.toml' does not exist"]),
    ("definition of an unknown column", {"d.toml": changed(DEFINITION, "fwhm_deg", "fwhm")}, DEFINE, ["fwhm"]),
    ("definition of an unknown family", {"d.toml": changed(DEFINITION, '"curve"', '"cat"')}, DEFINE, ["unknown family 'cat'"]),
    ("definition with NaN", {"d.toml": changed(DEFINITION, "90", "nan")}, DEFINE, ["threshold"]),
    ("definition without criteria", {"d.toml": 'name = "mine"\nbase = "curve"\ncriteria = []\n'}, DEFINE, ["criteria"]),
    ("definition of an unknown sign", {"d.toml": changed(DEFINITION, '"<"', '"!"')}, DEFINE, ["op"]),
    ("detectors of no run", {}, ["detectors", "none"], ["is not a run directory"]),
    ("atlas of no run", {}, ["atlas", "none"], ["is not a run directory"]),
    ("atlas of a damaged run", {"o/run.json": DAMAGED}, ["atlas", "o"], ["is damaged"]),
    ("record that is a bomb", {"o/run.json": "[" * 100_000}, ["atlas", "o"], ["is damaged"]),
    ("list of a missing folder", {}, ["runs", "list", "none"], ["is no folder"]),
    ("verify nothing", {}, ["runs", "verify"], ["give either a run directory or --all"]),
    ("verify no run", {}, ["runs", "verify", "none"], ["is not a run directory"]),
    ("show a missing file", {}, ["runs", "show", "none.png"], ["does not exist"]),
    ("show a file of another kind", {"a.txt": ""}, ["runs", "show", "a.txt"], ["is no table, figure or report"]),
    ("show a foreign figure", {"a.png": png()}, ["runs", "show", "a.png"], ["carries no provenance"]),
    ("show a damaged figure", {"a.png": "x"}, ["runs", "show", "a.png"], ["is damaged"]),
    ("show a damaged table", {"a.parquet": "x"}, ["runs", "show", "a.parquet"], ["is damaged"]),
    ("show a foreign document", {"a.pdf": "x"}, ["runs", "show", "a.pdf"], ["carries no provenance"]),
    ("show a damaged drawing", {"a.svg": "<svg"}, ["runs", "show", "a.svg"], ["is damaged"]),
    ("clean a store that is a file", {"s": ""}, ["runs", "clean", "--store", "s"], ["is a file, expected a folder"]),
    ("clean beside a damaged run", {"o/run.json": "{"}, ["runs", "clean", "--runs", "o", "--store", "s"], ["is damaged"]),
    ("reproduce no run", {}, ["reproduce", "none"], ["is not a run directory"]),
    ("unknown measure shown", {}, ["measures", "cka_linear"], ["names several measures", "cka_linear_debiased"]),
]  # fmt: skip

CASES = [*JOBS, *CARDS, *WEIGHTS, *IMAGES, *RUNS]
