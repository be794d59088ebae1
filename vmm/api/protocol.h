/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The control channel between brumed and brume-vmm: private D-Bus
 *
 * The worker's standard input is a listening AF_UNIX SOCK_STREAM socket, bound
 * by the daemon at <runtime>/vm/<name>/control.  The worker accepts a
 * connection (peer uid 0, or its own uid), speaks D-Bus on it as the server,
 * and drops an older connection for a newer one that calls a method, so a
 * restarted daemon just connects again.  Object and interface are fixed; this is
 * not a public bus and both ends come from the same build (version is checked all
 * the same).
 *
 * A connection that begins with the Hello of a bus is somebody who looks on, and
 * replaces nobody: busctl --address=unix:path=... introspect org.brume.Worker1
 * /org/brume/worker.  There is one at a time.  In a user's worker root is a
 * stranger: it is not mapped there.
 *
 *   Hello() -> (u version, u pid, s state)
 *   AddResources(a{sh} resources)           descriptors by JSON pointer, and "kvm";
 *                                           as often as needed before Start or AddDevice
 *                                           (<= 200 a call)
 *   Start(a{sv} config, a{sv} options) -> a{sv}    options: paused b.  Builds and boots;
 *                                           replies when the vCPUs run (or stand, if paused),
 *                                           with what Query says then
 *   Pause() Resume() Reset() PowerButton() InjectNMI()
 *   Reboot()                                the same as PowerButton for the guest, but when
 *                                           it powers off the machine starts again
 *   Quit()                                  ends the process, reply first
 *   OpenConsole(s name, b force, b readonly) -> (h socket)   "" = first; names "serial",
 *                                           "console", "debug"
 *   SetConsoleSize(s name, q columns, q rows)    name as of OpenConsole
 *   SetLink(s id, b up)
 *   SetRateLimit(s id, s direction, tttttt limit)    direction of a network device: "rx", "tx" or
 *                                           "both"; limit: size, one_time_burst, refill_time (ms)
 *                                           of bytes, then of operations; size 0: no limit
 *   SetRateLimitGroup(s group, tttttt limit)
 *   ResizeDisk(s id, t bytes) -> (a{sv} values)    the guest is told, and the reply says the rest
 *   ReplaceDisk(s id, s pointer, s type) -> (a{sv} values)    another image: the resource of that
 *                                           name, with the files behind it; type: of image_type,
 *                                           "" = none is stated.  When it fails they are dropped,
 *                                           and the disk has the image that it had
 *   SetBalloon(t bytes)                     what the guest is to give up
 *   AddDevice(s key, a{sv} device) -> (s id, s bdf, a{sv} values)    an element of list `key`
 *                                           of the configuration, or its object; its resources
 *                                           have the pointers of the end of that list.  When it
 *                                           fails, they are dropped and all is as before
 *   RemoveDevice(s id, b force)             the guest is asked to let go of it, DeviceRemoved
 *                                           follows if it does; force: it is gone with the reply
 *   ForgetRemoval(s id)                     nobody waits for that any more
 *   SetVCPUs(u n)                           what the guest is to have; SizesChanged follows
 *   SetMemory(t bytes)                      the same; no less than it is to have by now, or, by
 *                                           virtio-mem, than it began with
 *   SetMemoryZone(s zone, t bytes)          the same of a zone
 *   KeepMemory()                            what it has by virtio-mem is what it is to have
 *   ConnectVSock(u port) -> (h socket)      when the guest has accepted; ECONNREFUSED
 *   AcceptVSock(u cookie, h socket)         the answer to VSockWanted: connected, stream or
 *                                           seqpacket as was wanted
 *   RefuseVSock(u cookie)
 *   GetCounters() -> a{sa{st}}
 *   Query() -> a{sv}    state s, reason s, vcpus u, vcpus_target u, memory t,
 *                       memory_target t (bytes; what the guest has, and is to have),
 *                       memory_zones at (what each is to have), consoles as, boots u,
 *                       devices a(ssss) (id, type, bdf, driver "ok"|"broken"|"inactive"),
 *                       hotplugged as (ids of what came while the machine ran),
 *                       values a{sa{sv}} (id, all values of the device)
 *
 *   signal StateChanged(s old, s new, s reason)
 *   signal Event(s source, s name, a{sv} details)
 *   signal DeviceRemoved(s id)              it is gone with all it had, also without having been
 *                                           asked for now: late, or by a reset
 *   signal RemovalRefused(s id)             the guest says that it keeps the device for now
 *   signal SizesChanged(a{sv} sizes)        those members of Query: the guest has more or less now
 *   signal ResizeRefused(s what)            the guest keeps what it was asked for: "vcpus", or
 *                                           does not take what it was offered: "memory"
 *   signal VSockWanted(u cookie, u port, b seqpacket)
 *                                           the guest connects to a port of the host; without an
 *                                           answer for 2 s it is refused
 *   signal DeviceChanged(s id, a{sv} values)    all of them, at most ten times a second
 *
 * Values of a device, which change while it runs and are no counters:
 *   disks     size t (bytes), images t (how many it has had), and while a driver has the disk
 *             engine s ("io_uring", "aio", "sync")
 *   net       link_up b
 *   balloon   target t, actual t (bytes); of the statistics queue, what the guest gave so
 *             far, "statistics." and its name: statistics.swap_in t, ...
 *
 * Errors of a method carry `struct err` as a D-Bus error: name
 * PROTOCOL_ERROR_PREFIX + fault_to_string(fault) with "-" as "_" and, for FAULT_NONE,
 * ".errno_" + the number; the message is the text.
 */
#pragma once

#define PROTOCOL_VERSION      1
#define PROTOCOL_OBJECT       "/org/brume/worker"
#define PROTOCOL_INTERFACE    "org.brume.Worker1"
#define PROTOCOL_ERROR_PREFIX "org.brume.Worker1.Error."
#define PROTOCOL_FDS_PER_CALL 200

/* Names of resources that no configuration key holds. */
#define PROTOCOL_RESOURCE_KVM "kvm"

/* Worker states, as StateChanged and Query give them. */
#define WORKER_STATE_IDLE     "idle" /* nothing configured yet */
#define WORKER_STATE_RUNNING  "running"
#define WORKER_STATE_PAUSED   "paused"
#define WORKER_STATE_SHUTDOWN "shutdown" /* last one before the process exits */
#define WORKER_STATE_FAILED   "failed"

/* Reasons of a StateChanged. */
#define WORKER_REASON_REQUEST        "request"
#define WORKER_REASON_GUEST_SHUTDOWN "guest-shutdown"
#define WORKER_REASON_GUEST_REBOOT   "guest-reboot"   /* running -> running, boots + 1 */
#define WORKER_REASON_GUEST_WATCHDOG "guest-watchdog" /* watchdog_action: running -> any */
#define WORKER_REASON_RESET          "reset"
#define WORKER_REASON_TRIPLE_FAULT   "triple-fault"
#define WORKER_REASON_INTERNAL_ERROR "internal-error"

/* Exit status of brume-vmm. */
#define WORKER_EXIT_OK           0 /* guest powered off, or Quit */
#define WORKER_EXIT_USAGE        2
#define WORKER_EXIT_CONTROL      3 /* control channel unusable */
#define WORKER_EXIT_VM           4 /* the machine failed: KVM internal error */
#define WORKER_EXIT_TRIPLE_FAULT 5
