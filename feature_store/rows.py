"""Between states and what Feast stores: serialized entity keys, and one serialized `Value` per feature.

Keys and values are made by Feast's own functions and protobuf classes. Two shortcuts: a list of doubles of fixed
length always begins with the same bytes, and so do the keys of one join key; they are taken once from what Feast
serialized.
"""

from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from math import isfinite
from sys import intern
from typing import Any, Generic, Literal, Protocol, TypeVar

from feast.infra.key_encoding_utils import serialize_entity_key
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import DoubleList, StringList, Value

from feature_store import decay, items, users
from feature_store.connection import ENTITY_KEY_VERSION
from feature_store.errors import FeatureStoreError
from feature_store.items import ItemState
from feature_store.repo.definitions import (
    ITEM_ACTIVITY,
    ITEM_ID,
    USER_ACTIVITY,
    USER_AFFINITY,
    USER_HISTORY,
    USER_ID,
)
from feature_store.users import UserState

Column = tuple[str, str]  # view, feature
Kind = Literal["doubles", "integers", "strings"]
Snapshot = tuple[bytes | list[str] | None, ...]


class Described(Protocol):
    """What the features need of an interaction; `streams.events.Interaction` has it."""

    @property
    def user_id(self) -> str: ...
    @property
    def item_id(self) -> str: ...
    @property
    def event_type(self) -> str: ...
    @property
    def event_time_ms(self) -> int: ...


class AnyState(Protocol):
    """What the write path needs of a state."""

    key: bytes
    stamp: int | None
    flushed: int

    @property
    def events(self) -> int: ...
    @property
    def last_event_ms(self) -> int: ...


State = TypeVar("State", bound=AnyState)


class UnknownLayoutError(FeatureStoreError, ValueError):
    """A stored array has another length than this version writes."""

    def __init__(self, *, column: Column, found: int, expected: int) -> None:
        super().__init__(
            f"{column[0]}.{column[1]} holds {found} values, expected {expected}: written by another version?"
        )


@dataclass(frozen=True, kw_only=True)
class Codec(Generic[State]):
    """How one kind of entity is stored.

    Attributes:
        join_key: Feast's join key.
        guarded: The view whose rows carry the stamp; it is written whenever anything of the entity is.
        columns: Every feature of every view, the guarded view's first.
        new: Makes the state of someone never seen.
        encode: Gives one serialized value per column; None where there is nothing to store.
        decode: Puts one stored value into a state.
        kinds: What the array of each column holds.
        snapshot: Copies a state's arrays, cheaply, one per column: numbers as bytes, strings as a list, None where
            there are none.
    """

    join_key: str
    guarded: str
    columns: tuple[Column, ...]
    new: Callable[[], State]
    encode: Callable[[State], tuple[bytes | None, ...]]
    decode: Callable[[State, Column, bytes], None]
    kinds: tuple[Kind, ...]
    snapshot: Callable[[State], Snapshot]

    def key_of(self, entity_id: str) -> bytes:
        r"""Serialize an entity key as Feast does.

        >>> user_codec().key_of("u1")
        b'\x01\x00\x00\x00\x02\x00\x00\x00\x07\x00\x00\x00user_id\x02\x00\x00\x00\x02\x00\x00\x00u1'
        """
        encoded = entity_id.encode()
        return _key_head(self.join_key) + len(encoded).to_bytes(4, "little") + encoded

    def features_of(self, view: str) -> list[str]:
        """Name the features of `view`, in the order of `columns`."""
        return [feature for name, feature in self.columns if name == view]

    @property
    def views(self) -> list[str]:
        """Every view once, the guarded one first."""
        return list(dict.fromkeys(view for view, _ in self.columns))


@cache
def _key_head(join_key: str) -> bytes:
    """Give the bytes that every key of `join_key` begins with, from one that Feast serialized: twenty times as fast."""
    proto = EntityKey(join_keys=[join_key], entity_values=[Value(string_val="?")])
    sample = bytes(serialize_entity_key(proto, entity_key_serialization_version=ENTITY_KEY_VERSION))
    return sample[: -len(b"\1\0\0\0?")]


_COUNTERS_SAMPLE: bytes = Value(double_list_val=DoubleList(val=[1.0] * decay.SIZE)).SerializeToString()
_COUNTERS_HEAD = _COUNTERS_SAMPLE[: -8 * decay.SIZE]


