from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmarks.sessions.data import PADDING, Periods, Sessions, group, questions, read
from benchmarks.sessions.errors import SessionsFileError


def written(path: Path, **columns: object) -> Path:
    pq.write_table(pa.table(columns), path)
    return path


def hand_made() -> Periods:
    """Period 0: [a b], [c a]; period 1: [a d b], [d], [b e]; clicks of different sessions interleaved."""
    clicks = [
        (0, 1, "a"), (0, 2, "c"), (0, 1, "b"), (0, 2, "a"),
        (1, 5, "a"), (1, 6, "d"), (1, 5, "d"), (1, 7, "b"), (1, 5, "b"), (1, 7, "e"),
    ]  # fmt: skip
    codes = {item: number for number, item in enumerate("abcde", start=10)}
    return group(
        np.array([click[0] for click in clicks]),
        np.array([click[1] for click in clicks]),
        np.array([codes[click[2]] for click in clicks]),
    )


def test_items_are_numbered_by_their_first_click_so_that_known_items_come_first() -> None:
    periods = hand_made()
    assert periods.known == (3, 5)
    assert [part.items.tolist() for part in periods.sessions] == [[1, 3, 2, 1], [4, 1, 4, 3, 3, 5]]


def test_sessions_stand_in_the_order_of_their_last_click() -> None:
    assert hand_made().sessions[1].lengths.tolist() == [1, 3, 2]  # the one-click session ended first


def test_a_test_drops_unseen_items_first_and_then_sessions_of_one_click() -> None:
    kept = hand_made().test(1)
    assert kept.items.tolist() == [1, 3]  # [a d b] lost d; [d] and [b e] became too short
    assert kept.lengths.tolist() == [2]


def test_every_prefix_asks_for_its_next_item() -> None:
    asked = questions(Sessions(np.array([7, 8, 9, 4, 5]), np.array([0, 3, 5])), history_length=4)
    assert asked.histories.tolist() == [[7, 0, 0, 0], [7, 8, 0, 0], [4, 0, 0, 0]]
    assert asked.lengths.tolist() == [1, 2, 1]
    assert asked.targets.tolist() == [8, 9, 5]
    assert asked.sessions.tolist() == [0, 0, 1]


def test_a_long_history_keeps_its_newest_clicks() -> None:
    asked = questions(Sessions(np.arange(1, 7), np.array([0, 6])), history_length=3)
    assert asked.histories[-1].tolist() == [3, 4, 5]
    assert asked.targets[-1] == 6


def test_sessions_without_questions_give_none() -> None:
    asked = questions(Sessions(np.zeros(0, np.int64), np.array([0])), history_length=3)
    assert len(asked) == 0
    assert asked.histories.shape == (0, 3)
    assert PADDING == 0


def test_a_shop_brings_its_own_file_with_names_for_sessions_and_items(tmp_path: Path) -> None:
    path = written(
        tmp_path / "shop.parquet",
        period=[202401, 202401, 202402, 202402],
        session_id=["x", "x", "y", "y"],
        item_id=["hat", "shoe", "shoe", "hat"],
        price=[1.0, 2.0, 2.0, 1.0],
    )
    periods = read(path)
    assert [part.items.tolist() for part in periods.sessions] == [[1, 2], [2, 1]]


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"period": [0, 1], "item_id": [1, 2]}, "no column session_id"),
        ({"period": ["a", "b"], "session_id": [1, 2], "item_id": [1, 2]}, "period is of type string"),
        ({"period": [0, 1], "session_id": [1, 2], "item_id": [0.5, 2.0]}, "item_id is of type double"),
        ({"period": [0, 1], "session_id": [1, None], "item_id": [1, 2]}, "session_id has empty cells"),
        ({"period": pa.array([], pa.int64()), "session_id": pa.array([], pa.int64()),
          "item_id": pa.array([], pa.int64())}, "no rows"),
        ({"period": [3, 3], "session_id": [1, 1], "item_id": [1, 2]}, "one period"),
    ],
)  # fmt: skip
def test_a_wrong_file_is_refused_in_one_line(tmp_path: Path, columns: dict[str, object], words: str) -> None:
    with pytest.raises(SessionsFileError, match=words) as refused:
        read(written(tmp_path / "shop.parquet", **columns))
    assert "\n" not in str(refused.value)


def test_a_file_that_is_absent_or_not_parquet_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SessionsFileError, match="no such file"):
        read(tmp_path / "nowhere.parquet")
    (tmp_path / "text.parquet").write_text("period,session_id,item_id")
    with pytest.raises(SessionsFileError, match="not Parquet"):
        read(tmp_path / "text.parquet")
