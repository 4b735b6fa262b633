"""From a model whose tables are sharded to one that can be served."""

from __future__ import annotations

from ctr.models.contract import Ranker


def whole(sharded: Ranker, model: Ranker) -> Ranker:
    """Gives a model, built alike, the weights of one whose tables are sharded."""
    names = ("items", "event_items")
    tables = [(getattr(model.embedding, name, None), getattr(sharded.embedding, name, None)) for name in names]
    rest = iter(sharded.variables)
    for variable in model.variables:
        table = next((old for new, old in tables if new is variable), None)
        variable.assign(next(rest).numpy() if table is None else table.numpy())
    return model
