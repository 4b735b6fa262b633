"""The sides of ``benchmarks.training`` that are others' work, each in an environment of its own.

- ``deepctr``: DeepCTR's DIN, DIEN and BST by its own ``fit``, on a CPU. Its DIEN and BST need TensorFlow 2.10.
- ``rechub``: torch-rechub's DIN, DIEN and BST, dense Adam. Its DIEN computes the auxiliary loss whose weight is 0 here.
- ``torch-dense`` and ``torch-sparse``: a plain DNN and DIN written here, compiled by ``torch.compile``; a history is
  encoded once for its candidates, as in this project. The first updates whole tables by dense Adam, the second the
  rows of the batch by SparseAdam.

Their data lie in memory, of the GPU where there is one. It needs nothing of this project but the module beside it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.turns import Work, answer

if TYPE_CHECKING:
    import torch

PEERS = {
    "deepctr": ("din", "dien", "transformer4rec"),
    "rechub": ("din", "dien", "transformer4rec"),
    "torch-dense": ("dnn", "din"),
    "torch-sparse": ("dnn", "din"),
}
"""Peer -> this project's models that it has a counterpart of."""
DIM, HIDDEN, ATTENTION, HEADS, FEED_FORWARD = 16, (256, 128, 64), (80, 40), 8, 8
"""DeepCTR's default widths; the inner width of a block is ``FEED_FORWARD`` times ``DIM``."""
Pairs = dict[str, np.ndarray]


def read(path: str, batch: int) -> tuple[Pairs, int, int]:
    """[n, ...] int64 ids of whole batches of impressions, from 1, and how many items and categories there are."""
    with np.load(path) as file:
        data = {name: file[name].astype(np.int64) for name in file.files}
    items, categories = int(data.pop("items")), int(data.pop("categories"))
    rows = len(data["history_item"]) // batch * batch
    return {name: value[:rows] for name, value in data.items()}, items, categories


def as_pairs(data: Pairs) -> Pairs:
    """Each candidate with a history of its own, and its label: the first of an impression was chosen."""
    candidates = data["candidate_item"].shape[1]
    pairs = {name: np.repeat(data[f"history_{name}"], candidates, axis=0) for name in ("item", "category")}
    label = np.tile(np.arange(candidates) == 0, len(data["candidate_item"])).astype(np.float32)
    return {
        "item": data["candidate_item"].ravel(),
        "category": data["candidate_category"].ravel(),
        "hist_item": pairs["item"],
        "hist_category": pairs["category"],
        "seq_length": (pairs["item"] > 0).sum(axis=1),
        "label": label,
    }


def deepctr(model_name: str, path: str, batch: int) -> tuple[Work, dict[str, Any]]:
    """DeepCTR's model on pairs."""
    import tensorflow as tf
    from deepctr.feature_column import SparseFeat, VarLenSparseFeat
    from deepctr.models import BST, DIEN, DIN

    threads = len(os.sched_getaffinity(0))
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)
    data, items, categories = read(path, batch)
    inputs = as_pairs(data)
    label = inputs.pop("label")
    target = [SparseFeat("item", items, DIM), SparseFeat("category", categories, DIM)]
    history = [
        VarLenSparseFeat(
            SparseFeat(f"hist_{name}", size, DIM, embedding_name=name),
            maxlen=data["history_item"].shape[1],
            length_name="seq_length",
        )
        for name, size in (("item", items), ("category", categories))
    ]
    columns, behaviours = target + history, ["item", "category"]
    if model_name == "din":
        model = DIN(columns, behaviours, dnn_hidden_units=HIDDEN, att_hidden_size=ATTENTION)
    elif model_name == "dien":
        # Its recurrence cannot be built eagerly; DeepCTR's own example does the same.
        tf.compat.v1.disable_eager_execution()
        model = DIEN(columns, behaviours, dnn_hidden_units=HIDDEN, gru_type="AUGRU", use_negsampling=False)
    else:
        model = BST(columns, behaviours, dnn_hidden_units=HIDDEN, att_head_num=HEADS)
    model.compile("adam", "binary_crossentropy")
    tables = sum(int(np.prod(w.shape)) for w in model.weights if "embedding" in w.name and "/" in w.name)
    candidates = data["candidate_item"].shape[1]

    def epoch() -> int:
        model.fit(inputs, label, batch_size=candidates * batch, epochs=1, verbose=0, shuffle=False)
        return len(data["candidate_item"])

    return epoch, {"parameters": model.count_params(), "dense": model.count_params() - tables}


