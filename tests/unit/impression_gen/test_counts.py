from __future__ import annotations

from collections import Counter

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from ctr.components.impression_gen.combine import MergeCounts
from ctr.components.impression_gen.counts import ITEM_COUNT

RECORDS = st.lists(st.tuples(st.integers(1, 4), st.integers(1, 3), st.integers(0, 9)), max_size=9)


@settings(deadline=None)
@given(st.lists(RECORDS, max_size=20), st.integers(1, 4))
def test_any_way_of_combining_gives_the_same_sums(parts: list[list[tuple[int, ...]]], workers: int) -> None:
    combine = MergeCounts(ITEM_COUNT)
    accumulators = [combine.create_accumulator() for _ in range(workers)]
    sums: Counter[tuple[int, ...]] = Counter()
    for i, part in enumerate(parts):
        packed = np.array(part, ITEM_COUNT).tobytes()
        accumulators[i % workers] = combine.add_input(accumulators[i % workers], packed)
        for item, category, train in part:
            sums[item, category] += train
    merged = combine.extract_output(combine.merge_accumulators(accumulators))
    expected = [(*key, sums[key]) for key in sorted(sums)]
    assert sorted(np.frombuffer(merged, ITEM_COUNT).tolist()) == expected
