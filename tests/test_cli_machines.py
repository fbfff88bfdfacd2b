"""The command line for machines: JSON on every command, exit statuses, completion, pipes and terminals."""

import io
import json
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from typer.main import get_command

from universality import cli
from universality.base.errors import JobError, TasksFailedError
from universality.base.paths import OWN_CARDS_VARIABLE
from universality.cli import completion
from universality.cli.leaving import INTERRUPTED
from universality.cli.progress import Bars, progress_on
from universality.jobs import execute, reproduce
from universality.jobs.reproduce import Reproduction
from universality.models import catalogue
from universality.service.database import Database
from universality.service.tokens import Tokens
from universality.similarity import COMPARATORS
from universality.stimuli.sets import STIMULI

ROOT = Path(__file__).parents[1]
NO_JSON = {"schema": "prints JSON as it is", "cluster slurm": "prints a script"}
UNIT = "package/efficientnet_lite0:blocks.1.1.bn2:0"

# For every command with --json: what is given, and the keys that docs/reference/commands.md promises under that name.
JSON = {
    "run": "{job} --out {out} --store {store}",
    "plan": "{job} --out {out} --store {store}",
    "compare": "pocket/vgg-focus-s0 pocket/vgg-focus-s0 --layers features.4 --out {tmp}/compared --store {tmp}/compared_store",
    "detectors": "{out} --threshold invariance",
    "detectors --joint": "{whole}",
    "atlas": "{whole} --out {tmp}/atlas",
    "atlas --unit": f"{UNIT} {{out}}",
    "report": "{out} --out {tmp}/page.html",
    "report --pages": "{tmp}/pages {whole}",
    "examples": f"{{whole}} --unit {UNIT} --out {{tmp}}/examples",
    "visualise": "pocket/alexnet-focus-s0 --unit features.4:3 --steps 2 --out {tmp}/seen --store {tmp}/seen_store",
    "stages": "",
    "figures": "{out} --kind similarity --format svg --out {tmp}/figures",
    "figures --list": "{out}",
    "ledger": f"{{copy}} --claims {ROOT}/analyses/ledger/claims",
    "reproduce": "{out} --out {tmp}/again",
    "measures": "cka_linear_debiased",
    "doctor": "--store {store}",
    "versions": "",
    "zoo list": "",
    "zoo show": "pocket/vgg-focus-s0",
    "zoo new": "torchvision/squeezenet1_1 --tap features.3",
    "zoo fields": "pocket/vgg-focus-s0",
    "zoo points": "pocket/vgg-focus-s0",
    "zoo train": "pocket/vgg-focus-s0 --out {tmp}/trained",
    "stimuli list": "",
    "stimuli show": "curves --images 4 --out {tmp}/sheet.png",
    "stimuli manifest": "{tmp}/photographs",
    "runs list": "{out}",
    "runs show": "{out}",
    "runs verify": "{out}",
    "runs clean": "--runs {tmp} --store {tmp}/store",
    "serve token new": "--scope read --for anna --database {tokens}",
    "serve token list": "--database {tokens}",
    "serve token revoke": "{token} --database {tokens}",
}


def commands(command=None, path=()):
    """Every command with its path, from the app itself."""
    command = command or get_command(cli.app)
    for name, child in getattr(command, "commands", {}).items():
        yield from commands(child, (*path, name))
    if not hasattr(command, "commands"):
        yield pytest.param(" ".join(path), command, id="-".join(path))


EVERY = list(commands())


def end(monkeypatch, capsys, *words):
    """Run the command line here; return its exit status and what it printed."""
    monkeypatch.setattr(sys, "argv", ["universality", *map(str, words)])
    with pytest.raises(SystemExit) as leaving:
        cli.main()
    printed = capsys.readouterr()
    return int(leaving.value.code or 0), printed.out, printed.err


