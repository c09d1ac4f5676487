import pytest

from erlang_port.transports.loop_lag import INTERVAL, WINDOW, LoopLag


def test_a_loop_that_keeps_up_has_no_lag():
    lag = LoopLag(100.0)
    for n in range(1, 100):
        assert lag.look(100.0 + n * INTERVAL) == 0
    assert lag.worst(100.0 + 99 * INTERVAL) == 0


def test_the_worst_is_remembered_for_the_window_and_no_longer():
    lag = LoopLag(0.0)
    assert lag.look(5.0 + INTERVAL) == pytest.approx(5.0)
    assert lag.look(7.0 + 2 * INTERVAL) == pytest.approx(2.0)
    now = 7.0 + 2 * INTERVAL
    assert lag.worst(now) == pytest.approx(5.0)
    while now < 5.0 + INTERVAL + WINDOW:
        assert lag.worst(now) == pytest.approx(5.0)
        now += INTERVAL
        lag.look(now)
    now += INTERVAL
    lag.look(now)
    assert lag.worst(now) == pytest.approx(2.0)
    assert lag.worst(now + WINDOW) == pytest.approx(WINDOW - INTERVAL)


def test_a_loop_that_is_blocked_now_is_late_before_it_is_looked_at_again():
    lag = LoopLag(0.0)
    assert lag.late(10.0 + INTERVAL) == pytest.approx(10.0)
    assert lag.worst(10.0 + INTERVAL) == pytest.approx(10.0)


def test_what_came_before_a_restart_is_not_counted():
    lag = LoopLag(0.0)
    lag.restart(50.0)
    assert lag.look(50.0 + INTERVAL) == 0


def test_however_often_it_is_late_little_is_kept():
    lag, now = LoopLag(0.0), 0.0
    for _ in range(5000):
        now += 2 * INTERVAL
        lag.look(now)
    assert len(lag._worst) <= WINDOW + 1
