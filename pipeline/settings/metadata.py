"""Where ML Metadata is kept: its section of the configuration, and how TFX connects to it.

Importing this module loads no TFX: the configuration needs the section alone.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, model_validator

from models.errors import ConfigError
from models.model_config import Section
from pipeline.output.layout import Layout

if TYPE_CHECKING:
    from ml_metadata.proto import metadata_store_pb2 as mlmd

Port = Annotated[int, Field(ge=1, le=65535)]
EnvironmentName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]


class MetadataError(ConfigError):
    """ML Metadata cannot be connected to as configured; the message says what to set."""


class MysqlConfig(Section):
    """A MySQL server of one's own; ML Metadata makes the database and its tables."""

    host: str = ""
    port: Port = 3306
    database: Annotated[str, Field(pattern=r"^[A-Za-z0-9_]+$")] = "ctr_metadata"
    user: str = "root"
    password_env: EnvironmentName = "MLMD_MYSQL_PASSWORD"  # noqa: S105 (a name)
    """The environment variable that holds the password; the password itself is never part of a configuration."""
    ssl_ca: str = ""
    """File with the certificate authority of the server; connections are then encrypted and the server is verified."""


class GrpcConfig(Section):
    """ML Metadata's gRPC service, e.g. the one that comes with Kubeflow Pipelines."""

    host: str = ""
    port: Port = 8080


class MetadataConfig(Section):
    """Where ML Metadata is kept; a section named after a kind is read by that kind alone."""

    kind: Literal["sqlite", "mysql", "grpc"] = "sqlite"
    """``sqlite``: a file in the output folder, for the runs of one machine."""
    mysql: MysqlConfig = MysqlConfig()
    grpc: GrpcConfig = GrpcConfig()

    @model_validator(mode="after")
    def _has_host(self) -> MetadataConfig:
        hosts = {"mysql": self.mysql.host, "grpc": self.grpc.host}
        if hosts.get(self.kind) == "":
            raise ValueError(f"kind {self.kind} needs {self.kind}.host")
        return self

    def __str__(self) -> str:
        """For messages: where, and never a password."""
        if self.kind == "mysql":
            return f"MySQL at {self.mysql.host}:{self.mysql.port}/{self.mysql.database}"
        return f"the metadata service at {self.grpc.host}:{self.grpc.port}" if self.kind == "grpc" else "SQLite"


def connection(metadata: MetadataConfig, layout: Layout) -> mlmd.ConnectionConfig | mlmd.MetadataStoreClientConfig:
    """What TFX and ``MetadataStore`` connect with.

    Args:
      metadata: the section.
      layout: of the output folder, where a SQLite file would lie; its folder is made where missing.

    Raises:
      MetadataError: if the password's environment variable is not set, or SQLite is asked for at an address.
    """
    from ml_metadata.proto import metadata_store_pb2 as mlmd

    if metadata.kind == "grpc":
        return mlmd.MetadataStoreClientConfig(host=metadata.grpc.host, port=metadata.grpc.port)
    config = mlmd.ConnectionConfig()
    if metadata.kind == "sqlite":
        if "://" in layout.output:
            raise MetadataError(
                f"metadata.kind: SQLite is a file and cannot lie at {layout.output}; choose mysql or grpc"
            )
        os.makedirs(os.path.dirname(layout.metadata_db), exist_ok=True)
        config.sqlite.filename_uri = layout.metadata_db
        config.sqlite.connection_mode = mlmd.SqliteMetadataSourceConfig.READWRITE_OPENCREATE
        return config
    mysql = metadata.mysql
    password = os.environ.get(mysql.password_env)
    if password is None:
        raise MetadataError(
            f"metadata.mysql.password_env: the environment variable {mysql.password_env} is not set; on a cluster it "
            "comes from a secret (kubeflow.secret_env)"
        )
    config.mysql.host, config.mysql.port = mysql.host, mysql.port
    config.mysql.database, config.mysql.user, config.mysql.password = mysql.database, mysql.user, password
    if mysql.ssl_ca:
        config.mysql.ssl_options.ca = mysql.ssl_ca
        config.mysql.ssl_options.verify_server_cert = True
    return config
