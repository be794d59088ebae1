# SPDX-License-Identifier: Apache-2.0
"""
The first-level Debian of the linux rig: a machine with KVM that stands for the user's host.

Where the processor has svm or vmx QEMU runs it with KVM; elsewhere QEMU emulates a processor with
SVM and nested paging, so that what runs inside sees hardware virtualisation all the same. The
disks are cached images opened as snapshots: nothing an appliance does outlives it.
"""

import os
import pathlib
import re
import socket

import cache
import cloud_image
import debroot
import disk
import guest_assets
import linux_kernel
import payload
from common import TOP, run

INSIDE = TOP / "tests/rig/inside"
MODULES = ["virtio_pci", "virtio_blk", "virtio_console", "virtio_rng"]
APPLETS = ["cat", "cp", "grep", "insmod", "mkdir", "mount", "poweroff", "sh", "switch_root",
           "umount", "usleep"]
# An emulated host dies now and then; that says nothing about what was tested, so it is tried again.
ATTEMPTS = 3
MEMORY_MIB = 6144               # room for a guest of 4 GiB; taken from the host as it is touched

CUSTOMISE = debroot.customise_common("brume-host") + """
for user in alice bob mallory; do
	chroot "$1" useradd --create-home --shell /bin/bash "$user"
done
mkdir -p "$1/etc/systemd/system/serial-getty@.service.d" "$1/etc/systemd/network" "$1/srv/guest"
cat > "$1/etc/systemd/system/serial-getty@.service.d/autologin.conf" <<END
[Service]
ExecStart=
ExecStart=-/sbin/agetty --autologin root --noclear --keep-baud 115200,57600,38400,9600 - \\$TERM
END
ln -sf /dev/null "$1/etc/systemd/system/getty@.service"
ln -sf /dev/null "$1/etc/systemd/system/systemd-networkd.service"
echo '/dev/vda / ext4 defaults,noatime 0 0' > "$1/etc/fstab"
"""


def hardware():
    """Whether this machine's processor can run guests itself."""
    flags = re.search(r"^flags\s*:(.*)$", pathlib.Path("/proc/cpuinfo").read_text(), re.M)
    words = flags.group(1).split() if flags else []
    return os.path.exists("/dev/kvm") and ("svm" in words or "vmx" in words)


def product(bench=False):
    """
    The cached kernel, initramfs and root disk of the appliance; with `bench` a root that also has
    what benchmarks compare with.
    """
    kernel = linux_kernel.kernel()
    root = debroot.root("bench-linux-root" if bench else "linux-host-root", CUSTOMISE) / "root"

    def make(work):
        linux_kernel.initramfs(work / "initramfs", kernel, MODULES, INSIDE / "init-appliance",
                               APPLETS)
        os.link(kernel / "vmlinuz", work / "vmlinuz")
        tree = work / "tree"
        run(["cp", "-a", "--reflink=auto", "--", root, tree])
        run(["cp", "-a", "--reflink=auto", "--", kernel / "lib/modules", tree / "usr/lib/"])
        disk.ext4_image(tree, work / "root.img", 4 << 30)
        run(["rm", "-rf", "--one-file-system", tree])

    return cache.product("bench-linux-host" if bench else "linux-host", [str(kernel), str(root), MODULES, APPLETS,
                                        cache.text_of(__file__, disk, linux_kernel,
                                                      INSIDE / "init-appliance")], make)


def assets_disk():
    """The guests' kernel and images as a disk, found in the appliance below /srv/guest."""
    assets = guest_assets.assets()

    def make(work):
        disk.ext4_image(assets, work / "assets.img", 4 << 30)

    return cache.product("guest-assets-disk", [str(assets), cache.text_of(__file__, disk)], make)


def cloud_disk():
    """A cloud image, its seed and the firmware as a disk, found in the appliance below /srv/cloud."""
    image, firmware = cloud_image.image(), cloud_image.firmware()

    def make(work):
        tree = work / "tree"
        tree.mkdir()
        for file in (*image.iterdir(), *firmware.iterdir()):
            run(["cp", "--sparse=always", "--reflink=auto", "--", file, tree])
        disk.ext4_image(tree, work / "cloud-disk.img", 4 << 30)
        run(["rm", "-rf", tree])

    return cache.product("cloud-disk", [str(image), str(firmware), cache.text_of(__file__, disk)], make)


