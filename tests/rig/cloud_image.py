# SPDX-License-Identifier: Apache-2.0
"""
A cloud image as distributions publish them, made of Debian's packages, and what it is started with:

  cloud.img        GPT disk: an EFI system partition with GRUB, an ext4 root with systemd, cloud-init
                   and Debian's stock cloud kernel with Debian's own initramfs
  cloud-seed.img   the NoCloud seed disk that tells it its name, users and network
                   (tests/data/cloud-seed, by cloud-localds)
  CLOUDHV.fd       the firmware (firmware/build-cloudhv)
  firmware.img     a disk with a script for the firmware's own shell (tests/data/firmware-disk)

The image knows nothing of its machine: all comes from the seed. It is smaller than a published one:
the initramfs has the drivers for virtio only, and what cloud-init and systemd do for other clouds and
for hardware is left out, because an emulated processor feels each program that starts. No loop
device, no mount: all file systems are made in files.
"""

import shutil

import cache
import debroot
from common import TOP, candidate, run

SEED = TOP / "tests/data/cloud-seed"
SCRIPT = TOP / "tests/data/firmware-disk/startup.nsh"
BUILD_FIRMWARE = TOP / "firmware/build-cloudhv"
MIB = 1 << 20
SIZE = 2048 * MIB
ESP_START, ESP_SIZE = 1 * MIB, 16 * MIB
ROOT_START = ESP_START + ESP_SIZE
ROOT_UUID = "6f1a8f4e-6b6e-4f0e-9d0c-2b1f5a1c7e11"
ESP_SERIAL = "c10dc10d"

# What GRUB needs to find a kernel on ext4 in a GPT; part of its image, so that the root needs no
# second copy.
GRUB_MODULES = "part_gpt fat ext2 normal configfile linux search search_fs_uuid echo".split()
EARLY_CFG = f"""\
search --no-floppy --fs-uuid --set=root {ROOT_UUID}
set prefix=($root)/boot/grub
configfile $prefix/grub.cfg
"""
# grub-mkconfig would ask the machine that it runs on; this is the entry that it writes.
GRUB_CFG = f"""\
set timeout=0
menuentry "Debian GNU/Linux" {{
	search --no-floppy --fs-uuid --set=root {ROOT_UUID}
	echo "Loading Linux ..."
	linux /vmlinuz root=UUID={ROOT_UUID} ro console=ttyS0 quiet mitigations=off
	initrd /initrd.img
}}
"""
FSTAB = f"UUID={ROOT_UUID} / ext4 defaults,noatime 0 1\n"

CLOUD_CFG = """\
# Made by tests/rig/cloud_image.py: what this image's clouds have.
datasource_list: [NoCloud]
disable_root: false
preserve_hostname: false
manage_etc_hosts: true
users: [default]
system_info:
  distro: debian
  default_user: {name: debian, lock_passwd: true, shell: /bin/bash}
  paths: {cloud_dir: /var/lib/cloud/, templates_dir: /etc/cloud/templates/}
  network: {renderers: [networkd]}
cloud_init_modules: [growpart, resizefs, set_hostname, update_hostname, update_etc_hosts, users-groups]
cloud_config_modules: [set-passwords, runcmd]
cloud_final_modules: [scripts-user, final-message]
"""

