"""What a release leaves beyond the usual, where it is asked for: how sure it is, what it says, people's own rows.

Exemplars and user embeddings are about single persons: they are `personal`, never leave, and go with whoever asks to be
forgotten. What they know of a person may be older than anybody remembers; such a row goes on any request.
"""

from collections.abc import Collection

import numpy as np

from learners.knowledge.contents import SINCE, USER, KeyedVectors, encode_rows, encode_tensors, encode_vectors
from learners.knowledge.entry import Kind
from learners.knowledge.sharing import measured_fisher
from learners.knowledge.teacher_logits import encode_logits, said_by
from learners.releases.release import LoadedRelease
from learners.rounds.material import RoundInput

FISHER_ROWS = 96  # gradients that a Fisher diagonal is measured with
MOST_PEOPLE = 1_000


def further(kinds: Collection[Kind], release: LoadedRelease, round_input: RoundInput) -> list[tuple[Kind, bytes]]:
    """Return the kinds that are asked for, each with its content; the same round gives the same bytes.

    Args:
        kinds: What is asked for.
        release: What the round made.
        round_input: The round; names its people where they are wanted.
    """
    found: list[tuple[Kind, bytes]] = []
    if "fisher" in kinds and len(round_input.tokens):
        found.append(("fisher", encode_tensors(measured_fisher(release, round_input, samples=FISHER_ROWS))))
    if "teacher_logits" in kinds:
        learned = round_input.tokens[:, 1:][round_input.loss_mask]
        counts = np.bincount(learned, minlength=len(round_input.item_ids))
        if (said := said_by(release, counts, round_input.active)) is not None:
            found.append(("teacher_logits", encode_logits(said)))
    people = list(round_input.people)[-MOST_PEOPLE:]
    if "exemplars" in kinds and people:
        rows = [
            {USER: person.user_id, "items": [round_input.item_ids[item] for item in person.items]}
            | ({} if person.since_ms is None else {SINCE: person.since_ms})
            for person in people
        ]
        found.append(("exemplars", encode_rows(rows)))
    if "user_embeddings" in kinds and people:
        vectors = release.encode_users([person.items for person in people])
        since = np.array([-1 if person.since_ms is None else person.since_ms for person in people], np.int64)
        keyed = KeyedVectors(tuple(person.user_id for person in people), vectors, since)
        found.append(("user_embeddings", encode_vectors(keyed)))
    return found
