# SPDX-License-Identifier: Apache-2.0
"""Reads TAP, and the rigs' streams of several TAP outputs, into single results."""

import dataclasses
import re


@dataclasses.dataclass
class Result:
    name: str                   # "system/test-install.py: unit verifies"
    outcome: str                # passed | failed | skipped | note (of the rig; not counted)
    text: str = ""              # reason of a skip, output of a failure


_LINE = re.compile(r"^(not )?ok\b\s*(\d+)?\s*(?:-\s*)?(.*)$")
_DIRECTIVE = re.compile(r"(?<!\\)#\s*(SKIP|TODO)\S*\s*(.*)$", re.I)


def parse(name, text, status=0):
    """
    The results of one TAP program. A program that dies, breaks its plan or says nothing is a
    failure of its own, never silence.
    """
    results, planned, seen, notes = [], None, 0, []
    plan_skip, bailed_out = None, False
    for line in text.splitlines():
        m = re.match(r"^1\.\.(\d+)\s*(?:#\s*SKIP\S*\s*(.*))?$", line, re.I)
        if m:
            planned, plan_skip = int(m.group(1)), m.group(2)
            continue
        m = re.match(r"^Bail out!\s*(.*)$", line)
        if m:
            results.append(Result(f"{name}: bailed out", "failed",
                                  "\n".join([*notes[-20:], m.group(1), ""])))
            bailed_out = True
            continue
        m = _LINE.match(line)
        if not m:
            if results and results[-1].outcome == "failed":
                results[-1].text += line.removeprefix("# ") + "\n"
            else:
                notes.append(line)
            continue
        seen += 1
        what, directive = m.group(3), None
        d = _DIRECTIVE.search(what)
        if d:
            what, directive = what[:d.start()].strip(), d.group(1).upper()
        label = f"{name}: {what or m.group(2) or seen}"
        if directive == "SKIP":
            results.append(Result(label, "skipped", d.group(2) or "no reason given"))
        elif m.group(1) and directive != "TODO":
            # what came before belongs to the failure as well: assertions print first
            results.append(Result(label, "failed", "\n".join(notes[-20:]) + "\n" if notes else ""))
        else:
            results.append(Result(label, "passed"))
        notes = []
    tail = "\n".join(text.splitlines()[-40:])
    if bailed_out:
        pass                                    # that is the failure; the plan cannot be kept
    elif planned == 0 and not results:
        results.append(Result(name, "skipped", plan_skip or "no reason given"))
    elif planned is None:
        results.append(Result(f"{name}: no plan", "failed", f"exit status {status}\n{tail}"))
    elif planned != seen:
        results.append(Result(f"{name}: {planned} planned, {seen} seen", "failed",
                              f"exit status {status}\n{tail}"))
    elif status != 0 and all(r.outcome != "failed" for r in results):
        results.append(Result(f"{name}: exit status {status}", "failed", tail))
    return results


def parse_stream(rig, text):
    """The results of a rig's output (format: tests/rig/inside/run-scripts)."""
    results, name, lines, done, died = [], None, [], False, None
    for line in text.splitlines():
        if line.startswith("### begin "):
            name, lines, died = line.split(" ", 2)[2], [], None
        elif line.startswith("### end "):
            _, _, ended, status, _seconds = line.split(" ")
            journal = []
            if "### journal" in lines:
                at = lines.index("### journal")
                lines, journal = lines[:at], lines[at + 1:]
            file_results = parse(ended, "\n".join(lines), int(status))
            failed = [r for r in file_results if r.outcome == "failed"]
            if failed and journal:
                failed[-1].text += "\n".join(["journal of the whole file:", *journal, ""])
            results += file_results
            name = None
        elif line.startswith("### done "):
            done = True
        elif line.startswith("### died "):
            # the host of the tests, not what they test; the open file is run again, if any
            if died is None or name is not None:
                died = Result(f"{rig} rig: a host died during {name or 'its start'}", "note")
                results.append(died)
            died.text += line.removeprefix("### died ") + "\n"
            name = None
        elif name is not None:
            lines.append(line)
    if name is not None:
        results += parse(name, "\n".join(lines), -1)
    if not done:
        tail = "\n".join(text.splitlines()[-40:])
        results.append(Result(f"{rig} rig: did not reach its end", "failed", tail))
    return results
