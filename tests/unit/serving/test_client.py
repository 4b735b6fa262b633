"""What is the clients' alone, against a server without TensorFlow."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import grpc
import pytest
from light_server import LightServer, light_server
from ports import free_port

from ctr.models.impression import Encoding, Feature, as_plain, declare_features, declared_features
from ctr.serving import explanation
from ctr.serving.client import AsyncRankingClient, RankingClient, ServingError
from ctr.serving.explanation import explain, position_of
from ctr.serving.impressions import Candidate, Event, Impression, Ranking


def impression(history: list[int], candidates: list[int]) -> Impression:
    events = [
        Event(item_id=100 + index, category_id=category, behavior="pv", age_seconds=10_000 - index)
        for index, category in enumerate(history)
    ]
    return Impression(history=events, candidates=[Candidate(item_id=500 + c, category_id=c) for c in candidates])


def unavailable_until(number: int) -> Callable[[int, Any], None]:
    def before(request: int, context: Any) -> None:
        if request < number:
            context.abort(grpc.StatusCode.UNAVAILABLE, "going")

    return before


class Sync:
    """The synchronous client, called as the other one."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self.client = RankingClient(*arguments, **options)

    async def __aenter__(self) -> Sync:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.client.close()

    async def declare_features(self) -> None:
        self.client.declare_features()

    async def rank(self, asked: Impression) -> Ranking:
        return await asyncio.to_thread(self.client.rank, asked)

    async def rank_each(self, asked: Any, concurrency: int) -> AsyncIterator[Ranking | ServingError]:
        # Read in another thread: the loop has to turn for those who make them.
        answers = self.client.rank_each(asked, concurrency)
        while (answer := await asyncio.to_thread(next, answers, None)) is not None:
            yield answer


@pytest.fixture
def cart_price() -> Iterator[Feature]:
    """Declared by the model alone."""
    yield Feature("cart_price", "context_input", "cart_price", dtype="float", declared="cart_price",
                  encoding=Encoding("log"))  # fmt: skip
    declare_features([])


both = pytest.mark.parametrize("kind", [Sync, AsyncRankingClient])


def ask(kind: Any, server: LightServer, asked: Impression, **options: Any) -> Ranking:
    async def asks() -> Ranking:
        async with kind(f"127.0.0.1:{server.port}", "ctr", **options) as client:
            return await client.rank(asked)

    return asyncio.run(asks())


@both
def test_a_server_that_is_not_there_for_a_moment_is_asked_again(kind: Any) -> None:
    with light_server(before=unavailable_until(4)) as server:
        ranking = ask(kind, server, impression([3, 3, 4], [4, 3]))
        assert [(c.category_id, c.logit) for c in ranking.candidates] == [(3, 2.0), (4, 1.0)]
        assert (ranking.model_version, server.requests) == (3, 4)


@both
def test_a_label_chooses_the_version(kind: Any) -> None:
    with light_server() as server:
        ask(kind, server, impression([], [1]), version_label="canary")
        assert server.labels == {"canary"}


@both
def test_no_signature_is_asked_for_that_a_model_does_not_have(kind: Any, cart_price: Feature) -> None:
    async def asks(server: LightServer) -> None:
        async with kind(f"127.0.0.1:{server.port}", "ctr", version_label="canary") as client:
            await client.declare_features()

    with light_server(declared=json.dumps([as_plain(cart_price)]).encode()) as server:
        asyncio.run(asks(server))
        assert declared_features() == [as_plain(cart_price)]
    with light_server() as server:
        asyncio.run(asks(server))
        assert (declared_features(), server.requests, server.labels) == ([], 0, {"canary"})
    with pytest.raises(ServingError, match="no server reachable"):
        asyncio.run(asks(server))


@both
def test_attempts_are_bounded(kind: Any) -> None:
    with light_server(before=unavailable_until(100)) as server:
        for attempts in (1, 3):
            server.requests = 0
            with pytest.raises(ServingError, match=f"no server reachable at 127.0.0.1:{server.port}: going") as raised:
                ask(kind, server, impression([], [1]), attempts=attempts)
            assert raised.value.code is grpc.StatusCode.UNAVAILABLE
            assert server.requests == attempts
            assert not raised.value.of_request
    with pytest.raises(ValueError, match="attempts: must be 1 to 5, got 6"):
        RankingClient("127.0.0.1:1", "ctr", attempts=6)
    with (
        RankingClient("127.0.0.1:1", "ctr") as client,
        pytest.raises(ValueError, match="concurrency: must be at least 1, got 0"),
    ):
        next(client.rank_each([], concurrency=0))


@both
def test_other_errors_are_not_asked_again(kind: Any) -> None:
    def before(_: int, context: Any) -> None:
        context.abort(grpc.StatusCode.INVALID_ARGUMENT, "no such age")

    with light_server(before=before) as server:
        with pytest.raises(ServingError, match="refused the request: no such age") as raised:
            ask(kind, server, impression([], [1]))
        assert (server.requests, raised.value.of_request) == (1, True)


@both
def test_a_deadline_holds_for_all_attempts(kind: Any) -> None:
    with light_server(before=lambda *_: time.sleep(1)) as server:
        start = time.monotonic()
        with pytest.raises(ServingError, match=r"did not answer within 0\.2 s") as raised:
            ask(kind, server, impression([], [1]), timeout=0.2)
        assert raised.value.code is grpc.StatusCode.DEADLINE_EXCEEDED
        assert time.monotonic() - start < 0.9


