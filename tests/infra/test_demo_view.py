"""The live view shows what it is given, on a terminal and without one."""

import io

from rich.console import Console

from infra.demo.view import DriftMark, Snapshot, View, dashboard, sparkline

SNAPSHOT = Snapshot(
    share=0.4,
    day=11.2,
    events=43_210,
    events_per_s=205.0,
    freshness_ms=(310.0, 880.0),
    lag=120,
    note="round running",
    version=3,
    releases=3,
    quality={"mixture": [0.1, 0.2, 0.31], "popularity": [0.05, 0.06, 0.07]},
    click_rates=(0.12, 0.08),
    drifts=[DriftMark(name="taste shift", share=0.4, state="caught"), DriftMark(name="x", share=0.8, state="to come")],
    alarms=[(11.3, "hit_rate_10:mixture")],
)


def console(*, is_terminal: bool) -> Console:
    return Console(file=io.StringIO(), force_terminal=is_terminal, width=110, height=40)


def text_of(shown: Console) -> str:
    assert isinstance(shown.file, io.StringIO)
    return shown.file.getvalue()


def test_the_dashboard_shows_every_figure() -> None:
    shown = console(is_terminal=False)
    shown.print(dashboard(SNAPSHOT))
    text = text_of(shown)
    for figure in ("43,210", "205", "310 ms, p99 880", "version 3", "12.0%", "8.0%", "+50%", "0.310", "day 11.3"):
        assert figure in text
    assert text.index("mixture  ") < text.index("popularity")


def test_an_empty_snapshot_shows_too() -> None:
    shown = console(is_terminal=False)
    shown.print(dashboard(Snapshot(share=0.0, day=0.0, events=0, events_per_s=0.0)))
    assert "fast memory" in text_of(shown)


def test_without_a_terminal_there_is_a_line_every_ten_seconds() -> None:
    moments = [100.0, 105.0, 109.9, 110.0, 119.0]
    clock = iter(moments)
    shown = console(is_terminal=False)
    with View(console=shown, clock=lambda: next(clock)) as view:
        for _ in moments:
            view.update(SNAPSHOT)
    lines = text_of(shown).splitlines()
    assert len(lines) == 2
    assert lines[0].startswith(" 40 %  day 11.2  43,210 events (205/s)")
    assert "caught taste shift" in lines[0]
    assert "\x1b" not in text_of(shown)


def test_on_a_terminal_every_update_is_drawn() -> None:
    shown = console(is_terminal=True)
    with View(console=shown) as view:
        view.update(SNAPSHOT)
        view.say("a line that stays")
    assert "43,210" in text_of(shown)
    assert "a line that stays" in text_of(shown)


def test_a_sparkline_of_zeros_is_flat_and_keeps_the_newest() -> None:
    assert sparkline([0.0, 0.0]) == "▁▁"
    assert len(sparkline([1.0] * 100)) == 24
