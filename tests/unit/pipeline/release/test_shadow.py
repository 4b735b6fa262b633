from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import stats

from ctr.pipeline.release.shadow import kendall_tau, largest_distance, stability_index
from ctr.pipeline.release.shadow_record import Latency, Shadow, ShadowBounds


def test_measures_are_those_of_the_books() -> None:
    rng = np.random.default_rng(0)
    one, other = rng.normal(size=40), rng.normal(size=40)
    assert kendall_tau(one, other) == pytest.approx(stats.kendalltau(one, other).statistic)
    assert (kendall_tau(one, 3 * one), kendall_tau(one, -one)) == (1.0, -1.0)
    # A model that gives all candidates the same score agrees with none but itself.
    assert (kendall_tau(one, np.zeros(40)), kendall_tau(np.zeros(40), np.zeros(40))) == (0.0, 1.0)
    before, after = rng.uniform(size=5_000), rng.uniform(size=4_000) ** 1.3
    assert largest_distance(before, after) == pytest.approx(stats.ks_2samp(before, after).statistic)
    shares = np.histogram(after, np.quantile(before, np.linspace(0, 1, 11)))[0] / len(after)
    assert stability_index(before, after) == pytest.approx(((shares - 0.1) * np.log(shares / 0.1)).sum(), rel=0.02)
    assert stability_index(before, before) == pytest.approx(0, abs=1e-12)
    # All in one tenth: large, and finite.
    assert 5 < stability_index(before, np.zeros(100)) < 100


def shadow(**changes: Any) -> Shadow:
    alike: dict[str, Any] = {"kendall_tau": 0.9, "same_first": 0.9, "same_top10": None, "mean_difference": 0.01}
    alike |= {"correlation": 0.99, "psi": 0.01, "ks": 0.02, "canary_latency": Latency(p50=2.0, p95=3.0)}
    alike |= {"stable": 1, "canary": 2, "source": "x", "requests": 9, "candidates": 90}
    return Shadow(**{**alike, "stable_latency": Latency(p50=1.5, p95=3.0), **changes})


@pytest.mark.parametrize(
    ("changes", "bounds", "says"),
    [
        ({"kendall_tau": 0.1}, {}, "Kendall's tau) is 0.1, below 0.3 (--min-tau)"),
        ({"mean_difference": 0.3}, {}, "mean difference of probabilities is 0.3, above 0.2 (--max-difference)"),
        ({"psi": 0.6}, {}, "is 0.6, above 0.5 (--max-psi)"),
        ({"stable_latency": Latency(p50=0.5, p95=1.0)}, {}, "is 4, above 2 (--max-latency-ratio)"),
        ({}, {"min_same_first": 0.95}, "same first candidate is 0.9, below 0.95 (--min-same-first)"),
        ({}, {"max_psi": 0.001}, "above 0.001"),
    ],
)
def test_each_bound_stops_what_is_beyond_it(changes: dict[str, Any], bounds: dict[str, Any], says: str) -> None:
    (missed,) = ShadowBounds(**bounds).missed(shadow(**changes))
    assert says in missed
    off = dict.fromkeys(ShadowBounds.model_fields)
    assert list(ShadowBounds(**off).missed(shadow(**changes))) == []
    assert list(ShadowBounds().missed(shadow())) == []
    # Where nothing was measured, nothing decides.
    assert list(ShadowBounds().missed(shadow(kendall_tau=None))) == []
