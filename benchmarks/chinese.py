"""`alluvium bench chinese`: what a text encoder makes of Chinese product titles.

Two questions over Taobao titles whose words are tagged (brand, product, model). Search: the tagged words of a title, in
reverse order, are the query; at which place among all titles is the one they came from? Kind: of titles with one of the
most frequent product words, that word is taken out, and the nearest other title has to have had the same one.
"""

import argparse
import gzip
import json
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from learners.encoder import HASH, MINILM, Encoder, open_encoder
from learners.errors import LearnerError

FILE = "test.txt.gz"
PRODUCT = "HCCX"
KINDS = 30


class DataMissingError(LearnerError, FileNotFoundError):
    """The data set is not where it was looked for."""

    def __init__(self, *, path: Path) -> None:
        super().__init__(f"--data is {str(path)!r}; expected a folder with {FILE}")
        self.path = path


@dataclass(frozen=True, slots=True)
class Title:
    """A title and its tagged words, as (tag, word)."""

    text: str
    words: tuple[tuple[str, str], ...]


def main(arguments: list[str] | None = None) -> None:
    """Encode, compare, print the table, write the JSON."""
    options = _options(arguments)
    torch.set_num_threads(1)
    titles = read(options.data / FILE)[: options.most]
    report = {name: measure(open_encoder(name), titles) for name in options.encoders}
    page = Table(title=f"bench chinese: {len(titles)} titles")
    for column in ("encoder", "search: first", "search: in ten", "kind", "kind: always the commonest"):
        page.add_column(column, justify="left" if column == "encoder" else "right")
    for name, found in report.items():
        page.add_row(name, *(f"{found[key]:.1%}" for key in ("hit_1", "hit_10", "kind", "commonest")))
    Console().print(page)
    if options.report:
        options.report.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


def measure(encoder: Encoder, titles: Sequence[Title]) -> dict[str, float]:
    """Return the figures of both questions."""
    asked = [row for row, title in enumerate(titles) if len(title.words) > 1]
    whole = encoder.encode([title.text for title in titles])
    queries = encoder.encode([" ".join(word for _, word in reversed(titles[row].words)) for row in asked])
    scores = queries @ whole.T
    right = scores[np.arange(len(asked)), asked]
    ranks = (scores > right[:, None]).sum(axis=1)
    texts, kinds = without_kind(titles)
    rest = encoder.encode(texts)
    alike = rest @ rest.T
    np.fill_diagonal(alike, -np.inf)
    same = np.array(kinds)[alike.argmax(axis=1)] == np.array(kinds)
    return {
        "hit_1": float((ranks < 1).mean()),
        "hit_10": float((ranks < 10).mean()),
        "kind": float(same.mean()),
        "commonest": max(Counter(kinds).values()) / len(kinds),
        "queries": len(asked),
        "of_a_kind": len(kinds),
    }


def without_kind(titles: Sequence[Title], *, kinds: int = KINDS) -> tuple[list[str], list[str]]:
    """Return the titles that have one of the most frequent product words, without it, and which it was.

    >>> cup, hat = Title("red cup", (("HCCX", "cup"),)), Title("cup hat", (("HCCX", "cup"), ("HCCX", "hat")))
    >>> without_kind([cup, hat, cup], kinds=1)
    (['red ', ' hat', 'red '], ['cup', 'cup', 'cup'])
    """
    products = [[word for tag, word in title.words if tag == PRODUCT] for title in titles]
    frequent = [word for word, _ in Counter(word for words in products for word in set(words)).most_common(kinds)]
    texts, found = [], []
    for title, words in zip(titles, products, strict=True):
        of_these = [word for word in frequent if word in words]
        if len(of_these) == 1:
            texts.append(title.text.replace(of_these[0], ""))
            found.append(of_these[0])
    return texts, found


def read(path: Path) -> list[Title]:
    """Read titles: a character and its BIO tag a line, a blank line between titles.

    Raises:
        DataMissingError: If the file is not there.
    """
    if not path.exists():
        raise DataMissingError(path=path.parent)
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        blocks = lines.read().split("\n\n")
    return [title_of(block.split("\n")) for block in blocks if block.strip()]


def title_of(lines: Sequence[str]) -> Title:
    """Return a title and its words.

    >>> title_of(["红 O", "茶 B-HCCX", "杯 I-HCCX", "a B-XH"])
    Title(text='红茶杯a', words=(('HCCX', '茶杯'), ('XH', 'a')))
    """
    text, words = "", list[tuple[str, str]]()
    for line in lines:
        if not line.strip():
            continue
        mark, tag = line[0], line[2:].strip()
        text += mark
        if tag.startswith("B-"):
            words.append((tag[2:], mark))
        elif tag.startswith("I-") and words:
            words[-1] = (words[-1][0], words[-1][1] + mark)
    return Title(text, tuple(words))


def _options(arguments: list[str] | None) -> argparse.Namespace:
    shared = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("ALLUVIUM_DATA_DIR", shared)) / "taobao_title_ner_zh"
    parser = argparse.ArgumentParser(prog="alluvium bench chinese", description=__doc__)
    parser.add_argument("--data", type=Path, default=folder, help=f"folder of {FILE}")
    parser.add_argument("--report", type=Path, help="write the figures as JSON")
    parser.add_argument("--encoders", nargs="+", default=[HASH, MINILM], help="hash, minilm, folders or hub names")
    parser.add_argument("--most", type=int, default=1_000, help="titles")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
