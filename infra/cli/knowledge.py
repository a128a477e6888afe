"""`alluvium knowledge`: what was learned and kept: compare, reuse, fuse, send signed, keep within bounds."""

import json
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from infra.cli import knowledge_graph, knowledge_models, options
from infra.errors import SettingsError, UsageError
from infra.settings import Settings

if TYPE_CHECKING:
    from learners.knowledge.entry import Entry
    from learners.knowledge.store import KnowledgeStore

app = typer.Typer(
    help="Knowledge that outlives models: list, show, compare, export, import, reuse, share, privatize, collect, ask.",
    no_args_is_help=True,
)

app.command("reuse")(knowledge_models.reuse)
app.command("share")(knowledge_models.share)
app.command("privatize")(knowledge_models.privatize)
app.command("graph")(knowledge_graph.graph)
app.command("suggest")(knowledge_graph.suggest)

LABELS_DECIDE, PRIVATE_ONLY = "labels", "dp"
ID_SHOWN = 12  # characters of an id: enough to tell entries apart, and accepted wherever an id is
EntryId = Annotated[str, typer.Argument(metavar="ID", help="An entry's id, or the beginning of it.")]
Kind = Annotated[str | None, typer.Option("--kind", help="Only entries of this kind.")]
Task = Annotated[str | None, typer.Option("--task", help="Only entries of this task.")]


@app.command("list")
def list_entries(
    *,
    kind: Kind = None,
    task: Task = None,
    like: Annotated[
        str | None, typer.Option("--like", metavar="ID", help="Those whose tasks are most like this entry's.")
    ] = None,
    postgres_url: options.PostgresUrl = None,
    data_dir: options.DataDir = None,
) -> None:
    """List entries, oldest first."""
    store = _store(options.read(postgres_url=postgres_url, data_dir=data_dir))
    if like is None:
        found = [(entry, "") for entry in store.entries(kind=_kind(kind), task=task)]
    else:
        asked = store.show(like)
        if not asked.embedding:
            raise UsageError(f"--like is {like!r}; expected an entry with a task vector")
        matches = store.nearest(asked.embedding, k=20, kind=_kind(kind))
        found = [
            (match.entry, f"{match.similarity:.3f}") for match in matches if task in (None, match.entry.lineage.task)
        ]
    table = Table("id", "kind", "task", "version", "worth", "privacy", "bytes", "created", *(["like"] if like else []))
    for entry, similarity in found:
        table.add_row(*_cells(entry), *([similarity] if like else []))
    Console().print(table)


@app.command("show")
def show(entry_id: EntryId, *, postgres_url: options.PostgresUrl = None, data_dir: options.DataDir = None) -> None:
    """Print all that is known of an entry, as JSON, and prove its artifact."""
    store = _store(options.read(postgres_url=postgres_url, data_dir=data_dir))
    entry = store.show(entry_id)
    store.verified(entry)
    typer.echo(json.dumps(entry.as_dict(), indent=2))


@app.command("diff")
def diff(
    first: EntryId,
    second: EntryId,
    *,
    postgres_url: options.PostgresUrl = None,
    data_dir: options.DataDir = None,
) -> None:
    """Say what changed from one entry to another: fields, and how far each tensor or vector moved."""
    from learners.knowledge.difference import difference

    found = difference(_store(options.read(postgres_url=postgres_url, data_dir=data_dir)), first, second)
    fields = Table("field", first[:ID_SHOWN], second[:ID_SHOWN])
    for name, (one, other) in found.fields.items():
        fields.add_row(name, _text(one), _text(other))
    Console().print(fields)
    if found.tensors:
        moved = Table("tensor", "shape", "moved by (L2)", "relative")
        for change in sorted(found.tensors, key=lambda one: -(one.relative or 0.0))[:40]:
            moved.add_row(change.name, change.detail, _number(change.distance), _number(change.relative))
        Console().print(moved)
    alike = "" if found.alike is None else f"; tasks alike by {found.alike:.3f}"
    typer.echo(
        f"{found.common} in common, only the first: {_names(found.only_first)}, "
        f"only the second: {_names(found.only_second)}{alike}"
    )


