"""`alluvium knowledge share`: one model of several, from entries, archives and release directories."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from infra.composition import knowledge_store
from infra.errors import OutputExistsError, UsageError
from infra.market import read_markets
from infra.settings import Settings
from learners.knowledge.archive import import_archive
from learners.knowledge.contents import OF_THE_CATALOGUE, KeyedVectors, decode_tensors, decode_vectors
from learners.knowledge.donors import Donor, donor_of, newest_of_lines
from learners.knowledge.entry import Entry
from learners.knowledge.keys import TrustedKey
from learners.knowledge.layouts import layout_of, seen_as
from learners.knowledge.methods import Sharing, ndcg_at, share
from learners.knowledge.reuse import seated
from learners.knowledge.sharing import Member
from learners.knowledge.store import KnowledgeStore, Match
from learners.releases.release import MANIFEST, load_kept, load_release, save_candidate
from learners.rounds.material import RoundInput
from learners.strategies.anchors import FISHER


@dataclass(frozen=True, slots=True)
class Source:
    """A model that is to be fused, as it was named.

    Args:
        name: What a table calls it.
        trunk: Its parameters, but those of items.
        items: Vectors of the items that it knows; None if it brings none.
        fisher: Diagonal of its Fisher information; empty if nobody kept it.
        entry_ids: The entries that it is made of; none of a directory.
    """

    name: str
    trunk: dict[str, torch.Tensor]
    items: KeyedVectors | None
    fisher: dict[str, torch.Tensor]
    entry_ids: tuple[str, ...] = ()

    def member(self, shop: RoundInput) -> Member:
        """Return it in a catalogue, told of items what it was always told of.

        Raises:
            UnfitDonorError: If it is of another shape than the settings' model, but for pictures and attributes.
        """
        release = seated(self.trunk, self.items, seen_as(layout_of(self.trunk), shop), entry_id=self.name)
        known = set() if self.items is None else set(self.items.keys)
        return Member(release, self.fisher, torch.tensor([item_id in known for item_id in shop.item_ids]))


def share_models(
    models: Sequence[str],
    *,
    events: Sequence[Path],
    catalogs: Sequence[Path],
    method: str,
    out: Path,
    settings: Settings,
    trusted: Sequence[TrustedKey] = (),
    console: Console | None = None,
) -> dict[str, Any]:
    """Fuse models, choose weights on the older half of each log's newest events, and measure on the newer half.

    Args:
        models: Entries (ids, or beginnings of them), archives (files) or release directories.
        events: Logs, one of each shop that is to be served; the distillation trains on their older events.
        catalogs: Their catalogues.
        method: A name of `learners.knowledge.methods.METHODS`.
        out: The release's directory; must not exist.
        settings: All settings; Postgres is set unless all models are directories.
        trusted: Keys whose archives are believed.
        console: Where progress goes; None: nowhere.

    Returns:
        JSON-able: figures of every model and of the fused one at every shop, what each is told of items, what
        validation chose, and what became of pictures.

    Raises:
        OutputExistsError: If `out` is there.
        UsageError: If a model is none of these.
        LearnerError: If an entry, archive or release is damaged or refused, or models do not agree.
    """
    if out.exists():
        raise OutputExistsError(path=out)
    sources = [source for model in models for source in sources_of(model, settings, trusted)]
    markets = read_markets(events, catalogs, settings, console=console)
    shops = markets.rounds
    choose, judge = [_window(shop, newer=False) for shop in shops], [_window(shop, newer=True) for shop in shops]
    members = [source.member(shops[0]) for source in sources]
    alone = {source.name: ndcg_at(member.release, judge) for source, member in zip(sources, members, strict=True)}
    shared = share(method, Sharing(members=members, inputs=choose))
    release = shared.release
    parents = sorted({entry_id for source in sources for entry_id in source.entry_ids})
    facts = {"method": method, "of": [source.name for source in sources], "parents": parents, "chosen": shared.chosen}
    save_candidate(
        out,
        model=release.model,
        item_matrix=torch.from_numpy(release.item_matrix),
        item_ids=release.item_ids,
        parent=None,
        facts={"shared": facts},
    )
    return {
        **facts,
        "out": str(out),
        "events": [str(path) for path in events],
        "pictures": markets.pictures,
        "layouts": {
            source.name: dict(member.layout._asdict()) for source, member in zip(sources, members, strict=True)
        },
        "chosen_on": [len(shop.newest_targets) for shop in choose],
        "judged_by": [len(shop.newest_targets) for shop in judge],
        "alone": alone,
        "fused": ndcg_at(release, judge),
    }


def sources_of(model: str, settings: Settings, trusted: Sequence[TrustedKey]) -> list[Source]:
    """Return what a name names: one model, or all of an archive's.

    Raises:
        UsageError: If it is neither entry nor archive nor directory.
        LearnerError: If it is damaged or refused.
    """
    path = Path(model)
    if (path / MANIFEST).is_file():
        return [_of_directory(path)]
    if settings.postgres.url is None:
        raise UsageError(f"MODEL is {model!r}; entries and archives need a store: --postgres-url")
    store = knowledge_store(settings)
    store.create()
    if not path.is_file():
        return [_of_entry(store, store.show(model))]
    got = import_archive(store, path, trusted=trusted, max_bytes=settings.knowledge.import_max_bytes)
    trunks = [Match(entry, 0.0) for entry in (*got.added, *got.known) if entry.kind == "adapter"]
    if not trunks:
        raise UsageError(f"MODEL is {model!r}; expected an archive with at least one adapter")
    return [_of_entry(store, match.entry) for match in newest_of_lines(trunks)]


def _of_directory(path: Path) -> Source:
    release = load_release(path)
    fisher = {
        name.removeprefix(FISHER): value
        for name, value in load_kept(path).items()
        if name.startswith(FISHER) and name != FISHER + OF_THE_CATALOGUE
    }
    trunk = {name: value for name, value in release.model.state_dict().items() if name != OF_THE_CATALOGUE}
    items = KeyedVectors(tuple(release.item_ids[1:]), release.item_matrix[1:])
    return Source(str(path), trunk, items, fisher)


def _of_entry(store: KnowledgeStore, entry: Entry) -> Source:
    if entry.kind != "adapter":
        raise UsageError(f"MODEL is {entry.entry_id}, of kind {entry.kind}; expected an adapter")
    donor = donor_of(store, entry, 0.0)
    if donor.refused:
        store.verified(entry)  # says what is wrong with it
        raise UsageError(donor.refused)
    items = decode_vectors(donor.item_vectors) if donor.item_vectors else None
    fisher = _fisher_of(store, donor)
    return Source(entry.entry_id[:12], decode_tensors(donor.trunk), items, fisher, donor.parents)


def _fisher_of(store: KnowledgeStore, donor: Donor) -> dict[str, torch.Tensor]:
    lineage = donor.entry.lineage
    for entry in store.entries(kind="fisher", task=lineage.task):
        if (entry.lineage.model, entry.lineage.model_version, entry.lineage.notes.get("round")) == (
            lineage.model,
            lineage.model_version,
            lineage.notes.get("round"),
        ):
            return decode_tensors(store.verified(entry))
    return {}


def _window(shop: RoundInput, *, newer: bool) -> RoundInput:
    """Return the round with one half of its newest window."""
    half = len(shop.newest_targets) // 2
    part = slice(half, None) if newer else slice(0, half)
    return replace(shop, newest_histories=shop.newest_histories[part], newest_targets=shop.newest_targets[part])
