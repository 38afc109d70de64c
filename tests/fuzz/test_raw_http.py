"""The service reads raw streams of HTTP/1.1 as h11 does; ``make fuzz`` reads many more of them."""

from __future__ import annotations

from tests.fuzz.raw_http import Found, Request, by_h11, difference, run, stream

STREAMS = 2_000


async def test_streams_are_read_as_h11_reads_them() -> None:
    went, wrong = await run(0, STREAMS)
    assert wrong == []
    assert went["requests"] > STREAMS / 2
    assert STREAMS / 4 < went["refused"] < STREAMS * 3 / 4


def test_a_seed_makes_the_same_stream_each_time() -> None:
    assert stream(7) == stream(7) != stream(8)


def test_another_reading_is_found() -> None:
    data = b"POST / HTTP/1.1\r\nHost: here\r\nContent-Length: 2\r\n\r\n{}"
    theirs = by_h11(data)
    (request,) = theirs.requests
    assert difference(data, theirs, theirs) is None
    without_body = request._replace(body=b"")
    smuggled = Request("DELETE", b"/", (), b"")
    for ours in (
        Found([], refused=False),
        Found([], refused=True),
        Found([without_body], refused=False),
        Found([request, smuggled], refused=False),
    ):
        assert difference(data, ours, theirs) is not None
