"""Address and options of a gRPC channel."""

from vecserve._items import MAX_MESSAGE_BYTES

DEFAULT_ADDRESS = "127.0.0.1:8001"
"""Where `vecserve-server` listens unless told otherwise."""

_KEEPALIVE_MS = 6 * 60_000
"""A silent connection is probed this often while a call is open. gRPC servers end
connections that are probed more than once in 5 minutes."""

_KEEPALIVE_TIMEOUT_MS = 20_000
"""A probe without an answer for this long means the connection is dead."""

_LONGEST_RECONNECT_MS = 2_000
"""Pause between attempts to connect, at most; gRPC's own is 2 minutes, which would leave
a client behind long after its server is back."""

OPTIONS = (
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.keepalive_time_ms", _KEEPALIVE_MS),
    ("grpc.keepalive_timeout_ms", _KEEPALIVE_TIMEOUT_MS),
    ("grpc.max_reconnect_backoff_ms", _LONGEST_RECONNECT_MS),
)


def target(address: str) -> str:
    """Return what gRPC calls an address, or several with commas between."""
    if "," not in address:
        return address
    return ("ipv6:" if address.startswith("[") else "ipv4:") + address


def options(*, round_robin: bool) -> list[tuple[str, int | str]]:
    """Return a channel's options: with `round_robin`, each call goes to the next server."""
    policy = [("grpc.lb_policy_name", "round_robin")] if round_robin else []
    return [*OPTIONS, *policy]
