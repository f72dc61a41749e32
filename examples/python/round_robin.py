"""Embeds each line of its input, on the next server every time, and counts.

    python examples/python/round_robin.py HOST:PORT,HOST:PORT

Each server must have the model.
"""

import sys

import grpc

from vecserve.v1.embedding_pb2 import EmbedRequest, Item
from vecserve.v1.embedding_pb2_grpc import EmbeddingServiceStub

MODEL = "all-MiniLM-L6-v2"


def main(addresses: str) -> None:
    """Embed the lines."""
    options = [("grpc.lb_policy_name", "round_robin")]
    # Where one DNS name has all the addresses, this is "dns:///NAME:PORT".
    with grpc.insecure_channel(f"ipv4:{addresses}", options) as channel:
        client = EmbeddingServiceStub(channel)
        for count, line in enumerate(sys.stdin, 1):
            request = EmbedRequest(model=MODEL, items=[Item(text=line)])
            result = client.Embed(request, timeout=10).results[0]
            if result.HasField("error"):
                sys.exit(result.error.message)
            print("ok", count, flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
