"""The final report as one HTML file with inline SVG: no script, no style sheet, nothing to fetch."""

from html import escape
from typing import Any

from infra.demo.plots import Band, Line, Mark, line_chart

Report = dict[str, Any]

COLOURS = {"mixture": "blue", "shared_model": "orange", "fast_memory": "green", "popularity": "grey"}
OTHER_COLOURS = ("violet", "teal", "brown", "pink")
CHARTED = ("mixture", "shared_model", "fast_memory", "popularity")  # the table has the others

HIT_RATE_WORDS = (
    "Hit rate@10 over the whole catalogue: how often the next item that somebody looked at, put into the cart or "
    "bought was among the ten ranked highest."
)

STYLE = """
:root{--ink:#1d2530;--soft:#667080;--line:#e3e7ec;--page:#fff;--panel:#f6f8fa;--blue:#1f6feb;--orange:#c2570c;
--green:#1a7f4b;--grey:#7a8594;--violet:#7a4fd0;--teal:#0f8a8a;--brown:#8a5a2b;--pink:#c23b7a;--red:#cf2f2f;--shade:#cf2f2f14}
@media(prefers-color-scheme:dark){:root{--ink:#e6eaf0;--soft:#9aa5b4;--line:#2c3440;--page:#12161c;--panel:#1a2029;
--blue:#6ea8fe;--orange:#f0a05a;--green:#56c98b;--grey:#9aa5b4;--violet:#b69cf2;--teal:#5cc8c8;--brown:#c9a06f;
--pink:#f08cb9;--red:#ff7b72;--shade:#ff7b721f}}
*{box-sizing:border-box}body{margin:0;background:var(--page);color:var(--ink);
font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
main{max-width:1040px;margin:0 auto;padding:32px 24px 64px}h1{font-size:28px;margin:0 0 4px}
h2{font-size:19px;margin:40px 0 8px}p{margin:4px 0 12px}.soft{color:var(--soft);font-size:14px}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(180px,1fr));gap:12px;margin:24px 0}
.tile{background:var(--panel);border-radius:10px;padding:14px 16px}.tile b{display:block;font-size:26px;line-height:1.2}
.tile span{color:var(--soft);font-size:14px}svg{width:100%;height:auto;display:block}
svg path{fill:none;stroke-width:2.2;stroke-linejoin:round}svg .mark{stroke:none}svg text{font-size:13px;fill:var(--ink)}
svg .axis{fill:var(--soft);font-size:12px}svg .grid{stroke:var(--line)}svg .name{font-weight:600}
svg .window{fill:var(--shade)}svg line.drift{stroke:var(--red);stroke-dasharray:3 3}
svg text.drift{fill:var(--red);font-size:12px}
table{border-collapse:collapse;width:100%;font-size:15px}
th{text-align:left;color:var(--soft);font-weight:500;font-size:14px}
th,td{padding:6px 12px 6px 0;border-bottom:1px solid var(--line);vertical-align:top}
td.n,th.n{text-align:right;font-variant-numeric:tabular-nums}.good{color:var(--green)}.bad{color:var(--red)}
.key{display:flex;gap:20px;flex-wrap:wrap;font-size:13px;color:var(--soft);margin:6px 0}.key i{font-style:normal}
.scroll{overflow-x:auto}
"""


def render_html(report: Report) -> str:
    """Write the report as a page.

    Args:
        report: As `infra.demo.report.build_report` makes it.
    """
    body = "\n".join(
        (
            "<h1>Alluvium demo</h1>",
            _opening(report),
            _tiles(report),
            "<h2>Clicks with against without learning</h2>",
            _click_words(report["click_rate"]),
            _click_chart(report),
            "<h2>Quality of every expert, scored before learning</h2>",
            f'<p class="soft">{HIT_RATE_WORDS}</p>',
            _quality_chart(report),
            _key(),
            _quality_table(report["quality"]),
            "<h2>Drift: planted against detected</h2>",
            _drift_table(report["drift"]),
            "<h2>Releases</h2>",
            _release_table(report["releases"]),
            "<h2>The run</h2>",
            _facts(report),
        )
    )
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>Alluvium demo</title>'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<style>{STYLE}</style></head>\n<body><main>\n{body}\n</main></body></html>\n"
    )


