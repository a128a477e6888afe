"""`alluvium evaluate` tells the model of pictures where the settings say so, as the live learner does."""

import json
from pathlib import Path
from typing import Any

import pytest

from infra.cli.app import run
from tests.infra.picture_shop import settings, shop

pytestmark = pytest.mark.usefixtures("logs_restored")


def evaluated(monkeypatch: pytest.MonkeyPatch, folder: Path, log: Path, catalog: Path, **given: Any) -> dict[str, Any]:
    settings(monkeypatch, folder, **given)
    words = ["evaluate", str(log), "--catalog", str(catalog), "--seed", "1", "--report", str(folder / "report.json")]
    assert run([*words, "--out", str(folder / "out")]) == 0
    report: dict[str, Any] = json.loads((folder / "report.json").read_text())
    return report


def test_what_only_pictures_tell_makes_rankings_better_and_bad_pictures_are_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    log, catalog = shop(tmp_path, "vases", items=30, people=120)
    (tmp_path / "vases" / "0.png").write_bytes(b"\x89PNG\r\n\x1a\nand then nothing")
    (tmp_path / "vases" / "1.png").unlink()

    without = evaluated(monkeypatch, tmp_path, log, catalog, pictures=False)
    assert "pictures" not in capsys.readouterr().err
    told = evaluated(monkeypatch, tmp_path, log, catalog)

    shown = capsys.readouterr().err
    assert "pictures: 118 looked at, 2 rejected (missing 1, unreadable 1)" in shown
    assert "item texts" in shown
    assert told["pictures"] == {"encoded": 118, "unreadable": 1, "missing": 1}
    assert "Pictures: 118 looked at, 2 rejected" in (tmp_path / "out" / "evaluation.md").read_text()
    assert "pictures" not in without
    alike, better = (report["quality"]["shared_model"]["ndcg_10"] for report in (without, told))
    assert better > 2 * alike
    assert told["quality"]["mixture"]["ndcg_10"] > without["quality"]["mixture"]["ndcg_10"] - 0.01
