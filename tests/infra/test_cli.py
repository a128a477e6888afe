"""The command line: exit codes, one-line errors, and commands against real parts."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from kafka import KafkaConsumer

from feature_store.apply import is_applied
from infra.cli.app import run
from infra.settings import leaves
from streams.events import Erasure
from streams.topics import USERS_ERASURES
from tests.brokers import Broker

pytestmark = pytest.mark.usefixtures("logs_restored")
COMMANDS = (
    ["demo"],
    ["replay"],
    ["evaluate"],
    ["bench"],
    ["worker"],
    ["learner"],
    ["topics", "apply"],
    ["topics", "verify"],
    ["features", "apply"],
    ["models", "list"],
    ["models", "show"],
    ["models", "promote"],
    ["models", "rollback"],
    ["knowledge", "list"],
    ["knowledge", "show"],
    ["knowledge", "diff"],
    ["knowledge", "export"],
    ["knowledge", "import"],
    ["knowledge", "gc"],
    ["knowledge", "graph"],
    ["knowledge", "suggest"],
    ["erase"],
    ["doctor"],
)


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for variable, _ in leaves():
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("ALLUVIUM_DATA_DIR", str(tmp_path / "data"))


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_explains_itself(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*command, "--help"]) == 0
    assert "Usage: alluvium" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["worker"], "ALLUVIUM_KAFKA__BOOTSTRAP_SERVERS is missing; expected host:port, or --bootstrap-servers"),
        (
            ["learner", "--bootstrap-servers", "127.0.0.1:1"],
            "ALLUVIUM_POSTGRES__URL is missing; expected postgresql://user:password@host/database, or --postgres-url",
        ),
        (["replay", "no.parquet", "--catalog", "no.csv"], "EVENTS is 'no.parquet'; expected a file that exists"),
        (["evaluate", "no.parquet", "--catalog", "no.csv"], "EVENTS is 'no.parquet'; expected a file that exists"),
        (["bench", "nonsense"], "NAME is 'nonsense'; expected one of "),
        (
            ["topics", "verify", "--bootstrap-servers", "localhost"],
            "bootstrap_servers is 'localhost'; expected host:port",
        ),
        (["models", "list"], "ALLUVIUM_POSTGRES__URL is missing"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_code_2(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(words) == 2
    error = capsys.readouterr().err
    assert error.startswith("alluvium: ")
    assert message in error
    assert error.count("\n") == 1


def test_an_unknown_option_is_exit_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["doctor", "--frobnicate"]) == 2
    assert "--frobnicate" in capsys.readouterr().err


@pytest.mark.parametrize("speed", ["0", "-1", "fast", "inf", "nan"])
def test_speed_is_a_number_or_max(speed: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file.csv").touch()
    file = str(tmp_path / "file.csv")
    assert run(["replay", file, "--catalog", file, "--speed", speed]) == 2
    assert f"--speed is {speed!r}; expected events a second above 0, or max" in capsys.readouterr().err


def test_a_mistyped_variable_stops_every_process_before_it_starts(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "infra.cli", "doctor"],
        env={"ALLUVIUM_KAFKA__PARTITION": "4", "PATH": "", "HOME": str(tmp_path)},
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    expected = "ALLUVIUM_KAFKA__PARTITION is not a setting; did you mean ALLUVIUM_KAFKA__PARTITIONS?"
    assert done.stderr == f"alluvium: {expected}\n"


def test_kafka_that_is_down_is_exit_code_1(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["topics", "verify", "--bootstrap-servers", "127.0.0.1:1"]) == 1
    assert "127.0.0.1:1" in capsys.readouterr().err


def test_features_apply_can_be_repeated(database_url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert not is_applied(postgres_url=database_url)
    assert run(["features", "apply", "--postgres-url", database_url]) == 0
    assert is_applied(postgres_url=database_url)
    assert run(["features", "apply", "--postgres-url", database_url]) == 0
    assert "applied" in capsys.readouterr().out


def test_models_of_a_new_installation_are_none(database_url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["models", "list", "--postgres-url", database_url]) == 0
    assert "version" in capsys.readouterr().out
    assert run(["models", "show", "7", "--postgres-url", database_url]) == 1
    assert "7" in capsys.readouterr().err


def test_erase_publishes_a_request_that_says_who_and_until_when(
    embedded_kafka: Broker, capsys: pytest.CaptureFixture[str]
) -> None:
    embedded_kafka.create_topics({USERS_ERASURES: 2})
    assert run(["erase", "u-1", "--bootstrap-servers", embedded_kafka.bootstrap_servers]) == 0
    consumer = KafkaConsumer(
        USERS_ERASURES,
        bootstrap_servers=embedded_kafka.bootstrap_servers,
        api_version=(2, 3),
        auto_offset_reset="earliest",
        consumer_timeout_ms=30_000,  # a busy machine takes its time to find the offsets
    )
    record = next(iter(consumer))
    consumer.close()
    request = json.loads(record.value)
    assert record.key == b"u-1"
    assert request["user_id"] == "u-1"
    assert request["requested_at"] in capsys.readouterr().out.replace("+00:00", "Z")
    assert request.keys() == set(Erasure.__struct_fields__)


def test_erase_refuses_what_is_no_user_id(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["erase", "", "--bootstrap-servers", "127.0.0.1:1"]) == 2
    assert "USER is ''; expected a user_id" in capsys.readouterr().err


def test_doctor_finds_missing_topics_and_tables(
    embedded_kafka: Broker, database_url: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALLUVIUM_MODEL__TEXT_ENCODER", "hash")
    monkeypatch.setenv("COLUMNS", "300")
    embedded_kafka.create_topics({"clickstream.events": 3})
    addresses = ["--bootstrap-servers", embedded_kafka.bootstrap_servers, "--postgres-url", database_url]
    assert run(["doctor", *addresses]) == 1
    shown = capsys.readouterr().out
    assert "clickstream.events has 3 partitions; expected 4" in shown
    assert "run `alluvium topics apply`" in shown
    assert "run `alluvium features apply`" in shown


def test_doctor_is_content_with_the_embedded_parts(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALLUVIUM_MODEL__TEXT_ENCODER", "hash")
    monkeypatch.setenv("COLUMNS", "300")
    assert run(["doctor"]) == 0
    assert "none is set; the embedded one starts" in capsys.readouterr().out
