"""Texts of any script: folded so that equal looks compare equal, split into words, cut between characters."""

import re
import unicodedata
from collections.abc import Iterator
from itertools import pairwise

# Scripts without blanks between words: Thai, Lao, Burmese and Khmer, kana, Han with its extensions. Hangul has them.
_UNSPACED = re.compile(
    "([\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff"
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003fffd]+)"
)
_SURROGATES = re.compile("[\ud800-\udfff]")
_WORD_CATEGORIES = "LMN"  # letters, the marks on them, numbers
_JOINER, _REGIONAL = "\u200d", range(0x1F1E6, 0x1F200)
_SKIN_TONES = range(0x1F3FB, 0x1F400)
_LONGEST_CLUSTER = 64  # characters looked back at when cutting; more than that in one place is no writing
_UTF8_BYTES = 4  # most bytes of a character


def scrubbed(text: str) -> str:
    r"""Return the text without what UTF-8 and Postgres cannot hold: half a surrogate pair becomes U+FFFD, NUL goes.

    >>> ascii(scrubbed("a\ud83d b\x00")), scrubbed("杯子 😀")
    ("'a\\ufffd b'", '杯子 😀')
    """
    if text.isascii():
        return text.replace("\0", "")
    return _SURROGATES.sub("\ufffd", text).replace("\0", "")


def folded(text: str) -> str:
    r"""Return the text as it is compared: case, width, composition and invisible characters make no difference.

    >>> folded("ＲＥＤ　Ｍｕｇ １０ｃｍ"), folded("Cafe\u0301") == folded("CAF\u00c9"), folded("防\u200b晒\ufeff霜")
    ('red mug 10cm', True, '防晒霜')

    Source: Unicode Standard Annex 15 (NFKC) and chapter 3.13, toNFKC_Casefold.
    """  # noqa: RUF002 - full width is the point
    if text.isascii():
        return scrubbed(text).lower()
    compatible = unicodedata.normalize("NFKC", _visible(scrubbed(text)))
    return _visible(unicodedata.normalize("NFKC", _visible(unicodedata.normalize("NFKC", compatible).casefold())))


def words(text: str) -> list[str]:
    """Return what a lexical index keeps of a text: its words and, where a script puts no blanks, characters and pairs.

    >>> words("Sony WH-1000XM4 降噪耳机")
    ['sony', 'wh', '1000xm4', '降', '噪', '耳', '机', '降噪', '噪耳', '耳机']
    """
    kept = "".join(mark if unicodedata.category(mark)[0] in _WORD_CATEGORIES else " " for mark in folded(text))
    found: list[str] = []
    for word in kept.split():
        for place, run in enumerate(_UNSPACED.split(word)):  # every second part is a match
            found += [*run, *pairs_of(run)] if place % 2 else [run] if run else []
    return found


def pairs_of(run: str) -> list[str]:
    """Return the neighbours of a run of characters.

    >>> pairs_of("防晒霜"), pairs_of("杯")
    (['防晒', '晒霜'], [])
    """
    return [first + second for first, second in pairwise(run)]


def unspaced_runs(word: str) -> Iterator[str]:
    """Yield the runs of a word that a script without blanks wrote.

    >>> list(unspaced_runs("spf50防晒霜2瓶")), list(unspaced_runs("mug"))
    (['防晒霜', '瓶'], [])
    """
    if not word.isascii():
        yield from _UNSPACED.findall(word)


def cut(text: str, most: int) -> str:
    """Return at most so many characters of a text, cut between what a reader sees as characters.

    An accent stays with its letter, a family of joined emoji stays whole or goes, so do flags and skin tones.

    >>> cut("abc", 2), cut("e\u0301e\u0301", 3) == "e\u0301", cut("🇸🇪🇨🇳", 3) == "🇸🇪", cut("茶👩\u200d👧", 3)
    ('ab', True, True, '茶')
    """
    if len(text) <= most:
        return text
    place = most
    while place > max(0, most - _LONGEST_CLUSTER) and _inside(text, place):
        place -= 1
    return text[:place] if place and not _inside(text, place) else text[:most]


def cut_utf8(value: bytes, most: int) -> bytes:
    r"""Return at most so many bytes of a value; if it is UTF-8 text, no character is halved.

    >>> cut_utf8("茶茶".encode(), 5).decode(), cut_utf8(b"\xff" * 9, 5)
    ('茶', b'\xff\xff\xff\xff\xff')
    """
    if len(value) <= most:
        return value
    for place in range(most, max(-1, most - _UTF8_BYTES), -1):
        if value[place] & 0xC0 != 0x80:  # the first byte of a character
            return value[:place]
    return value[:most]


def _visible(text: str) -> str:
    return "".join(mark for mark in text if not _invisible(mark)) if not text.isascii() else text


def _invisible(mark: str) -> bool:
    return unicodedata.category(mark) == "Cf" or "\ufe00" <= mark <= "\ufe0f" or mark == "\u034f"


def _inside(text: str, place: int) -> bool:
    """Whether a cut in front of `text[place]` would part what belongs together."""
    after, before = text[place], text[place - 1]
    if unicodedata.category(after).startswith("M") or _JOINER in (after, before) or ord(after) in _SKIN_TONES:
        return True
    if ord(after) not in _REGIONAL:
        return False
    start = place
    while start and ord(text[start - 1]) in _REGIONAL:
        start -= 1
    return (place - start) % 2 == 1  # a flag is two letters
