"""The fast path to the tables behind Feast's views: many entities per statement, inside a transaction of the caller.

Feast's own write commits view by view and sends a statement per feature row. Here one statement writes a whole view of
thousands of entities, and none commits. Feast's public read sees exactly what its own write would have left
(`tests/contracts/test_online_store.py`).
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Generic

import psycopg
from feast.infra.online_stores.helpers import compute_table_id
from psycopg import sql

from feature_store.arrays import pack_bytes, pack_times, pack_xids
from feature_store.repo.definitions import define
from feature_store.rows import Codec, Column, State

Cursor = psycopg.Cursor[tuple[Any, ...]]


class FeatureTables(Generic[State]):
    """The tables of all views of one kind of entity.

    Args:
        project: Feast project; with the view's name it makes the table's, by Feast's own function.
        codec: What is stored in them.
    """

    def __init__(self, *, project: str, codec: Codec[State]) -> None:
        self.codec = codec
        definitions = define()
        self.names = {view: compute_table_id(project, definitions.view(view)) for view in codec.views}
        self._identifiers = {view: sql.Identifier(name) for view, name in self.names.items()}
        self._guarded = self._identifiers[codec.guarded]
        self._select = self._build_select()
        self._lock = sql.SQL(
            "SELECT entity_key, xmin FROM {} WHERE entity_key = ANY(%s) AND feature_name = {} "
            "ORDER BY entity_key FOR UPDATE"
        ).format(self._guarded, sql.Literal(codec.features_of(codec.guarded)[0]))
        self._update = self._build_update()
        self._insert = {view: self._build_insert(view, conflict=self._overwrite) for view in codec.views}
        self._insert_new = self._build_insert(codec.guarded, conflict=sql.SQL("DO NOTHING"))

    _overwrite = sql.SQL(
        "DO UPDATE SET value = EXCLUDED.value, value_text = NULL, vector_value = NULL, "
        "event_ts = EXCLUDED.event_ts, created_ts = EXCLUDED.created_ts"
    )

    def _build_select(self) -> sql.Composed:
        return sql.SQL(" UNION ALL ").join(
            sql.SQL("SELECT {}, entity_key, feature_name, value, xmin FROM {} WHERE entity_key = ANY(%s)").format(
                sql.Literal(tag), self._identifiers[view]
            )
            for tag, view in enumerate(self.codec.views)
        )

    def _given(self, view: str, *, stamped: bool) -> sql.Composed:
        """Unnest a parameter per feature into the rows (entity_key, name, value, event_ts[, stamp]) of `view`."""
        features = self.codec.features_of(view)
        columns = [sql.Identifier(f"value_{feature}") for feature in features]
        stamp = [sql.SQL("stamp")] if stamped else []
        return sql.SQL(
            "SELECT packed.entity_key, feature.name, feature.value, packed.event_ts{stamp} "
            "FROM unnest({parameters}) AS packed(entity_key, event_ts, {columns}) "
            "CROSS JOIN LATERAL (VALUES {values}) AS feature(name, value) WHERE feature.value IS NOT NULL"
        ).format(
            stamp=sql.SQL(", packed.stamp") if stamped else sql.SQL(""),
            parameters=sql.SQL(", ").join([sql.SQL("%s")] * (2 + len(features) + len(stamp))),
            columns=sql.SQL(", ").join([*columns, *stamp]),
            values=sql.SQL(", ").join(
                sql.SQL("({}, packed.{})").format(sql.Literal(feature), column)
                for feature, column in zip(features, columns, strict=True)
            ),
        )

    def _build_update(self) -> sql.Composed:
        return sql.SQL(
            "UPDATE {table} AS stored SET value = given.value, value_text = NULL, vector_value = NULL, "
            "event_ts = given.event_ts, created_ts = now() FROM ({given}) AS given "
            "WHERE stored.entity_key = given.entity_key AND stored.feature_name = given.name "
            "AND stored.xmin = given.stamp"
        ).format(table=self._guarded, given=self._given(self.codec.guarded, stamped=True))

    def _build_insert(self, view: str, *, conflict: sql.SQL) -> sql.Composed:
        return sql.SQL(
            "INSERT INTO {table} (entity_key, feature_name, value, event_ts, created_ts) "
            "SELECT given.entity_key, given.name, given.value, given.event_ts, now() FROM ({given}) AS given "
            "ON CONFLICT (entity_key, feature_name) {conflict}"
        ).format(table=self._identifiers[view], given=self._given(view, stamped=False), conflict=conflict)

    def missing(self, cursor: Cursor) -> list[str]:
        """Name the tables that do not exist."""
        names = list(self.names.values())
        rows = cursor.execute("SELECT name FROM unnest(%s::text[]) AS name WHERE to_regclass(name) IS NULL", (names,))
        return [name for (name,) in rows]

    def read(self, cursor: Cursor, entity_ids: Sequence[str]) -> dict[str, State]:
        """Read what is stored of `entity_ids`; whoever has no row gets a new state without a stamp."""
        codec = self.codec
        states: dict[str, State] = {}
        by_key: dict[bytes, State] = {}
        for entity_id in entity_ids:
            state = states[entity_id] = codec.new()
            state.key = codec.key_of(entity_id)
            by_key[state.key] = state
        if not states:
            return states
        keys = pack_bytes(list(by_key))
        views = codec.views
        order = {column: index for index, column in enumerate(codec.columns)}
        guard = codec.columns[0]
        stored: list[tuple[int, Column, State, bytes]] = []
        for tag, key, feature, value, xmin in cursor.execute(self._select, [keys] * len(views), binary=True):
            column = (views[tag], feature)
            if column not in order:
                continue  # a feature of an older or a newer version
            state = by_key[bytes(key)]
            stored.append((order[column], column, state, value))
            if column == guard:
                state.stamp = int.from_bytes(xmin, "big")
        stored.sort(key=lambda row: row[0])
        for _, column, state, value in stored:
            codec.decode(state, column, value)
        for state in states.values():
            state.flushed = state.events
        return states

    def lock(self, cursor: Cursor, keys: Iterable[bytes]) -> dict[bytes, int]:
        """Lock the stored entities among `keys` until the transaction ends, and give the stamp of each."""
        rows = cursor.execute(self._lock, (pack_bytes(list(keys)),), binary=True)
        return {bytes(key): int.from_bytes(xmin, "big") for key, xmin in rows}

    def write(
        self,
        cursor: Cursor,
        *,
        keys: Sequence[bytes],
        times_ms: Sequence[int],
        stamps: Sequence[int | None],
        values: Mapping[Column, Sequence[bytes | None]],
    ) -> bool:
        """Write every view of many entities, ordered by key so that two writers cannot deadlock.

        Args:
            cursor: Of a connection inside a transaction.
            keys: Serialized entity keys, ascending.
            times_ms: Time of the newest event of each.
            stamps: Stamp of the stored row that each was derived from; None where there was no row.
            values: Of every column, a value per entity; null leaves what is stored.

        Returns:
            Whether every stamp was the expected one. If not, roll back: some rows have been written.
        """
        guarded = [values[column] for column in self.codec.columns if column[0] == self.codec.guarded]
        old = [index for index, stamp in enumerate(stamps) if stamp is not None]
        new = [index for index, stamp in enumerate(stamps) if stamp is None]
        if old:
            columns = [pack_bytes([column[index] for index in old]) for column in guarded]
            where = (pack_bytes([keys[index] for index in old]), pack_times([times_ms[index] for index in old]))
            expected = pack_xids([stamp for stamp in stamps if stamp is not None])
            if cursor.execute(self._update, (*where, *columns, expected)).rowcount != len(guarded) * len(old):
                return False
        if new:
            columns = [pack_bytes([column[index] for index in new]) for column in guarded]
            where = (pack_bytes([keys[index] for index in new]), pack_times([times_ms[index] for index in new]))
            if cursor.execute(self._insert_new, (*where, *columns)).rowcount != len(guarded) * len(new):
                return False
        where = (pack_bytes(keys), pack_times(times_ms))
        for view in self.codec.views[1:]:
            given = [values[column] for column in self.codec.columns if column[0] == view]
            if any(value is not None for value in given[0]):
                cursor.execute(self._insert[view], (*where, *map(pack_bytes, given)))
        return True

    def delete(self, cursor: Cursor, keys: Sequence[bytes]) -> int:
        """Delete the entities from every view; gives the number of rows."""
        packed = pack_bytes(keys)
        rows = 0
        for table in self._identifiers.values():
            rows += cursor.execute(
                sql.SQL("DELETE FROM {} WHERE entity_key = ANY(%s)").format(table), (packed,)
            ).rowcount
        return rows
