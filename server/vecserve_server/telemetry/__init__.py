"""Telemetry: metrics, statistics and logs."""
