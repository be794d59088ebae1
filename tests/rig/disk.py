# SPDX-License-Identifier: Apache-2.0
"""File systems in files: trees become ext4 images without mounting anything."""

import pathlib

from common import run


def ext4_image(tree, out, size, journal=False):
    """
    An ext4 image of `size` bytes (sparse) holding `tree`. Throw-away disks have no journal: their
    emulated host pays for every block it writes.
    """
    out = pathlib.Path(out)
    with open(out, "wb") as f:
        f.truncate(size)
    features = [] if journal else ["-O", "^has_journal"]
    run(["/sbin/mke2fs", "-q", "-t", "ext4", "-F", "-m", "0", *features, "-d", tree, out])


def tree_size(tree):
    """Bytes that the files of a tree take, rounded up to blocks."""
    total = 0
    for path in pathlib.Path(tree).rglob("*"):
        st = path.lstat()
        total += max(4096, st.st_blocks * 512)
    return total
