# SPDX-License-Identifier: Apache-2.0
"""
CreateVM with descriptors, which neither gdbus nor busctl can send: libsystemd through ctypes.

    reply = fdbus.create("a", config, {"kernel": fd}, Persistent=False)
"""

import ctypes
import json
import os
import pwd

import bus


class _Error(ctypes.Structure):
    _fields_ = [("name", ctypes.c_char_p), ("message", ctypes.c_char_p), ("need_free", ctypes.c_int)]


def _call(name, document, fds, options):
    """In the calling process, on a connection of its own; a bus.Reply."""
    sd = ctypes.CDLL("libsystemd.so.0")
    connection, reply, error = ctypes.c_void_p(), ctypes.c_void_p(), _Error()
    r = sd.sd_bus_open_system(ctypes.byref(connection))
    if r < 0:
        return bus.Reply(False, "local", os.strerror(-r))
    args = [ctypes.c_char_p(name.encode()), ctypes.c_char_p(document.encode()), ctypes.c_int(len(fds))]
    for key, fd in fds:
        args += [ctypes.c_char_p(key.encode()), ctypes.c_int(fd)]
    args.append(ctypes.c_int(len(options)))
    for key, value in options.items():
        if isinstance(value, bool):
            args += [ctypes.c_char_p(key.encode()), ctypes.c_char_p(b"b"), ctypes.c_int(value)]
        else:
            args += [ctypes.c_char_p(key.encode()), ctypes.c_char_p(b"s"), ctypes.c_char_p(value.encode())]
    r = sd.sd_bus_call_method(connection, bus.NAME.encode(), bus.ROOT.encode(), bus.MANAGER.encode(),
                              b"CreateVM", ctypes.byref(error), ctypes.byref(reply), b"ssa{sh}a{sv}", *args)
    if r >= 0:
        return bus.Reply(True, "", "")
    if error.name:
        return bus.Reply(False, error.name.decode(), error.message.decode())
    return bus.Reply(False, "local", os.strerror(-r))


def create(name, config, fds, user=None, **options):
    """
    As bus.create(), with descriptors: a dictionary, or pairs where a name is to come twice. The call
    is made by a child process, as `user` if given: the service asks who is at the other end.
    """
    document = config if isinstance(config, str) else json.dumps(config)
    pairs = list(fds.items()) if isinstance(fds, dict) else fds
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            if user is not None:
                entry = pwd.getpwnam(user)
                os.setgroups([])
                os.setgid(entry.pw_gid)
                os.setuid(entry.pw_uid)
            reply = _call(name, document, pairs, options)
            os.write(write, json.dumps([reply.ok, reply.error, reply.text]).encode())
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as f:
        answer = f.read()
    os.waitpid(child, 0)
    if not answer:
        raise AssertionError("the client died before it had an answer")
    return bus.Reply(*json.loads(answer))
