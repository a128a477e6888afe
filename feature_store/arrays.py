"""Whole columns as binary Postgres arrays: one parameter instead of thousands, packed by hand in C-speed steps.

Source: PostgreSQL, src/backend/utils/adt/arrayfuncs.c, array_recv: dimensions, flags, element type, then length and
bound of each dimension; every element is its length (-1: null) and its bytes, big-endian.
"""

from collections.abc import Sequence
from struct import Struct
from typing import Any

import numpy as np
import psycopg
from psycopg.abc import Buffer
from psycopg.adapt import Dumper
from psycopg.pq import Format

_HEADER = Struct(">iiIii").pack
_LENGTH = Struct(">i").pack
_NULL = _LENGTH(-1)
_BYTEA, _XID, _TIMESTAMPTZ = 17, 28, 1184
_POSTGRES_EPOCH_MS = 946_684_800_000  # 2000-01-01


class ByteaArray(bytes):
    """A packed `bytea[]`."""

    __slots__ = ()


class XidArray(bytes):
    """A packed `xid[]`."""

    __slots__ = ()


class TimestampArray(bytes):
    """A packed `timestamptz[]`."""

    __slots__ = ()


def pack_bytes(values: Sequence[bytes | None]) -> ByteaArray:
    r"""Pack byte strings; None becomes null.

    >>> bytes(pack_bytes([b"ab", None]))[20:]
    b'\x00\x00\x00\x02ab\xff\xff\xff\xff'
    """
    parts = [_HEADER(1, int(None in values), _BYTEA, len(values), 1)] if values else [_HEADER(0, 0, _BYTEA, 0, 0)[:12]]
    for value in values:
        if value is None:
            parts.append(_NULL)
        else:
            parts.append(_LENGTH(len(value)))
            parts.append(value)
    return ByteaArray(b"".join(parts))


def pack_xids(values: Sequence[int]) -> XidArray:
    """Pack transaction ids."""
    return XidArray(_pack_fixed(np.asarray(values, np.uint32), _XID, ">u4"))


def pack_times(times_ms: Sequence[int]) -> TimestampArray:
    """Pack moments given in milliseconds since 1970."""
    return TimestampArray(
        _pack_fixed((np.asarray(times_ms, np.int64) - _POSTGRES_EPOCH_MS) * 1000, _TIMESTAMPTZ, ">i8")
    )


def _pack_fixed(values: Any, oid: int, dtype: str) -> bytes:
    if not len(values):
        return bytes(_HEADER(0, 0, oid, 0, 0)[:12])
    elements = np.empty(len(values), np.dtype([("length", ">i4"), ("value", dtype)]))
    elements["length"] = np.dtype(dtype).itemsize
    elements["value"] = values
    return bytes(_HEADER(1, 0, oid, len(values), 1)) + elements.tobytes()


class _PackedDumper(Dumper):
    format = Format.BINARY

    def dump(self, obj: Any) -> Buffer | None:
        return bytes(obj)


class _ByteaArrayDumper(_PackedDumper):
    oid = 1001


class _XidArrayDumper(_PackedDumper):
    oid = 1011


class _TimestampArrayDumper(_PackedDumper):
    oid = 1185


def register(connection: psycopg.Connection[Any]) -> None:
    """Let `connection` take the packed arrays as parameters."""
    connection.adapters.register_dumper(ByteaArray, _ByteaArrayDumper)
    connection.adapters.register_dumper(XidArray, _XidArrayDumper)
    connection.adapters.register_dumper(TimestampArray, _TimestampArrayDumper)
