#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""virtio-blk on raw files: what a guest writes is what the host reads, and the other way round."""
# timeout: 600
import hashlib
import os

import guest
import tap

MIB = 1 << 20
DIR = "/var/tmp"


def image(t, name, size, content=b""):
    path = f"{DIR}/{name}"
    guest.sparse_file(path, size)
    with open(path, "r+b") as f:
        f.write(content)
    t.cleanup(guest.unlink, path)
    return path


def sha256(path, offset, length):
    with open(path, "rb") as f:
        f.seek(offset)
        return hashlib.sha256(f.read(length)).hexdigest()


def first_word(text):
    return text.split()[0]


@tap.test("write in the guest, compare on the host")
def test_write(t):
    path = image(t, "write.raw", 64 * MIB)
    with guest.Machine("write", guest.config(disks=[{"path": path}])) as vm:
        console = vm.boot()
        t.equal(console.check("cat /sys/block/vda/size"), str(64 * MIB // 512))
        console.check("dd if=/dev/urandom of=/tmp/data bs=1M count=8")
        inside = first_word(console.check("sha256sum /tmp/data"))
        console.check("dd if=/tmp/data of=/dev/vda bs=64k seek=48 conv=fsync")
        t.equal(sha256(path, 3 * MIB, 8 * MIB), inside, "hash while the guest runs, after its flush")
        console.check("echo 3 > /proc/sys/vm/drop_caches")
        again = console.check("dd if=/dev/vda bs=64k skip=48 count=128 2>/dev/null | sha256sum")
        t.equal(first_word(again), inside, "hash of what the guest reads back")
        vm.shutdown()
        t.equal(sha256(path, 3 * MIB, 8 * MIB), inside, "hash after the guest ended")
        t.equal(sha256(path, 0, 3 * MIB), hashlib.sha256(bytes(3 * MIB)).hexdigest(), "what lies before")
        t.equal(os.path.getsize(path), 64 * MIB, "size of the file")


@tap.test("write on the host, compare in the guest")
def test_read(t):
    content = os.urandom(8 * MIB)
    path = image(t, "read.raw", 16 * MIB, content)
    with guest.Machine("read", guest.config(2, disks=[{"path": path, "num_queues": 2}])) as vm:
        console = vm.boot()
        got = console.check("dd if=/dev/vda bs=1M count=8 2>/dev/null | sha256sum")
        t.equal(first_word(got), hashlib.sha256(content).hexdigest())
        t.equal(console.check("ls /sys/block/vda/mq | wc -l").strip(), "2", "queues")


@tap.test("a read-only disk refuses writes")
def test_readonly(t):
    content = os.urandom(MIB)
    path = image(t, "readonly.raw", 4 * MIB, content)
    with guest.Machine("readonly", guest.config(disks=[{"path": path, "readonly": True}])) as vm:
        console = vm.boot()
        t.equal(console.check("cat /sys/block/vda/ro"), "1")
        output, status = console.run("dd if=/dev/zero of=/dev/vda bs=4k count=1 conv=fsync")
        t.true(status != 0, f"dd worked: {output}")
        got = console.check("dd if=/dev/vda bs=1M count=1 2>/dev/null | sha256sum")
        t.equal(first_word(got), hashlib.sha256(content).hexdigest())
    t.equal(sha256(path, 0, MIB), hashlib.sha256(content).hexdigest(), "the file afterwards")


@tap.test("the serial number and the order of two disks")
def test_serial(t):
    one = image(t, "one.raw", 4 * MIB)
    two = image(t, "two.raw", 8 * MIB)
    disks = [{"path": one, "serial": "first-disk"}, {"path": two, "serial": "second-disk"}]
    with guest.Machine("serial", guest.config(disks=disks)) as vm:
        console = vm.boot()
        t.equal(console.check("cat /sys/block/vda/serial"), "first-disk")
        t.equal(console.check("cat /sys/block/vdb/serial"), "second-disk")
        t.equal(console.check("cat /sys/block/vdb/size"), str(8 * MIB // 512))
        t.equal(guest.complaints(console), [], "dmesg")


tap.main()
