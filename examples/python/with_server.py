"""Starts a server on free ports, runs demo.py against it, and shuts it down.

    python examples/python/with_server.py REPOSITORY

Exits with the demo's code, or the server's if that is not 0.
"""

import re
import subprocess
import sys
import threading
from pathlib import Path

DEMO = Path(__file__).parent / "demo.py"


def main(repository: str) -> int:
    """Run the demo against a server of its own; return the exit code."""
    ports = ["--port", "0", "--metrics-port", "0"]
    command = [sys.executable, "-m", "vecserve_server", "--repository", repository, *ports]
    server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    demo_code = 0
    try:
        if address := wait_until_ready(server):
            demo_code = subprocess.run([sys.executable, str(DEMO), address], check=False).returncode
    finally:
        server.terminate()
        server_code = server.wait()
    return demo_code or server_code


def wait_until_ready(server: "subprocess.Popen[str]") -> str | None:
    """Show the server's log; return its address once it serves, None if it ends before."""
    assert server.stderr
    address = None
    for line in server.stderr:
        sys.stderr.write(line)
        if found := re.search(r"listening on (\S+:\d+)", line):
            address = found[1]
        if re.search(r"serving \d+ models", line):
            threading.Thread(target=sys.stderr.writelines, args=[server.stderr]).start()
            return address
    return None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
