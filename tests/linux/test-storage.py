#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""
Disks and persistent memory doing their real job under a stock Debian: file systems with fsync, fstrim
and fsck on every engine, a block device of the host, a full host, DAX. What a guest wrote is looked
at from the host as well.
"""
# timeout: 900
import hashlib
import os
import re
import subprocess

import bus
import guest
import tap

MIB = 1 << 20
DIR = "/var/tmp"


def host(*argv):
    return subprocess.run(argv, check=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True).stdout


def image(t, name, size):
    path = f"{DIR}/{name}"
    guest.sparse_file(path, size)
    t.cleanup(guest.unlink, path)
    return path


def counters(name, device):
    status, values, error = bus.busctl(bus.vm_path(name), bus.VM, "GetCounters", "a{sv}", "0")
    if status != 0:
        raise AssertionError(error)
    return values[0][device]


def allocated(path):
    os.sync()
    return os.stat(path).st_blocks * 512


def fill_and_check(t, console, device, what):
    """A file system on it, data with fsync, unmounted and checked."""
    console.check(f"mkfs.ext4 -q -E nodiscard /dev/{device}", 300)
    console.check(f"mkdir -p /mnt/{device} && mount /dev/{device} /mnt/{device}")
    console.check(f"dd if=/dev/urandom of=/mnt/{device}/data bs=1M count=16 conv=fsync 2>&1", 300)
    before = console.check(f"sha256sum < /mnt/{device}/data", 300)
    console.check(f"umount /mnt/{device} && echo 3 > /proc/sys/vm/drop_caches")
    output, status = console.run(f"e2fsck -fn /dev/{device} 2>&1", 300)
    t.equal(status, 0, f"e2fsck on {what}: {output}")
    console.check(f"mount /dev/{device} /mnt/{device}")
    t.equal(console.check(f"sha256sum < /mnt/{device}/data", 300), before, f"{what}: what was written")


def trim(t, console, device, path, what):
    """Deleting and fstrim give the host its space back."""
    full = allocated(path)
    console.check(f"rm /mnt/{device}/data && sync")
    t.match(console.check(f"fstrim -v /mnt/{device}", 300), r"trimmed")
    t.true(allocated(path) < full - 12 * MIB, f"{what}: {full} bytes of storage, {allocated(path)} after fstrim")
    console.check(f"umount /mnt/{device}")


@tap.test("file systems, trim, zeroes, a block device and persistent memory in one Debian")
def test_storage(t):
    names = ["uring.raw", "aio.raw", "sync.raw"]
    paths = [image(t, name, 64 * MIB) for name in names]
    backing = image(t, "loop.img", 64 * MIB)
    loop = host("losetup", "--find", "--show", backing).strip()
    t.cleanup(host, "losetup", "--detach", loop)
    kept = image(t, "kept.raw", 32 * MIB)
    base, overlay = image(t, "base.raw", 64 * MIB), f"{DIR}/overlay.qcow2"
    host("qemu-img", "create", "-q", "-f", "qcow2", "-b", "base.raw", "-F", "raw", overlay)
    t.cleanup(guest.unlink, overlay)
    pmem = image(t, "pmem.img", 64 * MIB)
    disks = [
        {"path": paths[0], "id": "uring", "num_queues": 2, "queue_affinity": [{"queue_index": 0, "host_cpus": [0]}]},
        {"path": paths[1], "disable_io_uring": True, "direct": True},
        {"path": paths[2], "disable_io_uring": True, "disable_aio": True, "image_type": "Raw"},
        {"path": loop},
        {"path": kept, "sparse": False},
        {"path": overlay, "image_type": "Qcow2", "backing_files": True, "num_queues": 2, "direct": True},
    ]
    config = guest.debian(2, disks=disks, pmem=[{"file": pmem, "id": "memory"}, {"file": DIR, "size": 16 * MIB}])
    with guest.Machine("storage", config) as vm:
        console = vm.boot(300)
        t.true(allocated(kept) >= 32 * MIB, "an image that is not sparse is allocated at the start")
        t.equal(console.check("cat /sys/block/vdf/queue/discard_max_bytes"), "0", "and is never discarded")
        t.true(int(console.check("cat /sys/block/vdf/queue/write_zeroes_max_bytes")) > 0, "but zeroed")

        for device, path, what in zip(["vdb", "vdc", "vdd"], paths, names):
            fill_and_check(t, console, device, what)
            trim(t, console, device, path, what)
        fill_and_check(t, console, "vde", "a loop device")
        trim(t, console, "vde", backing, "a loop device")
        fill_and_check(t, console, "vdg", "a qcow2 image with a backing file")
        console.check("umount /mnt/vdg")

        # zeroes: all of them, and the storage only where that was asked for
        console.check("tr '\\0' x < /dev/zero | dd of=/dev/vdb bs=1M count=32 iflag=fullblock conv=fsync 2>&1", 300)
        full = allocated(paths[0])
        console.check("blkdiscard -z -o 1M -l 16M /dev/vdb", 300)
        t.equal(console.check("cmp -n 16777216 -i 1048576:0 /dev/vdb /dev/zero && echo same", 300), "same")
        t.equal(console.check("dd if=/dev/vdb bs=1 count=2 skip=1048575 2>/dev/null | od -An -tx1").split(),
                ["78", "00"], "what lies before the zeroes")
        t.equal(allocated(paths[0]), full, "storage after zeroes")
        console.check("blkdiscard -o 1M -l 31M /dev/vdb", 300)
        t.true(allocated(paths[0]) < full - 30 * MIB, "storage after a discard")

        # persistent memory: the file system is in the host's pages
        t.equal(console.check("cat /sys/block/pmem0/queue/dax"), "1")
        console.check("mkfs.ext4 -q -b 4096 /dev/pmem0 && mkdir -p /mnt/pmem && mount -o dax=always /dev/pmem0 /mnt/pmem", 120)
        t.match(console.check("grep /mnt/pmem /proc/mounts"), r"dax=always|\bdax\b")
        console.check("dd if=/dev/urandom of=/mnt/pmem/data bs=1M count=8 conv=fsync 2>&1", 120)
        # the memory is good for other devices too: from a disk into DAX pages, without a copy
        console.check("dd if=/dev/vdb of=/mnt/pmem/direct bs=1M count=2 iflag=direct conv=fsync 2>&1", 120)
        console.check("cmp -n 2097152 /dev/vdb /mnt/pmem/direct", 120)
        console.check("sync && umount /mnt/pmem")
        inside = console.check("sha256sum < /dev/pmem0", 120).split()[0]
        t.equal(host("sha256sum", pmem).split()[0], inside, "the file of the persistent memory")
        t.equal(console.check("cat /sys/block/pmem1/size"), str(16 * MIB // 512), "one without a name")

        # what was done above, at least: 16 MiB and 32 MiB written, 16 MiB read after the caches were dropped
        c = counters("storage", "uring")
        t.true(c["write_bytes"] >= 48 * MIB and c["read_bytes"] >= 16 * MIB, f"bytes: {c}")
        for kind in ("read", "write", "flush", "discard", "write_zeroes"):
            t.true(c[f"{kind}_ops"] > 0, f"{kind}: {c}")
            t.true(0 < c[f"{kind}_latency_max_ns"] <= c[f"{kind}_latency_ns"] < 1200 * 10**9, f"latency of {kind}: {c}")
            t.true(c[f"{kind}_latency_ns"] <= c[f"{kind}_ops"] * c[f"{kind}_latency_max_ns"], f"mean of {kind}: {c}")
        c = counters("storage", "memory")
        t.true(c["flush_ops"] > 0 and c["errors"] == 0, f"flushes of persistent memory: {c}")
        # filtered in the guest: its console is slow. Linux says of every virtio-pmem that it cannot
        # "guarantee persistence", as no NVDIMM is behind it (nvdimm_has_flush)
        t.equal(console.check("dmesg -l warn,err,crit,alert,emerg | grep -v 'guarantee persistence' | grep -E "
                              "'virtio|vd[a-g]|I/O error|pmem|nd_|EXT4-fs' || true", 120), "", "dmesg")
        vm.shutdown(120)
    for path in paths[1:]:
        host("e2fsck", "-fn", path)
    host("qemu-img", "check", overlay)
    t.equal(allocated(base), 0, "what is written behind an image")
    host("qemu-img", "convert", "-f", "qcow2", "-O", "raw", overlay, kept)
    host("e2fsck", "-fn", kept)
    host("e2fsck", "-fn", pmem)


@tap.test("a worker that is killed while its guest writes to a qcow2 image")
def test_kill(t):
    path, raw = f"{DIR}/killed.qcow2", f"{DIR}/killed.raw"
    host("qemu-img", "create", "-q", "-f", "qcow2", path, "64M")
    for name in [path, raw]:
        t.cleanup(guest.unlink, name)
    with guest.Machine("killed", guest.config(disks=[{"path": path, "id": "d", "image_type": "Qcow2"}])) as vm:
        console = vm.boot()
        console.check("dd if=/dev/urandom of=/tmp/data bs=64k count=64 2>&1")
        console.check("dd if=/tmp/data of=/dev/vda bs=64k seek=16 conv=fsync 2>&1")
        inside = console.check("sha256sum < /tmp/data").split()[0]
        console.check("(i=0; while :; do dd if=/tmp/data of=/dev/vda bs=4k count=3 oflag=direct "
                      "seek=$((2048 + (i * 7919) % 14000)); i=$((i + 1)); done) >/dev/null 2>&1 &")
        before = counters("killed", "d")["write_ops"]
        t.eventually(lambda: counters("killed", "d")["write_ops"] > before + 60, "writes all over the image", 60)
        os.kill(vm.get("MainPID"), 9)
        vm.wait_state("crashed")
    status = subprocess.run(["qemu-img", "check", path], stdout=subprocess.PIPE, text=True, check=False)
    t.true(status.returncode in [0, 3], f"qemu-img check finds no more than leaks: {status.stdout}")
    host("qemu-img", "convert", "-f", "qcow2", "-O", "raw", path, raw)
    with open(raw, "rb") as f:
        f.seek(MIB)
        t.equal(hashlib.sha256(f.read(4 * MIB)).hexdigest(), inside, "what was flushed before")
    # it works again, and closing it cleanly leaves nothing behind
    with guest.Machine("killed", guest.config(disks=[{"path": path, "image_type": "Qcow2"}])) as vm:
        console = vm.boot()
        console.check("dd if=/dev/zero of=/dev/vda bs=64k count=4 conv=fsync 2>&1")
        vm.shutdown()
    t.match(host("qemu-img", "check", path), "No errors were found")


@tap.test("VHD and VHDX images: what a guest wrote is what qemu-img reads")
def test_foreign(t):
    kinds = [("vpc", "Vhd", "subformat=dynamic,force_size=on"), ("vpc", "Vhd", "subformat=fixed,force_size=on"),
             ("vhdx", "Vhdx", "block_size=1M")]
    paths, raw = [f"{DIR}/foreign-{i}" for i in range(len(kinds))], f"{DIR}/foreign.raw"
    t.cleanup(guest.unlink, raw)
    for path, (name, _, options) in zip(paths, kinds):
        t.cleanup(guest.unlink, path)
        host("qemu-img", "create", "-q", "-f", name, "-o", options, path, "64M")
    disks = [{"path": path, "image_type": image_type, "num_queues": 2} for path, (_, image_type, _) in zip(paths, kinds)]
    with guest.Machine("foreign", guest.config(2, disks=disks)) as vm:
        console = vm.boot()
        console.check("dd if=/dev/urandom of=/tmp/data bs=64k count=64 2>&1")
        inside = console.check("sha256sum < /tmp/data").split()[0]
        for device in ["vda", "vdb", "vdc"]:
            console.check(f"dd if=/tmp/data of=/dev/{device} bs=64k seek=16 conv=fsync 2>&1")
            console.check(f"echo 3 > /proc/sys/vm/drop_caches; cmp -n 4194304 /tmp/data /dev/{device} 0 1048576", 120)
        t.equal(guest.complaints(console, "vd[a-c]|virtio"), [], "dmesg")
        vm.shutdown()
    for path, (name, image_type, options) in zip(paths, kinds):
        host("qemu-img", "convert", "-f", name, "-O", "raw", path, raw)
        with open(raw, "rb") as f:
            f.seek(MIB)
            t.equal(hashlib.sha256(f.read(4 * MIB)).hexdigest(), inside, f"{image_type}, {options}")


@tap.test("an image in use, a full host")
def test_trouble(t):
    small, where = image(t, "small.fs", 16 * MIB), f"{DIR}/small"
    host("mkfs.ext4", "-q", small)
    os.makedirs(where, exist_ok=True)
    host("mount", "-o", "loop", small, where)
    t.cleanup(host, "umount", where)
    path = guest.sparse_file(f"{where}/disk.raw", 64 * MIB)
    with guest.Machine("full", guest.config(disks=[{"path": path}])) as vm:
        console = vm.boot()
        with guest.Machine("second", guest.config(disks=[{"path": path}])):
            reply = bus.vm("second", "Start", bus.options(Wait=True))
            t.match(reply.text, rf"image '{re.escape(path)}' is in use by VM 'full'")
        output, status = console.run("dd if=/dev/urandom of=/dev/vda bs=1M count=32 conv=fsync 2>&1", 300)
        t.true(status != 0, f"writing more than the host has fails: {output}")
        t.match(output, r"Input/output error|No space|I/O error")
        console.check("dd if=/dev/vda of=/dev/null bs=1M count=1 2>&1")
        t.equal(vm.get("State"), "running")


tap.main()
