"""Texts of any script: equal looks compare equal, words are found without blanks, nothing is cut inside a character."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from learners.items.catalog import Catalog, item_text
from learners.items.encoder import HashEncoder
from learners.knowledge.graph_growth import node, query_node
from learners.text import cut, cut_utf8, folded, scrubbed, words

ANY = st.text(
    st.one_of(
        st.characters(codec=None),  # half surrogate pairs too
        st.sampled_from("茶杯防晒霜ＳＰＦ５０　ｶﾞ가\u0301\u200b\u200d\ufeff\u202e\ufe0f🇨🇳👩👧🏽\0 aZßİ\u0e33ﷺ"),
    ),
    max_size=60,
)


@given(ANY)
def test_any_text_is_folded_once_for_all_and_can_be_sent(text: str) -> None:
    once = folded(text)
    assert folded(once) == once
    assert once.encode().decode() == once
    assert "\0" not in once


@given(ANY)
def test_scrubbing_changes_only_what_utf8_and_postgres_cannot_hold(text: str) -> None:
    kept = scrubbed(text)
    assert kept.encode().decode() == kept
    expected = [mark for mark in text if mark != "\0"]
    assert [b for a, b in zip(expected, kept, strict=True) if not "\ud800" <= a <= "\udfff"] == [
        mark for mark in expected if not "\ud800" <= mark <= "\udfff"
    ]


@given(ANY)
def test_words_hold_every_letter_and_digit_of_the_text_in_order(text: str) -> None:
    letters = [mark for mark in folded(text) if unicodedata.category(mark)[0] in "LN"]
    found = words(text)
    assert set(letters) <= set("".join(found))
    assert all(word and not any(mark.isspace() for mark in word) for word in found)


@given(ANY, st.integers(1, 70))
def test_a_cut_text_is_a_beginning_of_it_and_never_longer_than_asked(text: str, most: int) -> None:
    short = cut(text, most)
    assert text.startswith(short)
    assert len(short) <= most
    assert short == text or short


@given(ANY, st.integers(1, 200))
def test_bytes_of_a_text_are_cut_to_bytes_of_a_text_and_lose_three_at_most(text: str, most: int) -> None:
    value = scrubbed(text).encode()
    short = cut_utf8(value, most)
    assert value.startswith(short)
    assert min(len(value), most) - 3 <= len(short) <= most
    assert scrubbed(text).startswith(short.decode())


@given(st.binary(max_size=80), st.integers(1, 80))
def test_bytes_that_are_no_text_are_cut_too(value: bytes, most: int) -> None:
    short = cut_utf8(value, most)
    assert value.startswith(short)
    assert min(len(value), most) - 3 <= len(short) <= most


@given(ANY)
def test_any_text_has_a_hashed_vector_of_length_one_or_zero(text: str) -> None:
    (vector,) = HashEncoder(width=32).encode([text])
    norm = float((vector**2).sum() ** 0.5)
    assert norm == pytest.approx(1, abs=1e-5) or (norm == 0 and vector.shape == (32,))


@given(ANY)
def test_any_query_and_any_name_is_a_node_that_postgres_can_hold_and_index(text: str) -> None:
    for name in (query_node(text), query_node(text * 9), node("brand", text * 9)):
        assert len(name.encode()) <= 900  # two of them fit a btree entry of 2,704 bytes
        assert "\0" not in name
    assert query_node(text) == query_node(f" {text}\u3000".upper().lower()) or text.lower() != text.casefold()


@given(ANY, ANY)
def test_any_item_can_be_described(title: str, description: str) -> None:
    catalog = Catalog()
    index = catalog.upsert("mug", title=title, description=description * 90, category=[title], brand=title)
    text = catalog.text_of(index)
    assert len(text) <= 2_000
    assert text.encode().decode() == text


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("ＲＥＤ　ＭＵＧ", "red mug"),  # noqa: RUF001 - full width
        ("防\u200b晒\u200d霜", "防晒霜"),
        ("Caf\u00e9", "CAFE\u0301"),
        ("ｶﾞﾗｽ", "ガラス"),
        ("STRASSE", "straße"),
        ("\u202eshalom\u202c", "shalom"),
        ("❤\ufe0f", "❤"),
    ],
)
def test_what_looks_the_same_is_the_same_query_and_the_same_vector(left: str, right: str) -> None:
    assert folded(left) == folded(right)
    assert query_node(left) == query_node(right)
    one, other = HashEncoder(width=64).encode([left, right])
    assert (one == other).all()


def test_words_of_scripts_without_blanks_meet_through_characters_and_pairs() -> None:
    assert words("无线鼠标 Wireless-Mouse 2.4G") == [
        *["无", "线", "鼠", "标", "无线", "线鼠", "鼠标"],
        *["wireless", "mouse", "2", "4g"],
    ]
    assert words("हिन्दी שלום 서울") == ["हिन्दी", "שלום", "서울"]  # marks stay with their letters
    assert words("🙂 … ，。") == []  # noqa: RUF001
    near, far = (
        HashEncoder().encode(["蓝色陶瓷马克杯350ml", "陶瓷杯子", "男士跑步鞋"])[1:]
        @ HashEncoder().encode(["蓝色陶瓷马克杯350ml"]).T
    )
    assert near > far + 0.2


def test_a_description_is_cut_between_characters() -> None:
    family = "👩\u200d👩\u200d👧"
    text = item_text(title="x" * 1_998, description=family)
    assert text == "x" * 1_998 + ". "
    assert item_text(title="茶" * 3_000) == "茶" * 2_000
