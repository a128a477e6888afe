"""`alluvium bench multimodal`: which of 81 products does this phone photo show? By picture, by text, by both.

The products are known by a studio picture and a description; the photos were taken in shops. One fusion puts both into
one space: a photo is an item of which only a picture is known. What may be used of the products is varied; each row is
a model trained for it. Four questions: products of which one photo was seen, two, about four, and, in a table of its
own, none. About four is easy for a reason that has nothing to do with the catalogue: photos of a product were taken one
after the other, and the row "nearest photo" shows what that alone is worth.
"""

import argparse
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from rich.console import Console
from rich.table import Table

from benchmarks.ingest import machine
from benchmarks.multimodal_parts.grocery import Shop, data_folder, load, toy
from benchmarks.multimodal_parts.matching import (
    ATTRIBUTES,
    IMAGE,
    TEXT,
    MatchConfig,
    Matcher,
    Material,
    likeness,
    places,
)
from benchmarks.multimodal_parts.splits import Indexes, Split, few_photos, known_products
from benchmarks.multimodal_parts.zero_shot import FIGURES, ask_unseen
from learners.items.attributes import AttributeEncoder
from learners.items.catalog import item_text
from learners.items.encoder import HASH, MINILM, open_encoder
from learners.items.image import STATISTICS, open_image_encoder
from learners.items.picture_net.encoder import TRAINED
from learners.items.picture_net.scenes import cutout, scene
from learners.items.statistics import COLOURS, WIDTH

ROWS: dict[str, tuple[str, ...]] = {
    "image": (IMAGE,),
    "text": (TEXT,),
    "image + text": (IMAGE, TEXT),
    "image + text + attributes": (IMAGE, TEXT, ATTRIBUTES),
}
BOTH = "image + text"
HIDDEN = {"image + text, text hidden": (IMAGE,), "image + text, image hidden": (TEXT,)}
PICTURED, BOTH_PICTURED = "image, known photos too", "image + text, known photos too"
KNOWN = {PICTURED: "image", BOTH_PICTURED: BOTH}
"""Rows by a model of another row: its scores, and how like a photo is to the most alike known one of a product."""
BESIDE = "image beside text"  # vectors of both models side by side, which adds up their scores ...
_IMAGE_WEIGHT = 0.3  # ... the picture's for less: chosen on seeds 0 to 2 among 0.1, 0.2, 0.3, 0.5 and 1
GAINS = {BOTH: ("image", "text"), BOTH_PICTURED: (PICTURED, "text"), BESIDE: ("image", "text")}
NEAREST = "nearest photo"
BLOCKS = {STATISTICS: 2, TRAINED: 3}  # of what an encoder says, each on a scale of its own
QUESTIONS: dict[str, Callable[[Indexes, int], Iterator[Split]]] = {
    "one photo of it": lambda shown, seed: few_photos(shown, each=1, seed=seed),
    "two photos of it": lambda shown, seed: few_photos(shown, each=2, seed=seed),
    "about four photos of it": lambda shown, seed: known_products(shown, seed=seed),
}
FOLDED = ("about four photos of it",)  # each seed tests every photo, by five models
_UNSEEN_STEPS = 150  # less is learned by heart of the products that have photos: chosen on seeds 0 to 2, of 150 and 300
_RESAMPLES = 2_000


def main(arguments: list[str] | None = None) -> None:
    """Encode, train, test, print the table, write the JSON."""
    options = _options(arguments)
    console = Console()
    torch.set_num_threads(options.threads)
    began, cpu = time.perf_counter(), time.process_time()
    shop = toy() if options.toy else load(options.data)
    text_encoder = HASH if options.toy else options.text_encoder
    material = encoded(shop, image_encoder=options.image_encoder, text_encoder=text_encoder, scenes=options.scenes)
    config = MatchConfig(steps=options.steps)
    seeds = range(options.first_seed, options.first_seed + options.seeds)
    questions = {
        name: ask(material, name, seeds=seeds[: options.fold_seeds] if name in FOLDED else seeds, config=config)
        for name in QUESTIONS
    }
    unseen = ask_unseen(
        material,
        ROWS,
        {BOTH: GAINS[BOTH]},
        seeds=seeds[: options.fold_seeds],
        config=replace(config, steps=min(config.steps, _UNSEEN_STEPS), unseen_negatives=False),
    )
    report = {
        "products": len(shop.products),
        "photos": len(shop.photos),
        "photographed": len(np.unique(shop.shown)),
        "chance": 1 / len(shop.products),
        "image_encoder": options.image_encoder,
        "text_encoder": text_encoder,
        "seeds": list(seeds),
        "questions": questions,
        "no_photo": unseen,
        "seconds": {"wall_s": time.perf_counter() - began, "cpu_s": time.process_time() - cpu},
        "machine": machine(),
    }
    if options.report:
        options.report.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    console.print(table(report))
    console.print(unseen_table(report))


