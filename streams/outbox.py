"""Where a worker's results go: interactions for the learners and dead letters, in one acknowledged step."""

import asyncio

from streams.dead_letters import letters, shortened
from streams.ingest import Outcome
from streams.publisher import Publisher
from streams.topics import INTERACTIONS_BY_ITEM, INTERACTIONS_VALIDATED


class Outbox:
    """Publishes what became of a run of records.

    Args:
        publisher: Started.
    """

    def __init__(self, publisher: Publisher) -> None:
        self._publisher = publisher

    async def send(self, outcome: Outcome) -> None:
        """Return when Kafka has acknowledged every record.

        Interactions keep their source's partition, so that a consumer sees each source in order.

        Raises:
            KafkaUnavailableError: If Kafka did not acknowledge; nothing may be flushed then.
            NotDeliveredError: If Kafka refused a record.
        """
        by_user, by_item = outcome.messages()
        await asyncio.gather(
            self._publisher.send_runs(INTERACTIONS_VALIDATED, {outcome.records.partition: by_user}),
            self._publisher.send_keyed(INTERACTIONS_BY_ITEM, by_item),
            self._publisher.send(letters(outcome.rejected), shorten=shortened),
        )
