"""`alluvium bench ingest`: events/s of the batching transport, of stock Faust and of Kafka Streams, from one run.

Decode-only reads and validates; the full pipeline is what the worker's ingest agent does (validate, deduplicate, apply
to features, publish interactions, one Postgres transaction a flush). Stock Faust calls the very same functions from its
own `take`, so that only the transport differs. The peer does less: its state is local to its job and nobody else can
read it.
"""

import argparse
import asyncio
import json
import os
import platform
import random
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import psycopg
from rich.console import Console
from rich.table import Table

from feature_store.apply import apply
from infra.embedded.kafka import EmbeddedKafka
from infra.embedded.postgres import EmbeddedPostgres
from streams.clients import KafkaConnection
from streams.publisher import Publisher
from streams.topics import CLICKSTREAM_EVENTS, all_topics

SHARED = Path(__file__).resolve().parents[2] / "shared"
PARTITIONS = 4
USERS, ITEMS = 50_000, 10_000
PEER_OUT = "peer.out"
EVENT_TYPES, WEIGHTS = ("view", "click", "cart", "purchase"), (70, 20, 7, 3)
LEADERS_S = 3.0


@dataclass(frozen=True, kw_only=True)
class Size:
    """How many events each run processes."""

    embedded: int  # all of them must fit into the embedded broker at once: 5 MiB a partition
    real: int
    stock: int
    repeats: int


FULL = Size(embedded=100_000, real=300_000, stock=60_000, repeats=3)
TOY = Size(embedded=4_000, real=4_000, stock=2_000, repeats=1)


def main(arguments: list[str] | None = None) -> None:
    """Run, print the table, write the JSON."""
    parser = argparse.ArgumentParser(prog="alluvium bench ingest", description=__doc__)
    parser.add_argument("--report", type=Path, help="write the figures as JSON")
    parser.add_argument("--toy", action="store_true", help="a few thousand events: does it still run?")
    parser.add_argument("--bootstrap-servers", help="a real broker to measure on; default: one is started if it can be")
    parser.add_argument("--embedded-only", action="store_true", help="leave the real broker and the peer out")
    options = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that brokers and databases end with us
    size = TOY if options.toy else FULL
    console = Console()
    runs: dict[str, dict[str, Any]] = {}
    with ExitStack() as stack:
        postgres = stack.enter_context(EmbeddedPostgres())
        with embedded_broker() as servers:
            runs["embedded"] = measure(servers, postgres.url, events=size.embedded, size=size, console=console)
        if not options.embedded_only:
            broker = real_broker(options.bootstrap_servers)
            if broker is None:
                console.print("no real broker: there is no kafka.sh beside the checkout; give --bootstrap-servers")
            else:
                servers = stack.enter_context(broker)
                runs["real"] = measure(servers, postgres.url, events=size.real, size=size, console=console)
                runs["real"]["kafka_streams"] = peer(servers, size.real, size.repeats, console)
    report = {"runs": runs, "ratios": ratios(runs), "size": msgspec.to_builtins(size), "machine": machine()}
    console.print(table(runs))
    for name, value in report["ratios"].items():
        console.print(f"{name}: {'not measured' if value is None else f'{value:.2f}'}")
    if options.report:
        options.report.write_text(json.dumps(report, indent=2))


def measure(servers: str, postgres_url: str, *, events: int, size: Size, console: Console) -> dict[str, Any]:
    """All four runs of ours and stock Faust on one broker; medians of the repeats."""
    asyncio.run(produce(servers, events))
    figures: dict[str, Any] = {}
    for work in ("decode", "pipeline"):
        for transport in ("batching", "stock"):
            count = events if transport == "batching" else min(size.stock, events)
            rates = [child(transport, work, servers, postgres_url, count)["events_per_s"] for _ in range(size.repeats)]
            figures[f"{work}_{transport}"] = {"events": count, "events_per_s": statistics.median(rates), "all": rates}
            console.print(f"{servers} {work} {transport}: {statistics.median(rates):,.0f} events/s")
    return figures


def child(transport: str, work: str, servers: str, postgres_url: str, events: int) -> dict[str, float]:
    """One run in a process and, for the pipeline, a database of its own."""
    with fresh_database(postgres_url) as url:
        arguments = {
            "transport": transport, "work": work, "bootstrap_servers": servers, "postgres_url": url, "events": events,
        }  # fmt: skip
        if work == "pipeline":
            apply(postgres_url=url)
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.ingest_child", json.dumps(arguments)],
            capture_output=True,
            text=True,
            timeout=900,
            check=False,
        )
    if done.returncode:
        raise RuntimeError(f"{transport} {work} ended with {done.returncode}: {done.stderr[-2_000:]}")
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result


def peer(servers: str, events: int, repeats: int, console: Console) -> dict[str, Any] | None:
    """Kafka Streams, exactly-once and at-least-once, on the same events; None where it is not there."""
    script = SHARED / "peers" / "kafka_streams" / "run.sh"
    if not script.exists():
        return None
    figures = {}
    for guarantee in ("exactly_once_v2", "at_least_once"):
        rates = []
        for _ in range(repeats):
            done = subprocess.run(
                [str(script), servers, CLICKSTREAM_EVENTS, PEER_OUT, str(events), "1", guarantee],
                capture_output=True,
                text=True,
                timeout=900,
                check=True,
            )
            if found := re.search(r"events_per_s=([\d.]+)", done.stdout):
                rates.append(float(found[1]))
        figures[guarantee] = {"events": events, "events_per_s": statistics.median(rates), "all": rates}
        console.print(f"kafka streams {guarantee}: {statistics.median(rates):,.0f} events/s")
    return figures


