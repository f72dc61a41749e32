"""Options of the gRPC server that follow from the settings."""

from vecserve_server.config import ServerConfig

Option = tuple[str, int]


def server_options(config: ServerConfig) -> list[Option]:
    """Return the server's channel arguments."""
    options = [
        ("grpc.max_receive_message_length", config.max_message_mb * 1024 * 1024),
        # What a client opens beyond them waits on its side.
        ("grpc.max_concurrent_streams", config.max_connection_calls),
        # Two servers on one port would share its callers silently.
        ("grpc.so_reuseport", 0),
        # Clients behind load balancers keep idle connections alive.
        ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
        ("grpc.keepalive_permit_without_calls", 1),
    ]
    if config.max_connection_age_s:
        options += [
            ("grpc.max_connection_age_ms", config.max_connection_age_s * 1000),
            ("grpc.max_connection_age_grace_ms", round(config.shutdown_grace_s * 1000)),
        ]
    return options
