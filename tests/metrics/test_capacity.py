import pytest

from metrics.capacity import INTERVAL, WINDOW, Capacity, Observation, Usage

GB = 1e9


def observed(capacity, counts, *, used=lambda n: 1 * GB + 6600.0 * n, limit=16 * GB, start=0.0):
    """Observations of one resource, memory, at so many sessions."""
    for step, sessions in enumerate(counts):
        usage = {"memory": Usage(used(sessions), limit)}
        capacity.observe(Observation(start + step * INTERVAL, sessions, usage, None))
    return capacity


def memory(capacity):
    (estimate,) = capacity.estimates()
    assert estimate.resource == "memory"
    return estimate


def test_without_observations_there_is_no_estimate():
    assert Capacity().estimates() == []


def test_from_the_growth_follows_what_a_session_costs_and_how_many_there_may_be():
    estimate = memory(observed(Capacity(), range(0, 50_000, 1000)))
    assert estimate.method == "trend"
    assert estimate.cost == pytest.approx(6600)
    assert estimate.capacity == pytest.approx((0.95 * 16 * GB - 1 * GB) / 6600)
    assert estimate.low == pytest.approx(estimate.capacity)
    assert estimate.high == pytest.approx(estimate.capacity)


def test_without_growth_the_average_errs_to_the_safe_side():
    estimate = memory(observed(Capacity(), [50_000] * 20))
    assert estimate.method == "average"
    assert estimate.cost == pytest.approx((1 * GB + 6600 * 50_000) / 50_000)
    assert estimate.capacity < (0.95 * 16 * GB - 1 * GB) / 6600


def test_a_trend_that_falls_with_the_sessions_is_not_believed():
    estimate = memory(observed(Capacity(), range(0, 50_000, 1000), used=lambda n: 2 * GB - n))
    assert estimate.method == "average"


@pytest.mark.parametrize("counts", [[0, 0], [4, 4, 4]])
def test_a_few_sessions_say_nothing(counts):
    assert observed(Capacity(), counts).estimates() == []


def test_what_sessions_take_nothing_of_sets_no_limit():
    assert observed(Capacity(), range(0, 5000, 100), used=lambda _: 0.0).estimates() == []


def observed_memory(capacity, counts, resident, allocated, limit=16 * GB):
    for step, sessions in enumerate(counts):
        usage = {"memory": Usage(resident(counts[: step + 1]), limit)}
        capacity.observe(Observation(step * INTERVAL, sessions, usage, allocated(sessions)))
    return capacity


RISE = [n * 500 for n in range(21)]
FALL = RISE + RISE[:1:-1]


def kept(seen):
    """Resident memory that is never given back: 100 kB a session, at the most there were."""
    return 0.1 * GB + 100e3 * max(seen)


@pytest.mark.parametrize("counts", [RISE, FALL, FALL[:-10], [*FALL, *[1000] * 100]])
def test_memory_that_stays_resident_after_logouts_is_neither_used_nor_free_of_cost(counts):
    estimate = memory(
        observed_memory(Capacity(), counts, kept, lambda sessions: 0.08 * GB + 90e3 * sessions)
    )
    assert estimate.method == "trend"
    assert estimate.cost == pytest.approx(100e3, rel=0.1)
    assert estimate.capacity == pytest.approx((0.95 * 16 * GB - 0.1 * GB) / 100e3, rel=0.1)


def test_what_the_node_has_held_it_can_hold():
    # Resident memory is over what is usable by then, of which most is kept for nobody.
    estimate = memory(
        observed_memory(
            Capacity(),
            [*FALL, *[1000] * 100],
            lambda seen: 0.5 * GB + 100e3 * max(seen),
            lambda sessions: 0.5 * GB + 10e3 * sessions,
            limit=1.6 * GB,
        )
    )
    assert estimate.capacity >= 10_000
    assert estimate.low >= 10_000


def test_the_average_does_not_count_what_is_only_kept():
    estimate = memory(
        observed_memory(
            Capacity(),
            [1000] * 20,
            lambda _: 1.1 * GB,
            lambda sessions: 0.08 * GB + 90e3 * sessions,
        )
    )
    assert estimate.method == "average"
    assert estimate.high is None


