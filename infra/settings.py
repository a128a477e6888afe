"""The settings: one frozen object, read once from `ALLUVIUM_*` variables and the command line.

A group and a field are joined by two underscores: `ALLUVIUM_INGEST__LINGER_MS=50`.
"""

import difflib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import BaseModel, Field, SecretStr, ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, SettingsConfigDict

from infra.errors import SettingsError
from infra.setting_groups import (
    DriftSettings,
    FeaturesSettings,
    GateSettings,
    HttpSettings,
    IngestSettings,
    KafkaSettings,
    KnowledgeSettings,
    LearningSettings,
    ModelSettings,
    PostgresSettings,
    RankingSettings,
)

PREFIX = "ALLUVIUM_"
TEST_PREFIX = "ALLUVIUM_TEST_"  # read by the tests alone


class Settings(BaseSettings):
    """Everything that can be set."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_nested_delimiter="__",
        frozen=True,
        extra="forbid",
        env_ignore_empty=True,
        validate_default=True,
    )

    kafka: KafkaSettings = Field(default_factory=KafkaSettings)
    postgres: PostgresSettings = Field(default_factory=PostgresSettings)
    ingest: IngestSettings = Field(default_factory=IngestSettings)
    features: FeaturesSettings = Field(default_factory=FeaturesSettings)
    ranking: RankingSettings = Field(default_factory=RankingSettings)
    model: ModelSettings = Field(default_factory=ModelSettings)
    learning: LearningSettings = Field(default_factory=LearningSettings)
    gate: GateSettings = Field(default_factory=GateSettings)
    drift: DriftSettings = Field(default_factory=DriftSettings)
    knowledge: KnowledgeSettings = Field(default_factory=KnowledgeSettings)
    http: HttpSettings = Field(default_factory=HttpSettings)
    data_dir: Path = Field(Path("alluvium-data"), description="logs, releases, checkpoints, history")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="least level that is logged")
    log_format: Literal["auto", "text", "json"] = Field("auto", description="auto: text at a terminal, else JSON")
    seed: int = Field(0, ge=0, lt=2**32, description="where every random choice begins")


def load_settings(**overrides: Any) -> Settings:
    """Read the settings from the environment.

    Args:
        overrides: Values from the command line that win over the environment; groups as dicts. None means "not given".

    Raises:
        SettingsError: If a variable is unknown or a value out of bounds; one line naming it, its value and what was
            expected.
    """
    refuse_unknown(os.environ)
    try:
        return Settings(**_given(overrides))
    except ValidationError as error:
        raise SettingsError("; ".join(_explain(problem) for problem in error.errors())) from None


def refuse_unknown(environ: Mapping[str, str]) -> None:
    """Raise if a variable looks like a setting but is none; pydantic-settings would ignore it.

    >>> refuse_unknown({"ALLUVIUM_SEED": "1", "ALLUVIUM_TEST_ANYTHING": "x", "HOME": "/"})
    >>> refuse_unknown({"ALLUVIUM_INGEST__LINGER": "1"})
    Traceback (most recent call last):
    infra.errors.SettingsError: ALLUVIUM_INGEST__LINGER is not a setting; did you mean ALLUVIUM_INGEST__LINGER_MS?
    """
    known = [variable for variable, _ in leaves()]
    for variable in sorted(environ):
        upper = variable.upper()
        if upper.startswith(PREFIX) and not upper.startswith(TEST_PREFIX) and upper not in known:
            near = difflib.get_close_matches(upper, known, n=1, cutoff=0)[0]
            raise SettingsError(f"{variable} is not a setting; did you mean {near}?")


def leaves(model: type[BaseModel] = Settings, prefix: str = PREFIX) -> Iterator[tuple[str, FieldInfo]]:
    """Every setting that can be given: its environment variable and its field, in order.

    >>> next(leaves())[0]
    'ALLUVIUM_KAFKA__BOOTSTRAP_SERVERS'
    """
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from leaves(field.annotation, f"{prefix}{name.upper()}__")
        else:
            yield prefix + name.upper(), field


def _given(overrides: Mapping[str, Any]) -> dict[str, Any]:
    """The overrides without those that are None, at any depth."""
    return {
        name: _given(value) if isinstance(value, Mapping) else value
        for name, value in overrides.items()
        if value is not None
    }


def _explain(problem: Any) -> str:
    """One line for one of pydantic's findings.

    >>> _explain({"loc": ("seed",), "input": "x", "type": "int_parsing", "msg": "Input should be a valid integer"})
    "ALLUVIUM_SEED is 'x'; expected a valid integer"
    """
    variable = PREFIX + "__".join(str(part).upper() for part in problem["loc"])
    message = str(problem["msg"])
    if problem["type"] == "value_error":  # our own validators name the field and say it all
        field, _, rest = message.removeprefix("Value error, ").partition(" ")
        return f"{variable}__{field.upper()} {rest}"
    if problem["type"] == "extra_forbidden":
        return f"{variable} is not a setting"
    secret = any(SecretStr in (field.annotation, *get_args(field.annotation)) for v, field in leaves() if v == variable)
    value = "(hidden)" if secret else repr(problem["input"])
    return f"{variable} is {value}; expected {message.removeprefix('Input should be ')}"
