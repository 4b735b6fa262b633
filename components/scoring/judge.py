"""From scored impressions to all that is known of a model, and whether it is blessed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Literal, TypeAlias

from ctr.components.scoring.bootstrap import SEED
from ctr.components.scoring.evaluation import BLESSED, WHOLE, Evaluation, Verdict
from ctr.components.scoring.gate import check, look_first
from ctr.components.scoring.measure import Scores, SetMeasures, rows_of
from ctr.components.scoring.scored import Scored
from ctr.components.settings import EvaluationConfig, SliceBounds

Comparison: TypeAlias = Literal["compared", "first", "switched_off", "incompatible"]

COMPARISON_WORDS: Final[dict[Comparison, str]] = {
    "compared": "Compared with the latest blessed model, which scored the same impressions.",
    "first": "There is no blessed model to compare with yet: max_drop decides nothing.",
    "switched_off": "Not compared with the blessed model: evaluation.compare_with_blessed is false.",
    "incompatible": "The latest blessed model could not score these impressions, so nothing is pushed. If it is to be "
    "replaced all the same, run with evaluation.compare_with_blessed=false.",
}


def judge(
    scored: Scored,
    evaluation: EvaluationConfig,
    judged_set: str,
    comparison: Comparison,
    comparison_words: str = "",
    seed: int = SEED,
) -> Evaluation:
    """Every metric with its interval, the curves, and the verdict.

    Args:
      scored: of ``model`` and each baseline, and of ``blessed`` where it is compared with.
      evaluation: bounds, confidence of the intervals, resamples.
      judged_set: what bounds are for that name no negative set.
      comparison: with the latest blessed model, see :class:`ctr.components.scoring.evaluation.Verdict`.
      comparison_words: that in a sentence; without, one of :data:`COMPARISON_WORDS`.
      seed: of the resamples.

    Raises:
      DataError: if a score is NaN, a probability is none, or an attribute has a value that it cannot have.
      ValueError: if ``comparison`` and the scorers do not fit.
    """
    if (comparison == "compared") != (BLESSED in scored.scores):
        raise ValueError(f"comparison is {comparison}, but the scorers are {', '.join(scored.scores)}")
    scores = Scores(scored, evaluation.resamples, seed)
    bounded = list(evaluation.bounds.each(judged_set))
    found, curves, results = {}, {}, {}
    for negative_set in scores.sets():
        # One at a time: what was summed of a set is large.
        measures = SetMeasures(scores, negative_set)
        of_set = {result.slice: result for result in measures.results(evaluation.confidence)}
        found[negative_set], curves[negative_set] = of_set, measures.curves
        for each in bounded:
            if each.negative_set == negative_set:
                results[each] = list(check(each, measures, of_set.get(each.slice), comparison == "compared"))
    wholes = [of_set[WHOLE] for of_set in found.values() if WHOLE in of_set]
    parts = [result for of_set in found.values() for name, result in of_set.items() if name != WHOLE]
    bounds = tuple(result for each in bounded for result in results.get(each) or check(each, None, None, False))
    met = all(bound.state != "missed" for bound in bounds)
    words = comparison_words or COMPARISON_WORDS[comparison]
    incompatible = comparison == "incompatible"
    return Evaluation(
        judged_set=judged_set,
        confidence=evaluation.confidence,
        resamples=evaluation.resamples,
        seed=seed,
        slices=(*wholes, *parts),
        curves=curves,
        verdict=Verdict(
            blessed=met and not incompatible,
            bounds=bounds,
            comparison=comparison,
            comparison_words=words,
            look_first=words if incompatible else look_first(bounds, (*wholes, *parts)),
        ),
    )


def empty_bounds(scored: Scored, evaluation: EvaluationConfig, judged_set: str) -> list[str]:
    """The bounds that cannot be checked because no impression is in their slice, in words: to be asked before training.

    Args:
      scored: users, negative sets and attributes; scores are not looked at.
      evaluation: whose bounds.
      judged_set: what bounds are for that name no negative set.
    """
    return list(dict.fromkeys(_empty(scored, evaluation, judged_set)))


def _empty(scored: Scored, evaluation: EvaluationConfig, judged_set: str) -> Iterator[str]:
    for key, bounds in evaluation.bounds:
        each = SliceBounds.parse(key, bounds, judged_set)
        if not any(True for _ in bounds.given()):
            continue
        in_set = rows_of(scored, each.negative_set)
        if not in_set.any():
            yield f"evaluation.bounds.{key}: the eval split has no impressions of negative set {each.negative_set}"
        elif not rows_of(scored, each.negative_set, each.slice).any():
            yield (
                f"evaluation.bounds.{key}: none of the {int(in_set.sum()):,} impressions of negative set "
                f"{each.negative_set} is in slice {each.slice}"
            )
