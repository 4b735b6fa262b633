from __future__ import annotations

import pytest
from pydantic import ValidationError

from ctr.components.settings import TrainingConfig


@pytest.mark.parametrize(("scaling", "expected"), [("none", 0.001), ("linear", 0.016), ("sqrt", 0.004)])
def test_the_learning_rate_is_that_of_256_impressions(scaling: str, expected: float) -> None:
    settings = {"learning_rate": 0.001, "learning_rate_scaling": scaling}
    assert TrainingConfig.model_validate({**settings, "batch_size": 4096}).step_size == pytest.approx(expected)
    assert TrainingConfig.model_validate({**settings, "batch_size": 256}).step_size == pytest.approx(0.001)


def test_a_batch_is_a_whole_number_of_parts() -> None:
    assert TrainingConfig(batch_size=12, accumulate_steps=4).accumulate_steps == 4
    with pytest.raises(ValidationError, match="batch_size is 10, which must be a multiple of accumulate_steps, 4"):
        TrainingConfig(batch_size=10, accumulate_steps=4)
