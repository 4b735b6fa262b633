"""Where ML Metadata is kept: its section of the configuration."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from ctr.models.section import Section

Port = Annotated[int, Field(ge=1, le=65535)]
EnvironmentName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]


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
