"""Each bound against what was measured, in words, and what to look at first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from ctr.components.scoring.bootstrap import FEWEST_UNITS
from ctr.components.scoring.evaluation import BLESSED, MODEL, WHOLE, BoundKind, BoundResult, SliceResult, Value
from ctr.components.scoring.measure import MODELS, SetMeasures
from ctr.components.scoring.metrics import METRICS
from ctr.components.settings import SliceBounds

TOO_GOOD: Final = (
    "Something that gives the label away is likelier than such a model. Look at the numbers of users and items "
    "(swapped columns of the log exchange them), at the baselines on the same pairs (one that is near 1 by itself "
    "names what tells the label), and at the settings that leak on purpose (ingest.candidate_in_history, "
    "ingest.catalogue_from). If the model is right, raise that bound in evaluation.bounds, or set it to null."
)
"""What is said of a value that is better than it can be, as an AUC near 1."""


UNDEFINED: Final = "is undefined: one class only, or no such pairs"


def check(
    bounded: SliceBounds, measures: SetMeasures | None, result: SliceResult | None, compared: bool
) -> Iterator[BoundResult]:
    """What came of the bounds of a metric on a slice.

    Args:
      bounded: the bounds.
      measures: of its negative set; None if that has no impressions.
      result: of its slice; None likewise.
      compared: whether there are scores of the latest blessed model.
    """
    for kind, bound in bounded.bounds.given():
        if measures is None or result is None:
            words = f"{where(bounded)}: there are no such evaluation impressions, so the bound cannot be checked"
            yield _result(bounded, kind, bound, None, None, "missed", words)
        elif kind in ("min", "max"):
            yield _of_value(bounded, kind, bound, result)
        elif kind == "max_drop" and not compared:
            words = f"{where(bounded)}: not compared, there are no scores of a blessed model"
            yield _result(bounded, kind, bound, None, None, "not_compared", words)
        else:
            against = BLESSED if kind == "max_drop" else _baseline(bounded, result)
            yield _of_difference(bounded, kind, bound, measures, against)


def where(bounded: SliceBounds) -> str:
    """A metric, its negative set and its slice in words."""
    slice_ = "" if bounded.slice == WHOLE else f", {bounded.slice}"
    return f"{METRICS[bounded.metric].words} on {bounded.negative_set}{slice_}"


def scorer_words(scorer: str) -> str:
    """For a scorer in a sentence."""
    return {MODEL: "the model", BLESSED: "the blessed model"}.get(scorer, scorer.replace("_", " "))


def _baseline(bounded: SliceBounds, result: SliceResult) -> str:
    over = bounded.bounds.margin_over
    if over != "best":
        return over
    values = {scorer: found[bounded.metric].value for scorer, found in result.metrics.items() if scorer not in MODELS}
    known = {scorer: value for scorer, value in values.items() if value is not None}
    # All are undefined where one is: they are of the same labels.
    return max(known or values, key=lambda scorer: known.get(scorer, 0.0))


def _of_value(bounded: SliceBounds, kind: BoundKind, bound: float, result: SliceResult) -> BoundResult:
    measured = result.metrics[MODEL][bounded.metric]
    name = "lower" if kind == "min" else "upper"
    text = where(bounded)
    if measured.value is None:
        words = f"{text} {UNDEFINED}; the {name} bound is {bound:.4f}"
        return _result(bounded, kind, bound, measured, None, "missed", words)
    short = bound - measured.value if kind == "min" else measured.value - bound
    text += f" is {measured.value:.4f}; the {name} bound is {bound:.4f}"
    if short <= 0:
        return _result(bounded, kind, bound, measured, None, "met", f"{text}, met")
    text += f", {'missed' if kind == 'min' else 'exceeded'} by {short:.4f}"
    if _bounds_the_better_side(bounded.metric, kind):
        text += f". {TOO_GOOD}"
    return _result(bounded, kind, bound, measured, None, "missed", text, short)


def _bounds_the_better_side(metric: str, kind: BoundKind) -> bool:
    return (METRICS[metric].better, kind) in (("higher", "max"), ("lower", "min"))


def _of_difference(
    bounded: SliceBounds, kind: BoundKind, bound: float, measures: SetMeasures, against: str
) -> BoundResult:
    confidence = bounded.bounds.confidence
    measured, units = measures.difference(bounded.slice, bounded.metric, against, confidence)
    wanted = (
        f"it must be at most {bound:.4f} worse" if kind == "max_drop" else f"it must be at least {bound:.4f} better"
    )
    if measured.value is None:
        text = f"{where(bounded)} {UNDEFINED}; {wanted} than that of {scorer_words(against)}"
        return _result(bounded, kind, bound, measured, against, "missed", text)
    sign = _sign(bounded.metric)
    gain = sign * measured.value
    least = -bound if kind == "max_drop" else bound
    text = f"{where(bounded)} is {_change(gain)} than that of {scorer_words(against)}"
    if confidence is not None:
        worse_end = measured.low if sign > 0 else measured.high
        if worse_end is None:
            text += (
                f", but {units} users give no interval (it takes {FEWEST_UNITS}), and {wanted} with "
                f"{100 * confidence:g}% confidence. Judge on more users, or set confidence to null"
            )
            return _result(bounded, kind, bound, measured, against, "missed", text)
        gain = sign * worse_end
        text += f", at worst {_change(gain)} ({100 * confidence:g}% confidence)"
    short = least - gain
    text += f"; {wanted}: "
    if short <= 0:
        return _result(bounded, kind, bound, measured, against, "met", f"{text}met")
    return _result(bounded, kind, bound, measured, against, "missed", f"{text}missed by {short:.4f}", short)


def _change(gain: float) -> str:
    return f"{abs(gain):.4f} {'better' if gain >= 0 else 'worse'}"


def _result(
    bounded: SliceBounds,
    kind: BoundKind,
    bound: float,
    measured: Value | None,
    against: str | None,
    state: str,
    words: str,
    short_by: float | None = None,
) -> BoundResult:
    decided_by = bounded.bounds.confidence if kind in ("max_drop", "min_margin") else None
    return BoundResult.model_validate(
        {
            "metric": bounded.metric,
            "negative_set": bounded.negative_set,
            "slice": bounded.slice,
            "kind": kind,
            "bound": bound,
            "confidence": decided_by,
            "measured": measured,
            "against": against,
            "state": state,
            "words": words,
            "short_by": short_by,
        }
    )


# --- What to look at first --------------------------------------------------------------------------------------------


def look_first(bounds: Sequence[BoundResult], slices: Sequence[SliceResult]) -> str:
    """The first thing to look at.

    Of several missed bounds, the one that explains most: a value that is too good, one that could not be measured, a
    margin over a baseline, a drop, and last a value that is too low. If none is missed, the first that was just met.

    Args:
      bounds: all of them.
      slices: of all negative sets.
    """
    missed = [bound for bound in bounds if bound.state == "missed"]
    if not missed:
        return next(filter(None, map(_just_met, bounds)), "")
    first = min(missed, key=_explains)
    of_set = [each for each in slices if each.negative_set == first.negative_set]
    of_slice = next((each for each in of_set if each.slice == first.slice), None)
    if of_slice is None:
        return f"{first.words}. Look at the counts by negative set and slice, or take the bound out."
    value = first.measured.value if first.measured else None
    if first.short_by is None or value is None:
        return f"{first.words}."
    if first.against is None:
        too_good = _bounds_the_better_side(first.metric, first.kind)
        return _too_good(first, of_slice) if too_good else _too_bad(first, of_slice, of_set)
    if _sign(first.metric) * value >= (-first.bound if first.kind == "max_drop" else first.bound):
        return (
            f"{first.words}. The difference itself keeps to the bound, and there are too few users to be sure: four "
            "times as many make the interval half as wide. Judge on more, or give the bound more room."
        )
    if first.kind == "max_drop":
        return _lost_on(first, value, of_set)
    return _too_bad(first, of_slice, of_set)


def _explains(bound: BoundResult) -> int:
    if bound.short_by is None:
        return 1
    if _bounds_the_better_side(bound.metric, bound.kind):
        return 0
    return {"min_margin": 2, "max_drop": 3}.get(bound.kind, 4)


def _just_met(bound: BoundResult) -> str:
    found = bound.measured
    if bound.state != "met" or found is None or found.value is None or found.low is None or found.high is None:
        return ""
    room = abs(found.value - bound.bound) if bound.kind in ("min", "max") else None
    if room is not None and room < (found.high - found.low) / 2:
        return f"Met by less than the interval is wide, so other users might have turned it: {bound.words}."
    return ""


def _too_good(bound: BoundResult, result: SliceResult) -> str:
    also = [
        scorer_words(scorer)
        for scorer, found in result.metrics.items()
        if scorer not in MODELS and (of := found.get(bound.metric)) and of.value is not None and of.value > bound.bound
    ]
    if not also:
        return bound.words
    names = f"{', '.join(also).capitalize()} alone {'is' if len(also) == 1 else 'are'}"
    return f"{names} above it, too: start there. {bound.words}"


def _lost_on(bound: BoundResult, whole: float, of_set: Sequence[SliceResult]) -> str:
    # Slices that are surely worse, and by more than all together: of many, some are by chance.
    sign = _sign(bound.metric)
    losses = []
    for each in of_set:
        found = each.differences[BLESSED][bound.metric]
        end = found.high if sign > 0 else found.low
        if each.slice != WHOLE and found.value is not None and end is not None:
            gain = sign * found.value
            if sign * end < 0 and gain < sign * whole:
                losses.append((gain * each.pairs, gain, each))
    if not losses:
        return f"{bound.words}. No slice stands out: the loss is spread over all of them."
    _, gain, worst = min(losses, key=lambda loss: loss[0])
    return (
        f"{bound.words}. The slice {worst.slice} ({worst.impressions:,} impressions) lost most: "
        f"{_change(gain)} than that of the blessed model."
    )


def _too_bad(bound: BoundResult, of_slice: SliceResult, of_set: Sequence[SliceResult]) -> str:
    sign, model = _sign(bound.metric), of_slice.metrics[MODEL][bound.metric].value
    ahead = {
        scorer: of.value
        for scorer, found in of_slice.metrics.items()
        if scorer not in MODELS and (of := found.get(bound.metric)) and of.value is not None
        if model is not None and sign * of.value >= sign * model
    }
    if ahead:
        best = max(ahead, key=lambda scorer: sign * ahead[scorer])
        return (
            f"{bound.words}. {scorer_words(best).capitalize()} reaches {ahead[best]:.4f} by itself: the model has "
            "learnt less than a trivial rule. Look at the training curve before the bound."
        )
    known = [
        (sign * of.value, each)
        for each in of_set
        if bound.slice == WHOLE != each.slice and (of := each.metrics[MODEL].get(bound.metric)) and of.value is not None
        if of.low is not None
    ]
    if not known:
        return f"{bound.words}."
    value, worst = min(known, key=lambda pair: pair[0])
    return f"{bound.words}. It is worst on {worst.slice} ({worst.impressions:,} impressions): {sign * value:.4f}."


def _sign(metric: str) -> int:
    return -1 if METRICS[metric].better == "lower" else 1
