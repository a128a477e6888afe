from feature_store.cache import StateCache
from feature_store.items import ItemState


def loaded(*names):
    return {name: ItemState() for name in names}


def test_the_least_recently_needed_goes_first():
    cache = StateCache(capacity=2)
    cache.put(loaded(*cache.missing("ab")))
    assert cache.missing("b") == []
    cache.put(loaded(*cache.missing("c")))
    assert list(cache.states) == ["b", "c"]


def test_what_the_batch_needs_stays_beyond_the_capacity():
    cache = StateCache(capacity=1)
    cache.put(loaded(*cache.missing("a")))
    cache.put(loaded(*cache.missing("abca")))
    assert list(cache.states) == ["a", "b", "c"]


def test_a_state_that_is_not_flushed_stays():
    cache = StateCache(capacity=1)
    cache.put(loaded(*cache.missing("a")))
    cache.states["a"].apply("view", 0)
    cache.put(loaded(*cache.missing("b")))
    assert list(cache.states) == ["a", "b"]
    cache.states["a"].flushed = cache.states["a"].events
    cache.put(loaded(*cache.missing("c")))
    assert list(cache.states) == ["c"]


def test_a_state_already_cached_is_not_replaced_by_an_older_read():
    cache = StateCache(capacity=1)
    cache.put(loaded("a"))
    state = cache.states["a"]
    cache.put(loaded("a"))
    assert cache.states["a"] is state
