"""`alluvium tasks` from a file to answers."""

import json
from pathlib import Path

import pytest

from infra.cli.app import run
from infra.composition import knowledge_store, learn_and_keep
from infra.settings import leaves, load_settings
from learners.tasks.learner import TaskLearner
from learners.tasks.task import Task
from tests.learners.tasks.tasks_data import price_rows, topic_rows

pytestmark = pytest.mark.usefixtures("logs_restored")

TOPIC = """
name = "topic"
kind = "classify"
inputs = ["title"]
target = "topic"
classes = ["kitchen", "garden"]
text_encoder = "hash"
[training]
epochs = 6
"""
PRICE = """
name = "price"
kind = "score"
inputs = ["title"]
numbers = ["size"]
target = "price"
text_encoder = "hash"
"""


@pytest.fixture(autouse=True)
def surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable, _ in leaves():
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("ALLUVIUM_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("COLUMNS", "250")


@pytest.fixture
def task(tmp_path: Path) -> Path:
    path = tmp_path / "topic.toml"
    path.write_text(TOPIC)
    return path


def lines(path: Path, rows: list[dict[str, object]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_a_task_is_learned_evaluated_and_answers(tmp_path: Path, task: Path, capsys: pytest.CaptureFixture[str]):
    rows = lines(tmp_path / "rows.jsonl", [*topic_rows(200), {"title": "mug", "topic": "sea"}])
    out, report = tmp_path / "out", tmp_path / "report.json"
    assert (
        run(["tasks", "learn", str(task), str(rows), "--out", str(out), "--rounds", "2", "--report", str(report)]) == 0
    )
    found = json.loads(report.read_text())
    assert [each["released"] for each in found["rounds"]] == [True, True]
    assert [len(each["rejected"]) for each in found["rounds"]] == [0, 1]

    fresh = lines(tmp_path / "fresh.jsonl", topic_rows(50, seed=3))
    assert run(["tasks", "evaluate", str(out), str(fresh), "--report", str(report)]) == 0
    assert json.loads(report.read_text())["metrics"]["accuracy"] > 0.95

    capsys.readouterr()
    asked = lines(tmp_path / "asked.jsonl", [{"title": "old spade"}, {"title": " "}])
    assert run(["tasks", "predict", str(out), str(asked)]) == 0
    answers = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert (answers[0]["value"], answers[0]["version"]) == ("garden", 2)
    assert answers[1]["value"] is None
    assert "title is blank" in answers[1]["rejected"]


def test_learning_goes_on_where_it_was_and_refuses_another_declaration(
    tmp_path: Path, task: Path, capsys: pytest.CaptureFixture[str]
):
    rows, out = lines(tmp_path / "rows.jsonl", topic_rows(100)), tmp_path / "out"
    for version in (1, 2):
        report = tmp_path / f"{version}.json"
        assert run(["tasks", "learn", str(task), str(rows), "--out", str(out), "--report", str(report)]) == 0
        assert json.loads(report.read_text())["rounds"][0]["version"] == version
    task.write_text(TOPIC + "batch = 8\n")
    assert run(["tasks", "learn", str(task), str(rows), "--out", str(out)]) == 2
    assert "declared otherwise" in capsys.readouterr().err


def test_a_csv_has_its_numbers_read(tmp_path: Path):
    (tmp_path / "price.toml").write_text(PRICE)
    rows = price_rows(100)
    text = "title,size,price\n" + "".join(
        f"{row['title']},{'' if row['size'] is None else row['size']},{row['price']}\n" for row in rows
    )
    (tmp_path / "rows.csv").write_text(text + "gold ring,many,3\n")
    report = tmp_path / "report.json"
    arguments = [tmp_path / "price.toml", tmp_path / "rows.csv", "--out", tmp_path / "out", "--report", report]
    assert run(["tasks", "learn", *map(str, arguments)]) == 0
    (found,) = json.loads(report.read_text())["rounds"]
    assert (found["learned"], len(found["rejected"])) == (80, 1)


@pytest.mark.parametrize(
    ("declaration", "file", "said"),
    [
        ("name = 3", "rows.jsonl", "task's kind is None"),
        (TOPIC.replace("classify", "clasify"), "rows.jsonl", "task's kind is 'clasify'"),
        (TOPIC, "rows.xml", "EXAMPLES is"),
        (TOPIC, "none.jsonl", "EXAMPLES is"),
        (TOPIC, "broken.jsonl", "expected rows that can be read"),
    ],
)
def test_wrong_usage_is_one_line_that_says_what_was_expected(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], declaration: str, file: str, said: str
):
    (tmp_path / "task.toml").write_text(declaration)
    lines(tmp_path / "rows.jsonl", topic_rows(20))
    (tmp_path / "broken.jsonl").write_text('{"title"')
    code = run(["tasks", "learn", str(tmp_path / "task.toml"), str(tmp_path / file), "--out", str(tmp_path / "out")])
    shown = capsys.readouterr().err
    assert code == 2
    assert said in shown
    assert shown.count("\n") == 1


def test_with_a_store_knowledge_is_kept_and_the_next_task_starts_from_it(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("ALLUVIUM_POSTGRES__URL", database_url)
    rows, reports = lines(tmp_path / "rows.jsonl", topic_rows(200)), []
    for name, count in (("first", 200), ("second", 24)):
        declaration = tmp_path / f"{name}.toml"
        declaration.write_text(TOPIC.replace('"topic"\nkind', f'"{name}"\nkind').replace("= 6", "= 2"))
        rows = lines(tmp_path / f"{name}.jsonl", topic_rows(count))
        report = tmp_path / f"{name}.json"
        arguments = [declaration, rows, "--out", tmp_path / name, "--report", report]
        assert run(["tasks", "learn", *map(str, arguments)]) == 0
        reports.append(json.loads(report.read_text())["rounds"][0])
    assert [each["kept"] for each in reports] == [1, 1]
    assert reports[0]["start"] == "from scratch"
    assert reports[1]["start"].endswith("classify/first")
    store = knowledge_store(load_settings())
    first, second = store.entries(kind="head")
    assert second.lineage.parents == (first.entry_id,)


def test_a_task_worker_needs_kafka_and_says_so(task: Path, capsys: pytest.CaptureFixture[str]):
    assert run(["task-worker", str(task)]) == 2
    assert "ALLUVIUM_KAFKA__BOOTSTRAP_SERVERS is missing" in capsys.readouterr().err


def test_a_task_worker_keeps_what_it_learned_and_goes_on_without_a_store_that_fails(database_url: str, tmp_path: Path):
    task = Task.from_toml(_declared(tmp_path))
    settings = load_settings(postgres={"url": database_url}, data_dir=tmp_path / "data")
    store = knowledge_store(settings)
    store.create()
    learner = TaskLearner(task, seed=0)
    assert learn_and_keep(learner, topic_rows(100), store=store).released
    assert [entry.lineage.model_version for entry in store.entries()] == [1]
    nowhere = knowledge_store(load_settings(postgres={"url": "postgresql://nobody@127.0.0.1:1/nothing"}))
    assert learn_and_keep(learner, topic_rows(100, seed=1), store=nowhere).released
    assert learn_and_keep(TaskLearner(task, seed=0), topic_rows(100), store=nowhere).released


def _declared(folder: Path) -> Path:
    path = folder / "declared.toml"
    path.write_text(TOPIC)
    return path
