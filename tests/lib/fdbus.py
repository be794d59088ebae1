# SPDX-License-Identifier: Apache-2.0
"""
CreateVM and AddDevice with descriptors, which neither gdbus nor busctl can send: libsystemd
through ctypes.

    reply = fdbus.create("a", config, {"kernel": fd}, Persistent=False)
    reply = fdbus.add_device("a", "net", "lan", {"fds": [{"fd": "q0"}, {"fd": "q1"}]}, {"q0": fd, "q1": fd})
"""

import ctypes
import json
import os
import pwd

import bus


class _Error(ctypes.Structure):
    _fields_ = [("name", ctypes.c_char_p), ("message", ctypes.c_char_p), ("need_free", ctypes.c_int)]


def _text(value):
    return ctypes.c_char_p(value.encode())


def _variant(value):
    """Type and value, as the arguments that sd_bus_message_append() takes."""
    if isinstance(value, bool):
        return [_text("b"), ctypes.c_int(value)]
    if isinstance(value, int):
        return [_text("t"), ctypes.c_uint64(value)]
    if isinstance(value, list):
        args = [_text("aa{sv}"), ctypes.c_int(len(value))]
        for element in value:
            args += _dict(element)
        return args
    if isinstance(value, dict):
        return [_text("a{sv}"), *_dict(value)]
    return [_text("s"), _text(value)]


def _dict(values):
    args = [ctypes.c_int(len(values))]
    for key, value in values.items():
        args += [_text(key), *_variant(value)]
    return args


def _fds(pairs):
    args = [ctypes.c_int(len(pairs))]
    for key, fd in pairs:
        args += [_text(key), ctypes.c_int(fd)]
    return args


def _call(path, interface, member, signature, args):
    """In the calling process, on a connection of its own; a bus.Reply."""
    sd = ctypes.CDLL("libsystemd.so.0")
    connection, reply, error = ctypes.c_void_p(), ctypes.c_void_p(), _Error()
    r = sd.sd_bus_open_system(ctypes.byref(connection))
    if r < 0:
        return bus.Reply(False, "local", os.strerror(-r))
    r = sd.sd_bus_call_method(connection, _text(bus.NAME), _text(path), _text(interface), _text(member),
                              ctypes.byref(error), ctypes.byref(reply), _text(signature), *args)
    if r >= 0:
        return bus.Reply(True, "", "")
    if error.name:
        return bus.Reply(False, error.name.decode(), error.message.decode())
    return bus.Reply(False, "local", os.strerror(-r))


def _pairs(fds):
    return list(fds.items()) if isinstance(fds, dict) else fds


def create(name, config, fds, user=None, **options):
    """
    As bus.create(), with descriptors: a dictionary, or pairs where a name is to come twice. The call
    is made by a child process, as `user` if given: the service asks who is at the other end.
    """
    document = config if isinstance(config, str) else json.dumps(config)
    return _call_as(user, bus.ROOT, bus.MANAGER, "CreateVM", "ssa{sh}a{sv}",
                    [_text(name), _text(document), *_fds(_pairs(fds)), *_dict(options)])


def add_device(vm, kind, device, config, fds, user=None, **options):
    """AddDevice; lists in the configuration are of dictionaries."""
    return _call_as(user, bus.vm_path(vm), bus.VM, "AddDevice", "ssa{sv}a{sh}a{sv}",
                    [_text(kind), _text(device), *_dict(config), *_fds(_pairs(fds)), *_dict(options)])


def replace_disk(vm, device, fd, user=None, **options):
    """Replace of a Device.Disk, by a descriptor."""
    return _call_as(user, f"{bus.vm_path(vm)}/device/{bus.encode(device)}", f"{bus.NAME}.Device.Disk", "Replace",
                    "a{sv}a{sv}", [ctypes.c_int(1), _text("FD"), _text("h"), ctypes.c_int(fd), *_dict(options)])


def _call_as(user, *call):
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            if user is not None:
                entry = pwd.getpwnam(user)
                os.setgroups([])
                os.setgid(entry.pw_gid)
                os.setuid(entry.pw_uid)
            reply = _call(*call)
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
