"""Collections of vectors in a vector database or in files: Milvus and Parquet."""

from pathlib import Path

from vecserve.store.base import Store, StoreError
from vecserve.store.milvus import MilvusStore
from vecserve.store.parquet import ParquetStore


def open_store(into: str, collection: str, token: str | None = None) -> Store:
    """Open a collection, which need not exist yet; nothing is written.

    `into` says where: a path that ends in .db is a Milvus Lite database, one that
    ends in .parquet a folder of Parquet files, and a URI (https://...) a Milvus
    server or Zilliz Cloud, which may want a `token`.

    Raises StoreError for any other `into` and for what cannot be opened, and
    MissingExtra.
    """
    if "://" in into:
        return MilvusStore(into, collection, token=token)
    path = Path(into)
    if path.suffix == ".db":
        return MilvusStore(str(path), collection, local=True)
    if path.suffix == ".parquet":
        return ParquetStore(path, collection)
    raise StoreError(
        f"{into} is no place for vectors: give a file NAME.db (Milvus Lite), a folder "
        "NAME.parquet, or the URI of a Milvus server"
    )
