#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""
brumectl's completion, by the real bash and the real zsh: what is offered at the end of a line.
"""
import os
import re
import subprocess

import bus
import tap
import terminal
import tiny

BASH = "/usr/share/bash-completion/completions/brumectl"
ZSH = "/usr/share/zsh/vendor-completions"

VERBS = {"list", "show", "create", "validate", "run", "start", "console", "shutdown", "reboot", "reset",
         "terminate", "pause", "resume", "delete", "events", "help"}
VMS = {"alpha", "beta"}

# (what is typed, what has to be offered, what must not be)
LINES = [
    ("verbs", "brumectl ", VERBS, {"alpha", "--json"}),
    ("verbs by their beginning", "brumectl re", {"reboot", "reset", "resume"}, {"list"}),
    ("verbs after an option", "brumectl --json --no-ask-password st", {"start"}, set()),
    ("verbs after an option with a value", "brumectl -H somewhere lis", {"list"}, VMS),
    ("verbs after --host=", "brumectl --host=some.where lis", {"list"}, VMS),
    ("global options", "brumectl --", {"--json", "--user", "--host", "--no-ask-password", "--help"},
     {"list", "--paused"}),
    ("options of a verb", "brumectl start --", {"--console", "--paused", "--no-wait", "--json"},
     {"--disk", "list"}),
    ("options of a definition", "brumectl run --", {"--kernel", "--disk", "--net", "--cpus", "--memory"},
     {"--paused"}),
    ("machines", "brumectl start ", VMS, VERBS),
    ("machines by their beginning", "brumectl console al", {"alpha"}, {"beta"}),
    ("machines after options", "brumectl shutdown --timeout 5 --force ", VMS, VERBS),
    ("machines after --timeout=", "brumectl shutdown --timeout=5 ", VMS, VERBS),
    ("machines after start's --console", "brumectl start --console ", VMS, VERBS),
    ("one machine is enough", "brumectl start alpha ", set(), VMS),
    ("on and off", "brumectl autostart alpha o", {"on", "off"}, VMS),
    ("no machine for a new name", "brumectl create ", set(), VMS),
    ("files for a definition", "brumectl create new /srv/comp", {"/srv/completion.json"}, VMS),
    ("files after options", "brumectl create new --description words /srv/comp", {"/srv/completion.json"},
     VMS),
    ("files for a kernel", "brumectl run --kernel /srv/comp", {"/srv/completion.json"}, VMS),
    ("files for --kernel=", "brumectl run --kernel=/srv/comp", {"/srv/completion.json"}, VMS),
    ("files for a disk", "brumectl run --disk path=/srv/comp", {"/srv/completion.json"}, VMS),
    ("topics of help", "brumectl help ", {"disk", "net", "cpus", "start"}, VMS),
    ("jobs", "brumectl cancel ", set(), VMS | VERBS),
    ("machines for a device's verb", "brumectl set-link ", VMS, VERBS),
    ("a link's states", "brumectl set-link alpha n0 ", {"up", "down"}, VMS),
    ("what a limit begins with", "brumectl set-rate-limit alpha d0 ", {"bw=", "ops=", "none"}, VMS),
    ("the second word of device", "brumectl device ", {"list", "add", "remove"}, VMS | {"start"}),
    ("machines for device", "brumectl device --json list ", VMS, {"add"}),
    ("options of device remove", "brumectl device remove --", {"--force", "--timeout", "--no-wait", "--persist"},
     {"--disk"}),
    ("kinds of devices", "brumectl device add alpha ", {"disk", "net", "fs", "pmem", "vsock"}, {"rng"} | VMS),
    ("files for a device", "brumectl device add alpha disk path=/srv/comp", {"/srv/completion.json"}, VMS),
    ("machines for cpu and memory", "brumectl memory ", VMS, VERBS),
    ("nothing for a number", "brumectl cpu alpha ", set(), VMS),
    ("no devices of a stopped machine", "brumectl counters alpha ", set(), VMS),
]


def machines(t):
    for name in sorted(VMS):
        t.cleanup(bus.remove, name)
        bus.must(bus.create(name, tiny.config()))
    with open("/srv/completion.json", "w"):
        t.cleanup(os.unlink, "/srv/completion.json")


def bash(line):
    """What bash's own splitting of the line makes of it, then the function, without readline."""
    words, breaks = [], "=:"
    for part in line.split(" "):
        words += [w for w in re.split(f"([{breaks}]+)", part) if w] or [""]
        if part and part[-1] in breaks:
            words.append("")
    script = """
        source "$1"; shift
        [[ $(complete -p brumectl) == *"-F _brumectl brumectl"* ]] || exit 1
        COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMP_LINE="$*"; COMP_POINT=${#COMP_LINE}
        _brumectl brumectl "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
        ((${#COMPREPLY[@]})) && printf '%s\\n' "${COMPREPLY[@]}"
        exit 0
    """
    r = subprocess.run(["bash", "-c", script, "bash", BASH, *words], stdin=subprocess.DEVNULL,
                       capture_output=True, text=True, timeout=20, check=False)
    if r.returncode or r.stderr:
        raise AssertionError(f"{line!r}: exit status {r.returncode}, {r.stderr}")
    return set(r.stdout.split())


