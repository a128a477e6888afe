"""The composition root: settings, command line, embedded Kafka and Postgres, process supervision."""
