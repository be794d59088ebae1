# SPDX-License-Identifier: Apache-2.0
"""
Virtual machines for the system rig: a worker with the kvm rig's tiny guest in it, in no time.

    with tiny.Machine("a", tiny.config("test=count hz=10")) as vm:
        vm.start()
        ...

The command line chooses what the guest does: the comment at the head of tests/kvm/guest/main.c.
"""

import os
import time

import bus

KERNEL = "/brume/guest/tiny.elf"
ENDED = ("stopped", "crashed", "failed")

# What its scenarios are good for here:
COUNT = "test=count hz=10"              # lives until the power button is pressed, prints
DEAF = "test=hlt-forever"               # lives, takes no notice of the power button
SPIN = "test=spin-forever"
ECHO = "test=serial-echo ms=600000"     # returns what it gets on the serial console until 'q'
ENDS = "test=hello"                     # prints a line and turns itself off


def config(cmdline=DEAF, vcpus=1, memory=32 << 20, **more):
    return {
        "cpus": {"boot_vcpus": vcpus},
        "memory": {"size": memory},
        "payload": {"kernel": KERNEL, "cmdline": cmdline},
        **more,
    }


def image(path, size=1 << 20):
    with open(path, "wb") as f:
        f.truncate(size)
    os.chmod(path, 0o600)
    return path


class Machine:
    """Made on entry, surely gone afterwards."""

    def __init__(self, name, configuration=None, user=None, **options):
        self.name = name
        self.path = bus.vm_path(name)
        self.unit = f"brume-vm-{name}.service"
        self._config = configuration or config()
        self._user = user
        self._options = options

    def __enter__(self):
        bus.must(bus.create(self.name, self._config, user=self._user, **self._options))
        return self

    def __exit__(self, *_):
        bus.remove(self.name)

    def call(self, method, *args, **kwargs):
        """With no options unless arguments are given."""
        return bus.vm(self.name, method, *(args or (bus.options(),)), **kwargs)

    def must(self, method, *args, **kwargs):
        return bus.must(self.call(method, *args, **kwargs))

    def start(self, **options):
        self.must("Start", bus.options(Wait=True, **options))
        return self

    def get(self, prop):
        return bus.vm_get(self.name, prop)

    @property
    def state(self):
        return self.get("State")

    @property
    def pid(self):
        return self.get("MainPID")

    def wait_state(self, state, timeout=20):
        end = time.monotonic() + timeout
        while (now := self.state) != state:
            if time.monotonic() > end:
                raise AssertionError(f"'{self.name}' is '{now}', not '{state}', after {timeout} s")
            time.sleep(0.02)
