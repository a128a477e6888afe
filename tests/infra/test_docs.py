"""The pages under docs/ name only what there is: settings, metrics, files, commands, topics."""

import re
from pathlib import Path

import pytest
from typer.main import get_command

from infra.cli.app import app
from infra.settings import leaves
from streams.topics import all_topics

ROOT = Path(__file__).parents[2]
PAGES = [*sorted((ROOT / "docs").glob("*.md")), ROOT / "examples" / "README.md"]
SETTINGS = {variable for variable, _ in leaves()}
SOURCES = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "streams").rglob("*.py"))
PROMETHEUS_ENDINGS = ("_total", "_bucket", "_count", "_sum")
FOLDERS = ("streams", "feature_store", "learners", "infra", "docs", "tests", "examples", "benchmarks")


def words(page: Path, pattern: str) -> set[str]:
    return set(re.findall(pattern, page.read_text(encoding="utf-8")))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_setting_exists(page: Path) -> None:
    assert words(page, r"ALLUVIUM_[A-Z_]*[A-Z]") <= SETTINGS


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_metric_exists(page: Path) -> None:
    for metric in words(page, r"`(alluvium_[a-z_]+)"):
        name = next((metric.removesuffix(end) for end in PROMETHEUS_ENDINGS if metric.endswith(end)), metric)
        assert f'"{name}"' in SOURCES, metric


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_file_exists(page: Path) -> None:
    for name in words(page, rf"`((?:{'|'.join(FOLDERS)})/[\w./]+)`"):
        assert (ROOT / name).exists(), name
    for link in words(page, r"\]\((?!https?:)([^)#]+)"):
        assert (page.parent / link).exists(), link


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_exists(page: Path) -> None:
    commands = get_command(app).commands  # type: ignore[attr-defined]
    for name, second in words(page, r"(?:^    |`|\()alluvium ([a-z]+)(?: ([a-z]+))?"):
        assert name in commands, name
        if second and hasattr(commands[name], "commands"):
            assert second in commands[name].commands, f"{name} {second}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_topic_exists(page: Path) -> None:
    topics = all_topics(partitions=1)
    named = words(
        page,
        r"`((?:clickstream|catalog|ranking|search|users|recommendations|quality|drift|models|interactions|experts)\.[a-z_]+(?:\.dlq)?)`",
    )
    assert named <= topics.keys()
