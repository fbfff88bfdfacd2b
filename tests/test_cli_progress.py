"""The time left under uneven work, and what a log gets instead of bars."""

import io
import json
import random
import re

import pytest
from rich.console import Console
from rich.progress import Progress

from universality.cli.progress import MOST_SAMPLES, Bars, Pace, TimeLeft, clock_time, progress_on


class Clock:
    """A clock that is set by hand."""

    now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def walk(clock, pace, steps):
    """Do steps of (count, seconds); yield the time that was left, and the truth, after each."""
    steps = list(steps)
    end = clock.now + sum(seconds for _, seconds in steps)
    for count, seconds in steps:
        clock.now += seconds
        pace.step(count)
        yield pace.left(), end - clock.now


class TestTimeLeft:
    def test_even_steps_are_known_exactly(self, clock):
        for left, truth in walk(clock, Pace(1000, clock), [(10, 2.0)] * 100):
            assert left == pytest.approx(truth)

    def test_steps_slower_than_half_a_minute(self, clock):
        """Rich's own column shows nothing here: its window of 30 s never holds two steps."""
        for left, truth in walk(clock, Pace(20, clock), [(1, 90.0)] * 20):
            assert left == pytest.approx(truth)

    def test_what_was_kept_is_forgotten(self, clock):
        """Nine tenths are skipped at the beginning: later the pace is that of the work."""
        found = list(walk(clock, Pace(1000, clock), [(900, 0.5), *[(1, 4.0)] * 100]))
        for left, truth in found[2:]:
            assert left == pytest.approx(truth, rel=0.15)

    def test_a_model_ten_times_slower(self, clock):
        found = list(walk(clock, Pace(2000, clock), [*[(10, 1.0)] * 100, *[(10, 10.0)] * 100]))
        for left, truth in found[150:-1]:
            assert 0.5 < left / truth < 2

    def test_uneven_steps_within_a_factor_of_two(self, clock):
        rng = random.Random(3)
        steps = [(rng.choice([16, 256]), rng.uniform(0.1, 20)) for _ in range(2000)]
        found = list(walk(clock, Pace(sum(count for count, _ in steps), clock), steps))
        for left, truth in found[100:-100]:
            assert 0.5 < left / truth < 2

    def test_it_grows_while_nothing_ends(self, clock):
        pace = Pace(10, clock)
        list(walk(clock, pace, [(1, 1.0)] * 5))
        before = pace.left()
        clock.now += 100
        assert pace.left() > 10 * before

    def test_nothing_is_said_before_the_first_step(self, clock):
        pace = Pace(10, clock)
        clock.now += 5
        assert pace.left() is None

    def test_it_ends_at_nothing_and_remembers_little(self, clock):
        pace = Pace(10_000, clock)
        *_, (left, _) = walk(clock, pace, [(1, 0.1)] * 10_000)
        assert left == 0
        assert len(pace._seen) <= MOST_SAMPLES

    @pytest.mark.parametrize(
        ("seconds", "text"), [(0, "0:00:00"), (59.9, "0:00:59"), (3600, "1:00:00"), (90061, "25:01:01")]
    )
    def test_clock_time(self, seconds, text):
        assert clock_time(seconds) == text

    def test_column_shows_it(self, clock):
        progress = Progress(TimeLeft(), console=Console(file=io.StringIO()))
        pace = Pace(4, clock)
        progress.add_task("stage", total=4, pace=pace)
        (task,) = progress.tasks
        assert TimeLeft().render(task).plain == "-:--:--"
        clock.now += 100
        pace.step(1)
        assert TimeLeft().render(task).plain == "0:05:00"


class Screen(io.StringIO):
    """A file that is a terminal."""

    def isatty(self):
        return True


def reporter(clock, terminal):
    text = Screen() if terminal else io.StringIO()
    console = Console(file=text, force_terminal=terminal, width=100)
    progress = Progress(TimeLeft(), console=console, disable=not terminal)
    return Bars(console, progress, clock), text


class TestLog:
    def test_a_stage_is_two_lines_of_json(self, clock):
        bars, text = reporter(clock, terminal=False)
        advance = bars.track("extraction (images)", 300)
        for _ in range(3):
            clock.now += 1.5
            advance(100)
        bars.track("comparisons [tasks]", 7)
        bars.say("a sentence")
        bars.end()
        bars.end()
        first, second, third, sentence, fourth = text.getvalue().splitlines()
        keys = ("stage", "done", "total", "seconds")
        assert [tuple(json.loads(line)[key] for key in keys) for line in (first, second, third, fourth)] == [
            ("extraction (images)", 0, 300, 0.0),
            ("extraction (images)", 300, 300, 4.5),
            ("comparisons [tasks]", 0, 7, 0.0),
            ("comparisons [tasks]", 0, 7, 0.0),
        ]
        assert sentence == "a sentence"

    def test_a_terminal_gets_bars_instead(self, clock):
        bars, text = reporter(clock, terminal=True)
        bars.track("extraction (images)", 300)(300)
        bars.end()
        assert "stage" not in text.getvalue()


def test_what_is_shown_changes_every_second_before_the_first_stage_and_in_a_step_that_lasts():
    now = [0.0]
    console = Console(file=Screen(), force_terminal=True, width=100)
    shown = progress_on(console)
    progress = Progress(*shown.columns, console=console, get_time=lambda: now[0])
    bars = Bars(console, progress, lambda: now[0])

    def seen():
        with console.capture() as captured:
            console.print(progress.get_renderable())
        return captured.get()

    bars.prepare("reading the job")
    for begin in (lambda: None, lambda: bars.track("extraction (images)", 300)):
        begin()
        texts = []
        for now[0] in (now[0] + second for second in (1.0, 1.0, 1.0)):
            texts.append(re.sub(r"\x1b\[[0-9;]*m", "", seen()))
        assert len(set(texts)) == 3, texts
    assert "reading" in texts[0] or "extraction" in texts[0]
    assert "reading" not in texts[-1]
    bars.end()
    bars.prepare("again")
    bars.end()
    assert [task.description for task in progress.tasks] == ["extraction (images)"]
