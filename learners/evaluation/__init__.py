"""A log evaluated without Kafka: prequential, by strategy, with intervals."""
