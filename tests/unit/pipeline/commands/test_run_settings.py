"""What options of ``run`` make of the configuration."""

from __future__ import annotations

import pytest

from ctr.pipeline.commands import cli, run
from ctr.pipeline.commands.run import challenger
from ctr.pipeline.settings.pipeline_config import PipelineConfig, load_preset


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


@pytest.mark.parametrize(
    ("arguments", "steps"),
    [([], 0), (["--profile"], run.PROFILED_STEPS), (["--profile", "--set", "training.profile_steps=3"], 3)],
)
def test_profile_asks_for_some_steps(arguments: list[str], steps: int, monkeypatch: pytest.MonkeyPatch) -> None:
    configs: list[PipelineConfig] = []

    def train(config: PipelineConfig, *_: object, **__: object) -> int:
        configs.append(config)
        return 0

    monkeypatch.setattr(run, "train", train)

    assert cli.main(["run", "--data", "log.csv", *arguments]) == 0

    assert [config.training.profile_steps for config in configs] == [steps]