def payload_disk(work, build, job, bench=False):
    """
    A disk with the staged build, the tests and the job, for this run only; with `bench` also what
    benchmarks run.
    """
    tree = work / "payload"
    tree.mkdir()
    payload.stage(build, tree)
    payload.add_tests(tree, job)
    payload.add_guest_programs(build, tree)
    if bench:
        payload.add_tiny_guest(build, tree)
    disk.ext4_image(tree, work / "payload.img", disk.tree_size(tree) * 2 + (32 << 20))
    run(["rm", "-rf", tree])


def command(work, console, memory_mib=MEMORY_MIB, bench=False, cloud=False):
    """
    QEMU's command line. `console` is a chardev definition with id=console; results written to
    /dev/virtio-ports/results inside arrive in work/log, signs of life in work/heartbeat. With
    `cloud` the host also has /srv/cloud.
    """
    host, assets = product(bench), assets_disk()
    if hardware():
        processor = ["-accel", "kvm", "-cpu", "host", "-smp", "2"]
    else:
        # Without MWAIT, which QEMU emulates by spinning: an idle host leaves the processors to others.
        # One processor: with two, QEMU 7.2 lost 4 hosts in 22 starts of guests with several vCPUs (an
        # interrupt between processors, taken right after VMRUN although GIF is clear, finds the
        # guest's GS).  Guests take twice as long; vCPUs in parallel are the kvm rig's part.
        processor = ["-accel", "tcg,thread=multi", "-cpu", "max,+svm,-monitor", "-smp", "1"]

    def drive(name, image, more=""):
        return ["-drive", f"if=none,id={name},format=raw,cache=unsafe,snapshot=on,file={image}",
                "-device", f"virtio-blk-pci,drive={name},serial={name}{more}"]

    append = "console=ttyS0 quiet mitigations=off net.ifnames=0 systemd.show_status=no brume.assets " \
             "panic=-1"             # with -no-reboot: QEMU ends, and the rig sees it at once
    if not hardware():
        # Seen twice: all processors idle for good.  A host that ticks survives a lost timer interrupt.
        append += " nohz=off highres=off"
        # QEMU 7.2 aborts when a guest writes CR8 with an interrupt waiting ("assertion failed:
        # qemu_mutex_iothread_locked"). EDK II writes it at the end of each tick of its periodic timer,
        # and on a slow machine the next one waits by then: seen in every second start. It needs no
        # ticks, so it gets next to none; Linux uses the TSC deadline, which this leaves alone.
        append += " kvm.min_timer_period_us=10000000"
    clouds = drive("cloud", cloud_disk() / "cloud-disk.img") if cloud else []
    append += " brume.cloud" if cloud else ""
    return ["qemu-system-x86_64", "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
            "-machine", "q35", *processor, "-m", str(memory_mib),
            "-kernel", str(host / "vmlinuz"), "-initrd", str(host / "initramfs"), "-append", append,
            *drive("root", host / "root.img"), *drive("payload", work / "payload.img"),
            *drive("assets", assets / "assets.img"), *clouds,
            "-device", "virtio-rng-pci",
            "-chardev", console, "-serial", "chardev:console",
            "-chardev", f"file,id=results,path={work / 'log'}",
            "-chardev", f"file,id=heartbeat,path={work / 'heartbeat'}",
            "-device", "virtio-serial-pci", "-device", "virtserialport,chardev=results,name=results",
            "-device", "virtserialport,chardev=heartbeat,name=heartbeat",
            "-monitor", f"unix:{work / 'monitor'},server=on,wait=off"]


def attempts():
    """How often to start an appliance before its death is a failure."""
    return 1 if hardware() else ATTEMPTS


def post_mortem(work):
    """What can be said about an appliance that died: its processors, the end of its console."""
    lines = []
    try:
        with socket.socket(socket.AF_UNIX) as s:
            s.settimeout(5)
            s.connect(str(work / "monitor"))
            s.sendall(b"info cpus\ninfo registers -a\n")
            text = b""
            while text.count(b"(qemu)") < 3:
                data = s.recv(65536)
                if not data:
                    break
                text += data
        lines += [line for line in text.decode(errors="replace").replace("\r", "").split("\n")
                  if re.match(r"\*? *CPU#|R[A-Z0-9]{2}=|RIP=|CR[0-9]=|GS =|CS =", line)]
    except OSError as e:
        lines.append(f"no answer from QEMU's monitor: {e}")
    console = work / "console"
    if console.is_file():
        lines += ["the end of its console:", *console.read_text(errors="replace")[-6000:].splitlines()]
    return "\n".join(lines)
