"""How TFX and ``MetadataStore`` connect to ML Metadata; needs ``ml_metadata`` alone, not TFX."""

from __future__ import annotations

import os

from ml_metadata.proto import metadata_store_pb2 as mlmd

from ctr.components.files import is_address
from ctr.models.errors import ConfigError
from ctr.pipeline.output.layout import Layout
from ctr.pipeline.settings.metadata import MetadataConfig


class MetadataError(ConfigError):
    """ML Metadata cannot be connected to as configured; the message says what to set."""


def connection(metadata: MetadataConfig, layout: Layout) -> mlmd.ConnectionConfig | mlmd.MetadataStoreClientConfig:
    """What TFX and ``MetadataStore`` connect with; the folder of a SQLite file is made where missing.

    Raises:
      MetadataError: if the password's environment variable is not set, or SQLite is asked for at an address.
    """
    if metadata.kind == "grpc":
        return mlmd.MetadataStoreClientConfig(host=metadata.grpc.host, port=metadata.grpc.port)
    config = mlmd.ConnectionConfig()
    if metadata.kind == "sqlite":
        if is_address(layout.output):
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