def encoded(shop: Shop, *, image_encoder: str, text_encoder: str, scenes: int) -> Material:
    """Return the vectors of photos, of products, and of scenes made from the studio pictures."""
    rng = np.random.default_rng(0)
    see = open_image_encoder(image_encoder)
    made = [scene(cut, rng) for cut in (cutout(product.picture) for product in shop.products) for _ in range(scenes)]
    texts = [item_text(title=product.title, description=product.description) for product in shop.products]
    described = {
        TEXT: open_encoder(text_encoder).encode(texts),
        ATTRIBUTES: AttributeEncoder().encode([product.attributes for product in shop.products]),
    }
    blocks = [slice(None, COLOURS), slice(COLOURS, WIDTH), slice(WIDTH, None)]  # colours, textures, the network
    return Material(
        photos=torch.from_numpy(see.encode(shop.photos)),
        shown=torch.from_numpy(shop.shown),
        studio=torch.from_numpy(see.encode([product.picture for product in shop.products])),
        scenes=torch.from_numpy(see.encode(made)).unflatten(0, (len(shop.products), scenes)),
        described={name: torch.from_numpy(value) for name, value in described.items()},
        blocks=blocks[: BLOCKS[image_encoder]] if image_encoder in BLOCKS else [slice(None)],
    )


def ask(material: Material, question: str, *, seeds: Sequence[int], config: MatchConfig) -> dict[str, Any]:
    """Return the figures of one question: of each row top-1 and top-5, and what both descriptions gain over either."""
    shown = material.shown.numpy()
    found: dict[str, list[tuple[Indexes, Indexes]]] = {}
    for seed in seeds:
        for train, test in QUESTIONS[question](shown, seed):
            ready = material.prepared(train, width=config.components)
            matchers: dict[str, Matcher] = {}
            for row, names in ROWS.items():
                matcher = matchers[row] = Matcher(ready, train, names=names, config=config, seed=seed)
                found.setdefault(row, []).append((test, matcher.ranks(test)))
                if row == BOTH:
                    for hidden, left in HIDDEN.items():
                        found.setdefault(hidden, []).append((test, matcher.ranks(test, names=left)))
            beside = _IMAGE_WEIGHT * matchers["image"].scores(test) + matchers["text"].scores(test)
            found.setdefault(BESIDE, []).append((test, places(beside, material.shown[test])))
            alike = likeness(ready, train, test)
            known = {NEAREST: alike} | {row: matchers[by].scores(test) + alike for row, by in KNOWN.items()}
            for row, scores in known.items():
                found.setdefault(row, []).append((test, places(scores, material.shown[test])))
        print(f"{question}, seed {seed}: done", flush=True)
    by_photo = {row: per_photo(tests, len(shown)) for row, tests in found.items()}
    rows = {
        row: interval(values[:, 0], shown) | {"top_5": float(np.nanmean(values[:, 1]))}
        for row, values in by_photo.items()
    }
    gains = {
        f"{both} - {row}": interval(by_photo[both][:, 0] - by_photo[row][:, 0], shown)
        for both, alone in GAINS.items()
        for row in alone
    }
    return {"rows": rows, "gains": gains}


