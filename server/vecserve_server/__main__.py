"""The `vecserve-server` command."""

import sys
from importlib.util import find_spec

# The base install has this command, but not what the server needs: the extra `server`, and
# one of `cpu`, `gpu` and `openvino`, three builds of ONNX Runtime.


def main() -> None:
    """Run the server. Exits 1 if it cannot start, 2 for wrong usage or a missing extra."""
    try:
        from vecserve_server.run import run
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package.startswith("vecserve"):
            raise
        missing = f"vecserve-server needs {package}"
        if package != "onnxruntime" and find_spec("onnxruntime"):
            hint = "pip install 'vecserve[server]'"
        else:
            hint = "pip install 'vecserve[server,cpu]' (or gpu or openvino in place of cpu)"
        print(f"{missing}: {hint}", file=sys.stderr)
        sys.exit(2)
    run()


if __name__ == "__main__":
    main()
