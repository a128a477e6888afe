"""A declared task behind Kafka: examples in, predictions out, rounds in between."""