def rechub(model_name: str, path: str, batch: int) -> tuple[Work, dict[str, Any]]:
    """torch-rechub's model on pairs."""
    import torch
    from torch_rechub.basic.features import SequenceFeature, SparseFeature
    from torch_rechub.models.ranking import BST, DIEN, DIN

    data, items, categories = read(path, batch)
    pairs = as_pairs(data)
    pairs |= {f"other_{name}": np.roll(pairs[f"hist_{name}"], 2, axis=0) for name in ("item", "category")}
    sizes = {"item": items, "category": categories}
    target = [SparseFeature(name, size, DIM, padding_idx=0) for name, size in sizes.items()]

    def sequence(kind: str) -> list[Any]:
        return [
            SequenceFeature(f"{kind}_{name}", size, DIM, pooling="concat", shared_with=name, padding_idx=0)
            for name, size in sizes.items()
        ]

    attention, mlp = {"dims": list(ATTENTION), "activation": "dice"}, {"dims": list(HIDDEN)}
    if model_name == "din":
        model = DIN([], sequence("hist"), target, mlp_params=mlp, attention_mlp_params=attention)
    elif model_name == "dien":
        model = DIEN([], sequence("hist"), sequence("other"), target, mlp_params=mlp, alpha=0.0)
    else:
        length = data["history_item"].shape[1]
        model = BST([], sequence("hist"), target, mlp_params=mlp, nhead=HEADS, dropout=0.0, max_seq_len=length + 1)
    model.embedding.forward = _without_features(model.embedding.forward)
    device, loss_of = _device(), torch.nn.BCELoss()
    model.to(device).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)

    def step(part: dict[str, torch.Tensor]) -> None:
        answered = model(part)
        scores, auxiliary = answered if model_name == "dien" else (answered, 0.0)
        optimizer.zero_grad()
        (loss_of(scores, part["label"]) + auxiliary).backward()
        optimizer.step()

    tables = sum(p.numel() for p in model.embedding.parameters())
    parameters = sum(p.numel() for p in model.parameters())
    return _steps(step, pairs, 2 * batch, 2), {"parameters": parameters, "dense": parameters - tables}


def _without_features(forward: Callable[..., Any]) -> Callable[..., Any]:
    """torch-rechub refuses a model without a feature of the user: none gives an embedding of no columns here."""

    def embedded(inputs: dict[str, Any], features: list[Any], *rest: Any, **named: Any) -> Any:
        if features:
            return forward(inputs, features, *rest, **named)
        return inputs["label"].new_zeros((len(inputs["label"]), 0))

    return embedded


def compiled(model_name: str, path: str, batch: int, sparse: bool) -> tuple[Work, dict[str, Any]]:
    """A plain model of PyTorch on impressions."""
    import torch
    from torch import nn

    data, items, categories = read(path, batch)
    data["label"] = np.zeros(data["candidate_item"].shape, np.float32)
    data["label"][:, 0] = 1
    tables = [nn.Embedding(size, DIM, sparse=sparse).to(_device()) for size in (items, categories)]
    model = _plain(with_attention=model_name == "din").to(_device()).train()
    loss_of = nn.BCEWithLogitsLoss()

    def looked_up(part: dict[str, torch.Tensor]) -> list[torch.Tensor]:
        kinds = ("history", "candidate")
        return [torch.cat([tables[0](part[f"{k}_item"]), tables[1](part[f"{k}_category"])], -1) for k in kinds]

    def dense_part(part: dict[str, torch.Tensor], embedded: list[torch.Tensor]) -> torch.Tensor:
        loss: torch.Tensor = loss_of(model((part["history_item"] > 0).float(), *embedded), part["label"])
        return loss

    mode = "reduce-overhead" if _device() == "cuda" else None
    # Inductor knows no sparse gradient: lookups stay outside of what it compiles then.
    fast = torch.compile(dense_part, mode=mode) if sparse else dense_part

    def loss_on(part: dict[str, torch.Tensor]) -> torch.Tensor:
        return fast(part, looked_up(part))

    whole = loss_on if sparse else torch.compile(loss_on, mode=mode)

    rows = [table.weight for table in tables]
    optimizers: list[torch.optim.Optimizer] = [
        torch.optim.Adam([*model.parameters(), *([] if sparse else rows)], lr=1e-3, fused=True)
    ]
    if sparse:
        optimizers.append(torch.optim.SparseAdam(rows, lr=1e-3))

    def step(part: dict[str, torch.Tensor]) -> None:
        whole(part).backward()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()

    dense = sum(p.numel() for p in model.parameters())
    facts = {"parameters": dense + sum(table.numel() for table in rows), "dense": dense}
    return _steps(step, data, batch, 1), facts