@app.command("export")
def export(
    archive: Annotated[Path, typer.Argument(metavar="ARCHIVE", help="The file to write.")],
    entry_ids: Annotated[
        list[str] | None, typer.Argument(metavar="[ID]...", help="Entries; without: all that may leave.")
    ] = None,
    *,
    kind: Kind = None,
    task: Task = None,
    shop: Annotated[bool, typer.Option("--shop", help="Let entries labelled shop leave, too.")] = False,
    privacy: Annotated[
        str, typer.Option("--privacy", help="labels, or dp: only what was learned with differential privacy, too.")
    ] = LABELS_DECIDE,
    max_epsilon: Annotated[
        float, typer.Option("--max-epsilon", min=0, help="With dp: most epsilon of all entries together.")
    ] = 8.0,
    key: Annotated[Path | None, typer.Option("--key", metavar="PEM", help="Private key that signs.")] = None,
    postgres_url: options.PostgresUrl = None,
    data_dir: options.DataDir = None,
) -> None:
    """Write entries into one signed archive. Personal ones never leave.

    With `--privacy dp`, an entry without epsilon, or whose epsilon brings the sum above the bound, is refused.
    """
    if privacy not in (LABELS_DECIDE, PRIVATE_ONLY):
        raise UsageError(f"--privacy is {privacy!r}; expected {LABELS_DECIDE} or {PRIVATE_ONLY}")
    from learners.knowledge.archive import export_archive
    from learners.knowledge.keys import load_signing_key
    from learners.knowledge.privacy_notes import epsilon_of

    settings = options.read(
        postgres_url=postgres_url, data_dir=data_dir, knowledge={"signing_key": None if key is None else str(key)}
    )
    if settings.knowledge.signing_key is None:
        raise _missing("SIGNING_KEY", "--key")
    signing_key = load_signing_key(settings.knowledge.signing_key)
    store, left = _store(settings), 0
    chosen = list(entry_ids or ())
    if not chosen:
        labels = {"public", "shop"} if shop else {"public"}
        entries = store.entries(kind=_kind(kind), task=task)
        free = [entry for entry in entries if entry.privacy in labels]
        if privacy == PRIVATE_ONLY:
            free = [entry for entry in free if epsilon_of(entry.lineage.notes) is not None]
        chosen = [entry.entry_id for entry in free]
        left = len(entries) - len(chosen)
    if not chosen:
        why = "privacy label" if privacy == LABELS_DECIDE else "privacy label, or because they state no epsilon"
        raise UsageError(f"nothing to export: {left} entries stay because of their {why}")
    bound = max_epsilon if privacy == PRIVATE_ONLY else None
    sent = export_archive(store, archive, entry_ids=chosen, key=signing_key, shop=shop, max_epsilon=bound)
    stayed = f"; {left} stayed because of their privacy label" if left else ""
    typer.echo(f"{len(sent)} entries in {archive}, signed by {signing_key.fingerprint}{stayed}")
    if bound is not None:
        notes = [entry.lineage.notes for entry in sent]
        total, delta = (sum(float(each[name]) for each in notes) for name in ("epsilon", "delta"))
        typer.echo(f"differential privacy of it all: epsilon {total:g}, delta {delta:g}, unit person")


@app.command("import")
def import_(
    archive: Annotated[Path, typer.Argument(metavar="ARCHIVE", help="The file to read.")],
    *,
    trusted: Annotated[
        Path | None, typer.Option("--trusted", metavar="PEM", help="Public key to believe, or a folder of *.pem.")
    ] = None,
    postgres_url: options.PostgresUrl = None,
    data_dir: options.DataDir = None,
) -> None:
    """Take in an archive, all of it or nothing."""
    from learners.knowledge.archive import import_archive
    from learners.knowledge.keys import load_trusted_keys

    settings = options.read(
        postgres_url=postgres_url,
        data_dir=data_dir,
        knowledge={"trusted_keys": None if trusted is None else str(trusted)},
    )
    if settings.knowledge.trusted_keys is None:
        raise _missing("TRUSTED_KEYS", "--trusted")
    got = import_archive(
        _store(settings),
        archive,
        trusted=load_trusted_keys(settings.knowledge.trusted_keys),
        max_bytes=settings.knowledge.import_max_bytes,
    )
    typer.echo(f"{len(got.added)} entries added, {len(got.known)} known already; signed by {got.signed_by}")


