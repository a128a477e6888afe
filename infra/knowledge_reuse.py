"""`alluvium knowledge reuse`: a new market's model from what the store knows, chosen by trial."""

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console

from infra.composition import knowledge_store
from infra.errors import OutputExistsError, RefusedModelError
from infra.market import read_markets
from infra.settings import Settings
from learners.knowledge.donors import find_donors, save_donors
from learners.knowledge.reuse import TrialConfig
from learners.knowledge.starting import run_from_donors


def reuse(
    events: Path, catalog: Path, out: Path, settings: Settings, *, console: Console | None = None
) -> dict[str, Any]:
    """Choose a start among the nearest entries and none, train a first round from it, and write its release.

    Args:
        events: The market's log.
        catalog: Its catalogue.
        out: The release's directory; must not exist.
        settings: All settings; Postgres is set.
        console: Where progress goes; None: nowhere.

    Returns:
        JSON-able: what was tried, what was chosen, and the release's figures.

    Raises:
        OutputExistsError: If `out` is there.
        RefusedModelError: If the gate refuses what was trained; nothing is written.
        LearnerError: If the store refuses.
    """
    if out.exists():
        raise OutputExistsError(path=out)
    markets = read_markets([events], [catalog], settings, console=console)
    (market,) = markets.rounds
    store = knowledge_store(settings)
    store.create()
    encoder, most = settings.model.text_encoder, settings.knowledge.reuse
    donors = find_donors(store, market, encoder=encoder, most=most) if most else []
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".tmp-alluvium-", dir=out.parent) as name:
        folder = Path(name)
        save_donors(folder / "donors", donors)
        (folder / "out").mkdir()
        result = run_from_donors(
            replace(market, donors=folder / "donors"), folder / "out", config=TrialConfig(donors=most)
        )
        if result.outcome != "passed" or result.candidate is None:
            reasons = result.verdict.get("reasons", ["there is nothing to learn from"])
            raise RefusedModelError(reasons=list(reasons))
        result.candidate.rename(out)
    return {
        "events": str(events),
        "catalog": str(catalog),
        "out": str(out),
        "encoder": encoder,
        "pictures": markets.pictures,
        "learned": int(market.loss_mask.sum()),
        "judged_by": len(market.newest_targets),
        "tasks": {donor.entry.entry_id: donor.entry.lineage.task for donor in donors},
        "start": result.facts["start"],
        "metrics": dict(result.metrics),
    }