def test_what_is_allocated_and_not_resident_does_not_count():
    # A heap of which half was never touched.
    estimate = memory(
        observed_memory(
            Capacity(),
            range(0, 50_000, 1000),
            resident=lambda seen: 1 * GB + 6600.0 * max(seen),
            allocated=lambda sessions: 0.8 * GB + 9000.0 * sessions,
        )
    )
    assert estimate.cost == pytest.approx(6600)


def test_the_resource_that_ends_first_comes_first():
    capacity = Capacity()
    for step, sessions in enumerate(range(0, 10_000, 500)):
        usage = {
            "memory": Usage(1 * GB + 6600.0 * sessions, 16 * GB),
            "cpu": Usage(0.2 + sessions / 100_000, 2),
            "ports": Usage(20.0 + sessions, 65_536),
            "file_descriptors": Usage(40.0 + sessions, 1024 * 1024),
            "processes": Usage(300.0 + 2 * sessions, 262_144),
        }
        capacity.observe(Observation(step * INTERVAL, sessions, usage, None))
    estimates = capacity.estimates()
    names = [estimate.resource for estimate in estimates]
    assert names == ["ports", "processes", "cpu", "file_descriptors", "memory"]
    first = estimates[0]
    assert first.resource == "ports"
    assert first.capacity == pytest.approx(0.95 * 65_536 - 20)


def processors(samples):
    capacity = Capacity()
    for step, (sessions, busy) in enumerate(samples):
        capacity.observe(Observation(step * INTERVAL, sessions, {"cpu": Usage(busy, 2.0)}, None))
    return capacity.estimates()


def test_processors_are_judged_by_the_median_of_minutes():
    steady = [(5000 + 10 * n, 0.5 + n / 1000) for n in range(200)]
    (before,) = processors(steady)
    # A broadcast takes all there is for a minute.
    (during,) = processors([*steady, *[(7000, 2.0)] * 6])
    assert during.used == pytest.approx(before.used, rel=0.05)
    assert during.capacity == pytest.approx(before.capacity, rel=0.2)
    assert during.method == "trend"


def test_processors_that_have_little_to_do_say_little():
    assert processors([(n, 0.02) for n in range(100)]) == []
    # What sessions may have to do with it is unknown; that they take no more than all of it is not.
    (many,) = processors([(20_000 + 100 * n, 0.02) for n in range(100)])
    assert many.method == "average"
    (busy,) = processors([(10 + n, 0.15) for n in range(100)])
    assert busy.method == "average"


def test_a_node_beyond_what_is_usable_holds_fewer_than_it_has():
    estimate = memory(observed(Capacity(), range(0, 5000, 100), limit=1.02 * GB))
    assert 0 <= estimate.capacity < estimate.sessions


def test_a_resource_that_is_known_only_at_times_does_not_disturb():
    capacity = observed(Capacity(), range(0, 1000, 10))
    capacity.observe(Observation(100 * INTERVAL, 1000, {}, None))
    assert capacity.estimates() == []
    observed(capacity, range(1000, 1100, 10), start=101 * INTERVAL)
    assert memory(capacity).cost == pytest.approx(6600)


def test_what_is_older_than_the_window_is_forgotten():
    # It was dearer then; and if it were not, memory would still be bounded.
    capacity = observed(Capacity(), range(0, 50_000, 1000), used=lambda n: 1 * GB + 9e5 * n)
    counts = [n % 50_000 for n in range(0, 50_000_000, 1000)]
    observed(capacity, counts[: int(WINDOW / INTERVAL) + 1], start=WINDOW)
    assert memory(capacity).cost == pytest.approx(6600)


def test_a_clock_that_goes_back_begins_anew():
    capacity = observed(Capacity(), range(0, 5000, 100), start=1000.0)
    observed(capacity, [50, 50], start=0.0)
    assert memory(capacity).method == "average"


def test_another_nodes_life_begins_anew():
    capacity = observed(Capacity(), range(0, 5000, 100))
    capacity.forget()
    assert capacity.estimates() == []