def test_a_server_that_comes_back_is_found_by_the_same_client() -> None:
    port = free_port()
    with RankingClient(f"127.0.0.1:{port}", "ctr") as client:
        with light_server(port):
            assert client.rank(impression([], [1])).model_version == 3
        with pytest.raises(ServingError, match="no server reachable"):
            client.rank(impression([], [1]))
        starts = threading.Timer(0.15, lambda: started.append(LightServer(port)))
        started: list[LightServer] = []
        starts.start()
        try:
            found = 0
            for _ in range(20):
                try:
                    found = client.rank(impression([], [1])).model_version
                    break
                except ServingError:
                    continue
            assert found == 3
        finally:
            starts.join()
            started[0].stop()


@both
def test_a_stream_keeps_its_order_its_bound_and_its_connection(kind: Any) -> None:
    def before(number: int, context: Any) -> None:
        # The first is the slowest; the fourth is refused.
        time.sleep(0.3 if number == 1 else 0.02)

    async def asks(server: LightServer) -> list[Ranking | ServingError]:
        async with kind(f"127.0.0.1:{server.port}", "ctr") as client:
            asked = (impression([3] * number, [3]) for number in range(20))
            return [answer async for answer in client.rank_each(asked, concurrency=4)]

    with light_server(before=before) as server:
        answers = asyncio.run(asks(server))
        assert [answer.candidates[0].logit for answer in answers if isinstance(answer, Ranking)] == list(range(20))
        assert server.most_at_a_time == 4
        assert len(server.peers) == 1


@both
def test_one_of_a_stream_that_is_refused_is_an_answer(kind: Any) -> None:
    def before(number: int, context: Any) -> None:
        if number == 2:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "not this one")

    async def asks(server: LightServer) -> list[Ranking | ServingError]:
        async with kind(f"127.0.0.1:{server.port}", "ctr") as client:
            asked = [impression([], [1])] * 3
            return [answer async for answer in client.rank_each(asked, concurrency=1)]

    with light_server(before=before) as server:
        first, second, third = asyncio.run(asks(server))
    assert isinstance(first, Ranking)
    assert isinstance(second, ServingError)
    assert "not this one" in str(second)
    assert isinstance(third, Ranking)


@both
def test_an_answer_does_not_wait_for_the_next_impression(kind: Any) -> None:
    """Nor does an error while reading lose the answers before it."""

    async def asks(server: LightServer) -> list[Any]:
        answered = threading.Event()

        def asked() -> Iterator[Impression]:
            yield impression([], [1])
            assert answered.wait(20)
            raise LookupError("the rest cannot be read")

        async def later() -> AsyncIterator[Impression]:
            yield impression([], [1])
            while not answered.is_set():
                await asyncio.sleep(0.01)
            raise LookupError("the rest cannot be read")

        found: list[Any] = []
        async with kind(f"127.0.0.1:{server.port}", "ctr") as client:
            answers = client.rank_each(asked() if kind is Sync else later(), concurrency=4)

            async def read() -> None:
                async for answer in answers:
                    found.append(answer)
                    answered.set()

            with pytest.raises(LookupError, match="the rest cannot be read"):
                await read()
        return found

    with light_server() as server:
        assert [answer.model_version for answer in asyncio.run(asks(server))] == [3]


def test_a_stream_that_is_left_ends_its_thread() -> None:
    with light_server() as server, RankingClient(f"127.0.0.1:{server.port}", "ctr") as client:
        answers = client.rank_each((impression([], [1]) for _ in range(10_000)), concurrency=2)
        next(answers)
        answers.close()  # type: ignore[attr-defined]
        for _ in range(100):
            if "ask" not in [thread.name for thread in threading.enumerate()]:
                break
            time.sleep(0.05)
        else:
            pytest.fail("it goes on")
        assert server.requests < 10


def test_what_an_event_weighs_is_what_the_logit_loses_without_it() -> None:
    asked = impression([3, 4, 3, 5], [4, 3, 9])
    with light_server() as server, RankingClient(f"127.0.0.1:{server.port}", "ctr") as client:
        found = explain(client, asked, 1)
        assert (found.item_id, found.position, found.logit) == (503, 1, 2.0)
        assert [event.weight for event in found.events] == [1.0, 0.0, 1.0, 0.0]
        assert [(event.position, event.item_id, event.age_seconds) for event in found.events][2] == (2, 102, 9998)
        assert server.requests == 1
        assert explain(client, impression([], [4]), 0).events == ()
    assert position_of(asked, 509) == 2
    assert position_of(asked, 1) is None


@pytest.fixture(params=[0, 3])
def further_features(request: pytest.FixtureRequest) -> Iterator[int]:
    """So many are declared of each event."""
    encoding = Encoding("hash", 5)
    declare_features(
        Feature(f"history_{name}", "history", name, smallest=-9, declared=name, encoding=encoding)
        for name in ("verb", "page", "shop")[: request.param]
    )
    yield request.param
    declare_features([])


def test_a_long_history_is_explained_by_requests_within_the_limit(
    monkeypatch: pytest.MonkeyPatch, further_features: int
) -> None:
    monkeypatch.setattr(explanation, "MAX_REQUEST_VALUES", 2000)
    sizes: list[int] = []
    asked = impression([3] * 59 + [4], [4])

    class Sizes(RankingClient):
        def rank_batch(self, impressions: Any) -> list[Ranking]:
            sizes.append(len(impressions))
            return super().rank_batch(impressions)

    with light_server() as server, Sizes(f"127.0.0.1:{server.port}", "ctr", timeout=60) as client:
        weights = [event.weight for event in explain(client, asked, 0).events]
    assert weights == [0.0] * 59 + [1.0]
    assert sum(sizes) == 60 + len(sizes)
    row = (4 + further_features) * 60 + 2
    assert max(sizes) * row <= 2000 < (max(sizes) + 1) * row
