"""Kafka and Postgres that come from wheels: for `alluvium demo`, for tests and for a first look, never for a shop."""
