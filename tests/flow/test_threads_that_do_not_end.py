"""A daemon that was asked to stop does not wait without an end for a thread of somebody else's code."""

import subprocess
import sys

import pytest

PROGRAM = """
import asyncio, threading
from cognomen.cli import running

running._PATIENCE_SECONDS = 0.2

async def main():
    asyncio.get_running_loop().run_in_executor(None, threading.Event().wait)
    await asyncio.sleep(0)
    {end}

running.run("info", main)
"""


@pytest.mark.parametrize(
    ("end", "code", "told"),
    [("pass", 0, "ended without waiting for threads"), ("raise ValueError('x' * 3)", 1, "ValueError: xxx")],
)
def test_the_process_ends_although_a_thread_of_the_pool_does_not(end: str, code: int, told: str) -> None:
    command = [sys.executable, "-c", PROGRAM.format(end=end)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, told in done.stderr) == (code, True), done.stderr
