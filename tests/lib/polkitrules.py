# SPDX-License-Identifier: Apache-2.0
"""
Rules of polkit for a test, and the people they are about: alice, bob and mallory, users of the
system rig without any right of their own.

    rules.install(t, '''
        if (subject.user == "alice" && vm == "web1")
            return polkit.Result.YES;
    ''')
"""

import os
import subprocess

FILE = "/etc/polkit-1/rules.d/10-brume-test.rules"

TEMPLATE = """polkit.addRule(function(action, subject) {
    if (action.id.indexOf("org.brume.vm1.") != 0)
        return polkit.Result.NOT_HANDLED;
    var id = action.id.substring("org.brume.vm1.".length);
    var vm = action.lookup("vm"), verb = action.lookup("verb"), owner = action.lookup("owner");
    %s
    return polkit.Result.NOT_HANDLED;
});
"""


def _reload():
    # polkitd would notice by itself, some time; systemd counts how often it is restarted
    subprocess.run(["systemctl", "reset-failed", "polkit.service"], capture_output=True, check=False)
    subprocess.run(["systemctl", "restart", "polkit.service"], check=True)


def _remove():
    os.unlink(FILE)
    _reload()


def freeze(t):
    """Questions to polkitd get no answer until the test ends, or the returned function is called."""
    _reload()

    def thaw():
        subprocess.run(["systemctl", "kill", "--signal=CONT", "polkit.service"], check=True)

    subprocess.run(["systemctl", "kill", "--signal=STOP", "polkit.service"], check=True)
    t.cleanup(thaw)
    return thaw


def install(t, body):
    """Puts the rule in force until the test ends."""
    os.makedirs(os.path.dirname(FILE), exist_ok=True)
    with open(FILE, "w") as f:
        f.write(TEMPLATE % body)
    os.chmod(FILE, 0o644)
    t.cleanup(_remove)
    _reload()
