import math
from array import array

import pytest
from feast.infra.key_encoding_utils import deserialize_entity_key
from feast.protos.feast.types.Value_pb2 import DoubleList, Int64List, StringList, Value

from feature_store import decay
from feature_store.event_types import EVENT_TYPES
from feature_store.items import ItemState
from feature_store.rows import UnknownLayoutError, item_codec, user_codec
from feature_store.users import UserState


def busy_user(*, affinity=True):
    user = UserState()
    for number in range(70):
        described = ("Shoes", "Acme") if affinity else ()
        user.apply(f"item {number}", EVENT_TYPES[number % 8], 1_700_000_000_000 + number, *described)
    return user


def through(codec, state):
    read = codec.new()
    for column, value in zip(codec.columns, codec.encode(state), strict=True):
        if value is not None:
            codec.decode(read, column, value)
    return read


@pytest.mark.parametrize("state", [busy_user(), busy_user(affinity=False), UserState()])
def test_a_user_read_back_is_the_user_written(state):
    read = through(user_codec(), state)
    for name in ("counts", "decayed", "items", "moments", "affinity"):
        assert getattr(read, name) == getattr(state, name), name


def test_an_item_read_back_is_the_item_written():
    state = ItemState()
    for number in range(20):
        state.apply(EVENT_TYPES[number % 8], number)
    read = through(item_codec(), state)
    assert (read.counts, read.decayed) == (state.counts, state.decayed)


def test_every_value_is_one_that_feasts_own_class_reads_and_writes_the_same():
    for value in filter(None, user_codec().encode(busy_user())):
        assert Value.FromString(value).SerializeToString() == value
    decayed, counts, items, moments, names, weights = map(Value.FromString, user_codec().encode(busy_user()))
    assert [one.WhichOneof("val") for one in (decayed, weights)] == ["double_list_val"] * 2
    assert [one.WhichOneof("val") for one in (counts, moments)] == ["int64_list_val"] * 2
    assert [one.WhichOneof("val") for one in (items, names)] == ["string_list_val"] * 2


def test_an_entity_key_is_what_feast_reads_back():
    proto = deserialize_entity_key(user_codec().key_of("ünï 🛒"))
    assert (list(proto.join_keys), proto.entity_values[0].string_val) == (["user_id"], "ünï 🛒")


def test_nulls_written_by_others_leave_an_empty_state():
    codec = user_codec()
    state = codec.new()
    for column in codec.columns:
        codec.decode(state, column, Value().SerializeToString())
        codec.decode(state, column, Value(null_val=0).SerializeToString())
    assert (state.events, state.items, state.affinity) == (0, [], None)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_counter_that_is_no_number_is_emptied_and_the_others_stay(bad):
    user = busy_user()
    kept = array("d", user.decayed[decay.BLOCK :])
    user.decayed[1] = bad
    read = through(user_codec(), user)
    assert list(read.decayed[: decay.BLOCK]) == [0.0] * decay.BLOCK
    assert read.decayed[decay.BLOCK :] == kept
    read.apply("x", "view", 1_800_000_000_000)
    assert read.decayed[0] == 1.0


def test_huge_counts_survive():
    user = busy_user()
    user.counts[0] = 2**62
    user.decayed[0] = 1e300
    read = through(user_codec(), user)
    assert (read.counts[0], read.decayed[0]) == (2**62, 1e300)


@pytest.mark.parametrize(
    ("column", "value"),
    [
        (("user_activity", "decayed"), Value(double_list_val=DoubleList(val=[1.0] * 3))),
        (("user_activity", "counts"), Value(int64_list_val=Int64List(val=[1] * 40))),
        (("user_activity", "counts"), Value(string_list_val=StringList(val=["1"] * 11))),
    ],
)
def test_a_layout_of_another_version_is_refused_by_name(column, value):
    with pytest.raises(UnknownLayoutError, match=f"{column[0]}.{column[1]}"):
        user_codec().decode(UserState(), column, value.SerializeToString())
