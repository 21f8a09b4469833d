"""kill -9 at each step of replacing a set, or a private file: a reader finds one whole set, and the next writer leaves nothing of it."""

import json
import subprocess
import sys
from pathlib import Path

# Forks a child for each step, which kills itself before (or after) the n-th call that changes something on the disk.
DRILL = """
import itertools, json, os, signal, sys
from pathlib import Path
from cognomen.cli.fileset import add_to_set, write_set
from cognomen.process.privatefile import write_private

CHANGES = ("mkdir", "open", "fsync", "fchmod", "replace", "symlink", "unlink", "rmdir")
directory, is_after = Path(sys.argv[1]), sys.argv[2] == "after"

def arm(at):
    left = itertools.count(1)
    for name in CHANGES:
        def call(*arguments, real=getattr(os, name), **named):
            is_last = next(left) == at
            if is_last and not is_after:
                os.kill(os.getpid(), signal.SIGKILL)
            done = real(*arguments, **named)
            if is_last:
                os.kill(os.getpid(), signal.SIGKILL)
            return done
        setattr(os, name, call)

def in_child(work, at):
    child = os.fork()
    if child == 0:
        arm(at)
        work()
        os._exit(0)
    return os.waitpid(child, 0)[1]

def sets(number):
    text = str(number).encode()
    write_set(directory / "set", {"key": text}, {"cert": text, f"crl{number % 2}": text})

def marks(number):
    add_to_set(directory / "set", "denied", str(number).encode())

def privates(number):
    write_private(directory / "private" / "state", str(number).encode())

def seen():
    current = directory / "set" / "..data"
    return [[(at / name).read_text() for name in ("key", "cert")] for at in (current, directory / "set")]

(directory / "private").mkdir(mode=0o700)
sets(0)
privates(0)
found, steps = [], {}
for work in (sets, marks, privates):
    for at in itertools.count(1):
        status = in_child(lambda: work(at), at)
        found.append([*seen(), (directory / "private" / "state").read_text().isdigit()])
        if status == 0:
            break
        assert status == signal.SIGKILL
    steps[work.__name__] = at - 1
sets(9)
privates(9)
left = [path.name for part in ("set", "private") for path in (directory / part).iterdir()]
print(json.dumps({"found": found, "steps": steps, "left": left}))
"""


def drill(tmp_path: Path, when: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", DRILL, str(tmp_path), when], capture_output=True, text=True, timeout=50, check=False
    )
    assert not done.returncode, done.stderr
    told = json.loads(done.stdout)
    for by_set, by_name, is_whole in told["found"]:
        assert by_set == by_name, "the links lead into the set"
        assert len(set(by_set)) == 1, "key and certificate are of one generation"
        assert is_whole
    assert min(told["steps"].values()) >= 5, told["steps"]
    (generation,) = set(told["left"]) - {"..data", "..lock"} - {"cert", "crl1", "key", "state"}  # its name is random
    assert generation.startswith("..")
    assert len(told["left"]) == 7


def test_killed_before_each_step(tmp_path: Path) -> None:
    drill(tmp_path, "before")


def test_killed_after_each_step(tmp_path: Path) -> None:
    drill(tmp_path, "after")