def _integers(values: Sequence[int]) -> bytes:
    value = Value()
    value.int64_list_val.val.extend(values)  # a third faster than to build an Int64List and copy it in
    return bytes(value.SerializeToString())


def _encode_user(state: UserState) -> tuple[bytes | None, ...]:
    strings = Value()
    strings.string_list_val.val.extend(state.items)
    names = weights = None
    if state.affinity:
        names = Value(string_list_val=StringList(val=state.affinity)).SerializeToString()
        weights = Value(
            double_list_val=DoubleList(val=[number for entry in state.affinity.values() for number in entry])
        ).SerializeToString()
    return (
        _COUNTERS_HEAD + state.decayed.tobytes(),
        _integers(state.counts),
        strings.SerializeToString() if state.items else None,
        _integers(state.moments) if state.items else None,
        names,
        weights,
    )


def _encode_item(state: ItemState) -> tuple[bytes | None, ...]:
    return _COUNTERS_HEAD + state.decayed.tobytes(), _integers(state.counts)


def _snapshot_user(state: UserState) -> Snapshot:
    affinity = state.affinity or None
    return (
        state.decayed.tobytes(),
        state.counts.tobytes(),
        state.items[:] or None,
        state.moments.tobytes() or None,
        affinity and list(affinity),
        affinity and array("d", [number for entry in affinity.values() for number in entry]).tobytes(),
    )


def _snapshot_item(state: ItemState) -> Snapshot:
    return state.decayed.tobytes(), state.counts.tobytes()


def _checked(values: Any, *, column: Column, expected: int) -> Any:
    if len(values) != expected:
        raise UnknownLayoutError(column=column, found=len(values), expected=expected)
    return values


def _decode_counters(state: UserState | ItemState, column: Column, value: Value, counts: int) -> None:
    if column[1] == "decayed":
        state.decayed = array("d", _checked(value.double_list_val.val, column=column, expected=decay.SIZE))
        if not isfinite(sum(state.decayed)):
            decay.mend(state.decayed)
    else:
        state.counts = array("q", _checked(value.int64_list_val.val, column=column, expected=counts))


def _decode_user(state: UserState, column: Column, stored: bytes) -> None:
    value = Value.FromString(stored)
    if value.WhichOneof("val") in {None, "null_val"}:
        return  # someone wrote a null through Feast's public path: nothing is known
    view, feature = column
    if view == USER_ACTIVITY:
        _decode_counters(state, column, value, users.COUNTS)
    elif feature == "items":
        state.items = [intern(item_id) for item_id in value.string_list_val.val]
    elif feature == "moments":
        state.moments = array("q", value.int64_list_val.val)
    elif feature == "names":
        state.affinity = {name: [0.0, 0.0] for name in value.string_list_val.val} | (state.affinity or {})
    else:
        _decode_weights(state, list(value.double_list_val.val))


def _decode_item(state: ItemState, column: Column, stored: bytes) -> None:
    value = Value.FromString(stored)
    if value.WhichOneof("val") not in {None, "null_val"}:
        _decode_counters(state, column, value, items.COUNTS)


def _decode_weights(state: UserState, weights: list[float]) -> None:
    """Fill in the weights; `names` comes first, since rows are read in the order of the columns."""
    for index, entry in enumerate((state.affinity or {}).values()):
        entry[:] = weights[2 * index : 2 * index + 2]


def user_codec(*, history_length: int = 50) -> Codec[UserState]:
    """Give the codec of people."""
    return Codec(
        join_key=USER_ID,
        guarded=USER_ACTIVITY,
        columns=(
            (USER_ACTIVITY, "decayed"),
            (USER_ACTIVITY, "counts"),
            (USER_HISTORY, "items"),
            (USER_HISTORY, "moments"),
            (USER_AFFINITY, "names"),
            (USER_AFFINITY, "weights"),
        ),
        new=lambda: UserState(history_length=history_length),
        encode=_encode_user,
        decode=_decode_user,
        kinds=("doubles", "integers", "strings", "integers", "strings", "doubles"),
        snapshot=_snapshot_user,
    )


def item_codec() -> Codec[ItemState]:
    """Give the codec of items."""
    return Codec(
        join_key=ITEM_ID,
        guarded=ITEM_ACTIVITY,
        columns=((ITEM_ACTIVITY, "decayed"), (ITEM_ACTIVITY, "counts")),
        new=ItemState,
        encode=_encode_item,
        decode=_decode_item,
        kinds=("doubles", "integers"),
        snapshot=_snapshot_item,
    )
