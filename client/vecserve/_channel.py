"""How both clients open their channel."""

from vecserve._items import MAX_MESSAGE_BYTES

DEFAULT_ADDRESS = "127.0.0.1:8001"
"""Where `vecserve-server` listens unless told otherwise."""

_KEEPALIVE_MS = 6 * 60_000
"""A silent connection is probed this often while a call is open. gRPC servers end
connections that are probed more than once in 5 minutes."""

_KEEPALIVE_TIMEOUT_MS = 20_000
"""A probe without an answer for this long means the connection is dead."""

OPTIONS = (
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.keepalive_time_ms", _KEEPALIVE_MS),
    ("grpc.keepalive_timeout_ms", _KEEPALIVE_TIMEOUT_MS),
)
