"""Flags whose effect is the process's own, where nothing inside it can be asked."""

import pathlib

import pytest

from callers import until
from http_client import curl


def serving(process):
    """The names of its threads that serve HTTP: libmicrohttpd calls them so."""
    names = [task.joinpath("comm").read_text().strip() for task in pathlib.Path(f"/proc/{process.process.pid}/task").iterdir()]
    return [name for name in names if name.startswith("MHD-")]


@pytest.mark.parametrize("threads", [1, 3])
def test_as_many_threads_serve_http(start_bridge, threads):
    process = start_bridge("--threads", threads)
    assert curl(f"{process.url}/api/v2/health").status == 200
    # A thread names itself.
    until(lambda: len(serving(process)) == threads, f"{threads} threads serve")