def _opening(report: Report) -> str:
    return (
        f'<p class="soft">A simulated shop, {report["simulated_days"]:.1f} days in {report["traffic_s"]:.0f} s, '
        f"seed {report['seed']}. Its visitors reacted to the rankings that the system published.</p>"
    )


def _tiles(report: Report) -> str:
    drift, test, freshness = report["drift"], report["click_rate"]["test"], report["freshness_ms"]["ranking"]
    made = sum(release["kind"] == "release" for release in report["releases"])
    lift = "-" if test is None else f"{test['lift']['value']:+.0%}"
    tiles = [
        (lift, "clicks, with against without learning"),
        (f"{drift['caught']} of {len(drift['planted'])}", "planted drifts caught"),
        (str(made), "releases" + _rollbacks(report)),
        ("-" if freshness is None else f"{freshness['p50']:,.0f} ms", "event to fresh ranking, median"),
        (f"{report['throughput_eps'] or 0:,.0f}/s", f"events, {report['events']['sent']:,} in all"),
    ]
    cells = "".join(
        f'<div class="tile"><b>{escape(figure)}</b><span>{escape(what)}</span></div>' for figure, what in tiles
    )
    return f'<div class="tiles">{cells}</div>'


def _rollbacks(report: Report) -> str:
    count = sum(release["kind"] == "rollback" for release in report["releases"])
    return f", {count} rolled back" if count else ""


def _click_words(clicks: dict[str, Any]) -> str:
    test = clicks["test"]
    if test is None:
        return "<p>Too few lists were shown to compare.</p>"
    learned, control, lift = test["learned"], test["control"], test["lift"]
    return (
        f"<p>Visitors who were shown published rankings clicked <b>{learned['value']:.2%}</b> of the places "
        f"({learned['low']:.2%} to {learned['high']:.2%}); the control group, shown the bestsellers so far, "
        f"<b>{control['value']:.2%}</b> ({control['low']:.2%} to {control['high']:.2%}): a lift of "
        f"<b>{lift['value']:+.0%}</b> ({lift['low']:+.0%} to {lift['high']:+.0%}). "
        f"A list that knew every taste would reach {clicks['best_possible']:.2%}.</p>"
        f'<p class="soft">95 % bootstrap intervals over {test["visitors"][0]:,} and {test["visitors"][1]:,} visitors; '
        "everybody's first visit is left out.</p>"
    )


def _bands(report: Report) -> list[Band]:
    return [
        Band(start=drift["day"], end=drift["window_ends_day"], label=drift["kind"].replace("_", " "))
        for drift in report["drift"]["planted"]
        if drift["planted"]
    ]


def _click_chart(report: Report) -> str:
    clicks = report["click_rate"]
    end = report["simulated_days"]
    return line_chart(
        title="Click rate over simulated time",
        lines=[
            Line(
                name="best",
                colour="grey",
                points=[(0.0, clicks["best_possible"]), (end, clicks["best_possible"])],
                is_dashed=True,
            ),
            Line(name="rankings", colour="blue", points=clicks["over_time"]["learned"]),
            Line(name="bestsellers", colour="orange", points=clicks["over_time"]["control"]),
        ],
        bands=_bands(report),
        marks=[],
        x_range=(0.0, end),
        x_label="simulated days",
    )


def _quality_chart(report: Report) -> str:
    lines = report["quality_over_time"]
    charted = [expert for expert in CHARTED if expert in lines]
    marks = [
        Mark(at=alarm["day"], colour="red", title=f"alarm: {alarm['metric']}", is_above=True)
        for drift in report["drift"]["planted"]
        for alarm in drift["alarms"]
    ]
    marks += [
        Mark(at=alarm["day"], colour="grey", title=f"{what.replace('_', ' ')}: {alarm['metric']}", is_above=True)
        for what in ("false_alarms", "opening_alarms", "gains")
        for alarm in report["drift"][what]
    ]
    marks += [
        Mark(at=release["day"], colour="blue", title=f"{release['kind']} of version {release['version']}")
        for release in report["releases"]
    ]
    return line_chart(
        title="Hit rate at 10 over simulated time",
        lines=[Line(name=expert, colour=COLOURS[expert], points=lines[expert]) for expert in charted],
        bands=_bands(report),
        marks=marks,
        x_range=(0.0, report["simulated_days"]),
        x_label="simulated days",
    )


