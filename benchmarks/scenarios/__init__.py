"""One function a scenario; `benchmarks.run` names them."""
