"""What a model of ``also_train`` has to be."""

from __future__ import annotations

from ctr.pipeline.commands.run import challenger
from ctr.pipeline.settings.pipeline_config import load_preset


def test_a_challenger_must_be_at_least_as_good_and_keep_the_other_bounds() -> None:
    config = load_preset("sample", ["evaluation.bounds.auc@contemporaneous.max=0.97"])
    made = challenger(config, "dnn")
    assert (made.model.name, made.also_train) == ("dnn", ())
    usual, own = made.evaluation.bounds.each(config.ingest.judged_set)
    assert usual == next(config.evaluation.bounds.each(config.ingest.judged_set))
    assert (own.metric, own.negative_set, own.slice) == (usual.metric, usual.negative_set, usual.slice)
    assert dict(own.bounds.given()) == {"max": 0.97, "max_drop": 0.0}
    # Of two models that pass, the better one, surely or not.
    assert own.bounds.confidence is None