def _key() -> str:
    return (
        '<div class="key"><i>dashed line: drift planted, shade: window in which an alarm counts</i>'
        '<i><span class="bad">&#9660;</span> alarm in a window</i><i>&#9660; other alarm</i>'
        '<i><span style="color:var(--blue)">&#9650;</span> release</i></div>'
    )


def _table(heads: list[tuple[str, bool]], rows: list[list[str]]) -> str:
    """A table; a head says whether its column holds numbers. Cells are HTML already."""
    classes = ['class="n"' if is_number else "" for _, is_number in heads]
    head = "".join(f"<th {c}>{escape(name)}</th>" for (name, _), c in zip(heads, classes, strict=True))
    body = "".join(
        "<tr>" + "".join(f"<td {c}>{cell}</td>" for cell, c in zip(row, classes, strict=True)) + "</tr>" for row in rows
    )
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _quality_table(quality: dict[str, dict[str, float]]) -> str:
    rows = [
        [escape(expert), *(f"{row[m]:.3f}" if m in row else "-" for m in ("hit_rate_10", "ndcg_10", "mrr"))]
        for expert, row in quality.items()
    ]
    return _table([("expert, whole run", False), ("hit rate@10", True), ("NDCG@10", True), ("MRR", True)], rows)


def _drift_table(drift: dict[str, Any]) -> str:
    rows = [_drift_row(planted) for planted in drift["planted"]]
    words = (
        f'<p class="soft">False alarms, outside every window: {len(drift["false_alarms"])}'
        f"{_named(drift['false_alarms'])}. At that rate a window holds one by chance with probability "
        f"{drift['chance_per_window']:.0%}. While the shop was opening, until day {drift['opening_ends_day']:.1f}, "
        f"when everybody is new and everything changes: {len(drift['opening_alarms'])} alarms"
        f"{_named(drift['opening_alarms'])}. "
        f"Alarms because quality rose: {len(drift['gains'])}. Warnings: {drift['warnings']}.</p>"
    )
    heads = [("planted", False), ("day", True), ("detected", False), ("after", False), ("first alarm", False)]
    return _table(heads, rows) + words


def _named(alarms: list[dict[str, Any]]) -> str:
    names = ", ".join(f"day {alarm['day']:.1f} {escape(alarm['metric'])}" for alarm in alarms)
    return f" ({names})" if names else ""


def _drift_row(planted: dict[str, Any]) -> list[str]:
    name = f"<b>{escape(planted['kind'].replace('_', ' '))}</b><br><span class='soft'>{escape(planted['story'])}</span>"
    day = f"{planted['day']:.1f}"
    if not planted["planted"]:
        return [name, day, "not planted", "", ""]
    if not planted["caught"]:
        return [name, day, '<span class="bad">missed</span>', "", ""]
    interactions = planted["delay_interactions"]
    after = f"{planted['delay_simulated_h']:.1f} simulated h<br>{planted['delay_wall_s']:.1f} s"
    if interactions is not None:
        after += f"<br>{interactions:,} interactions"
    more = len(planted["alarms"]) - 1
    first = escape(planted["alarms"][0]["metric"]) + (f"<br><span class='soft'>and {more} more</span>" if more else "")
    return [name, day, '<span class="good">caught</span>', after, first]


def _release_table(releases: list[dict[str, Any]]) -> str:
    heads = [
        ("day", True),
        ("what", False),
        ("version", True),
        ("parent", True),
        ("round", True),
        ("trigger to first ranking", True),
    ]
    rows = [
        [
            f"{release['day']:.1f}",
            escape(release["kind"]),
            str(release["version"]),
            "-" if release["parent"] is None else str(release["parent"]),
            f"{release['round_s']:.1f} s",
            "-" if release["trigger_to_first_ranking_s"] is None else f"{release['trigger_to_first_ranking_s']:.1f} s",
        ]
        for release in releases
    ]
    return _table(heads, rows)


def _facts(report: Report) -> str:
    rows = [[escape(name), f"{count:,}"] for name, count in report["events"].items()]
    for name, figures in report["freshness_ms"].items():
        if figures:
            rows.append(
                [f"{escape(name)} freshness, p50 and p99", f"{figures['p50']:,.0f} ms, {figures['p99']:,.0f} ms"]
            )
    rows.append(["from the command to this report", f"{report['wall_s']:.0f} s"])
    rows += [[escape(name), escape(version)] for name, version in report["versions"].items()]
    return _table([("", False), ("", True)], rows)
