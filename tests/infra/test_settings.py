"""Settings are read once, bounded, and a mistake is named."""

from pathlib import Path
from typing import get_args

import pytest
from pydantic import ValidationError

from infra import configuration
from infra.composition import learner_config
from infra.errors import SettingsError
from infra.setting_groups import LearningSettings
from infra.settings import PREFIX, leaves, load_settings
from learners.items.layout import Layout
from learners.loggers import LOGGERS
from learners.strategies import STRATEGIES


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable, _ in leaves():
        monkeypatch.delenv(variable, raising=False)


def test_defaults_are_the_documented_ones() -> None:
    settings = load_settings()
    assert settings.kafka.bootstrap_servers is None
    assert settings.ingest.max_batch_events == 20_000
    assert settings.data_dir == Path("alluvium-data")


def test_variables_reach_their_group(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALLUVIUM_INGEST__LINGER_MS", "7")
    monkeypatch.setenv("ALLUVIUM_SEED", "42")
    settings = load_settings()
    assert (settings.ingest.linger_ms, settings.seed) == (7, 42)


def test_the_command_line_wins_and_leaves_the_rest_of_its_group(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALLUVIUM_KAFKA__BOOTSTRAP_SERVERS", "environment:9092")
    monkeypatch.setenv("ALLUVIUM_KAFKA__PARTITIONS", "8")
    settings = load_settings(kafka={"bootstrap_servers": "flag:9092", "ssl_cafile": None}, seed=None)
    assert (settings.kafka.bootstrap_servers, settings.kafka.partitions, settings.seed) == ("flag:9092", 8, 0)


def test_an_empty_variable_is_not_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALLUVIUM_POSTGRES__URL", "")
    assert load_settings().postgres.url is None


def test_settings_are_frozen() -> None:
    settings = load_settings()
    with pytest.raises(ValidationError, match="frozen"):
        settings.seed = 1
    with pytest.raises(ValidationError, match="frozen"):
        settings.ingest.linger_ms = 1


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("ALLUVIUM_SEDE", "1", "ALLUVIUM_SEDE is not a setting; did you mean ALLUVIUM_SEED?"),
        (
            "ALLUVIUM_KAFKA__BOOTSTRAP_SERVER",
            "a:1",
            "ALLUVIUM_KAFKA__BOOTSTRAP_SERVER is not a setting; did you mean ALLUVIUM_KAFKA__BOOTSTRAP_SERVERS?",
        ),
        (
            "ALLUVIUM_INGEST__LINGER_MS",
            "soon",
            "ALLUVIUM_INGEST__LINGER_MS is 'soon'; expected a valid integer, unable to parse string as an integer",
        ),
        (
            "ALLUVIUM_INGEST__MAX_BATCH_EVENTS",
            "0",
            "ALLUVIUM_INGEST__MAX_BATCH_EVENTS is '0'; expected greater than or equal to 1",
        ),
        (
            "ALLUVIUM_GATE__MAX_REGRESSION",
            "2",
            "ALLUVIUM_GATE__MAX_REGRESSION is '2'; expected less than or equal to 1",
        ),
        ("ALLUVIUM_MODEL__WIDTH", "65", "ALLUVIUM_MODEL__WIDTH is 65; expected a multiple of heads (2)"),
        (
            "ALLUVIUM_KAFKA__SECURITY_PROTOCOL",
            "SASL_SSL",
            "ALLUVIUM_KAFKA__SASL_MECHANISM is missing; expected a value because security_protocol is SASL_*",
        ),
        (
            "ALLUVIUM_KAFKA__SECURITY_PROTOCOL",
            "TLS",
            "ALLUVIUM_KAFKA__SECURITY_PROTOCOL is 'TLS'; expected 'PLAINTEXT', 'SSL', 'SASL_PLAINTEXT' or 'SASL_SSL'",
        ),
        (
            "ALLUVIUM_KAFKA__SSL_CAFILE",
            "/no/such.pem",
            "ALLUVIUM_KAFKA__SSL_CAFILE is '/no/such.pem'; expected a file that exists",
        ),
    ],
)
def test_a_mistake_is_one_line_that_names_it(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, message: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(SettingsError) as caught:
        load_settings()
    assert str(caught.value) == message
    assert caught.value.exit_code == 2


def test_a_wrong_postgres_url_keeps_its_password_to_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALLUVIUM_POSTGRES__URL", "mysql://user:hunter2@host/db")
    with pytest.raises(SettingsError, match="ALLUVIUM_POSTGRES__URL does not begin with postgresql://") as caught:
        load_settings()
    assert "hunter2" not in str(caught.value)


def test_variables_of_the_tests_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALLUVIUM_TEST_BOOTSTRAP_SERVERS", "localhost:9092")
    load_settings()


def test_every_setting_is_described_and_every_number_bounded() -> None:
    for variable, field in leaves():
        assert variable.startswith(PREFIX)
        assert field.description, variable
        if "number" in configuration._values(field):
            assert "<" in configuration._values(field), variable
            assert ">" in configuration._values(field), variable


def test_the_readme_lists_every_setting_as_it_is() -> None:
    page = configuration.README.read_text(encoding="utf-8")
    assert configuration.insert(page) == page, "run: python -m infra.configuration"


def test_every_strategy_and_every_logger_can_be_chosen() -> None:
    fields = LearningSettings.model_fields
    assert get_args(fields["strategy"].annotation) == tuple(STRATEGIES)
    assert get_args(fields["logger"].annotation) == tuple(LOGGERS)


def test_the_chosen_strategy_and_logger_reach_the_round(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ALLUVIUM_LEARNING__STRATEGY", "ewc")
    monkeypatch.setenv("ALLUVIUM_LEARNING__LOGGER", "tensorboard")
    training = learner_config(load_settings(data_dir=tmp_path), Layout(text=8)).training
    assert (training.strategy, training.logger) == ("ewc", "tensorboard")
    assert training.log_dir == str(tmp_path / "round-logs")
