"""Every round in Postgres, whatever came of it, with all of the gate's evidence: what reports and people read."""

from typing import Any, Literal

import msgspec
import psycopg
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from streams.learning.errors import DatabaseUnavailableError
from streams.learning.position import PendingRound

Outcome = Literal["running", "passed", "refused", "empty", "failed"]

_TABLE = """
CREATE TABLE IF NOT EXISTS learner_rounds (
    key             text PRIMARY KEY,
    number          integer NOT NULL,
    trigger         jsonb NOT NULL,
    interactions    bigint NOT NULL,
    triggered_at_ms bigint NOT NULL,
    outcome         text NOT NULL,
    version         integer,
    verdict         jsonb,
    training        jsonb,
    error           text,
    finished_at_ms  bigint
)
"""
_UPSERT = """
INSERT INTO learner_rounds (key, number, trigger, interactions, triggered_at_ms, outcome, version, verdict, training,
                            error, finished_at_ms)
VALUES (%(key)s, %(number)s, %(trigger)s, %(interactions)s, %(triggered_at_ms)s, %(outcome)s, %(version)s, %(verdict)s,
        %(training)s, %(error)s, %(finished_at_ms)s)
ON CONFLICT (key) DO UPDATE SET outcome = excluded.outcome, version = excluded.version, verdict = excluded.verdict,
    training = excluded.training, error = excluded.error, finished_at_ms = excluded.finished_at_ms
"""


class RoundRecords:
    """The table of rounds. All calls block: make them from one dedicated thread.

    Args:
        postgres_url: The deployment's database; the table is made if need be.
    """

    def __init__(self, postgres_url: str) -> None:
        self._postgres_url = postgres_url

    def prepare(self) -> None:
        """Make the table.

        Raises:
            DatabaseUnavailableError: If Postgres does not answer; of every method here.
        """
        self._execute(_TABLE)

    def note(
        self,
        pending: PendingRound,
        outcome: Outcome,
        *,
        version: int | None = None,
        verdict: Any = None,
        training: Any = None,
        error: str | None = None,
        finished_at_ms: int | None = None,
    ) -> None:
        """Write what is known of a round; the same round again replaces what was known."""
        row = {
            "key": pending.key,
            "number": pending.number,
            "interactions": pending.interactions,
            "triggered_at_ms": pending.triggered_at_ms,
            "outcome": outcome,
            "trigger": _json(pending.trigger),
            "version": version,
            "verdict": _json(verdict),
            "training": _json(training),
            "error": error,
            "finished_at_ms": finished_at_ms,
        }
        self._execute(_UPSERT, row)

    def _execute(self, statement: str, row: dict[str, Any] | None = None) -> None:
        try:
            with psycopg.connect(self._postgres_url, connect_timeout=10) as connection:
                connection.execute(statement, row)
        except psycopg.OperationalError as error:
            raise DatabaseUnavailableError(cause=str(error).strip()) from error


def read_rounds(postgres_url: str) -> list[dict[str, Any]]:
    """Return every round, oldest first, for reports; empty if no learner ever ran here.

    Raises:
        DatabaseUnavailableError: If Postgres does not answer.
    """
    try:
        with psycopg.connect(postgres_url, connect_timeout=10, row_factory=dict_row) as connection:
            return connection.execute("SELECT * FROM learner_rounds ORDER BY triggered_at_ms, number").fetchall()
    except psycopg.errors.UndefinedTable:
        return []
    except psycopg.OperationalError as error:
        raise DatabaseUnavailableError(cause=str(error).strip()) from error


def _json(value: Any) -> Jsonb | None:
    # msgspec writes NaN and infinity as null; Postgres would refuse them
    return None if value is None else Jsonb(value, dumps=lambda plain: msgspec.json.encode(plain).decode())