@app.command("gc")
def collect_garbage(
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
    max_bytes: Annotated[int | None, typer.Option("--max-bytes", help="Most bytes of artifacts.", min=0)] = None,
    max_age_days: Annotated[
        float | None, typer.Option("--max-age-days", help="What is older goes even where there is room.", min=0)
    ] = None,
    hold_parents: Annotated[
        bool, typer.Option("--hold-parents", help="Parents of living entries stay, whatever that takes.")
    ] = False,
    postgres_url: options.PostgresUrl = None,
    data_dir: options.DataDir = None,
) -> None:
    """Let go of what is worth least until the rest fits, and sweep what killed writers left."""
    settings = options.read(postgres_url=postgres_url, data_dir=data_dir)
    from infra.composition import collection_config
    from learners.knowledge.collection import collect

    config = collection_config(settings, max_bytes=max_bytes, max_age_days=max_age_days)
    config = replace(config, hold_parents=hold_parents)
    done = collect(_store(settings), config, serving=_serving(settings), dry_run=dry_run)
    table = Table("id", "kind", "task", "version", "worth", "privacy", "bytes", "created", "outcome")
    for entry in done.removed:
        table.add_row(*_cells(entry), "would go" if dry_run else "removed")
    if done.removed:
        Console().print(table)
    for entry_id, child in done.bereaved.items():
        typer.echo(
            f"{'would go' if dry_run else 'removed'} although parent of {child[:ID_SHOWN]}: {entry_id[:ID_SHOWN]}"
        )
    for entry_id, reason in done.held.items():
        typer.echo(f"held: {entry_id[:ID_SHOWN]} {reason}")
    for name, size in done.swept:
        typer.echo(f"swept: {name} ({size} bytes), which no entry names")
    above = f", {done.over_bytes} above the bound" if done.over_bytes else ""
    typer.echo(f"{done.bytes_before} bytes before, {done.bytes_after} after, bound {config.max_bytes}{above}")


def _store(settings: Settings) -> "KnowledgeStore":
    from infra.composition import knowledge_store

    options.required_postgres(settings)
    store = knowledge_store(settings)
    store.create()
    return store


def _serving(settings: Settings) -> Callable[["Entry"], str | None]:
    """What the current release and the one that it can be rolled back to were made of stays."""
    from learners.releases.registry import Registry

    registry = Registry(postgres_url=options.required_postgres(settings), root=settings.data_dir / options.MODELS_DIR)
    registry.create()
    current = registry.current()
    versions = set() if current is None else {current.version, current.parent}

    def reason(entry: "Entry") -> str | None:
        lineage = entry.lineage
        if lineage.model != registry.model or lineage.model_version is None or lineage.model_version not in versions:
            return None
        return f"used by release {lineage.model_version}"

    return reason


def _kind(kind: str | None) -> Any:
    """The kind that was asked for.

    Raises:
        UsageError: If there is no such kind.
    """
    from learners.knowledge.entry import KINDS

    if kind is not None and kind not in KINDS:
        raise UsageError(f"--kind is {kind!r}; expected one of {', '.join(KINDS)}")
    return kind


def _missing(name: str, option: str) -> SettingsError:
    return SettingsError(f"ALLUVIUM_KNOWLEDGE__{name} is missing; expected a PEM file, or {option}")


def _cells(entry: "Entry") -> tuple[str, ...]:
    lineage = entry.lineage
    return (
        entry.entry_id[:ID_SHOWN],
        entry.kind,
        lineage.task,
        "-" if lineage.model_version is None else str(lineage.model_version),
        _worth(entry),
        entry.privacy,
        f"{entry.size_bytes:,}",
        datetime.fromtimestamp(entry.created_at_ms / 1000, tz=UTC).isoformat(timespec="seconds"),
    )


def _worth(entry: "Entry") -> str:
    shown = [(name, value) for name, value in entry.worth.items() if name.endswith("ndcg_10")] or [*entry.worth.items()]
    return f"{shown[0][0]} {shown[0][1]:.4f}" if shown else "-"


def _text(value: Any) -> str:
    return "-" if value is None else str(value)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


def _names(names: Iterable[str]) -> str:
    shown = list(names)
    return ", ".join(shown[:5]) + (f" and {len(shown) - 5} more" if len(shown) > 5 else "") if shown else "nothing"
