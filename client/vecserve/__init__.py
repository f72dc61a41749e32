"""Python client of vecserve: text, images, audio and video in, vectors out.

from vecserve import Client

with Client("127.0.0.1:8001") as client:
    rows = client.embed("all-MiniLM-L6-v2", ["a text", "another"])
"""

from vecserve._items import Audio, Image, Item, Pcm, Video
from vecserve._results import Result, Span, Timings, Vector
from vecserve.aio import AsyncClient
from vecserve.client import Client
from vecserve.errors import (
    DeadlineExceeded,
    EmbedError,
    InvalidRequest,
    ItemFailure,
    ModelNotFound,
    ServerError,
    ServerUnavailable,
    VecserveError,
)
from vecserve.models import Modality, ModelInfo, Output

__all__ = [
    "AsyncClient",
    "Audio",
    "Client",
    "DeadlineExceeded",
    "EmbedError",
    "Image",
    "InvalidRequest",
    "Item",
    "ItemFailure",
    "Modality",
    "ModelInfo",
    "ModelNotFound",
    "Output",
    "Pcm",
    "Result",
    "ServerError",
    "ServerUnavailable",
    "Span",
    "Timings",
    "VecserveError",
    "Vector",
    "Video",
]
