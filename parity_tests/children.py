"""Processes that tests start: commands as people type them, and several that train one model. None outlives its test.

Machines may be busy: whoever waits, waits for something that happens, up to PATIENCE, and never for a time to pass.
"""

import contextlib
import os
import subprocess
import sys
import time

import torch.distributed as dist

PATIENCE = 300.0  # seconds after which a process is taken for stuck, however busy the machine


@contextlib.contextmanager
def running(wing, *argv):
    """A command as a person starts it: a process of its own, which does not survive the context."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    arguments = [sys.executable, "-m", str(wing), *map(str, argv)]
    streams = {"text": True, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(arguments, env=environment, **streams) as process:
        try:
            yield process
        finally:
            process.kill()


@contextlib.contextmanager
def started(world, *command):
    """``world`` processes as torchrun would start them; gives a list of Popen. None survives the context.

    They meet in a store that this process keeps, as torchrun's do. So the port is taken before anybody hears of it: one
    that is only found free may be another's a moment later.
    """
    store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    shared = os.environ | {
        "OMP_NUM_THREADS": "1", "WORLD_SIZE": str(world), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(store.port),
        "TORCHELASTIC_USE_AGENT_STORE": "True",
    }  # fmt: skip
    children = []
    try:
        for rank in range(world):
            own = {"RANK": str(rank), "LOCAL_RANK": str(rank)}
            streams = {"text": True, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
            arguments = [sys.executable, "-m", *map(str, command)]
            children.append(subprocess.Popen(arguments, env=shared | own, **streams))
        yield children
    finally:
        for child in children:
            child.kill()
            child.wait(PATIENCE)
            child.stdout.close()
        del store


def ended(children):
    """[(exit status, all that it said)] of processes that end by themselves."""
    said = [child.communicate(timeout=PATIENCE)[0] for child in children]
    return [(child.returncode, text) for child, text in zip(children, said)]


def wait_for(done, *children):
    """Until ``done()``; a process that ends before is an error."""
    until = time.monotonic() + PATIENCE
    while not done():
        gone = [child for child in children if child.poll() is not None]
        assert not gone, f"exit status {gone[0].returncode}: {gone[0].communicate()}"
        assert time.monotonic() < until, "stuck"
        time.sleep(0.05)
