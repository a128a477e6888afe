"""`alluvium worker` and `alluvium learner`: the processes, as a supervisor, compose or Kubernetes starts them."""

from infra.cli import options


def worker(
    *,
    bootstrap_servers: options.BootstrapServers = None,
    postgres_url: options.PostgresUrl = None,
    data_dir: options.DataDir = None,
) -> None:
    """Ingest events, keep features, rank."""
    settings = options.read(bootstrap_servers=bootstrap_servers, postgres_url=postgres_url, data_dir=data_dir)
    options.required_kafka(settings)
    options.required_postgres(settings)
    from infra.composition import run_worker

    run_worker(settings)


def learner(
    *,
    bootstrap_servers: options.BootstrapServers = None,
    postgres_url: options.PostgresUrl = None,
    data_dir: options.DataDir = None,
    seed: options.Seed = None,
) -> None:
    """Score, learn, release."""
    settings = options.read(
        bootstrap_servers=bootstrap_servers, postgres_url=postgres_url, data_dir=data_dir, seed=seed
    )
    options.required_kafka(settings)
    options.required_postgres(settings)
    from infra.composition import run_learner

    run_learner(settings)
