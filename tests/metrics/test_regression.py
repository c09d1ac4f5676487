import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metrics.regression import MAX_GROUPS, slope

STEEPNESS = st.floats(-1e6, 1e6).filter(lambda value: abs(value) > 1e-3)


@pytest.mark.parametrize("points", [[], [(3.0, 1.0)], [(3.0, 1.0), (3.0, 9.0)]])
def test_points_at_one_place_have_no_slope(points):
    assert slope(points) is None


@given(STEEPNESS, st.sets(st.integers(0, 10**6), min_size=2, max_size=200))
def test_a_line_is_found_whatever_points_of_it_there_are(steepness, places):
    found = slope([(x, 7.0 + steepness * x) for x in places])
    assert found.middle == pytest.approx(steepness, rel=1e-6)
    assert found.low == pytest.approx(found.high, rel=1e-6)


def test_a_fifth_of_the_points_may_be_anything():
    generator = random.Random(1)
    points = [(float(x), 100.0 + 6600.0 * x) for x in range(1000)]
    for x in generator.sample(range(1000), 200):
        points[x] = (float(x), generator.uniform(0, 1e9))
    generator.shuffle(points)
    assert slope(points).middle == pytest.approx(6600.0, rel=0.02)


def test_a_long_time_at_one_place_does_not_outweigh_the_growth():
    generator = random.Random(2)
    growth = [(float(x), 5.0 * x) for x in range(0, 1000, 10)]
    plateau = [(1000.0 + generator.uniform(-2, 2), 5000.0 + generator.gauss(0, 50))] * 3000
    assert slope(growth + plateau).middle == pytest.approx(5.0, rel=0.02)


def test_a_few_points_far_away_do_not_outweigh_the_rest():
    generator = random.Random(4)
    most = [(x, 100.0 * x) for x in (generator.uniform(9_000, 10_000) for _ in range(352))]
    far_away = [(500.0, 950_000.0 + n) for n in range(8)]
    assert slope(most + far_away).middle == pytest.approx(100.0, rel=0.05)


def test_a_plateau_with_noise_of_its_own_does_not_outweigh_the_growth():
    generator = random.Random(5)
    growth = [(8_000.0 * n, 5.0 * 8_000 * n) for n in range(12)]
    plateau = [(generator.uniform(97_000, 103_000), 500_000.0) for _ in range(348)]
    assert slope(growth + plateau).middle == pytest.approx(5.0, rel=0.1)


def test_the_range_is_where_the_middle_half_of_the_pairs_lies():
    generator = random.Random(3)
    points = [(float(x), 5.0 * x + generator.gauss(0, 400)) for x in range(1000)]
    found = slope(points)
    assert found.low < found.middle < found.high
    assert found.low < 5.0 < found.high


def test_its_cost_does_not_grow_with_the_square_of_the_points():
    # 100,000 points have five thousand million pairs; of the groups there are a few hundred.
    assert MAX_GROUPS <= 32
    assert slope([(float(x), float(x)) for x in range(100_000)]).middle == pytest.approx(1.0)
