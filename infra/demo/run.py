"""The demo from start to report: the simulated shop drives the real system, a consumer of its outputs looks on."""

import asyncio
import json
import time
from pathlib import Path
from typing import Any

from infra.demo.config import DemoConfig, with_own_folder
from infra.demo.page import render_html
from infra.demo.performance import Performance
from infra.demo.summary import render_text
from infra.demo.view import View
from infra.deployment import Deployment
from infra.settings import Settings


def run_demo(config: DemoConfig, settings: Settings, *, view: View) -> dict[str, Any]:
    """Run the demo and return its report; its files lie in `<data_dir>/demo`.

    Raises:
        InfraError: If a part does not start, or ends again and again.
    """
    began = time.monotonic()
    settings = with_own_folder(settings)
    with Deployment(settings=settings) as deployment:
        view.say("starting Kafka and Postgres")
        deployment.start_stores()
        view.say(f"Kafka at {deployment.bootstrap_servers}; starting worker and learner")
        deployment.start_processes()
        view.say(f"ready after {time.monotonic() - began:.0f} s; {config.duration_s:.0f} s of traffic begin")
        performance = Performance(config, deployment, view)
        asyncio.run(performance.run())
        report = performance.report(wall_s=time.monotonic() - began)
    files = write_report(report, settings.data_dir)
    view.say("")
    view.say(render_text(report))
    view.say("")
    view.say(f"the same as a page: {files['html']}, and as JSON: {files['json']}")
    return report


def write_report(report: dict[str, Any], folder: Path) -> dict[str, Path]:
    """Write the report as report.json and report.html."""
    folder.mkdir(parents=True, exist_ok=True)
    files = {"json": folder / "report.json", "html": folder / "report.html"}
    files["json"].write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    files["html"].write_text(render_html(report), encoding="utf-8")
    return files
