"""``Mailbox``: passes callbacks to an event loop from other threads, waking it as rarely as it can.

It knows nothing of what they do: they end a job of :mod:`agent_cores.session.threads`, or begin and
end a call of :mod:`agent_cores.session.portal.hop`.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections import deque
from contextlib import suppress
from contextvars import Context
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

if TYPE_CHECKING:
    from collections.abc import Callable

Loop = asyncio.AbstractEventLoop


class Mailbox:
    """Callbacks for one event loop, and for those that it sends to others.

    A wake-up is a system call that hands the GIL to the loop that it wakes. One serves all queued
    callbacks, and what a loop sends in one of its iterations wakes another loop once.
    """

    def __init__(self, loop: Loop) -> None:
        self.loop = loop
        self._callbacks: deque[Callable[[], None]] = deque()
        self._is_woken = False
        self._is_answering = False
        self._to_wake: set[Mailbox] = set()
        self._descriptor: int | None = _watched(loop, self._answer)

    @property
    def is_empty(self) -> bool:
        """Whether nothing is queued for this loop."""
        return not self._callbacks

    def post(self, callback: Callable[[], None]) -> None:
        """Have the loop call this soon, if it is not closed. Called in any thread."""
        self._callbacks.append(callback)
        if not self._is_woken:
            self.wake()

    def send(self, callback: Callable[[], None], to: Mailbox) -> None:
        """Have another loop call this, after this loop's iteration. Called in this loop."""
        to._callbacks.append(callback)
        if not self._to_wake:
            self.loop.call_soon(self.flush)
        self._to_wake.add(to)

    def send_now(self, callback: Callable[[], None], to: Mailbox) -> None:
        """Have another loop call this, with all that was sent. Called in this loop."""
        to._callbacks.append(callback)
        self._to_wake.add(to)
        self.flush()

    def flush(self) -> None:
        """Wake the loops that something was sent to."""
        mailboxes, self._to_wake = self._to_wake, set()
        for mailbox in mailboxes:
            mailbox.wake()

    def wake(self) -> None:
        """Have the loop call what is queued, unless a wake-up is pending."""
        if not self._is_woken:
            try:
                self._is_woken = True
                self.ring()
            except RuntimeError:  # it is closed
                pass
            except BaseException:  # interrupted: the next callback wakes it
                self._is_woken = False
                raise

    def ring(self) -> None:
        """Have the loop call what is queued.

        If the loop is closed, this has no effect; without a descriptor it raises ``RuntimeError``.
        """
        if self._descriptor is None or self._is_answering:
            self.loop.call_soon_threadsafe(self._deliver)
        else:
            os.eventfd_write(self._descriptor, 1)

    def _answer(self) -> None:
        # A loop that runs in a callback (nest_asyncio) cannot call this again: see ``ring``.
        self._is_answering = True
        try:
            if self._descriptor is not None:
                with suppress(BlockingIOError):  # called twice for one write (nest_asyncio, forks)
                    os.eventfd_read(self._descriptor)
            self._deliver()
        except BaseException:  # interrupted, perhaps before it delivered
            self.loop.call_soon(self._deliver)
            raise
        finally:
            self._is_answering = False

    def _deliver(self) -> None:
        # This order matters: a callback posted after the flag is cleared wakes the loop again.
        self._is_woken = False
        if len(self._callbacks) > 1:  # if one raises, or runs the loop, the rest is called there
            self.loop.call_soon(self._call)
        self._call()

    def _call(self) -> None:
        for _ in range(len(self._callbacks)):
            if self._callbacks:
                self._callbacks.popleft()()

    def call_the_rest(self) -> None:
        """Call what is queued, here, because the loop has ended. Called in any thread."""
        while self._callbacks:
            try:
                callback = self._callbacks.popleft()
            except IndexError:  # another thread has called the last one
                return
            with suppress(RuntimeError):  # it would cancel what the loop has left behind
                callback()

    def __del__(self) -> None:
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:  # a coroutine finalized together with this may still post
            os.close(descriptor)


def _watched(loop: Loop, answer: Callable[[], None]) -> int | None:
    """Return a descriptor that has the loop call ``answer`` when it is written to.

    ``None`` where ``call_soon_threadsafe`` must do: in other event loops than asyncio's, which wake
    up in ways of their own, and on other systems than Linux. What asyncio does takes a write to a
    socket and two reads; this takes one of each, and a third of the time of a call (`any-loop`).
    """
    if not isinstance(loop, asyncio.SelectorEventLoop) or not hasattr(os, "eventfd"):
        return None
    try:
        descriptor = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
    except OSError:  # too many files are open
        return None
    try:  # in an empty context: the loop keeps it, and the caller's may hold anything
        Context().run(loop.add_reader, descriptor, answer)
    except OSError:  # too many are watched
        os.close(descriptor)
        return None
    return descriptor


class _Own(threading.local):
    """The mailbox of the event loop that this thread ran last."""

    mailbox: Mailbox | None = None


_own = _Own()

_mailboxes: WeakValueDictionary[int, Mailbox] = WeakValueDictionary()
"""By the id of their loop, which keeps those that have a descriptor until it is closed."""


def own_mailbox() -> Mailbox:
    """Return the running loop's mailbox."""
    loop = asyncio.get_running_loop()
    mailbox = _own.mailbox
    if mailbox is None or mailbox.loop is not loop:
        mailbox = _mailboxes.get(id(loop))
        if mailbox is None or mailbox.loop is not loop:
            mailbox = _mailboxes[id(loop)] = Mailbox(loop)
        _own.mailbox = mailbox
    return mailbox
