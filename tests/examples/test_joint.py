import torch

from examples.joint import learn_jointly, scores, tied
from learners.tasks.config import TrainingConfig
from learners.tasks.task import Task

TRAINING = TrainingConfig(epochs=10, batch=16, learning_rate=3e-3)
COLOUR = Task(
    name="colour",
    kind="classify",
    inputs=("text",),
    target="colour",
    classes=("red", "blue"),
    text_encoder="hash",
    training=TRAINING,
)
SIZE = Task(name="size", kind="score", inputs=("text",), target="size", text_encoder="hash", training=TRAINING)


def rows() -> list[dict[str, object]]:
    return [
        {"text": f"{colour} {thing} {number}", "colour": colour, "size": float(size)}
        for number in range(12)
        for colour in ("red", "blue")
        for size, thing in enumerate(("pin", "mug", "chair"))
    ]


def test_tied_models_share_all_but_their_last_layers_and_both_learn() -> None:
    colour, size = tied([COLOUR, SIZE], seed=0)

    learn_jointly([colour, size], rows(), seed=0)

    shared = {id(value) for value in colour.parameters()} & {id(value) for value in size.parameters()}
    last = {id(value) for model in (colour, size) for value in list(model.head.children())[-1].parameters()}
    assert shared
    assert not shared & last
    asked = [{"text": "blue chair 3"}, {"text": "red pin 5"}]
    assert scores(colour, asked).argmax(axis=1).tolist() == [1, 0]
    large, small = scores(size, asked)
    assert large > small + 1


def test_rows_without_a_label_of_one_task_teach_only_the_others() -> None:
    colour, size = tied([COLOUR, SIZE], seed=0)
    last = list(size.head.children())[-1]
    before = [value.detach().clone() for value in last.parameters()]

    learn_jointly([colour, size], [{**row, "size": None} for row in rows()], seed=0)

    assert scores(colour, [{"text": "blue mug 1"}]).argmax() == 1
    assert all(torch.equal(now, then) for now, then in zip(last.parameters(), before, strict=True))
