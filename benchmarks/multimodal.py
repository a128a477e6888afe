"""`alluvium bench multimodal`: which of 81 products does this phone photo show? By picture, by text, by both.

The products are known by a studio picture and a description; the photos were taken in shops. One fusion puts both into
one space: a photo is an item of which only a picture is known. What may be used of the products is varied; each row is
a model trained for it. Four questions: products of which no photo was ever seen, of which one or two were, of which
about four were. The last is easy for a reason that has nothing to do with the catalogue: photos of a product were taken
one after the other, and the row "nearest photo" shows what that alone is worth.
"""

import argparse
import json
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from rich.console import Console
from rich.table import Table

from benchmarks.ingest import machine
from benchmarks.multimodal_parts.grocery import Shop, data_folder, load, toy
from benchmarks.multimodal_parts.matching import ATTRIBUTES, IMAGE, TEXT, MatchConfig, Matcher, Material, nearest_photo
from benchmarks.multimodal_parts.scenes import cutout, scene
from benchmarks.multimodal_parts.splits import Indexes, Split, few_photos, known_products, new_products
from learners.catalog import item_text
from learners.encoder import HASH, MINILM, open_encoder
from learners.items.attributes import AttributeEncoder
from learners.items.image import STATISTICS, open_image_encoder
from learners.items.statistics import COLOURS

ROWS: dict[str, tuple[str, ...]] = {
    "image": (IMAGE,),
    "text": (TEXT,),
    "image + text": (IMAGE, TEXT),
    "image + text + attributes": (IMAGE, TEXT, ATTRIBUTES),
}
BOTH = "image + text"
HIDDEN = {"image + text, text hidden": (IMAGE,), "image + text, image hidden": (TEXT,)}
NEAREST = "nearest photo"
NEW = "no photo of it"
QUESTIONS: dict[str, Callable[[Indexes, int], Iterator[Split]]] = {
    NEW: lambda shown, seed: new_products(shown, seed=seed),
    "one photo of it": lambda shown, seed: few_photos(shown, each=1, seed=seed),
    "two photos of it": lambda shown, seed: few_photos(shown, each=2, seed=seed),
    "about four photos of it": lambda shown, seed: known_products(shown, seed=seed),
}
FOLDED = (NEW, "about four photos of it")  # each seed tests every photo, by five models
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
    report = {
        "products": len(shop.products),
        "photos": len(shop.photos),
        "photographed": len(np.unique(shop.shown)),
        "chance": 1 / len(shop.products),
        "image_encoder": options.image_encoder,
        "text_encoder": text_encoder,
        "seeds": list(seeds),
        "questions": questions,
        "seconds": {"wall_s": time.perf_counter() - began, "cpu_s": time.process_time() - cpu},
        "machine": machine(),
    }
    console.print(table(report))
    if options.report:
        options.report.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


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
    colours = [slice(None, COLOURS), slice(COLOURS, None)]
    return Material(
        photos=torch.from_numpy(see.encode(shop.photos)),
        shown=torch.from_numpy(shop.shown),
        studio=torch.from_numpy(see.encode([product.picture for product in shop.products])),
        scenes=torch.from_numpy(see.encode(made)).unflatten(0, (len(shop.products), scenes)),
        described={name: torch.from_numpy(value) for name, value in described.items()},
        blocks=colours if image_encoder == STATISTICS else [slice(None)],
    )


def ask(material: Material, question: str, *, seeds: Sequence[int], config: MatchConfig) -> dict[str, Any]:
    """Return the figures of one question: of each row top-1 and top-5, and what both descriptions gain over either."""
    shown = material.shown.numpy()
    found: dict[str, list[tuple[Indexes, Indexes]]] = {}
    for seed in seeds:
        for train, test in QUESTIONS[question](shown, seed):
            ready = material.prepared(train, width=config.components)
            for row, names in ROWS.items():
                matcher = Matcher(ready, train, names=names, config=config, seed=seed)
                found.setdefault(row, []).append((test, matcher.ranks(test)))
                if row == BOTH:
                    for hidden, left in HIDDEN.items():
                        found.setdefault(hidden, []).append((test, matcher.ranks(test, names=left)))
            if question != NEW:
                right = nearest_photo(ready, train, test)
                found.setdefault(NEAREST, []).append((test, np.where(right, 0, len(material.studio))))
        print(f"{question}, seed {seed}: done", flush=True)
    by_photo = {row: per_photo(tests, len(shown)) for row, tests in found.items()}
    rows = {
        row: interval(values[:, 0], shown) | {"top_5": float(np.nanmean(values[:, 1]))}
        for row, values in by_photo.items()
    }
    both = by_photo[BOTH][:, 0]
    gains = {row: interval(both - by_photo[row][:, 0], shown) for row in ("image", "text")}
    return {"rows": rows, "both_minus": gains}


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
    for row in [*ROWS, *HIDDEN, NEAREST]:
        cells = [_cell(question["rows"].get(row)) for question in report["questions"].values()]
        page.add_row(row, *cells)
    page.add_section()
    for row in ("image", "text"):
        cells = [_cell(question["both_minus"][row], sign=True) for question in report["questions"].values()]
        page.add_row(f"image + text, minus {row}", *cells)
    return page


def _cell(found: dict[str, float] | None, *, sign: bool = False) -> str:
    if found is None:
        return "-"
    form = "+.1f" if sign else ".1f"
    return f"{100 * found['top_1']:{form}} [{100 * found['low']:{form}}, {100 * found['high']:{form}}]"


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="alluvium bench multimodal", description=__doc__)
    parser.add_argument("--data", type=Path, default=data_folder(), help="folder of the two archives")
    parser.add_argument("--report", type=Path, help="write the figures as JSON")
    parser.add_argument("--toy", action="store_true", help="nine coloured shapes: does it still run?")
    parser.add_argument("--image-encoder", default=STATISTICS, help="statistics, a folder or a hub name")
    parser.add_argument("--text-encoder", default=MINILM, help="minilm, hash, a folder or a hub name")
    parser.add_argument("--scenes", type=int, default=8, help="made from each studio picture")
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--fold-seeds", type=int, default=1, help="of the two questions that take five folds a seed")
    parser.add_argument("--first-seed", type=int, default=10, help="seeds below were used to choose the settings")
    parser.add_argument("--threads", type=int, default=1)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
