# SPDX-License-Identifier: Apache-2.0
"""
A program of this host's in a guest that has none: it goes there with the libraries it needs.

    ethtool = guestprogram.give(console, "/usr/sbin/ethtool", "192.168.249.1")
    console.check(f"{ethtool} -l eth0")

The guest, whose nc(1) gets it, reaches the given address of ours.
"""

import io
import os
import re
import socket
import subprocess
import tarfile
import threading

PORT = 5003


def _archive(program, directory):
    r = subprocess.run(["ldd", program], capture_output=True, text=True, check=True)
    libraries = re.findall(r"(/\S+\.so\S*)", r.stdout)
    loader = next(os.path.basename(x) for x in libraries if "ld-linux" in x)
    run = f'#!/bin/sh\nexec {directory}/{loader} --library-path {directory} {directory}/program "$@"\n'.encode()
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w", dereference=True) as tar:
        tar.add(program, "program")
        for path in libraries:
            tar.add(path, os.path.basename(path))
        member = tarfile.TarInfo("run")
        member.size, member.mode = len(run), 0o755
        tar.addfile(member, io.BytesIO(run))
    return content.getvalue()


def give(console, program, address):
    """The command that runs it there."""
    directory = "/tmp/programs/" + os.path.basename(program)
    if console.check(f"[ -x {directory}/run ] && echo yes || echo no").strip() == "yes":
        return f"{directory}/run"
    content = _archive(program, directory)
    with socket.create_server((address, PORT)) as listener:
        def serve():
            connection, _ = listener.accept()
            with connection:
                connection.sendall(content)
        thread = threading.Thread(target=serve)
        thread.start()
        console.check(f"mkdir -p {directory}; nc {address} {PORT} < /dev/null | tar -x -C {directory}", 120)
        thread.join(30)
    return f"{directory}/run"