def ratios(runs: dict[str, Any]) -> dict[str, float | None]:
    """Ours against the others, on the real broker where there is one."""
    figures = runs.get("real", runs["embedded"])
    streams = figures.get("kafka_streams")

    def ratio(ours: str, other: dict[str, Any] | None) -> float | None:
        return None if other is None else figures[ours]["events_per_s"] / other["events_per_s"]

    return {
        "decode_vs_stock": ratio("decode_batching", figures["decode_stock"]),
        "pipeline_vs_stock": ratio("pipeline_batching", figures["pipeline_stock"]),
        "pipeline_vs_kafka_streams": ratio("pipeline_batching", streams and streams["exactly_once_v2"]),
        "pipeline_vs_kafka_streams_at_least_once": ratio("pipeline_batching", streams and streams["at_least_once"]),
        "decode_vs_stock_embedded": _of(runs["embedded"], "decode"),
        "pipeline_vs_stock_embedded": _of(runs["embedded"], "pipeline"),
    }


def _of(figures: dict[str, Any], work: str) -> float:
    ours, stock = figures[f"{work}_batching"]["events_per_s"], figures[f"{work}_stock"]["events_per_s"]
    return float(ours / stock)


def table(runs: dict[str, Any]) -> Table:
    """Events/s by broker and system."""
    page = Table(title="bench ingest: events/s, medians")
    for name in ("broker", "work", "batching transport", "stock Faust", "ratio"):
        page.add_column(name, justify="left" if name in {"broker", "work"} else "right")
    for broker, figures in runs.items():
        for work in ("decode", "pipeline"):
            ours, stock = figures[f"{work}_batching"]["events_per_s"], figures[f"{work}_stock"]["events_per_s"]
            page.add_row(broker, work, f"{ours:,.0f}", f"{stock:,.0f}", f"{ours / stock:.1f}")
        for guarantee, figure in (figures.get("kafka_streams") or {}).items():
            ours, other = figures["pipeline_batching"]["events_per_s"], figure["events_per_s"]
            page.add_row(broker, f"Kafka Streams {guarantee}", f"{ours:,.0f}", f"{other:,.0f}", f"{ours / other:.2f}")
    return page


async def produce(servers: str, events: int) -> None:
    """Heavy-tailed events of `USERS` people, keyed by user."""
    rng = random.Random(0)
    async with Publisher(connection=KafkaConnection(bootstrap_servers=servers)) as publisher:
        for start in range(0, events, 10_000):
            await publisher.send_keyed(
                CLICKSTREAM_EVENTS, [event(rng, number) for number in range(start, min(start + 10_000, events))]
            )


def event(rng: random.Random, number: int) -> tuple[bytes, bytes]:
    """One event of about 245 bytes: key, value."""
    user = f"user-{int(USERS * rng.random() ** 2)}"
    seconds, ms = divmod(number * 10, 1_000)
    minutes, seconds = divmod(seconds, 60)
    return user.encode(), msgspec.json.encode(
        {
            "schema_version": 1,
            "event_id": f"{rng.getrandbits(128):032x}",
            "user_id": user,
            "item_id": f"item-{int(ITEMS * rng.random() ** 3)}",
            "event_type": rng.choices(EVENT_TYPES, WEIGHTS)[0],
            "event_time": f"2026-01-31T{12 + minutes // 60:02d}:{minutes % 60:02d}:{seconds:02d}.{ms:03d}Z",
            "session_id": f"s-{number // 20}",
            "price": round(100 * rng.random(), 2),
            "context": {},
        }
    )


@contextmanager
def embedded_broker() -> Iterator[str]:
    """The embedded broker, with all topics."""
    broker = EmbeddedKafka(topics=all_topics(partitions=PARTITIONS)).start()
    try:
        yield broker.bootstrap_servers
    finally:
        broker.stop()


def real_broker(servers: str | None) -> Any:
    """A context with a real broker's address; None where there is none."""
    script = SHARED / "kafka" / "kafka.sh"
    if servers is None and (not script.exists() or not (shutil.which("java") or os.environ.get("JAVA_HOME"))):
        return None
    return _given(servers) if servers else _started(script)


@contextmanager
def _given(servers: str) -> Iterator[str]:
    _create_topics(servers)
    yield servers


@contextmanager
def _started(script: Path) -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="alluvium-bench-") as folder, socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = 20_000 + probe.getsockname()[1] % 10_000
        try:
            done = subprocess.run(
                [str(script), "start", folder, "--port", str(port)], capture_output=True, text=True, check=True
            )
            servers = done.stdout.split()[0]
            _create_topics(servers)
            yield servers
        finally:
            subprocess.run([str(script), "stop", folder], check=False, capture_output=True)


def _create_topics(servers: str) -> None:
    from kafka.admin import KafkaAdminClient, NewTopic  # noqa: PLC0415 - only where there is a real broker

    admin = KafkaAdminClient(bootstrap_servers=servers)
    names = all_topics(partitions=PARTITIONS) | {PEER_OUT: PARTITIONS, f"{PEER_OUT}.dlq": PARTITIONS}
    missing = [name for name in names if name not in admin.list_topics()]
    admin.create_topics([NewTopic(name, names[name], 1) for name in missing])
    admin.close()
    time.sleep(LEADERS_S)  # a topic's leaders are elected after it exists


@contextmanager
def fresh_database(postgres_url: str) -> Iterator[str]:
    """A database for one run."""
    name = f"bench_{os.getpid()}_{random.getrandbits(32)}"
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
        try:
            yield postgres_url.rsplit("/", 1)[0] + f"/{name}"
        finally:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


def machine() -> dict[str, Any]:
    """Where this was measured."""
    return {"cores": os.cpu_count(), "platform": platform.platform(), "python": platform.python_version()}


if __name__ == "__main__":
    main()
