"""The catalogue gives every item one index for ever."""

import json

import numpy as np
import pytest

from learners.items.catalog import Catalog, item_text


def test_an_index_survives_a_new_text_and_a_delisting() -> None:
    catalog = Catalog()
    mug, chair = catalog.upsert("mug", title="Mug"), catalog.upsert("chair", title="Chair")

    catalog.upsert("mug", title="Big mug")
    catalog.delist("chair")

    assert (catalog.index_of("mug"), catalog.index_of("chair")) == (mug, chair) == (1, 2)
    assert catalog.text_of(mug) == "Big mug"
    assert catalog.active.tolist() == [False, True, False]


def test_an_item_seen_before_it_is_listed_keeps_its_index_when_it_is() -> None:
    catalog = Catalog()
    early = catalog.admit("early")
    assert catalog.active[early]
    assert catalog.upsert("early", title="Listed at last", category=["A", "B"], brand="Acme", price=2.5) == early
    assert (catalog.category_of(early), catalog.brand_of(early), catalog.price_of(early)) == (("A", "B"), "Acme", 2.5)
    assert catalog.title_of(early) == "Listed at last"


def test_an_interaction_does_not_bring_a_delisted_item_back_but_a_listing_does() -> None:
    catalog = Catalog()
    catalog.delist("gone")
    assert not catalog.active[catalog.admit("gone")]
    assert catalog.active[catalog.upsert("gone")]


def test_only_changed_texts_are_named_and_only_once() -> None:
    catalog = Catalog()
    catalog.upsert("a", title="A")
    catalog.upsert("b", title="B")
    assert catalog.take_changed() == [1, 2]
    catalog.upsert("a", title="A", price=3.0)
    catalog.upsert("b", title="B2")
    assert catalog.take_changed() == [2]
    assert catalog.take_changed() == []


def test_the_state_restores_everything_through_json() -> None:
    catalog = Catalog()
    for number in range(200):
        catalog.upsert(f"item-{number}", title=f"T{number}", category=["C"], brand="B", price=1.0)
    catalog.admit("bare")
    catalog.delist("item-7")

    copy = Catalog()
    copy.set_state(json.loads(json.dumps(catalog.get_state())))

    assert copy.item_ids == catalog.item_ids
    assert copy.get_state() == catalog.get_state()
    np.testing.assert_array_equal(copy.active, catalog.active)
    assert len(copy.take_changed()) == 200


def test_the_empty_id_is_padding_and_nobody_may_have_it() -> None:
    catalog = Catalog()
    assert (len(catalog), catalog.index_of(""), catalog.item_ids) == (1, 0, [""])
    with pytest.raises(ValueError, match="stands for padding"):
        catalog.admit("")


def test_indexes_of_many_items_mark_the_unknown_with_zero() -> None:
    catalog = Catalog()
    catalog.admit("a")
    assert catalog.indexes_of(["?", "a", "?"]).tolist() == [0, 1, 0]


def test_text_leaves_out_what_is_missing_or_not_plain_and_is_bounded() -> None:
    assert item_text(title=" Mug ", description="Nice", attributes={"b": 1, "a": "x", "c": [1], "d": True}) == (
        "Mug. a: x, b: 1. Nice"
    )
    assert item_text() == ""
    assert len(item_text(description="x" * 10_000)) == 2_000


def detailed() -> Catalog:
    catalog = Catalog(detailed=True)
    catalog.upsert("mug", title="Mug", price=3.0, image="mug.png", attributes={"sizes": ["S", "L"], "organic": True})
    catalog.upsert("cup", title="Cup")
    return catalog


def test_a_detailed_catalogue_keeps_pictures_and_attributes_and_names_what_is_described_anew_by_them_alone() -> None:
    catalog = detailed()
    assert catalog.image_of(1) == "mug.png"
    assert catalog.attributes_of(1) == {"sizes": ["S", "L"], "organic": True, "price": 3.0}
    assert (catalog.image_of(2), catalog.attributes_of(2)) == ("", {})
    assert catalog.take_changed() == [1, 2]
    again = {"title": "Mug", "price": 3.0, "attributes": {"organic": True, "sizes": ["S", "L"]}}
    catalog.upsert("mug", image="mug.png", **again)
    assert catalog.take_changed() == []
    catalog.upsert("mug", image="other.png", **again)
    assert catalog.take_changed() == [1]
    catalog.upsert("mug", image="other.png", **again | {"price": 4.0})
    assert catalog.take_changed() == [1]


def test_pictures_and_attributes_survive_in_a_checkpoint_and_another_kind_of_checkpoint_is_read_too() -> None:
    catalog, plain = detailed(), Catalog()
    plain.upsert("mug", title="Mug", image="mug.png", attributes={"colour": "red"})
    state, old = (json.loads(json.dumps(each.get_state())) for each in (catalog, plain))
    assert [len(item) for item in old["items"]] == [6]  # as it was written before pictures were known of

    copy = Catalog(detailed=True)
    copy.set_state(state)
    assert copy.get_state() == catalog.get_state()
    assert copy.take_changed() == [1, 2]
    copy.set_state(old)
    assert (copy.text_of(1), copy.image_of(1), copy.attributes_of(1)) == ("Mug. colour: red", "", {})
    plain.set_state(state)
    assert plain.get_state()["items"][1] == old_row("cup", "Cup")


def old_row(item_id: str, title: str) -> list[object]:
    return [item_id, title, title, [], None, None]
