"""One run of the server: flags, start, signals, stop."""

import asyncio
import logging
import os
import signal
import sys
import threading
from argparse import ArgumentParser
from importlib.metadata import version

import uvloop
from pydantic import ValidationError
from pydantic_settings import CliApp, CliSettingsSource

from vecserve_server.app import App
from vecserve_server.config import ServerConfig
from vecserve_server.engine.session import GraphError
from vecserve_server.errors import StartError
from vecserve_server.malloc import return_large_blocks
from vecserve_server.repository.errors import BundleError
from vecserve_server.telemetry.logs import configure_logs

_log = logging.getLogger(__name__)

# Exit code of a server that had to leave something undone at its end.
EXIT_UNFINISHED = 3
# Threads that end by themselves have so long after the grace, in seconds.
_LAST_S = 3.0


def run() -> None:
    """Read the settings, serve until SIGTERM or SIGINT, and stop cleanly."""
    flags = CliSettingsSource[ArgumentParser](ServerConfig)
    flags.root_parser.add_argument(
        "--version",
        action="version",
        version=f"vecserve-server {version('vecserve')}",
        help="print the version and exit",
    )
    try:
        config = CliApp.run(ServerConfig, cli_settings_source=flags)
    except ValidationError as error:
        for detail in error.errors():
            flag = "--" + str(detail["loc"][0]).replace("_", "-")
            print(f"vecserve-server: {flag}: {detail['msg']}", file=sys.stderr)
        sys.exit(2)
    configure_logs(config.log_level)
    return_large_blocks()
    try:
        uvloop.run(serve(config))
    except (StartError, BundleError, GraphError) as problem:
        print(f"vecserve-server: {problem}", file=sys.stderr)
        sys.exit(1)


async def serve(config: ServerConfig) -> None:
    """Run one server until the first signal; a second one ends the process at once."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()

    def on_signal() -> None:
        stop.set()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal)
    app = App(config)
    await app.start()
    loading = asyncio.create_task(app.load())
    stopping = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({loading, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if loading.done():
            loading.result()
        await stopping
    finally:
        loading.cancel()
        stopping.cancel()
        _end_at_latest(config.shutdown_grace_s)
        await app.stop()


def _end_at_latest(grace_s: float) -> None:
    """End the process soon after the grace, whatever hangs: a thread cannot be stopped."""

    def end() -> None:
        names = sorted(thread.name for thread in threading.enumerate() if not thread.daemon)
        _log.critical(
            "ended %.0f s after the grace with work unfinished, in threads %s; exit code %d",
            _LAST_S,
            ", ".join(names),
            EXIT_UNFINISHED,
        )
        os._exit(EXIT_UNFINISHED)

    timer = threading.Timer(grace_s + _LAST_S, end)
    timer.daemon = True
    timer.start()
