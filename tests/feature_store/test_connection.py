import pytest
from sqlalchemy import make_url

from feature_store.connection import checked_project, feast_config
from feature_store.errors import FeatureSettingError


def test_a_url_with_an_awkward_password_reaches_feast_and_its_registry_whole():
    config = feast_config(
        postgres_url="postgresql://sh%40p:p%2Fw%3Ad%25@db.example:6543/fe%20atures?sslmode=verify-full&sslrootcert=/ca.pem",
        project="alluvium",
    )
    online = config.online_store
    assert (online.user, online.password, online.host, online.port) == ("sh@p", "p/w:d%", "db.example", 6543)
    assert (online.database, online.sslmode, online.sslrootcert_path) == ("fe atures", "verify-full", "/ca.pem")
    url = make_url(config.registry.path)
    assert (url.drivername, url.username, url.password) == ("postgresql+psycopg", "sh@p", "p/w:d%")
    assert (url.host, url.port, url.database) == ("db.example", 6543, "fe atures")
    assert dict(url.query) == {"sslmode": "verify-full", "sslrootcert": "/ca.pem"}


def test_a_socket_is_reached_by_both():
    config = feast_config(postgres_url="postgresql://postgres@/shop?host=/run/pg", project="alluvium")
    assert (config.online_store.host, config.online_store.database) == ("/run/pg", "shop")
    assert dict(make_url(config.registry.path).query) == {"host": "/run/pg", "port": "5432"}


@pytest.mark.parametrize("project", ["", "Shop", "a-b", "a b", "1a", "x" * 33, "ünï"])
def test_a_project_that_cannot_begin_a_table_name_is_refused(project):
    with pytest.raises(FeatureSettingError, match="project is"):
        checked_project(project)
