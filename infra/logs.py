"""Structured logs on standard error: lines for people at a terminal, JSON elsewhere."""

import logging
import sys
from typing import Literal

import structlog

Format = Literal["auto", "text", "json"]

# libraries that tell stories at "info"
QUIET = (
    "aiokafka",
    "faust",
    "mode",
    "kafka",
    "feast",
    "httpx",
    "urllib3",
    "transformers",
    "huggingface_hub",
    "asyncio",
)


class _StandardError(logging.Handler):
    """Writes to whatever standard error is at the moment, not to what it was when logging was configured."""

    def emit(self, record: logging.LogRecord) -> None:
        sys.stderr.write(self.format(record) + "\n")
        sys.stderr.flush()


def configure(*, level: str = "info", form: Format = "auto") -> None:
    """Send this process's logs, the libraries' included, to standard error.

    Args:
        level: Least level shown: debug, info, warning or error.
        form: `auto` means text at a terminal and JSON elsewhere.
    """
    as_json = form == "json" or (form == "auto" and not sys.stderr.isatty())
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]
    renderer: list[structlog.typing.Processor] = (
        [structlog.processors.dict_tracebacks, structlog.processors.JSONRenderer()]
        if as_json
        else [structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())]
    )
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = _StandardError()
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderer],
        )
    )
    logging.basicConfig(handlers=[handler], level=level.upper(), force=True)
    logging.captureWarnings(capture=True)  # libraries turn on warnings that only their authors can act on
    logging.getLogger("py.warnings").setLevel(logging.ERROR)
    for name in QUIET:
        logging.getLogger(name).setLevel(max(logging.WARNING, logging.getLogger().level))
