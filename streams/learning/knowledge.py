"""What the learner must know beside interactions: the catalogue and who asked to be forgotten."""

import msgspec

from learners.items.catalog import Catalog
from streams.batches import RecordBatch
from streams.erasures import decode_erasure
from streams.events import CatalogItem

_decode_item = msgspec.json.Decoder(CatalogItem).decode


def apply_catalogue(catalog: Catalog, batch: RecordBatch) -> tuple[list[int], int]:
    """List, replace and delist what a run of `catalog.items` says.

    Returns the item indexes that it listed, and how many records were unreadable; those are only counted here, because
    the workers send them to the dead-letter topic.
    """
    listed: list[int] = []
    unreadable = 0
    for key, value in zip(batch.keys, batch.values, strict=True):
        try:
            if value is None:
                catalog.delist((key or b"").decode())
                continue
            item = _decode_item(value)
        except (msgspec.MsgspecError, ValueError):
            unreadable += 1
            continue
        listed.append(
            catalog.upsert(
                item.item_id,
                title=item.title,
                description=item.description,
                category=item.category,
                brand=item.brand,
                price=item.price,
                attributes=item.attributes,
                image=item.image,
            )
        )
    return listed, unreadable


def read_erasures(batch: RecordBatch) -> tuple[list[tuple[str, int]], int]:
    """The requests of a run of `users.erasures` as (user_id, requested_at_ms), and how many were unreadable."""
    requests, unreadable = [], 0
    for value in batch.values:
        try:
            requests.append(decode_erasure(value or b""))
        except (msgspec.MsgspecError, ValueError):
            unreadable += 1
    return requests, unreadable
