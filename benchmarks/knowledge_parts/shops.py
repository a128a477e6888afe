"""Shops made of one log: nobody buys in two of them, and half of what each sells is sold by all."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from benchmarks.knowledge_parts.log import Floats, Log
from benchmarks.knowledge_parts.rows import Setting, round_of
from learners.rounds.material import RoundConfig, RoundInput

LEARN, CHOOSE = 0.8, 0.9  # of a shop's events: up to here learned, up to there for choosing weights, the rest judges


@dataclass(frozen=True)
class Shop:
    """One shop.

    Args:
        log: What its people bought of what it sells, oldest first; item indexes are those of the whole log.
        sells: bool [N].
    """

    log: Log
    sells: npt.NDArray[np.bool_]

    @property
    def cuts(self) -> tuple[int, int, int]:
        """Where learning ends, where choosing ends, where the log ends."""
        return round(LEARN * len(self.log)), round(CHOOSE * len(self.log)), len(self.log)

    def round_input(
        self,
        part: str,
        *,
        vectors: Floats,
        setting: Setting,
        training: RoundConfig,
        seed: int,
        sells: npt.NDArray[np.bool_] | None = None,
    ) -> RoundInput:
        """Return a round that learns the oldest events and is judged on a part of the others.

        Args:
            part: `choose` or `judge`.
            vectors: Text vectors [N, T].
            setting: Shapes.
            training: How to train.
            seed: Source of every random choice.
            sells: Items that are ranked instead of the shop's own, bool [N].
        """
        learned, chosen, end = self.cuts
        return round_of(
            self.log,
            learn=(0, learned),
            judge=(learned, chosen) if part == "choose" else (chosen, end),
            vectors=vectors,
            setting=setting,
            training=training,
            seed=seed,
            active=self.sells if sells is None else sells,
        )


def shops_of(log: Log, *, count: int = 4, seed: int = 0, most_events: int | None = None) -> list[Shop]:
    """Cut a log into shops.

    Items go by how often they were bought: of every `count` + 1 neighbours in that order one is sold by every shop and
    one by each shop alone. So half of each catalogue is everybody's, and all shops sell items alike in popularity.
    People are dealt out at random; what they bought that their shop does not sell is left out.

    Args:
        log: All of it.
        count: Shops.
        seed: Deals the people.
        most_events: Only the newest so many of each shop; None: all.
    """
    bought = np.bincount(log.items, minlength=len(log.item_ids))
    bought[0] = -1
    order = np.argsort(-bought, kind="stable")[: int((bought > 0).sum())]
    place = np.full(len(log.item_ids), -1)
    place[order] = np.arange(len(order)) % (count + 1)
    people = np.random.default_rng(seed).integers(count, size=int(log.users.max()) + 1)
    shops = []
    for number in range(count):
        sells = (place == 0) | (place == number + 1)
        own = log.where((people[log.users] == number) & sells[log.items])
        newest = np.arange(len(own)) >= (0 if most_events is None else len(own) - most_events)
        shops.append(Shop(own.where(newest), sells))
    return shops


def together(shops: Sequence[Shop]) -> Log:
    """Return what all shops together can learn from, oldest first."""
    learned = [shop.log.where(np.arange(len(shop.log)) < shop.cuts[0]) for shop in shops]
    joined = {
        name: np.concatenate([getattr(log, name) for log in learned])
        for name in ("users", "items", "times_ms", "places")
    }
    order = np.argsort(joined["times_ms"], kind="stable")
    first = learned[0]
    return Log(
        **{name: values[order] for name, values in joined.items()},
        countries=first.countries,
        item_ids=first.item_ids,
        texts=first.texts,
    )