@pytest.fixture
def places(small, whole, tmp_path, monkeypatch):
    """Where the commands work; what takes minutes is replaced by its result."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(OWN_CARDS_VARIABLE, str(tmp_path / "cards"))
    (tmp_path / "photographs").mkdir()
    shutil.copyfile(ROOT / "docs" / "curve_depth.png", tmp_path / "photographs" / "a.png")
    again = Reproduction(small.out, tmp_path / "again", 1e-6, identical=["units"], rows={"pairs": (1, 2)})
    monkeypatch.setattr(reproduce, "reproduce", lambda *_, **__: again)
    monkeypatch.setattr(
        "universality.models.pocket.training.train_named", lambda name, folder, images, threads: folder / "w"
    )
    copy = tmp_path / "copy"
    shutil.copytree(small.out, copy)
    tokens = Database(f"sqlite:///{tmp_path}/tokens.sqlite")
    tokens.upgrade()
    token = Tokens(tokens).new("read", "anna").id
    tokens.engine.dispose()
    return {
        "job": small.job,
        "out": small.out,
        "store": small.store,
        "tmp": tmp_path,
        "copy": copy,
        "whole": whole.path,
        "token": token,
        "tokens": f"sqlite:///{tmp_path}/tokens.sqlite",
    }


def test_every_command_is_in_the_table_of_json():
    named = {re.sub(" --.*", "", name) for name in JSON}
    assert named | set(NO_JSON) == {param.values[0] for param in EVERY}


@pytest.mark.parametrize(("name", "command"), EVERY)
def test_commands_with_results_have_json(name, command):
    options = {option for parameter in command.params for option in parameter.opts}
    assert ("--json" in options) == (name not in NO_JSON)


def promised(name):
    """The keys of docs/reference/commands.md on the outer level: in a list, those of its objects."""
    text = (ROOT / "docs" / "reference" / "commands.md").read_text(encoding="utf-8")
    (row,) = re.findall(rf"^\| `{name}` \| (.*) \|$", text, flags=re.MULTILINE)
    return row


@pytest.mark.parametrize("name", JSON)
def test_json_is_one_document_with_the_documented_keys(name, places, monkeypatch, capsys):
    words = [*name.split(), *JSON[name].format(**places).split(), "--json"]
    status, out, err = end(monkeypatch, capsys, *words)
    assert status == (3 if name == "reproduce" else 0), err
    assert out.count("\n") == 1
    answer = json.loads(out, parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))
    row = promised(name)
    if row.startswith("["):
        assert isinstance(answer, list)
        assert answer
    found = answer[0] if isinstance(answer, list) else answer
    if "model card" in row:
        assert set(found) == set(catalogue.card("pocket/vgg-focus-s0").plain())
    elif name == "versions":
        assert {"universality", "python", "torch"} <= set(found)
    else:
        outer = re.sub(r"\([^)]*\)", "", row.strip("[]") if row.startswith("[") else re.sub(r"\[[^]]*\]", "", row))
        optional = re.findall(r"`(\w+)`", outer)
        assert list(found) == optional or (name == "runs show" and set(found) == set(optional))
    assert "\x1b" not in err


def test_json_of_rates_is_the_table(small, places, monkeypatch, capsys):
    _, out, _ = end(monkeypatch, capsys, "run", small.job, "--out", small.out, "--store", small.store, "--json")
    rows = json.loads(out)["families"]
    table = small.run.families
    assert [row["tap"] for row in rows] == list(table["tap"])
    assert [row["share"] for row in rows] == list(table["share"])
    assert all(Path(file).is_file() for file in json.loads(out)["tables"].values())
    assert json.loads(out)["figures"]
    assert all(Path(file).is_file() for file in json.loads(out)["figures"])


def raising(error):
    def run(*_, **__):
        raise error

    return run


@pytest.mark.parametrize(
    ("error", "status", "sentence"),
    [
        (JobError("the job is wrong; mend it"), 1, "error: the job is wrong; mend it\n"),
        (OSError(28, "No space left on device", "data/x"), 1, "error: No space left on device: 'data/x'; check the path\n"),
        (
            UnicodeEncodeError("utf-8", "bad\udcff", 3, 4, "surrogates not allowed"), 1,
            "error: 'bad\\udcff' holds what utf-8 cannot write; if it is a path, rename it to plain characters, else set "
            "PYTHONIOENCODING=utf-8\n",
        ),
        (TasksFailedError("2 of 9 tasks failed"), 3, "error: 2 of 9 tasks failed\n"),
        (KeyboardInterrupt(), 130, INTERRUPTED + "\n"),
    ],
)  # fmt: skip
def test_status_and_last_words(error, status, sentence, monkeypatch, capsys):
    monkeypatch.setattr(execute, "run", raising(error))
    assert end(monkeypatch, capsys, "run", "job.toml") == (status, "", sentence)


def test_a_fault_of_the_package_shows_its_traceback(monkeypatch, capsys):
    monkeypatch.setattr(execute, "run", raising(ZeroDivisionError("x")))
    status, _, err = end(monkeypatch, capsys, "run", "job.toml")
    assert status == 70
    assert "Traceback" in err
    assert err.splitlines()[-1].startswith("error: this is a fault of universality")


@pytest.mark.parametrize("words", [["runn"], ["run"], ["plan", "--speed", "x"], ["run", "j", "--workers", "0"]])
def test_wrong_usage_is_status_2(words, monkeypatch, capsys):
    status, out, err = end(monkeypatch, capsys, *words)
    assert (status, out) == (2, "")
    assert "Usage:" in err


def test_damage_is_status_3(places, monkeypatch, capsys):
    (places["copy"] / "report.html").write_text("")
    status, out, _ = end(monkeypatch, capsys, "runs", "verify", places["copy"], "--json")
    assert status == 3
    assert "report.html" in json.loads(out)["problems"][0]


def started(*words, **options):
    """Start the command line as a process of its own; FORCE_COLOR is what continuous integration sets."""
    environment = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "FORCE_COLOR")}
    environment |= options.pop("env", {})
    command = [sys.executable, "-m", "universality.cli", *map(str, words)]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment, **options)


def test_a_closed_pipe_is_quiet():
    reader, writer = os.pipe()
    os.close(reader)
    process = started("cluster", "slurm", "job.toml", stdout=writer)
    os.close(writer)
    _, err = process.communicate()
    assert (process.returncode, err) == (141, "")


def test_a_reader_that_goes_after_one_line_is_quiet():
    done = subprocess.run(
        ["bash", "-c", f"{sys.executable} -m universality.cli versions | head -1; exit ${{PIPESTATUS[0]}}"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.stdout.count("\n"), done.stderr) == (1, "")
    assert done.returncode in (0, 141)


@pytest.mark.slow
def test_ctrl_c_says_what_is_kept(tmp_path, pocket_job):
    process = started("run", pocket_job, "--out", tmp_path / "r", "--store", tmp_path / "s", stdout=subprocess.PIPE)
    assert process.stderr is not None
    assert any('"extraction' in text for text in iter(process.stderr.readline, ""))
    process.send_signal(signal.SIGINT)
    out, err = process.communicate()
    *stages, last = err.splitlines()
    assert (process.returncode, out, last) == (130, "", INTERRUPTED)
    assert all(json.loads(stage)["stage"] for stage in stages)


def on_a_terminal(*words, **environment):
    """Return what a command prints on a pseudo-terminal of its own."""
    mine, theirs = pty.openpty()
    process = started(*words, stdout=theirs, env={"TERM": "xterm-256color", **environment})
    os.close(theirs)
    assert process.stderr is not None
    printed = b""
    while True:
        try:
            part = os.read(mine, 65536)
        except OSError:  # on Linux: the other end is closed
            break
        if not part:
            break
        printed += part
    process.communicate()
    os.close(mine)
    return printed.decode()


def test_colours_on_a_terminal_only():
    plain = on_a_terminal("stimuli", "list", NO_COLOR="1")
    coloured = on_a_terminal("stimuli", "list")
    assert "curves" in plain
    assert not re.search(r"\x1b\[[0-9;]*3[0-9]", plain)
    assert "\x1b[1m" in coloured
    assert "curves" in coloured
    process = started("stimuli", "list", stdout=subprocess.PIPE)
    out, _ = process.communicate()
    assert "\x1b" not in out


@pytest.mark.parametrize("environment", [{}, {"FORCE_COLOR": "1"}, {"TTY_COMPATIBLE": "1"}])
def test_progress_in_a_log_is_lines(environment, monkeypatch):
    from rich.console import Console

    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    log = io.StringIO()
    console = Console(file=log)
    with progress_on(console) as progress:
        step = Bars(console, progress).track("extraction (images)", 30)
        for _ in range(30):
            step(1)
        Bars(console, progress).say("failed: [red]x[/red]")
    stage, ended, said = log.getvalue().splitlines()
    assert json.loads(stage)["total"] == 30
    assert json.loads(ended)["done"] == 30
    assert said == "failed: [red]x[/red]"


class Screen(io.StringIO):
    def isatty(self):
        return True


def test_progress_on_a_terminal_is_a_bar_below_whole_lines(monkeypatch):
    from rich.console import Console

    monkeypatch.setenv("TERM", "xterm")
    screen = Screen()
    console = Console(file=screen, force_terminal=True, width=80)
    with progress_on(console) as progress:
        step = Bars(console, progress).track("extraction", 2)
        Bars(console, progress).say("a line")
        step(2)
    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", screen.getvalue())
    assert "2/2" in text
    assert any(line.strip() == "a line" for line in text.replace("\r", "\n").split("\n"))


class TestCompletion:
    def test_models(self, tmp_path, monkeypatch):
        monkeypatch.setenv(OWN_CARDS_VARIABLE, str(tmp_path))
        (tmp_path / "own").mkdir()
        (tmp_path / "own" / "net.toml").write_text("")
        assert set(completion.model_ids("")) == {"own/net"} | {
            f"{p.parent.name}/{p.stem}" for p in (ROOT / "model_zoo").glob("*/*.toml")
        }
        assert completion.model_ids("own/") == ["own/net"]

    def test_names(self):
        assert completion.stimulus_sets("") == sorted(STIMULI)
        assert completion.stimulus_sets("curv") == ["curve_controls", "curves"]
        assert completion.measures("") == sorted(COMPARATORS)

    def test_runs_and_their_units(self, small, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        shutil.copytree(small.out, tmp_path / "data" / "runs" / "mine")
        assert completion.run_folders("data/ru") == [str(Path("data/runs/mine"))]

        context = SimpleNamespace(params={"run_path": "data/runs/mine"})
        assert completion.units(context, "package/efficientnet_lite1") == ["package/efficientnet_lite1:blocks.2.1.bn2:"]
        context.params["run_path"] = "data/runs/none"
        assert completion.units(context, "") == []

    @pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
    def test_the_shell_is_answered_without_heavy_packages(self, shell):
        """As the installed script asks; the libraries that take seconds are not there at all."""
        code = (
            "import sys\n"
            "for name in ('torch', 'torchvision', 'timm', 'dask', 'distributed', 'matplotlib', 'zarr', 'sklearn', 'skimage'):\n"
            "    sys.modules[name] = None\n"
            "from universality.cli import main\n"
            "main()\n"
        )
        script = f"import sys; sys.argv = ['universality']\n{code}"
        asked = "universality zoo show pocket/vgg"
        environment = {
            **os.environ, "_UNIVERSALITY_COMPLETE": f"complete_{shell}", "COMP_WORDS": asked, "COMP_CWORD": "3",
            "_TYPER_COMPLETE_ARGS": asked, "_TYPER_COMPLETE_FISH_ACTION": "get-args",
        }  # fmt: skip
        done = subprocess.run(
            [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False
        )
        assert "pocket/vgg-focus-s0" in done.stdout, done.stderr
        assert "resnet" not in done.stdout


def examples():
    for param in EVERY:
        name, command = param.values
        for text in re.findall(r"Example: (.*)", command.help or ""):
            yield pytest.param(name, text.strip(), id=name.replace(" ", "-"))


@pytest.mark.parametrize(("name", "command"), EVERY)
def test_every_command_has_an_example_of_itself(name, command):
    found = re.findall(r"Example: (.*)", command.help or "")
    assert found
    assert all(text.startswith(f"universality {name}") for text in found)


@pytest.mark.parametrize(("name", "text"), list(examples()))
def test_examples_in_help_are_parsed(name, text):
    """The options exist and take these values; nothing is run."""
    import click

    words = text.partition(" > ")[0].split()[1:]
    command, context = get_command(cli.app), click.Context(click.Command("x"))
    while hasattr(command, "commands"):
        name, command, words = command.resolve_command(context, words)
    command.make_context(name, list(words))


CHEAP = (
    "versions",
    "measures",
    "schema",
    "zoo show",
    "stimuli list",
    "zoo list",
    "cluster slurm",
    "stimuli show",
    "runs list",
)


@pytest.mark.parametrize(("name", "text"), [p for p in examples() if p.values[0] in CHEAP])
def test_cheap_examples_in_help_work(name, text, monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data" / "runs").mkdir(parents=True)
    (tmp_path / "job.toml").write_text("")
    status, out, err = end(monkeypatch, capsys, *text.partition(" > ")[0].split()[1:])
    assert status == 0, err
    assert out
