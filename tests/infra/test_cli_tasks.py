"""`alluvium tasks` from a file to answers."""

import json
from pathlib import Path
from typing import Any

import pytest

from infra.cli.app import run
from infra.composition import knowledge_store, learn_and_keep
from infra.settings import leaves, load_settings
from learners.knowledge.store import KnowledgeStore
from learners.tasks.joint import JointLearner
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
SEQUENCE = """
name = "next"
kind = "sequence"
inputs = ["user_id", "item_id"]
target = "item_id_next"
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
        (TOPIC, "deep.jsonl", "expected rows that can be read"),
        (TOPIC.replace('["title"]', "5"), "rows.jsonl", "task's inputs is 5; expected a list of names"),
        (SEQUENCE, "rows.jsonl", "behind Kafka by `alluvium learner`"),
    ],
)
def test_wrong_usage_is_one_line_that_says_what_was_expected(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], declaration: str, file: str, said: str
):
    (tmp_path / "task.toml").write_text(declaration)
    lines(tmp_path / "rows.jsonl", topic_rows(20))
    (tmp_path / "broken.jsonl").write_text('{"title"')
    (tmp_path / "deep.jsonl").write_text("[" * 100_000)
    code = run(["tasks", "learn", str(tmp_path / "task.toml"), str(tmp_path / file), "--out", str(tmp_path / "out")])
    shown = capsys.readouterr().err
    assert code == 2
    assert said in shown
    assert shown.count("\n") == 1


def test_a_file_of_a_spreadsheet_is_read_and_what_is_rejected_is_said(
    tmp_path: Path, task: Path, capsys: pytest.CaptureFixture[str]
):
    file = tmp_path / "rows.csv"
    text = "title,topic\n" + "".join(f"{row['title']},{row['topic']}\n" for row in topic_rows(40))
    file.write_text(text + "mug,sea\npan,sea\n", encoding="utf-8-sig")
    assert run(["tasks", "learn", str(task), str(file), "--out", str(tmp_path / "out")]) == 0
    assert "rejected 2: topic is none of the 2 classes" in capsys.readouterr().out
    assert run(["tasks", "evaluate", str(tmp_path / "out"), str(file)]) == 0
    assert "rejected 2: topic is none of the 2 classes" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("rows", "said"),
    [([], "expected at least one"), ([{"text": "mug"}], "the first is rejected because title is missing")],
)
def test_nothing_to_judge_by_is_an_error(
    tmp_path: Path, task: Path, capsys: pytest.CaptureFixture[str], rows: list[dict[str, object]], said: str
):
    TaskLearner(Task.from_toml(task), seed=0).save(tmp_path / "out")
    assert run(["tasks", "evaluate", str(tmp_path / "out"), str(lines(tmp_path / "rows.jsonl", rows))]) == 2
    assert said in capsys.readouterr().err


def test_what_cannot_be_written_is_one_line(tmp_path: Path, task: Path, capsys: pytest.CaptureFixture[str]):
    TaskLearner(Task.from_toml(task), seed=0).save(tmp_path / "out")
    rows = str(lines(tmp_path / "rows.jsonl", topic_rows(8)))
    for path, code, said in (
        (tmp_path, 2, "directory"),
        (task / "report.json", 1, "alluvium: [Errno"),
        (Path("/dev/full"), 1, "No space left on device"),
    ):
        assert run(["tasks", "evaluate", str(tmp_path / "out"), rows, "--report", str(path)]) == code
        assert said in capsys.readouterr().err
    assert run(["tasks", "predict", str(tmp_path / "out"), rows, "--out", str(task / "said.jsonl")]) == 1
    assert capsys.readouterr().err.startswith("alluvium: [Errno")


def test_a_folder_of_one_task_is_not_taken_for_that_of_several_nor_the_other_way_round(
    tmp_path: Path, task: Path, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / "size.toml").write_text(SIZE)
    tasks = [Task.from_toml(task), Task.from_toml(tmp_path / "size.toml")]
    TaskLearner(tasks[0], seed=0).save(tmp_path / "one")
    JointLearner(tasks, seed=0, share="trunk").save(tmp_path / "two")
    rows = str(lines(tmp_path / "rows.jsonl", topic_rows(8)))
    assert run(["tasks", "learn", str(task), rows, "--out", str(tmp_path / "two")]) == 2
    assert "learned jointly" in capsys.readouterr().err
    words = [str(task), str(tmp_path / "size.toml"), rows, "--share", "trunk"]
    assert run(["tasks", "learn", *words, "--out", str(tmp_path / "one")]) == 2
    assert "learned alone" in capsys.readouterr().err


def test_what_was_learned_is_saved_though_the_store_refuses_it(
    database_url: str, tmp_path: Path, task: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setenv("ALLUVIUM_POSTGRES__URL", database_url)
    monkeypatch.setenv("ALLUVIUM_KNOWLEDGE__URL", str(task / "no folder"))
    (tmp_path / "size.toml").write_text(SIZE)
    rows = str(lines(tmp_path / "rows.jsonl", [{**row, "size": len(row["title"])} for row in topic_rows(60)]))
    for name, words in (("one", [task]), ("two", [task, tmp_path / "size.toml", "--share", "trunk"])):
        out = tmp_path / name
        assert run(["tasks", "learn", *map(str, words), rows, "--out", str(out)]) == 1
        assert "cannot write" in capsys.readouterr().err
        learner = TaskLearner if name == "one" else JointLearner
        assert learner.load(out).version == 1


SIZE = """
name = "size"
kind = "score"
inputs = ["title"]
target = "size"
text_encoder = "hash"
[training]
epochs = 6
"""


def test_several_tasks_are_learned_jointly_from_one_file_evaluated_and_answer(
    tmp_path: Path, task: Path, capsys: pytest.CaptureFixture[str]
):
    size, out, report = tmp_path / "size.toml", tmp_path / "out", tmp_path / "report.json"
    size.write_text(SIZE)
    mixed = [{**row, "size": None if place % 2 else len(row["title"])} for place, row in enumerate(topic_rows(200))]
    rows = lines(tmp_path / "rows.jsonl", mixed)
    arguments = [task, size, rows, "--out", out, "--share", "trunk", "--rounds", "2", "--report", report]
    assert run(["tasks", "learn", *map(str, arguments)]) == 0
    found = json.loads(report.read_text())["rounds"]
    assert [each["task"] for each in found] == ["topic", "size"] * 2
    assert [each["learned"] for each in found] == [80, 40] * 2
    assert [each["released"] for each in found] == [True] * 4

    assert run(["tasks", "evaluate", str(out), str(rows), "--report", str(report)]) == 0
    judged = json.loads(report.read_text())["tasks"]
    assert [(each["task"], each["metrics"]["examples"]) for each in judged] == [
        ("classify/topic", 200),
        ("score/size", 100),
    ]
    assert judged[0]["metrics"]["accuracy"] > 0.9

    capsys.readouterr()
    asked = lines(tmp_path / "asked.jsonl", [{"title": "old spade"}])
    assert run(["tasks", "predict", str(out), str(asked)]) == 0
    (answer,) = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert answer["topic"]["value"] == "garden"
    assert answer["size"]["version"] == 2

    assert run(["tasks", "learn", str(task), str(size), str(rows), "--out", str(tmp_path / "other")]) == 2
    assert "a frozen encoder has nothing to be learned jointly" in capsys.readouterr().err
    assert run(["tasks", "learn", str(task), str(size), *[str(rows)] * 3, "--out", str(out)]) == 2
    assert "EXAMPLES are 3 files; expected one file for all tasks, or 2" in capsys.readouterr().err


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


def test_with_a_store_jointly_learned_tasks_leave_their_heads_under_their_own_names(
    database_url: str, tmp_path: Path, task: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("ALLUVIUM_POSTGRES__URL", database_url)
    size, report = tmp_path / "size.toml", tmp_path / "report.json"
    size.write_text(SIZE)
    rows = lines(tmp_path / "rows.jsonl", [{**row, "size": len(row["title"])} for row in topic_rows(120)])
    arguments = [task, size, rows, "--out", tmp_path / "out", "--share", "trunk", "--report", report]
    assert run(["tasks", "learn", *map(str, arguments)]) == 0
    assert [each["kept"] for each in json.loads(report.read_text())["rounds"]] == [1, 1]
    store = knowledge_store(load_settings())
    assert {entry.lineage.task for entry in store.entries(kind="head")} == {"classify/topic", "score/size"}

    for path, new in ((task, "abroad"), (size, "length")):
        path.write_text(path.read_text().replace(f'name = "{path.stem}"', f'name = "{new}"'))
    lines(rows, [{**row, "size": len(row["title"])} for row in topic_rows(40, seed=1)])
    arguments[arguments.index(tmp_path / "out")] = tmp_path / "new"
    assert run(["tasks", "learn", *map(str, arguments)]) == 0
    first, second = json.loads(report.read_text())["rounds"]
    assert first["start"] == second["start"]
    assert first["start"].split(maxsplit=1)[-1] in {
        f"{donor} for {new}" for donor in ("classify/topic", "score/size") for new in ("abroad", "length")
    }
    heirs = [entry for entry in store.entries(kind="head") if entry.lineage.model in {"abroad", "length"}]
    donors = {entry.entry_id for entry in store.entries() if entry.lineage.model in {"topic", "size"}}
    assert [set(entry.lineage.parents) <= donors and len(entry.lineage.parents) for entry in heirs] == [1, 1]


def test_a_task_worker_needs_kafka_and_says_so(task: Path, capsys: pytest.CaptureFixture[str]):
    assert run(["task-worker", str(task)]) == 2
    assert "ALLUVIUM_KAFKA__BOOTSTRAP_SERVERS is missing" in capsys.readouterr().err


def test_a_task_worker_refuses_before_it_starts_what_it_cannot_learn(
    tmp_path: Path, task: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setenv("ALLUVIUM_KAFKA__BOOTSTRAP_SERVERS", "127.0.0.1:1")
    (tmp_path / "next.toml").write_text(SEQUENCE)
    assert run(["task-worker", str(tmp_path / "next.toml")]) == 2
    shown = capsys.readouterr()
    assert "behind Kafka by `alluvium learner`" in shown.err
    assert "http_open" not in shown.out
    monkeypatch.setenv("ALLUVIUM_DATA_DIR", str(task / "data"))
    assert run(["task-worker", str(task)]) == 1
    assert "Not a directory" in capsys.readouterr().err


def test_a_task_worker_refuses_tasks_that_cannot_be_learned_jointly(
    task: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setenv("ALLUVIUM_KAFKA__BOOTSTRAP_SERVERS", "127.0.0.1:1")
    (tmp_path / "size.toml").write_text(SIZE)
    assert run(["task-worker", str(task), str(tmp_path / "size.toml")]) == 2
    assert "a frozen encoder has nothing to be learned jointly" in capsys.readouterr().err
    assert run(["task-worker", str(task), str(tmp_path / "size.toml"), "--share", "everything"]) == 2
    assert "share is 'everything'" in capsys.readouterr().err


def test_a_task_worker_keeps_what_it_learned_and_goes_on_without_a_store_that_fails(database_url: str, tmp_path: Path):
    task = Task.from_toml(_declared(tmp_path))
    settings = load_settings(postgres={"url": database_url}, data_dir=tmp_path / "data")
    store = knowledge_store(settings)
    store.create()
    learner = TaskLearner(task, seed=0)

    def released(learner: TaskLearner, rows: list[dict[str, Any]], store: KnowledgeStore) -> bool:
        return learn_and_keep(learner, {task.name: rows}, {}, store=store)[task.name].released

    assert released(learner, topic_rows(100), store)
    assert [entry.lineage.model_version for entry in store.entries()] == [1]
    nowhere = knowledge_store(load_settings(postgres={"url": "postgresql://nobody@127.0.0.1:1/nothing"}))
    assert released(learner, topic_rows(100, seed=1), nowhere)
    assert released(TaskLearner(task, seed=0), topic_rows(100), nowhere)


def test_a_worker_of_several_tasks_keeps_what_each_learned_and_goes_on_without_a_store_that_fails(
    database_url: str, tmp_path: Path
):
    (tmp_path / "size.toml").write_text(SIZE)
    tasks = [Task.from_toml(_declared(tmp_path)), Task.from_toml(tmp_path / "size.toml")]
    store = knowledge_store(load_settings(postgres={"url": database_url}, data_dir=tmp_path / "data"))
    store.create()
    rows = [{**row, "size": len(row["title"])} for row in topic_rows(100)]
    examples = {"topic": rows, "size": rows}
    offsets = {"topic": {"0": 7}, "size": {"0": 5, "1": 3}}
    outcomes = learn_and_keep(JointLearner(tasks, seed=0, share="trunk"), examples, offsets, store=store)
    assert [outcome.released for outcome in outcomes.values()] == [True, True]
    left = {entry.lineage.task: entry.lineage.offsets for entry in store.entries()}
    assert left == {"classify/topic": offsets["topic"], "score/size": offsets["size"]}
    nowhere = knowledge_store(load_settings(postgres={"url": "postgresql://nobody@127.0.0.1:1/nothing"}))
    outcomes = learn_and_keep(JointLearner(tasks, seed=0, share="trunk"), examples, offsets, store=nowhere)
    assert [outcome.released for outcome in outcomes.values()] == [True, True]


def _declared(folder: Path) -> Path:
    path = folder / "declared.toml"
    path.write_text(TOPIC)
    return path
