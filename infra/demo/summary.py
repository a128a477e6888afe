"""The final report as text for the terminal."""

from typing import Any

from infra.demo.clicks import LEVEL

Report = dict[str, Any]

SHOWN_ALARMS = 3


def render_text(report: Report) -> str:
    """Write the report in words and small tables, 100 columns wide.

    Args:
        report: As `infra.demo.report.build_report` makes it.
    """
    parts = [
        _opening(report),
        "DRIFT, planted against detected",
        *(_planted(drift) for drift in report["drift"]["planted"]),
        _other_alarms(report["drift"]),
        "",
        "CLICK RATE, with against without learning",
        _clicks(report["click_rate"]),
        "",
        "QUALITY, every interaction ranked before it was learned",
        _quality(report["quality"]),
        "",
        "RELEASES",
        *(_release(release) for release in report["releases"]),
        *(() if report["releases"] else ("  none",)),
        "",
        *(f"{'met' if is_met else 'NOT MET':>8}  {goal}" for goal, is_met in report["goals"].items()),
    ]
    return "\n".join(parts)


def _opening(report: Report) -> str:
    events = report["events"]
    outcomes = ", ".join(f"{count:,} {name}" for name, count in events.items() if name != "sent" and count)
    lines = [
        (
            f"{report['simulated_days']:.1f} simulated days in {report['traffic_s']:.0f} s: {events['sent']:,} events "
            f"sent ({report['throughput_eps'] or 0:,.0f}/s), {report['rankings']:,} rankings read"
        ),
    ]
    if outcomes:
        lines.append(f"the ledger: {outcomes}")
    for name, figures in report["freshness_ms"].items():
        if figures:
            lines.append(
                f"{name} freshness from broker append: p50 {figures['p50']:,.0f} ms, p99 {figures['p99']:,.0f} ms"
            )
    return "\n".join([*lines, ""])


def _planted(drift: dict[str, Any]) -> str:
    name = drift["kind"].replace("_", " ")
    head = f"  day {drift['day']:>5.1f}  {name:<15}"
    if not drift["planted"]:
        return f"{head} not planted: the traffic ended before"
    if not drift["caught"]:
        return f"{head} missed"
    interactions = drift["delay_interactions"]
    first = drift["alarms"][0]
    return (
        f"{head} caught after {drift['delay_simulated_h']:.1f} simulated h"
        + (f", {interactions:,} interactions" if interactions is not None else "")
        + f", {drift['delay_wall_s']:.1f} s: {first['metric']}"
        + (f" ({len(drift['alarms']) - 1} more)" if len(drift["alarms"]) > 1 else "")
    )


def _other_alarms(drift: dict[str, Any]) -> str:
    return (
        f"  false alarms: {len(drift['false_alarms'])}{_named(drift['false_alarms'])}, "
        f"so a window holds one by chance with probability {drift['chance_per_window']:.0%}\n"
        f"  alarms while the shop was opening, until day {drift['opening_ends_day']:.1f}: "
        f"{len(drift['opening_alarms'])}{_named(drift['opening_alarms'])}\n"
        f"  alarms because quality rose: {len(drift['gains'])}; warnings: {drift['warnings']}"
    )


def _named(alarms: list[dict[str, Any]]) -> str:
    if not alarms:
        return ""
    names = [f"day {alarm['day']:.1f} {alarm['metric']}" for alarm in alarms[:SHOWN_ALARMS]]
    return f" ({', '.join(names)}{', ...' if len(alarms) > SHOWN_ALARMS else ''})"


def _clicks(clicks: dict[str, Any]) -> str:
    test = clicks["test"]
    if test is None:
        return "  too few lists were shown to compare"
    rows = [
        ("published rankings", test["learned"], test["visitors"][0], test["shown"][0]),
        ("bestsellers (control)", test["control"], test["visitors"][1], test["shown"][1]),
    ]
    lines = [
        f"  {name:<22} {rate['value']:6.2%}  [{rate['low']:.2%}, {rate['high']:.2%}]  "
        f"{visitors:,} visitors, {shown:,} places shown"
        for name, rate, visitors, shown in rows
    ]
    lift = test["lift"]
    lines.append(
        f"  {'lift':<22} {lift['value']:+6.0%}  [{lift['low']:+.0%}, {lift['high']:+.0%}]  "
        f"{LEVEL:.0%} bootstrap over visitors, first visits left out"
    )
    lines.append(f"  {'best possible':<22} {clicks['best_possible']:6.2%}  a list that knows every taste")
    if clicks["clicks_by_reason"]:
        reasons = ", ".join(f"{reason} {count:,}" for reason, count in clicks["clicks_by_reason"].items())
        lines.append(f"  clicks by reason: {reasons}")
    return "\n".join(lines)


def _quality(quality: dict[str, dict[str, float]]) -> str:
    if not quality:
        return "  nothing was measured"
    lines = [f"  {'expert':<22} {'hit rate@10':>11} {'NDCG@10':>8} {'MRR':>8}"]
    for expert, row in quality.items():
        figures = [
            f"{row[metric]:{width}.3f}" if metric in row else " " * (width - 1) + "-" for metric, width in _WIDTHS
        ]
        lines.append(f"  {expert:<22} {' '.join(figures)}")
    return "\n".join(lines)


_WIDTHS = (("hit_rate_10", 11), ("ndcg_10", 8), ("mrr", 8))


def _release(release: dict[str, Any]) -> str:
    swap_s = release["trigger_to_first_ranking_s"]
    return (
        f"  day {release['day']:>5.1f}  {release['kind']} of version {release['version']}, "
        f"parent {release['parent'] if release['parent'] is not None else '-'}, round {release['round_s']:.1f} s"
        + (f", first ranking by it {swap_s:.1f} s after its trigger" if swap_s is not None else "")
    )