class Zsh:
    """An interactive zsh on a terminal; each Tab lists without changing the line."""

    SETUP = ("PROMPT='READY> ' RPROMPT= ; unsetopt PROMPT_SP PROMPT_CR ZLE_BRACKETED_PASTE; "
             "unset zle_bracketed_paste; "
             "setopt NO_BEEP NO_AUTO_MENU NO_LIST_AMBIGUOUS NO_ALWAYS_LAST_PROMPT LIST_ROWS_FIRST; "
             f"fpath=({ZSH} $fpath); LISTMAX=1000; autoload -Uz compinit; compinit -u -D; "
             "zstyle ':completion:*' insert-unambiguous false; "
             "zstyle ':completion:*' menu no; bindkey '^I' list-choices; bindkey '^U' kill-whole-line; "
             "print SET''UP")

    def __enter__(self):
        env = dict(os.environ, TERM="dumb", LC_ALL="C.UTF-8")
        self._term = terminal.Terminal("zsh", "-f", "-i", env=env).__enter__()
        self._term.resize(100, 200)
        self._term.send(self.SETUP + "\n")
        self._term.expect("SETUP", 20)
        self._term.expect("READY> ")
        return self

    def __exit__(self, *args):
        self._term.__exit__(*args)

    def offers(self, line):
        """The words of the list that Tab shows below the line."""
        self._term.send(line + "\t")
        self._term.send("\x15print DO''NE\n")
        shown = self._term.expect(r"\nDONE")
        self._term.expect("READY> ")
        words = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", " ", shown)
        tail = line.split(" ")[-1]
        return set(re.split(r"[\s\r]+", words.replace(line, " "))) - {tail}


def check(t, name, offered, wanted, unwanted):
    t.equal((name, sorted(wanted - offered)), (name, []), f"not offered; these are: {sorted(offered)}"[:600])
    t.equal((name, sorted(unwanted & offered)), (name, []), "offered all the same")


@tap.test("bash offers")
def test_bash(t):
    machines(t)
    for name, line, wanted, unwanted in LINES:
        check(t, name, bash(line), wanted, unwanted)


@tap.test("zsh offers")
def test_zsh(t):
    if not os.path.exists("/bin/zsh"):
        tap.skip("zsh is not installed")
    machines(t)
    with Zsh() as zsh:
        for name, line, wanted, unwanted in LINES:
            # zsh lists a file without its folder
            wanted = {os.path.basename(w) for w in wanted}
            check(t, name, zsh.offers(line), wanted, unwanted)


@tap.test("without a service: nothing is offered, nothing is printed")
def test_no_service(t):
    os.environ["DBUS_SYSTEM_BUS_ADDRESS"] = "unix:path=/nowhere"
    t.cleanup(os.environ.pop, "DBUS_SYSTEM_BUS_ADDRESS")
    t.equal(bash("brumectl start "), set())
    t.true("start" in bash("brumectl "), "verbs need no service")


tap.main()
