from bridge.fanout.batch_queue import BatchQueue, Job
from erlang_port.messages import batch


def job(broadcast: bytes, n: int, size: int = 10) -> Job:
    return Job(batch(broadcast, n, b"x" * size))


def order(queue: BatchQueue) -> list[tuple[bytes, int]]:
    taken = []
    while (next_one := queue.get()) is not None:
        taken.append((next_one.batch.broadcast, next_one.batch.n))
    return taken


def test_broadcasts_take_turns_each_in_its_order() -> None:
    queue = BatchQueue(10_000)
    for n in range(3):
        assert queue.put(job(b"long", n))
    assert queue.put(job(b"short", 0))
    assert len(queue) == 4
    assert order(queue) == [(b"long", 0), (b"short", 0), (b"long", 1), (b"long", 2)]
    assert queue.bytes == 0


def test_what_is_put_back_comes_before_what_waits() -> None:
    queue = BatchQueue(10_000)
    for n in range(2):
        queue.put(job(b"a", n))
    first = queue.get()
    assert first is not None
    queue.put_back(first)
    assert order(queue) == [(b"a", 0), (b"a", 1)]


def test_the_others_come_before_a_broadcast_that_was_put_back() -> None:
    queue = BatchQueue(10_000)
    queue.put(job(b"a", 0))
    first = queue.get()
    assert first is not None
    queue.put(job(b"a", 1))
    queue.put(job(b"b", 0))
    queue.put_back(first)
    assert order(queue) == [(b"b", 0), (b"a", 0), (b"a", 1)]


def test_the_bound_is_in_bytes_and_one_may_always_wait() -> None:
    queue = BatchQueue(1000)
    assert queue.put(job(b"a", 0, 5000))
    assert not queue.put(job(b"a", 1))
    assert queue.get() is not None
    assert queue.put(job(b"a", 1))
    assert queue.put(job(b"b", 0))


def test_removing_a_broadcast_leaves_the_others() -> None:
    queue = BatchQueue(10_000)
    for n in range(2):
        queue.put(job(b"a", n))
    queue.put(job(b"b", 0))
    assert [j.batch.n for j in queue.remove(b"a")] == [0, 1]
    assert queue.remove(b"a") == []
    assert order(queue) == [(b"b", 0)]
    assert queue.bytes == 0


def test_cleared_there_is_room_for_all_again() -> None:
    queue = BatchQueue(limit=100)
    for n in range(3):
        queue.put(Job(batch(b"b%d" % n, n, b"x")))
    assert queue.bytes > 0
    queue.clear()
    assert (len(queue), queue.bytes, queue.get()) == (0, 0, None)
    assert queue.put(Job(batch(b"b", 0, b"x" * 1000)))
