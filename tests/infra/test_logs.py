"""Logs are one JSON object a line where no terminal is, the libraries' included."""

import json
import subprocess
import sys

CODE = """
import logging
import structlog
from infra import logs
logs.configure(level="info", form="auto")
structlog.get_logger("alluvium.part").info("flushed", events=3)
structlog.get_logger("alluvium.part").debug("too quiet")
logging.getLogger("somebody").warning("disk %s", "full")
logging.getLogger("aiokafka").info("chatter")
try:
    1 / 0
except ZeroDivisionError:
    structlog.get_logger("alluvium.part").exception("broken")
"""


def test_logs_are_json_without_a_terminal() -> None:
    run = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    assert run.stdout == ""
    lines = [json.loads(line) for line in run.stderr.splitlines()]
    assert [line["event"] for line in lines] == ["flushed", "disk full", "broken"]
    assert (lines[0]["events"], lines[0]["level"], lines[0]["logger"]) == (3, "info", "alluvium.part")
    assert lines[0]["timestamp"].endswith("Z")
    assert lines[2]["exception"][0]["exc_type"] == "ZeroDivisionError"
