import json
from pathlib import Path

import pytest

from examples.common import read_lines
from examples.opinion.posts import DATA, SENTIMENTS, TOPICS, Newsroom
from examples.opinion.run import IN_TIME, STREAMED, SURGE, SURGING, alarms_of, delay, main, true_words


@pytest.mark.parametrize("seed", range(4))
def test_a_reader_without_fault_raises_the_alarm_in_time_and_none_before(seed: int) -> None:
    stream = Newsroom(seed).stream(STREAMED, surge=SURGE, topic=SURGING)

    raised = alarms_of(true_words(stream))

    noticed = delay(raised)
    assert noticed is not None
    assert noticed <= IN_TIME
    assert not [place for place, _ in raised if place < SURGE.start]


def test_no_alarm_is_raised_where_nothing_surges() -> None:
    stream = Newsroom(0).stream(STREAMED, surge=range(0), topic=SURGING)

    assert alarms_of(true_words(stream)) == []


def test_learners_meet_only_some_of_the_phrases_and_the_stream_has_all() -> None:
    news = Newsroom(1)
    familiar, stream = news.familiar(2_000), news.stream(4_000, surge=range(0), topic=SURGING)

    phrases = [row["says"] for row in read_lines(DATA / "phrases.jsonl")]
    heard = {phrase for phrase in phrases if any(phrase in post["text"] for post in familiar)}
    met = {phrase for phrase in phrases if any(phrase in post["text"] for post in stream)}
    assert len(phrases) == len(TOPICS) * len(SENTIMENTS) * 8
    assert len(heard) == len(TOPICS) * len(SENTIMENTS) * 5
    assert met == set(phrases)


def test_the_example_still_runs_at_toy_size(tmp_path: Path) -> None:
    main(["--toy", "--seeds", "1", "--out", str(tmp_path)])

    found = json.loads((tmp_path / "opinion.json").read_text())["0"]
    assert found["accuracy"]["joint"][0] > 0.4  # of five topics, by an encoder that knows no language
    assert found["accuracy"]["joint"][1] > 0.5  # the commonest of three sentiments is 0.43 of all
    assert (tmp_path / "opinion.png").stat().st_size > 5_000
