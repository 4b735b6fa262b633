"""The files of TLS, for gRPC and HTTP alike; without TensorFlow."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path

import grpc

from ctr.models.errors import ConfigError


@dataclass(frozen=True)
class ServerTls:
    """What a server proves itself with, and whom it asks for a proof.

    Raises:
      ConfigError: if a file cannot be read, or certificate and key do not belong together.
    """

    certificate: Path
    """PEM file of the server's certificate and those between it and its authority."""
    key: Path
    """PEM file of its private key, without a password."""
    client_ca: Path | None = None
    """PEM file of the authorities whose clients are let in (mutual TLS); None: every client is."""

    def __post_init__(self) -> None:
        self.context()

    def context(self) -> ssl.SSLContext:
        """For HTTP."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        try:
            context.load_cert_chain(self.certificate, self.key, password=_no_password)
            if self.client_ca is not None:
                context.load_verify_locations(self.client_ca)
                context.verify_mode = ssl.CERT_REQUIRED
        except (OSError, ValueError) as error:
            files = ", ".join(str(file) for file in (self.certificate, self.key, self.client_ca) if file is not None)
            raise ConfigError(f"TLS: {files}: {getattr(error, 'strerror', None) or error}") from error
        return context

    def credentials(self) -> grpc.ServerCredentials:
        """For gRPC."""
        ca = self.client_ca.read_bytes() if self.client_ca is not None else None
        pair = (self.key.read_bytes(), self.certificate.read_bytes())
        return grpc.ssl_server_credentials([pair], root_certificates=ca, require_client_auth=ca is not None)


def _no_password() -> str:
    raise ValueError("the key has a password; take one without")