def _plain(with_attention: bool) -> torch.nn.Module:
    """[B, L] which events are real, [B, L, D] their rows, [B, N, D] candidates' rows -> [B, N] logits: a DIN, or a
    DNN over the mean."""
    import torch
    from torch import nn

    class Dice(nn.Module):
        def __init__(self, width: int) -> None:
            super().__init__()
            self.norm = nn.BatchNorm1d(width, affine=False)
            self.slope = nn.Parameter(torch.zeros(width))

        def forward(self, s: torch.Tensor) -> torch.Tensor:
            p = torch.sigmoid(self.norm(s.flatten(0, -2)).view(s.shape))
            return p * s + (1 - p) * self.slope * s

    def mlp(width: int, *widths: int) -> nn.Sequential:
        layers: list[nn.Module] = []
        for units in widths:
            layers += [nn.Linear(width, units), Dice(units)]
            width = units
        return nn.Sequential(*layers, nn.Linear(width, 1))

    class Plain(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = mlp(8 * DIM, *ATTENTION) if with_attention else None
            self.top = mlp(4 * DIM, *HIDDEN)

        def forward(self, real: torch.Tensor, history: torch.Tensor, candidates: torch.Tensor) -> torch.Tensor:
            if self.attention is None:
                mean = (history * real[..., None]).sum(1) / real.sum(1, keepdim=True).clamp(min=1)
                interest = mean[:, None].expand_as(candidates)
            else:
                h = history[:, None].expand(-1, candidates.shape[1], -1, -1)
                c = candidates[:, :, None].expand_as(h)
                weights = self.attention(torch.cat([c, h, c - h, c * h], -1)) * real[:, None, :, None]
                interest = (weights * h).sum(2)
            logits: torch.Tensor = self.top(torch.cat([interest, candidates], -1))[..., 0]
            return logits

    return Plain()


def _steps(step: Callable[[dict[str, torch.Tensor]], None], data: Pairs, size: int, of_one: int) -> Work:
    """A pass over batches of ``size`` rows, of which an impression has ``of_one``."""
    torch = _torch()
    tensors = {name: torch.from_numpy(value).to(_device()) for name, value in data.items()}
    rows = len(next(iter(data.values())))
    parts = [{n: t[start : start + size] for n, t in tensors.items()} for start in range(0, rows, size)]

    def epoch() -> int:
        for part in parts:
            step(part)
        if _device() == "cuda":
            torch.cuda.synchronize()
        return rows // of_one

    return epoch


def _torch() -> Any:
    import torch

    return torch


def _device() -> str:
    return "cuda" if _torch().cuda.is_available() else "cpu"


def main(peer: str, model: str, path: str) -> None:
    """Answers :class:`benchmarks.turns.Side`, which asks for batch sizes in impressions."""

    def prepare(batch: str) -> tuple[Work, dict[str, Any]]:
        if peer == "deepctr":
            return deepctr(model, path, int(batch))
        if peer == "rechub":
            return rechub(model, path, int(batch))
        return compiled(model, path, int(batch), sparse=peer == "torch-sparse")

    answer(prepare)


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit("it is a part of another benchmark: run .venv/bin/python -m benchmarks.training --help")
    main(*sys.argv[1:])
