# SPDX-License-Identifier: Apache-2.0
"""
Things that are slow to make and depend on few inputs: Debian roots, kernels, guest disks.

A product lives in $BRUME_CACHE/<name>/<key>/ where key is a hash of all it is made from, so a
changed list, kernel or script makes a new one and never a wrong one. It is built beside its place
and renamed when complete: an interrupted build leaves nothing that looks finished. A lock per
product makes a second run wait for the first instead of doing the work twice. When a new key is made
all but the few used last are removed, so that clones of different age can share a cache.
"""

import fcntl
import hashlib
import inspect
import os
import pathlib
import shutil
import sys
import tempfile

from common import CACHE, step

KEEP = 3                        # keys of one product


def key_of(*inputs):
    h = hashlib.sha256()
    for i in inputs:
        h.update(repr(i).encode() + b"\0")
    return h.hexdigest()[:16]


def text_of(*things):
    """The text of modules or files, as an input of a key."""
    texts = []
    for thing in things:
        if inspect.ismodule(thing):
            texts.append(inspect.getsource(thing))
        else:
            texts.append(pathlib.Path(thing).read_text())
    return texts


def product(name, inputs, make):
    """The directory of a product; make(directory) fills a new one."""
    base = CACHE / name
    base.mkdir(parents=True, exist_ok=True)
    place = base / key_of(name, *inputs)
    if _use(place):
        return place
    with open(base / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if _use(place):
            return place
        for old in base.glob("tmp-*"):
            _remove(old)                        # ours alone: we hold the lock
        work = pathlib.Path(tempfile.mkdtemp(prefix="tmp-", dir=base))
        os.chmod(work, 0o755)
        try:
            with step(f"making {name} (kept in {place})"):
                make(work)
            work.rename(place)
        except BaseException:
            _remove(work)
            raise
        places = [p for p in base.iterdir() if p.is_dir()]
        places.sort(key=lambda p: p.stat().st_mtime, reverse=True)
        for old in places[KEEP:]:
            if not _in_use(old):
                _remove(old)
    return place


def _use(place):
    """Whether the product is there; if so its time says when it was used last."""
    try:
        os.utime(place)
    except FileNotFoundError:
        return False
    return True


def hold(place):
    """
    Keeps a product from being removed by a concurrent run that makes a newer one. The lock ends
    with the process; the caller keeps the returned object.
    """
    fd = open(place.parent / f"{place.name}.use", "w")
    fcntl.flock(fd, fcntl.LOCK_SH)
    return fd


def _in_use(place):
    try:
        with open(place.parent / f"{place.name}.use") as f:
            fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    (place.parent / f"{place.name}.use").unlink(missing_ok=True)
    return False


def _remove(path):
    if os.path.ismount(path):
        print(f"not removing {path}: something is mounted on it", file=sys.stderr)
        return
    shutil.rmtree(path, ignore_errors=True)
