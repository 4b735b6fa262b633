"""The root that every import starts from, ``ctr.models.din`` for instance; its rooms lie beside this folder."""

__version__ = "0.1.0"
