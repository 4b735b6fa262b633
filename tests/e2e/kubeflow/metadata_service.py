"""ML Metadata's gRPC service over a SQLite file: the real store behind the real protocol, for steps to meet in.

The package carries the client and the store, not the server's binary; what lies between is one call a method.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from concurrent import futures
from pathlib import Path

import grpc
from ml_metadata.metadata_store.pywrap.metadata_store_extension import metadata_store as store_calls
from ml_metadata.proto import metadata_store_pb2 as mlmd

_CODES = {code.value[0]: code for code in grpc.StatusCode}


class _Methods(grpc.GenericRpcHandler):
    def __init__(self, file: Path) -> None:
        config = mlmd.ConnectionConfig()
        config.sqlite.filename_uri = str(file)
        config.sqlite.connection_mode = mlmd.SqliteMetadataSourceConfig.READWRITE_OPENCREATE
        self._store = store_calls.CreateMetadataStore(
            config.SerializeToString(), mlmd.MigrationOptions().SerializeToString()
        )
        self._lock = threading.Lock()

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        return grpc.unary_unary_rpc_method_handler(self._caller(details.method.rpartition("/")[2]))

    def _caller(self, name: str) -> Callable[[bytes, grpc.ServicerContext], bytes]:
        def call(request: bytes, context: grpc.ServicerContext) -> bytes:
            with self._lock:
                response, message, code = getattr(store_calls, name)(self._store, request)
            if code:
                context.abort(_CODES[code], message.decode())
            return bytes(response)

        return call


@contextlib.contextmanager
def metadata_service(file: Path) -> Iterator[int]:
    """Serves the store while the block runs.

    Yields:
      The port, on the loopback address.
    """
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=4))
    server.add_generic_rpc_handlers((_Methods(file),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield port
    finally:
        server.stop(grace=None).wait()