CUSTOMISE = debroot.customise_common("unnamed") + f"""
rm -f "$1/etc/hostname"
for unit in modprobe@.service dev-hugepages.mount dev-mqueue.mount sys-kernel-debug.mount \\
            sys-kernel-tracing.mount sys-kernel-config.mount sys-fs-fuse-connections.mount \\
            systemd-network-generator.service getty@.service apparmor.service networking.service \\
            grub-common.service cloud-init-hotplugd.socket; do
	ln -sf /dev/null "$1/etc/systemd/system/$unit"
done
chroot "$1" systemctl -q enable systemd-networkd.service
chroot "$1" systemctl -q disable systemd-networkd-wait-online.service
cat > "$1/etc/cloud/cloud.cfg" <<'END'
{CLOUD_CFG}END
find "$1/etc/cloud/cloud.cfg.d" -name "*.cfg" ! -name 05_logging.cfg -delete
cat > "$1/etc/fstab" <<'END'
{FSTAB}END
# Debian's own initramfs, with the drivers that a virtual machine's root disk needs
printf 'MODULES=list\\n' > "$1/etc/initramfs-tools/conf.d/virtio"
printf 'virtio_pci\\nvirtio_blk\\n' >> "$1/etc/initramfs-tools/modules"
rm -f "$1"/boot/initrd.img-*
chroot "$1" update-initramfs -c -k all
mkdir -p "$1/boot/grub" "$1/boot/efi/EFI/BOOT"
cat > "$1/boot/grub/grub.cfg" <<'END'
{GRUB_CFG}END
cat > "$1/boot/grub/early.cfg" <<'END'
{EARLY_CFG}END
chroot "$1" grub-mkimage -O x86_64-efi -o /boot/efi/EFI/BOOT/BOOTX64.EFI -p /boot/grub \\
	-c /boot/grub/early.cfg {" ".join(GRUB_MODULES)}
rm "$1/boot/grub/early.cfg"
rm -rf "$1"/usr/lib/grub/x86_64-efi
"""


def firmware():
    """The product directory with CLOUDHV.fd."""
    def make(work):
        run([BUILD_FIRMWARE, "--output", work / "CLOUDHV.fd"])

    return cache.product("firmware", [candidate("ovmf"), cache.text_of(BUILD_FIRMWARE)], make)


def _partition(image):
    with open(image, "wb") as f:
        f.truncate(SIZE)
    table = (f"label: gpt\n"
             f"start={ESP_START // 512}, size={ESP_SIZE // 512}, type=uefi, name=esp\n"
             f"start={ROOT_START // 512}, type=4f68bce3-e8cd-4db1-96e7-fbcaf984b709, name=root\n")
    run(["sh", "-c", 'printf "%s" "$1" | /sbin/sfdisk --quiet "$2"', "sfdisk", table, image])


def _efi_partition(image, tree):
    """The only copy of GRUB is on the partition that the firmware reads."""
    efi = tree / "boot/efi"
    run(["/sbin/mkfs.vfat", "-F", "16", "-n", "EFI", "-i", ESP_SERIAL, "--offset", ESP_START // 512,
         image, ESP_SIZE // 1024])
    run(["mcopy", "-i", f"{image}@@{ESP_START}", "-s", efi / "EFI", "::/"])
    shutil.rmtree(efi / "EFI")


def _root_partition(image, tree):
    # room for the backup of the partition table at the end
    kib = (SIZE - ROOT_START - MIB) // 1024
    run(["/sbin/mke2fs", "-q", "-t", "ext4", "-F", "-m", "0", "-U", ROOT_UUID, "-L", "root",
         "-E", f"offset={ROOT_START}", "-d", tree, image, f"{kib}k"])


def image():
    """The product directory with cloud.img, cloud-seed.img and firmware.img."""
    root = debroot.root("cloud-image-root", CUSTOMISE) / "root"

    def make(work):
        tree = work / "tree"
        run(["cp", "-a", "--reflink=auto", "--", root, tree])
        _partition(work / "cloud.img")
        _efi_partition(work / "cloud.img", tree)
        _root_partition(work / "cloud.img", tree)
        shutil.rmtree(tree)
        run(["cloud-localds", "--network-config", SEED / "network-config", work / "cloud-seed.img",
             SEED / "user-data", SEED / "meta-data"])
        run(["/sbin/mkfs.vfat", "-C", work / "firmware.img", 4096])
        run(["mcopy", "-i", work / "firmware.img", SCRIPT, "::/"])

    return cache.product("cloud-image",
                         [str(root), cache.text_of(__file__, SCRIPT, *sorted(SEED.iterdir()))], make)
