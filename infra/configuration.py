"""The configuration table of the README, made from the settings: `python -m infra.configuration` writes it there."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic import SecretStr
from pydantic.fields import FieldInfo

from infra.settings import leaves

README = Path(__file__).parents[1] / "README.md"
BEGIN, END = "<!-- configuration: begin -->", "<!-- configuration: end -->"
KINDS = {
    SecretStr: "text (secret)",
    str: "text",
    int: "whole number",
    float: "number",
    bool: "true or false",
    Path: "path",
}
SIGNS = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<"}


def table() -> str:
    """The table in Markdown, one line a setting."""
    head = ["| variable | default | values | meaning |", "|---|---|---|---|"]
    return "\n".join([*head, *_rows()])


def insert(page: str) -> str:
    """A page with the table between its two marks replaced by today's.

    Raises:
        ValueError: If the page lacks the marks.
    """
    pattern = re.compile(re.escape(BEGIN) + ".*?" + re.escape(END), re.DOTALL)
    if not pattern.search(page):
        raise ValueError(f"the page has no {BEGIN} ... {END}")
    return pattern.sub(lambda _: f"{BEGIN}\n{table()}\n{END}", page)


def _rows() -> Iterator[str]:
    for variable, field in leaves():
        yield f"| `{variable}` | {_default(field)} | {_values(field)} | {field.description} |"


def _default(field: FieldInfo) -> str:
    return "none" if field.default is None else f"`{field.default}`"


def _values(field: FieldInfo) -> str:
    kind = _kind(field.annotation)
    bounds = [
        f"{SIGNS[sign]} {value:,}"
        for item in field.metadata
        for sign in ("ge", "gt", "le", "lt")
        if (value := getattr(item, sign, None)) is not None
    ]
    return ", ".join([kind, *bounds])


def _kind(annotation: Any) -> str:
    if get_origin(annotation) is Literal:
        return " \\| ".join(f"`{value}`" for value in get_args(annotation))
    choices = [part for part in get_args(annotation) if part is not type(None)]
    if choices:
        return " or ".join(_kind(part) for part in choices)
    return KINDS[annotation]


if __name__ == "__main__":
    README.write_text(insert(README.read_text(encoding="utf-8")), encoding="utf-8")
