"""Who may not associate takes nobody's place, however many come and whatever they leave unsaid."""

import resource
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from dicom_io.network.scu import Remote, store

HOSTS = [f"127.0.0.{number}" for number in range(2, 8)]
"""Loopback has many addresses: the door counts by host."""


@pytest.fixture
def many_files() -> Iterator[None]:
    """Both ends of each connection are in this process."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 16384), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.usefixtures("many_files")
@pytest.mark.parametrize("says", [b"", b"\x01\x00\x00"], ids=["silent", "within the request"])
def test_a_crowd_of_strangers(
    porta: Remote,
    images: list[Path],
    says: bytes,
    sized: Callable[[Any, Any], Any],
    figure: Callable[[str, object], None],
):
    """A peer stores its images beside them, and they cost no thread. Nor do so many descriptors keep us from asking."""
    count, before = sized(1100, 4800), set(threading.enumerate())
    with ExitStack() as stack:
        for number in range(count):
            source = (HOSTS[number % len(HOSTS)], 0)
            stranger = socket.create_connection((porta.host, porta.port), 10, source_address=source)
            stack.callback(stranger.close)
            if says:
                stranger.sendall(says)
        threads = len(set(threading.enumerate()) - before)
        assert store(porta, images, calling_ae_title="MODALITY", timeout_s=60) == (0, 0)
    figure("connections held", count)
    figure("threads for them", threads)
    assert threads == 0


def test_many_that_come_and_go(
    porta: Remote, images: list[Path], sized: Callable[[Any, Any], Any], figure: Callable[[str, object], None]
):
    """Probes that close at once, or with a reset, leave nothing behind."""
    count = sized(300, 10_000)
    for number in range(count):
        with socket.create_connection((porta.host, porta.port), 10) as probe:
            if number % 2:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    figure("connections", count)
    assert store(porta, images, calling_ae_title="MODALITY", timeout_s=60) == (0, 0)