def per_photo(tests: Sequence[tuple[Indexes, Indexes]], photos: int) -> npt.NDArray[np.float64]:
    """Return each photo's share of tests in which its product came first, and among the first five, [P, 2].

    >>> per_photo([(np.array([0, 1]), np.array([0, 3])), (np.array([1]), np.array([0]))], 3).tolist()
    [[1.0, 1.0], [0.5, 1.0], [nan, nan]]
    """
    sums, counts = np.zeros((photos, 2)), np.zeros((photos, 1))
    for test, ranks in tests:
        sums[test] += np.stack([ranks < 1, ranks < 5], axis=1)
        counts[test] += 1
    return np.divide(sums, counts, out=np.full_like(sums, np.nan), where=counts > 0)


def interval(values: npt.NDArray[np.float64], shown: Indexes) -> dict[str, float]:
    """Return the mean over photos and its 95% interval by bootstrap over products, whose photos are alike.

    >>> found = interval(np.array([1.0, 1.0, 0.0, 0.0]), np.array([0, 0, 1, 1]))
    >>> found["top_1"], found["low"], found["high"]
    (0.5, 0.0, 1.0)
    """
    tested = ~np.isnan(values)
    sums = np.bincount(shown[tested], weights=values[tested])
    counts = np.bincount(shown[tested], minlength=len(sums))
    sums, counts = sums[counts > 0], counts[counts > 0]
    drawn = np.random.default_rng(0).integers(len(sums), size=(_RESAMPLES, len(sums)))
    means = sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    return {"top_1": float(sums.sum() / counts.sum()), "low": float(low), "high": float(high)}


def table(report: dict[str, Any]) -> Table:
    """Every question a column, every row what is used of the products."""
    page = Table(
        title=f"bench multimodal: top-1 of {report['products']} products, {report['photos']} photos, "
        f"{len(report['seeds'])} seeds, chance {report['chance']:.1%}"
    )
    page.add_column("of the products is used")
    for question in report["questions"]:
        page.add_column(question, justify="right")
    for row in [*ROWS, BESIDE, *HIDDEN, *KNOWN, NEAREST]:
        cells = [_cell(question["rows"][row]) for question in report["questions"].values()]
        page.add_row(row, *cells)
    page.add_section()
    for gain in (f"{both} - {row}" for both, alone in GAINS.items() for row in alone):
        cells = [_cell(question["gains"][gain], sign=True) for question in report["questions"].values()]
        page.add_row(gain, *cells)
    return page


def unseen_table(report: dict[str, Any]) -> Table:
    """Products of which no photo was learned from: every figure a column."""
    page = Table(title="No photo of it: top-1 by generalized zero-shot matching")
    page.add_column("of the products is used")
    for figure in FIGURES:
        page.add_column(figure.replace("_", " "), justify="right")
    for row, found in report["no_photo"]["rows"].items():
        page.add_row(row, *[_cell(found[figure]) for figure in FIGURES])
    page.add_section()
    for gain, found in report["no_photo"]["gains"].items():
        page.add_row(gain, *[_cell(found[figure], sign=True) for figure in FIGURES])
    return page


def _cell(found: dict[str, float], *, sign: bool = False) -> str:
    value = found["top_1"] if "top_1" in found else found["value"]
    form = "+.1f" if sign else ".1f"
    return f"{100 * value:{form}} [{100 * found['low']:{form}}, {100 * found['high']:{form}}]"


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="alluvium bench multimodal", description=__doc__)
    parser.add_argument("--data", type=Path, default=data_folder(), help="folder of the two archives")
    parser.add_argument("--report", type=Path, help="write the figures as JSON")
    parser.add_argument("--toy", action="store_true", help="nine coloured shapes: does it still run?")
    parser.add_argument("--image-encoder", default=TRAINED, help="trained, statistics, a folder or a hub name")
    parser.add_argument("--text-encoder", default=MINILM, help="minilm, hash, a folder or a hub name")
    parser.add_argument("--scenes", type=int, default=8, help="made from each studio picture")
    parser.add_argument("--steps", type=int, default=MatchConfig().steps)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--fold-seeds", type=int, default=1, help="of the questions that take five folds a seed")
    parser.add_argument("--first-seed", type=int, default=10, help="seeds below were used to choose the settings")
    parser.add_argument("--threads", type=int, default=1)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
