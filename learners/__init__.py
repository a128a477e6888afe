"""torch, transformers and river: shared model, fast memory, mixture, rounds, gate, releases. No Kafka, no Feast."""
