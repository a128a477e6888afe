"""`alluvium pictures`: a folder of pictures to a network that a setting names."""

import json
from pathlib import Path

import pytest
from PIL import Image

from infra.cli.app import run
from learners.items.image import open_image_encoder
from learners.items.picture import PictureSource
from learners.items.picture_net.training import NetConfig

pytestmark = pytest.mark.usefixtures("logs_restored")


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    folder = tmp_path / "shop"
    (folder / "below").mkdir(parents=True)
    Image.new("RGB", (300, 200), "red").save(folder / "red.png")
    Image.new("RGB", (50, 50), "blue").save(folder / "below" / "blue.jpg")
    (folder / "broken.jpg").write_bytes(b"no picture")
    (folder / "prices.csv").write_text("red,1\n")
    return folder


def command(folder: Path, out: Path) -> list[str]:
    sizes = ["--steps", "3", "--channels", "4", "--seed", "5"]
    return ["pictures", "train", str(folder), "--out", str(out), *sizes, "--quiet"]


def test_a_folder_of_pictures_becomes_an_encoder(
    shop: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "net"
    assert run(command(shop, out)) == 0
    assert "2 of 3 pictures, rejected: 1 unreadable" in capsys.readouterr().out
    facts = json.loads((out / "picture_net.json").read_text())
    assert (facts["pictures"], facts["steps"], facts["seed"], facts["channels"]) == (2, 3, 5, 4)
    assert open_image_encoder(str(out)).width == 975 + 16

    assert run(command(shop, out)) == 2  # the setting of a running shop may name it
    assert "exists" in capsys.readouterr().err


def test_a_folder_without_pictures_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").mkdir()
    for folder in (tmp_path / "empty", tmp_path / "nowhere"):
        assert run(command(folder, tmp_path / "net")) == 1
        assert "pictures is 0; expected 2 or more" in capsys.readouterr().err
    assert not (tmp_path / "net").exists()


def test_of_a_large_catalogue_no_more_pictures_are_looked_at_than_are_learned_from(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    shop, looked_at, decode = tmp_path / "shop", [], PictureSource.decode

    def noted(source: PictureSource, name: str, content: bytes) -> object:
        looked_at.append(name)
        return decode(source, name, content)

    shop.mkdir()
    for number in range(9):
        Image.new("RGB", (20, 20), (20 * number, 0, 0)).save(shop / f"{number}.png")
    monkeypatch.setattr(PictureSource, "decode", noted)
    monkeypatch.setattr(NetConfig, "most_pictures", 4)
    assert run(command(shop, tmp_path / "net")) == 0
    assert "4 of 9 pictures, rejected: none" in capsys.readouterr().out
    assert len(set(looked_at)) == len(looked_at) == 4
    assert json.loads((tmp_path / "net" / "picture_net.json").read_text())["pictures"] == 4
