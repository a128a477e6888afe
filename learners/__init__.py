"""torch, transformers and river: the shared model, fast memory, the mixture, rounds, gate and releases. No Kafka, no Feast."""
