/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The real brumectl against a stand-in for the service
 *
 * BRUMECTL in the environment is the program.  Each case is a command line with
 * the exit status, the output and the calls that it must lead to.
 */
#include <fcntl.h>
#include <glib.h>
#include <poll.h>
#include <pty.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/unit/client/mock-service.h"

struct fixture {
	struct private_bus bus;
	struct mock *mock;
};

static void fixture_init(struct fixture *f, bool with_service)
{
	*f = (struct fixture){ 0 };
	private_bus_start(&f->bus);
	setenv("DBUS_SYSTEM_BUS_ADDRESS", f->bus.address, 1);
	if (with_service)
		f->mock = mock_start(&f->bus);
}

static void fixture_deinit(struct fixture *f)
{
	if (f->mock)
		mock_stop(f->mock);
	private_bus_stop(&f->bus);
}

struct outcome {
	int status;
	char *out, *err;
};

static void outcome_deinit(struct outcome *o)
{
	g_free(o->out);
	g_free(o->err);
}

/* `line` goes through the shell, so that a case can have pipes. */
static struct outcome run(const char *line)
{
	g_autofree char *command =
		g_strdup_printf("brumectl() { \"$BRUMECTL\" \"$@\"; }; %s", line);
	const char *argv[] = { "sh", "-c", command, NULL };
	struct outcome o = { 0 };
	int status = 0;

	g_assert_true(g_spawn_sync(NULL, (char **)argv, NULL, G_SPAWN_SEARCH_PATH, NULL, NULL,
				   &o.out, &o.err, &status, NULL));
	g_assert_true(WIFEXITED(status));
	o.status = WEXITSTATUS(status);
	return o;
}

static const struct {
	const char *line;
	int status;
	const char *out, *err, *calls; /* NULL: not looked at; err and out: glob */
} cases[] = {
	/* looking */
	{ "brumectl list", 0,
	  "NAME    STATE    VCPUS  MEMORY  OWNER  PID  DESCRIPTION\n"
	  "ask     running  4      1G      root   -    with ?[31mcolour\n*",
	  "", "" },
	{ "brumectl list --json", 0, "[{\"Name\":\"ask\",*}]\n", "", "" },
	{ "brumectl show web1", 0,
	  "            Name: web1\n*          Memory: 1G\n*Consoles: serial console\n", "", NULL },
	{ "brumectl --json show db-1", 0,
	  "{\"Name\":\"db-1\",*\"Consoles\":[\"serial\",\"console\"]}\n", "", NULL },
	{ "brumectl show nothing", 3, "",
	  "brumectl: no virtual machine 'nothing'\nhint: 'brumectl list' shows the virtual machines\n",
	  "" },
	{ "brumectl show \"$(printf 'a\\033[31m')\"", 3, "",
	  "brumectl: no virtual machine 'a?[31m'\nhint: *", "" },
	{ "brumectl stop web1", 2, "",
	  "brumectl: unknown command 'stop', see 'brumectl help'\nhint: did you mean 'shutdown'?\n",
	  "" },
	{ "brumectl List", 2, "",
	  "brumectl: unknown command 'List', see 'brumectl help'\nhint: did you mean 'list'?\n",
	  "" },
	{ "brumectl teapot", 2, "", "brumectl: unknown command 'teapot', see 'brumectl help'\n",
	  "" },
	{ "brumectl show $(printf 'x%05000d' 0)", 2, "",
	  "brumectl: a name of 5001 bytes is too long for a virtual machine\n", "" },
	{ "brumectl create \"$(printf 'a\\377')\" --kernel /k", 2, "",
	  "brumectl: the name 'a\357\277\275' is not text in UTF-8\n", "" },
	{ "brumectl console web1 --console=\"$(printf '\\377')\"", 2, "",
	  "brumectl: the console '\357\277\275' is not text in UTF-8\n", "" },
	{ "unset XDG_RUNTIME_DIR DBUS_SESSION_BUS_ADDRESS; brumectl --user list", 5, "",
	  "brumectl: cannot connect to the session bus: *\nhint: --user needs a session: *", "" },
	{ "brumectl jobs", 0,
	  "JOB  MACHINE  KIND   STATE    PROGRESS  PHASE\n"
	  "7    db-1     start  running  25%       building\n",
	  "", "" },
	{ "brumectl jobs --json", 0,
	  "[{\"id\":7,\"vm\":\"db-1\",\"kind\":\"start\",\"state\":\"running\","
	  "\"phase\":\"building\",\"progress\":0.25}]\n",
	  "", "" },
	{ "brumectl counters web1", 0, "DEVICE  COUNTER     VALUE\n_disk0  read_bytes  4096\n", "",
	  "" },
	{ "brumectl counters web1 _disk0 --json", 0, "{\"read_bytes\":4096}\n", "", "" },
	{ "brumectl counters web1 x", 3, "", "brumectl: 'web1' has no device 'x' that counts\n",
	  "" },

	/* devices */
	{ "brumectl devices web1", 0,
	  "ID      TYPE  ADDRESS       REMOVABLE  STATE\n"
	  "_disk0  disk  0000:00:02.0  yes        present\n"
	  "n0      net   0000:00:03.0  yes        ejecting\n"
	  "__rng   rng   -             no         present\n",
	  "", "" },
	{ "brumectl device list web1", 0, "ID      TYPE  ADDRESS       REMOVABLE  STATE\n*", "",
	  "" },
	{ "brumectl device list web1 --json", 0,
	  "[{\"id\":\"_disk0\",\"type\":\"disk\",\"bdf\":\"0000:00:02.0\",\"path\":\"*\","
	  "\"removable\":true,\"persistent\":false,\"hotplugged\":false,\"state\":\"present\"},*",
	  "", "" },
	{ "brumectl devices db-1", 0, "", "'db-1' has no devices: it does not run.\n", "" },
	{ "brumectl devices nothing", 3, "", "brumectl: no virtual machine 'nothing'\n*", "" },
	{ "brumectl set-link web1 n0 down", 0, "", "", "SetLink(down)" },
	{ "brumectl set-link web1 n0 up", 0, "", "", "SetLink(up)" },
	{ "brumectl set-link web1 n0 on", 2, "", "brumectl: 'on' is neither 'up' nor 'down'\n",
	  "" },
	{ "brumectl set-link web1 _disk0 up", 2, "",
	  "brumectl: device '_disk0' of 'web1' is a disk, which has no link\n", "" },
	{ "brumectl set-link web1 x up", 3, "",
	  "brumectl: 'web1' has no device 'x'; 'brumectl devices web1' *", "" },
	{ "brumectl set-rate-limit web1 _disk0 bw=10M,bw_time=100ms,ops=500", 0, "", "",
	  "SetRateLimit(_5fdisk0 limits={'BandwidthSize': <uint64 10485760>, 'BandwidthRefillUSec': "
	  "<uint64 100000>, 'OpsSize': <uint64 500>} options={})" },
	{ "brumectl set-rate-limit web1 n0 bw=1G,bw_burst=2G,direction=rx", 0, "", "",
	  "SetRateLimit(n0 limits={'BandwidthSize': <uint64 1073741824>, 'BandwidthOneTimeBurst': "
	  "<uint64 2147483648>} options={'Direction': <'rx'>})" },
	{ "brumectl set-rate-limit web1 group1 none", 0, "", "",
	  "SetRateLimitGroup(group1 limits={} options={})" },
	{ "brumectl set-rate-limit web1 _disk0 bw=fast", 2, "",
	  "brumectl: 'bw=fast' is not a number, must be like bw=10M or ops=500\n", "" },
	{ "brumectl set-rate-limit web1 _disk0 bw_time=soon", 2, "",
	  "brumectl: 'bw_time=soon' is not a time, must be like bw_time=100ms\n", "" },
	{ "brumectl set-rate-limit web1 _disk0 speed=1", 2, "",
	  "brumectl: 'speed' is no key of a rate limit, must be one of bw, *", "" },
	{ "brumectl set-rate-limit web1 _disk0 bw=1,bw=2", 2, "", "brumectl: 'bw' is given twice\n",
	  "" },
	{ "brumectl set-rate-limit web1 _disk0 fast", 2, "",
	  "brumectl: 'fast' is no rate limit, must be like bw=10M,ops=500, or none\n", "" },
	{ "brumectl set-rate-limit web1 _disk0 ops=1,direction=rx", 2, "",
	  "brumectl: '_disk0' of 'web1' is no network device and has no direction\n", "" },
	{ "brumectl set-rate-limit web1 __rng ops=1", 2, "",
	  "brumectl: device '__rng' of 'web1' is a rng, which has no rate limit\n", "" },
	{ "brumectl balloon web1 1536M", 0, "", "", "SetBalloon(1610612736)" },
	{ "brumectl balloon web1 0", 0, "", "", "SetBalloon(0)" },
	{ "brumectl balloon web1 -1", 2, "", "*", "" },
	{ "brumectl balloon web1 half", 2, "",
	  "brumectl: 'half' is not a size, must be like 512M or 0\n", "" },
	{ "echo hello | brumectl vsock web1 7", 0, "hello\n", "", "" },
	{ "brumectl vsock web1 8 </dev/null", 1, "",
	  "brumectl: nobody listens on vsock port 8 of the guest\n", "" },
	{ "brumectl vsock web1 ssh", 2, "",
	  "brumectl: 'ssh' is not a vsock port, must be a number\n", "" },
	{ "brumectl -H other vsock web1 7", 2, "",
	  "brumectl: a connection cannot come through ssh's bus connection; use: ssh other brumectl "
	  "vsock web1 7\n",
	  "" },

	/* devices that come and go */
	{ "cd / && brumectl device add web1 disk path=tmp/x.raw,readonly=on,id=d0", 0, "d0\n", "",
	  "AddDevice(web1 disk={'id': <'d0'>, 'path': <'/tmp/x.raw'>, 'readonly': <true>})" },
	{ "brumectl device add --persist --json web1 disk path=/x", 0,
	  "{\"vm\":\"web1\",\"device\":\"_disk5\",\"path\":\"/org/brume/vm1/vm/web1/device/*\"}\n",
	  "", "AddDevice(web1 Persist=true disk={'path': <'/x'>})" },
	{ "brumectl device add web1 net fd=[5,6],id=n1 5</dev/null 6</dev/null", 0, "n1\n", "",
	  "AddDevice(web1 fds=2 net={'fds': <[{'fd': <'5'>}, {'fd': <'6'>}]>, 'id': <'n1'>})" },
	{ "brumectl device add web1 net fd=[99]", 2, "", "brumectl: descriptor 99 is not open, *",
	  "" },
	{ "brumectl -H other device add web1 disk path=x", 2, "",
	  "brumectl: disk: path: 'x' is not an absolute path, must start with '/'\n*", "" },
	{ "brumectl device add web1 disk path=/x,readonly=maybe", 2, "",
	  "brumectl: disk: readonly: 'maybe' is not a toggle, must be on or off\n"
	  "hint: 'brumectl help disk' lists the keys\n",
	  "" },
	{ "brumectl device add web1 disk ''", 2, "",
	  "brumectl: disk: is empty, must be like path=*", "" },
	{ "brumectl device add web1 rng src=/dev/urandom", 2, "",
	  "brumectl: 'rng' is no kind of device that can be added, must be disk, net, fs, pmem or "
	  "vsock\n",
	  "" },
	{ "brumectl device add web1 disks path=/x", 2, "",
	  "brumectl: 'disks' is no kind of device*", "" },
	{ "brumectl device add web1 disk", 2, "",
	  "brumectl: usage: brumectl device add NAME KIND KEY=VALUE,...\n", "" },
	{ "brumectl device add busy disk path=/x", 1, "",
	  "brumectl: virtual machine 'busy' has a job*", NULL },
	{ "brumectl device remove web1 d0", 0, "", "", "RemoveDevice(web1 d0)" },
	{ "brumectl device remove web1 d0 --force --timeout=1min --persist --json", 0,
	  "{\"vm\":\"web1\",\"job\":*,\"result\":\"done\"}\n", "",
	  "RemoveDevice(web1 d0 Force=true TimeoutUSec=60000000 Persist=true)" },
	{ "brumectl device --json remove --no-wait slow d0", 0,
	  "{\"vm\":\"slow\",\"job\":*,\"result\":\"running\"}\n", "", "RemoveDevice(slow d0)" },
	{ "brumectl device remove slow d0", 0, "", "slow: removing d0: building 50%\n",
	  "RemoveDevice(slow d0)" },
	{ "brumectl device remove deaf d0", 6, "",
	  "brumectl: the guest of 'deaf' did not react within 90 s\n"
	  "hint: it can be tried again, or with --force taken away from the guest\n",
	  NULL },
	{ "brumectl device remove web1 \"$(printf '\\377')\"", 2, "", "brumectl: the device *",
	  "" },
	{ "brumectl device remove denied d0", 4, "",
	  "brumectl: access denied\nhint: polkit decides*", NULL },
	{ "brumectl device add --force web1 disk path=/x", 2, "",
	  "brumectl device add: unrecognized option '--force'\n", "" },
	{ "brumectl device", 2, "",
	  "brumectl: 'device' is the first of two words, see 'brumectl help device'\n", "" },
	{ "brumectl device rm web1 d0", 2, "",
	  "brumectl: unknown command 'device rm', see 'brumectl help device'\n"
	  "hint: did you mean 'device remove'?\n",
	  "" },
	{ "brumectl device --no-wait remove web1 d0", 2, "",
	  "brumectl device: unrecognized option '--no-wait'\n", "" },
	{ "brumectl device --help", 0, "brumectl device list NAME\n*", "", "" },
	{ "brumectl help device remove", 0, "brumectl device remove *--force*Ctrl-C*", "", "" },
	{ "brumectl help device add disk", 2, "", "brumectl: 'help' takes one topic\n", "" },

	/* disks */
	{ "brumectl device resize web1 _disk0 20G --json", 0,
	  "{\"vm\":\"web1\",\"job\":*,\"result\":\"done\"}\n", "", "Resize(_disk0 21474836480)" },
	{ "brumectl device resize web1 _disk0 20G --no-wait", 0, "", "",
	  "Resize(_disk0 21474836480)" },
	{ "brumectl device resize web1 _disk0 large", 2, "",
	  "brumectl: 'large' is not a size, must be like 20G\n", "" },
	{ "brumectl device resize web1 n0 20G", 2, "",
	  "brumectl: device 'n0' of 'web1' is a net, which has no image\n", "" },
	{ "brumectl device resize web1 x 20G", 3, "", "brumectl: 'web1' has no device 'x'; *", "" },
	{ "brumectl device resize web1 _disk0 20G --timeout=1", 2, "",
	  "brumectl device resize: unrecognized option*", "" },
	{ "cd / && brumectl device replace web1 _disk0 path=tmp/b.qcow2,image_type=qcow2,backing_files=on",
	  0, "", "", "Replace(_disk0 Path=/tmp/b.qcow2 Format=Qcow2 BackingFiles)" },
	{ "brumectl device replace web1 _disk0 path=/b --persist", 0, "", "",
	  "Replace(_disk0 Path=/b Persist=true)" },
	{ "brumectl device replace web1 _disk0 fd=5,image_type=raw 5</dev/null", 0, "", "",
	  "Replace(_disk0 FD Format=Raw)" },
	{ "brumectl device replace web1 _disk0 fd=5 5</dev/null", 0, "", "", "Replace(_disk0 FD)" },
	{ "brumectl device replace web1 _disk0 fd=77", 2, "",
	  "brumectl: descriptor 77 is not open, *", "" },
	{ "brumectl device replace web1 _disk0 fd=x", 2, "",
	  "brumectl: fd: 'x' is not the number of a descriptor\n", "" },
	{ "brumectl device replace web1 _disk0 fd=5,path=/b 5</dev/null", 2, "",
	  "brumectl: disk: path: given twice\n", "" },
	{ "brumectl device replace web1 _disk0 path=/b,readonly=on", 2, "",
	  "brumectl: readonly: stays what it was when the disk was added, *", "" },
	{ "brumectl device replace web1 _disk0 image_type=raw", 2, "", "brumectl: disk: path: *",
	  "" },
	{ "brumectl device replace web1 __rng path=/b", 2, "",
	  "brumectl: device '__rng' of 'web1' is a rng, which has no image\n", "" },

	/* how much of it */
	{ "brumectl cpu web1", 0, "          Actual: 4\n          Target: 6\n         Maximum: 8\n",
	  "", "" },
	{ "brumectl cpu web1 --json", 0,
	  "{\"vm\":\"web1\",\"actual\":4,\"target\":6,\"maximum\":8}\n", "", "" },
	{ "brumectl memory web1", 0,
	  "          Actual: 1G\n          Target: 1G\n         Maximum: 2.5G\n", "", "" },
	{ "brumectl memory web1 --json", 0,
	  "{\"vm\":\"web1\",\"actual\":1073741824,\"target\":1073741824,\"maximum\":2684354560}\n",
	  "", "" },
	{ "brumectl cpu nothing", 3, "", "brumectl: no virtual machine 'nothing'\n*", "" },
	{ "brumectl cpu web1 6", 0, "", "", "ResizeVCPUs(web1 6)" },
	{ "brumectl cpu web1 6 --persist --timeout=0", 0, "", "",
	  "ResizeVCPUs(web1 6 TimeoutUSec=0 Persist=true)" },
	{ "brumectl cpu slow 2", 0, "", "slow: resizing to 2 vCPUs: building 50%\n",
	  "ResizeVCPUs(slow 2)" },
	{ "brumectl cpu deaf 2", 6, "",
	  "brumectl: the guest of 'deaf' *\nhint: 'brumectl cpu deaf' *", NULL },
	{ "brumectl cpu web1 many", 2, "",
	  "brumectl: 'many' is not a number of vCPUs, must be like 4\n", "" },
	{ "brumectl cpu web1 4294967296", 2, "", "brumectl: '4294967296' is not a number of vCPUs*",
	  "" },
	{ "brumectl cpu web1 --no-wait", 2, "",
	  "brumectl: --no-wait, --timeout, --persist are for a change, and there is no number *",
	  "" },
	{ "brumectl memory web1 2560M --no-wait --json", 0,
	  "{\"vm\":\"web1\",\"job\":*,\"result\":\"running\"}\n", "",
	  "ResizeMemory(web1 2684354560)" },
	{ "brumectl memory slow 2G", 0, "", "slow: resizing to 2G: building 50%\n",
	  "ResizeMemory(slow 2147483648)" },
	{ "brumectl memory web1 more", 2, "", "brumectl: 'more' is not a size, must be like 2G\n",
	  "" },
	{ "brumectl memory web1 1G 2G", 2, "", "brumectl: usage: brumectl memory NAME ?SIZE]\n",
	  "" },
	{ "brumectl memory web1 2G --zone=far --persist", 0, "", "",
	  "ResizeMemoryZone(web1 far 2147483648 Persist=true)" },
	{ "brumectl memory slow 2G --zone far", 0, "", "slow: resizing far to 2G: building 50%\n",
	  "ResizeMemoryZone(slow far 2147483648)" },
	{ "brumectl memory web1 --zone far", 2, "",
	  "brumectl: --no-wait, --timeout, --persist and --zone are for a change, and there is no "
	  "size to change it to\n",
	  "" },
	{ "brumectl memory web1 2G --zone=\"$(printf '\\377')\"", 2, "", "brumectl: the zone *",
	  "" },
	{ "brumectl cpu web1 2 --zone=far", 2, "", "brumectl cpu: unrecognized option*", "" },
	{ "brumectl cpu --force web1 2", 2, "", "brumectl cpu: unrecognized option*", "" },

	{ "brumectl config web1 --json", 0, "{\"cpus\":{\"boot_vcpus\":1}}\n", "",
	  "GetConfig(web1)" },
	{ "brumectl config --next web1", 0, "{\n  \"cpus\": {\n    \"boot_vcpus\": 2\n  }\n}\n", "",
	  NULL },

	{ "brumectl config db-1 --json", 0, "{\"cpus\":{\"boot_vcpus\":2}}\n", "",
	  "GetConfig(db-1) GetConfig(db-1)" },

	/* plain calls */
	{ "brumectl reset web1", 0, "", "", "Reset(web1)" },
	{ "brumectl terminate web1", 0, "", "", "Terminate(web1)" },
	{ "brumectl pause web1", 0, "", "", "Pause(web1)" },
	{ "brumectl resume db-1", 0, "", "", "Resume(db-1)" },
	{ "brumectl power-button web1", 0, "", "", "PowerButton(web1)" },
	{ "brumectl nmi web1", 0, "", "", "InjectNMI(web1)" },
	{ "brumectl delete web1", 0, "", "", "Delete(web1)" },
	{ "brumectl autostart web1 on", 0, "", "", "SetAutostart(on)" },
	{ "brumectl autostart web1 off", 0, "", "", "SetAutostart(off)" },
	{ "brumectl set-description web1 'two words'", 0, "", "", "SetDescription(two words)" },
	{ "brumectl set-description web1 ''", 0, "", "", "SetDescription()" },
	{ "brumectl set-description web1 \"$(printf '\\377')\"", 2, "",
	  "brumectl: the description *", "" },
	{ "brumectl set-description web1 two words", 2, "", "brumectl: usage: *", "" },
	{ "brumectl autostart web1 yes", 2, "", "brumectl: 'yes' is neither 'on' nor 'off'\n", "" },
	{ "brumectl cancel 7", 0, "", "", "" },
	{ "brumectl cancel 8", 3, "",
	  "brumectl: no job 8\nhint: 'brumectl jobs' shows what is going on\n", "" },
	{ "brumectl cancel seven", 2, "", "brumectl: 'seven' is not the number of a job*", "" },

	/* jobs */
	{ "brumectl start web1", 0, "", "", "Start(web1)" },
	{ "brumectl start --paused web1 --json", 0,
	  "{\"vm\":\"web1\",\"job\":*,\"result\":\"done\"}\n", "", "Start(web1 Paused=true)" },
	{ "brumectl start --no-wait slow --json", 0,
	  "{\"vm\":\"slow\",\"job\":*,\"result\":\"running\"}\n", "", "Start(slow)" },
	{ "brumectl start slow", 0, "", "slow: starting: building 50%\n", "Start(slow)" },
	{ "brumectl start broken", 1, "",
	  "brumectl: the worker of 'broken' ended: signal, SEGV\n"
	  "hint: 'journalctl BRUME_VM=broken' has its messages, "
	  "'journalctl -u brumed' the service's\n",
	  NULL },
	{ "brumectl shutdown --force --timeout=2min --wait web1", 0, "", "",
	  "Shutdown(web1 Force=true TimeoutUSec=120000000)" },
	{ "brumectl shutdown --wait deaf", 6, "",
	  "brumectl: the guest of 'deaf' did not react within 90 s\n"
	  "hint: 'brumectl terminate deaf' ends it without asking\n",
	  NULL },
	{ "brumectl shutdown deaf", 6, "", "brumectl: the guest of 'deaf' did not react*", NULL },
	{ "brumectl shutdown --no-wait deaf", 0, "", "", NULL },
	{ "brumectl reboot --no-wait --wait web1", 2, "",
	  "brumectl: --wait and --no-wait exclude each other\n", "" },
	{ "brumectl reboot web1", 0, "", "", "Reboot(web1)" },
	{ "brumectl shutdown --timeout=soon web1", 2, "", "brumectl: 'soon' is not a duration*",
	  "" },

	/* refusals */
	{ "brumectl pause denied", 4, "", "brumectl: access denied\nhint: polkit decides*", NULL },
	{ "brumectl start ask", 4, "",
	  "brumectl: interactive authentication required\nhint: there is nobody*", NULL },
	{ "brumectl --json start busy", 1, "",
	  "brumectl: virtual machine 'busy' has a job already: start (7)\n", NULL },
	{ "brumectl start nothing", 3, "", "brumectl: no virtual machine 'nothing'\n*", "" },

	/* definitions */
	{ "brumectl create new --cpus boot=2 --memory size=512M --kernel /k --cmdline 'a b' "
	  "--disk path=/a path=/b,readonly=on --net tap=t0 --description hey --autostart --json",
	  0, "{\"vm\":\"new\",\"path\":\"/org/brume/vm1/vm/new\"}\n", "",
	  "CreateVM(new Autostart=true Description='hey')" },
	{ "echo '{\"cpus\": {}}' | brumectl create new --transient -", 0, "", "",
	  "CreateVM(new Persistent=false)" },
	{ "brumectl create new --kernel /k --net fd=[5,6] 5</dev/null 6</dev/null", 0, "", "",
	  "CreateVM(new fds=2)" },
	{ "echo '{\"payload\": {\"kernel\": {\"fd\": \"7\"}}}' | brumectl create new - 7</dev/null",
	  0, "", "", "CreateVM(new fds=1)" },
	{ "brumectl create new --kernel /k --net fd=[a,b]", 0, "", "", "CreateVM(new)" },
	{ "brumectl create new --kernel /k --net fd=[5,99] 5</dev/null", 2, "",
	  "brumectl: descriptor 99 is not open, must be one that brumectl was started with\n", "" },
	{ "brumectl create new", 2, "", "brumectl: no definition: *", "" },
	{ "brumectl create new --kernel /k -p MemoryMax=1G --property=CPUQuota=150% -p Nice=-5", 0,
	  "", "",
	  "CreateVM(new WorkerProperties=[('MemoryMax', <uint64 1073741824>), "
	  "('CPUQuotaPerSecUSec', <uint64 1500000>), ('Nice', <-5>)])" },
	{ "brumectl create new --kernel /k -p Nice", 2, "",
	  "brumectl: 'Nice' is not a property, must be NAME=VALUE\n", "" },

	/* resource properties, as in unit files */
	{ "brumectl set-property web1 MemoryMax=1.5G MemoryHigh=infinity MemorySwapMax=0", 0, "",
	  "",
	  "SetResourceProperties(web1 both=[('MemoryHigh', <uint64 18446744073709551615>), "
	  "('MemoryMax', <uint64 1610612736>), ('MemorySwapMax', <uint64 0>)])" },
	{ "brumectl set-property --runtime web1 CPUWeight=idle StartupCPUWeight=100 CPUQuota=33.33% "
	  "CPUQuotaPeriodSec=10ms",
	  0, "", "",
	  "SetResourceProperties(web1 unit=[('CPUWeight', <uint64 0>), ('StartupCPUWeight', <uint64 100>), "
	  "('CPUQuotaPerSecUSec', <uint64 333300>), ('CPUQuotaPeriodUSec', <uint64 10000>)])" },
	{ "brumectl set-property web1 AllowedCPUs=0-3,5 AllowedMemoryNodes='0 8'", 0, "", "",
	  "SetResourceProperties(web1 both=[('AllowedCPUs', <[byte 0x2f]>), "
	  "('AllowedMemoryNodes', <[byte 0x01, 0x01]>)])" },
	{ "brumectl set-property web1 'IOReadBandwidthMax=/dev/sda 10M' "
	  "'IOReadBandwidthMax=/dev/sdb  1K' 'IOReadBandwidthMax=/dev/sda infinity' "
	  "'IOWriteIOPSMax=/srv 500'",
	  0, "", "",
	  "SetResourceProperties(web1 both=[('IOReadBandwidthMax', <[('/dev/sdb', uint64 1000), "
	  "('/dev/sda', 18446744073709551615)]>), ('IOWriteIOPSMax', <[('/srv', uint64 500)]>)])" },
	{ "brumectl set-property web1 CPUWeight= MemoryMax= AllowedCPUs= IOReadIOPSMax=", 0, "", "",
	  "SetResourceProperties(web1 both=[('MemoryMax', <uint64 18446744073709551615>), "
	  "('CPUWeight', <uint64 18446744073709551615>), ('AllowedCPUs', <@ay []>), "
	  "('IOReadIOPSMax', <@a(st) []>)])" },
	{ "brumectl set-property web1 TasksMax=9 TasksMax=infinity OOMScoreAdjust=-7 "
	  "TimeoutStopSec=2min",
	  0, "", "",
	  "SetResourceProperties(web1 both=[('TasksMax', <uint64 18446744073709551615>), "
	  "('OOMScoreAdjust', <-7>), ('TimeoutStopUSec', <uint64 120000000>)])" },
	{ "brumectl set-property denied CPUWeight=5", 4, "", "brumectl: *", NULL },
	{ "brumectl set-property web1", 2, "", "brumectl: usage: *", "" },
	{ "brumectl set-property web1 CPUQuotaPerSecUSec=5", 2, "",
	  "brumectl: no property 'CPUQuotaPerSecUSec' that a machine could be given\n"
	  "hint: 'brumectl help set-property' lists them\n",
	  "" },
	{ "brumectl set-property web1 MemoryMax=1Q", 2, "",
	  "brumectl: property 'MemoryMax': '1Q' is wrong, must be a number of bytes, *", "" },
	{ "brumectl set-property web1 MemoryMax=50%", 2, "", "brumectl: property 'MemoryMax': *",
	  "" },
	{ "brumectl set-property web1 MemoryMax=-1", 2, "", "brumectl: property 'MemoryMax': *",
	  "" },
	{ "brumectl set-property web1 MemoryMax=0x10", 2, "", "brumectl: property 'MemoryMax': *",
	  "" },
	{ "brumectl set-property web1 MemoryMax=99999999T", 2, "",
	  "brumectl: property 'MemoryMax': *", "" },
	{ "brumectl set-property web1 CPUWeight=infinity", 2, "",
	  "brumectl: property 'CPUWeight': *", "" },
	{ "brumectl set-property web1 IOWeight=idle", 2, "", "brumectl: property 'IOWeight': *",
	  "" },
	{ "brumectl set-property web1 CPUQuota=50", 2, "",
	  "brumectl: property 'CPUQuota': '50' is wrong, must be a percentage *", "" },
	{ "brumectl set-property web1 CPUQuota=-5%", 2, "", "brumectl: property 'CPUQuota': *",
	  "" },
	{ "brumectl set-property web1 AllowedCPUs=3-1", 2, "",
	  "brumectl: property 'AllowedCPUs': *", "" },
	{ "brumectl set-property web1 TasksMax=", 2, "", "brumectl: property 'TasksMax': *", "" },
	{ "brumectl set-property web1 Nice=1.5", 2, "", "brumectl: property 'Nice': *", "" },
	{ "brumectl set-property web1 IOReadIOPSMax=/dev/sda", 2, "",
	  "brumectl: property 'IOReadIOPSMax': *", "" },
	{ "brumectl set-property web1 IOReadIOPSMax= 'IOReadIOPSMax=/dev/sda 5'", 2, "",
	  "brumectl: property 'IOReadIOPSMax' is emptied and set at once\n", "" },
	{ "brumectl start --runtime web1", 2, "", "*unrecognized option*", "" },
	{ "brumectl start -p Nice=5 web1", 2, "", "*invalid option*", "" },
	{ "brumectl help set-property", 0,
	  "*--runtime*\n  MemoryMin=SIZE\n*\n  CPUQuota=PERCENT%\n*", "", "" },
	{ "brumectl create new - --kernel /k", 2, "",
	  "brumectl: a definition comes from a file or from options, not from both\n", "" },
	{ "brumectl create new /does/not/exist.json", 1, "",
	  "brumectl: cannot open '/does/not/exist.json': No such file or directory\n", "" },
	{ "brumectl create new /", 1, "", "brumectl: cannot read '/': Is a directory\n", "" },
	{ "head -c 5 /dev/zero | brumectl create new -", 1, "",
	  "brumectl: '-' is not a text file in UTF-8; *\n", "" },
	{ "brumectl create new --disk path=/a,readonly=maybe", 2, "",
	  "brumectl: --disk: readonly: 'maybe' is not a toggle*"
	  "hint: 'brumectl help disk' lists the keys\n",
	  "" },
	{ "brumectl create taken --kernel /k", 1, "",
	  "brumectl: virtual machine 'taken' exists already\nhint: *", NULL },
	{ "echo '{\"wrong\": 1}' | brumectl create new -", 1, "",
	  "brumectl: /wrong: unknown key\nhint: *", NULL },
	{ "echo '{\"wrong\": 1}' | brumectl validate -", 1, "error: /wrong: unknown key\n", "",
	  "" },
	{ "echo '{\"wrong\": 1}' | brumectl validate --json -", 1,
	  "[{\"severity\":\"error\",\"pointer\":\"/wrong\",\"text\":\"unknown key\"}]\n", "", "" },
	{ "brumectl validate --kernel /k", 0, "", "", "" },
	{ "brumectl set-config web1 --kernel /k", 0, "", "", "SetConfig(web1)" },

	/* consoles */
	{ "printf 'hello\\n' | brumectl console web1 --timeout=300ms", 0, "boot\r\nHELLO\n", "",
	  "OpenConsole(web1)" },
	{ "printf 'poweroff\\n' | brumectl console web1 --force --read-only", 0, "boot\r\n", "",
	  "OpenConsole(web1 Force=true ReadOnly=true)" },
	{ "brumectl console web1 --console nowhere </dev/null", 3, "",
	  "brumectl: virtual machine 'web1' has no console 'nowhere'\nhint: 'brumectl show web1'*",
	  NULL },
	{ "brumectl start --console --timeout=1 web1", 2, "",
	  "brumectl start: unrecognized option*", "" },
	{ "brumectl start --console nothing", 3, "", "brumectl: no virtual machine 'nothing'*",
	  "" },
	{ "brumectl start --console mute", 3, "",
	  "brumectl: 'mute' has no console: set the mode of serial or console to 'Tty' or "
	  "'Pty'\n",
	  "" },
	{ "brumectl start --console taken-console </dev/null", 1, "",
	  "brumectl: the console is in use*",
	  "Start(taken-console Paused=true) OpenConsole(taken-console) "
	  "Resume(taken-console)" },
	{ "printf 'poweroff\\n' | brumectl start --console web1", 0, "boot\r\n", "",
	  "Start(web1 Paused=true) OpenConsole(web1) Resume(web1)" },
	{ "brumectl -H elsewhere run --kernel /k", 2, "", "brumectl: 'run' needs the console*",
	  "" },

	/* run */
	{ "printf 'hi\\npoweroff\\n' | brumectl run --name r1 --kernel /k", 0, NULL, "",
	  "CreateVM(r1 Persistent=false) Start(r1 Paused=true) OpenConsole(r1) Resume(r1)" },
	{ "printf 'crash\\n' | brumectl run --name r2 --kernel /k", 1, "boot\r\n",
	  "'r2' has ended: crashed, signal\n", NULL },
	{ "brumectl run --name broken --kernel /k </dev/null", 1, "",
	  "brumectl: the worker of 'broken' ended*",
	  "CreateVM(broken Persistent=false) Start(broken Paused=true) Delete(broken)" },

	/* usage */
	{ "brumectl", 2, "brumectl [OPTION...] COMMAND*", "", "" },
	{ "brumectl --help", 0, "brumectl [OPTION...] COMMAND*", "", "" },
	{ "brumectl help disk", 0, "--disk *readonly=on|off*", "", "" },
	{ "brumectl help console", 0,
	  "brumectl console *--read-only*\nIn a definition:\n\n--console KEY=VALUE*file=PATH*", "",
	  "" },
	{ "brumectl help start", 0, "brumectl start [OPTION...] NAME\n*--paused*", "", "" },
	{ "brumectl start --help", 0, "brumectl start *", "", "" },
	{ "brumectl help nonsense", 2, "",
	  "brumectl: there is no command and no option*'nonsense'\n", "" },
	{ "brumectl frobnicate", 2, "",
	  "brumectl: unknown command 'frobnicate', see 'brumectl help'\n", "" },
	{ "brumectl start", 2, "", "brumectl: usage: brumectl start NAME\n", "" },
	{ "brumectl list --wait", 2, "", "brumectl list: unrecognized option '--wait'\n", "" },
	{ "brumectl --version", 0, "brumectl *\n", "", "" },
	{ "brumectl list >/dev/full", 1, "", "brumectl: cannot write the output\n", "" },
};

static void test_command_lines(void)
{
	struct fixture f;

	fixture_init(&f, true);
	for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
		struct outcome o = run(cases[i].line);
		g_autofree char *calls = mock_take_log(f.mock);

		g_test_message("%s\n%s%s", cases[i].line, o.out, o.err);
		g_assert_cmpint(o.status, ==, cases[i].status);
		if (cases[i].out && !g_pattern_match_simple(cases[i].out, o.out))
			g_error("%s printed\n%s\ninstead of\n%s", cases[i].line, o.out,
				cases[i].out);
		if (!g_pattern_match_simple(cases[i].err, o.err))
			g_error("%s complained\n%s\ninstead of\n%s", cases[i].line, o.err,
				cases[i].err);
		if (cases[i].calls)
			g_assert_cmpstr(calls, ==, cases[i].calls);
		outcome_deinit(&o);
	}
	fixture_deinit(&f);
}

/* What --cpus and the rest become, relative paths included. */
static void test_definition(void)
{
	struct fixture f;
	struct outcome o;
	g_autofree char *config = NULL;

	fixture_init(&f, true);
	o = run("cd / && brumectl validate --cpus boot=2 --memory size=1G --kernel vmlinuz "
		"--disk path=tmp/x.raw,readonly=on --serial tty");
	g_assert_cmpstr(o.err, ==, "");
	g_assert_cmpint(o.status, ==, 0);
	config = mock_config(f.mock);
	g_assert_nonnull(strstr(config, "\"boot_vcpus\":2"));
	g_assert_nonnull(strstr(config, "\"size\":1073741824"));
	g_assert_nonnull(strstr(config, "\"kernel\":\"/vmlinuz\""));
	g_assert_nonnull(strstr(config, "\"path\":\"/tmp/x.raw\""));
	outcome_deinit(&o);
	fixture_deinit(&f);
}

static void test_no_service(void)
{
	struct fixture f;
	struct outcome o;

	fixture_init(&f, false);
	o = run("brumectl list");
	g_assert_cmpint(o.status, ==, 5);
	g_assert_nonnull(
		strstr(o.err, "hint: is the service installed? systemctl status brumed\n"));
	outcome_deinit(&o);
	fixture_deinit(&f);

	o = run("brumectl list"); /* now the bus is gone, too */
	g_assert_cmpint(o.status, ==, 5);
	g_assert_true(g_str_has_prefix(o.err, "brumectl: cannot connect to the system bus: "));
	outcome_deinit(&o);
}

static void test_events(void)
{
	struct fixture f;
	struct outcome o;

	fixture_init(&f, true);
	o = run("brumectl events --timeout=1200ms web1 & "
		"brumectl events --timeout=1200ms --json & sleep 0.5; "
		"brumectl terminate db-1; brumectl terminate web1; wait");
	g_assert_cmpstr(o.err, ==, "");
	g_assert_nonnull(strstr(o.out, " web1 StateChanged running stopped request\n"));
	g_assert_null(strstr(o.out, " db-1 StateChanged"));
	g_assert_nonnull(strstr(o.out, "\"vm\":\"db-1\",\"path\":\"/org/brume/vm1/vm/db_2d1\","
				       "\"interface\":\"org.brume.vm1.VirtualMachine\","
				       "\"signal\":\"StateChanged\",\"arguments\":[\"running\","
				       "\"stopped\",\"request\"]}\n"));
	outcome_deinit(&o);
	fixture_deinit(&f);
}

/* brumectl on a terminal of its own. */
struct terminal {
	int fd;
	pid_t pid;
	GString *seen; /* and not expected yet */
};

static void terminal_start(struct terminal *t, const char *const *arguments)
{
	const struct winsize size = { .ws_col = 132, .ws_row = 43 };

	t->seen = g_string_new(NULL);
	t->pid = forkpty(&t->fd, NULL, NULL, &size);
	g_assert_cmpint(t->pid, >=, 0);
	if (t->pid == 0) {
		execv(getenv("BRUMECTL"), (char **)arguments);
		_exit(127);
	}
}

/* Its wait status. */
static int terminal_wait(struct terminal *t)
{
	int status = 0;

	g_assert_cmpint(waitpid(t->pid, &status, 0), ==, t->pid);
	close(t->fd);
	g_string_free(t->seen, TRUE);
	return status;
}

static void terminal_end(struct terminal *t, int exit_status)
{
	int status = terminal_wait(t);

	g_assert_true(WIFEXITED(status));
	g_assert_cmpint(WEXITSTATUS(status), ==, exit_status);
}

/* Reads from the terminal until `text` has come. */
static void expect(struct terminal *t, const char *text)
{
	GString *seen = t->seen;

	while (!strstr(seen->str, text)) {
		struct pollfd p = { .fd = t->fd, .events = POLLIN };
		char buf[512];
		ssize_t n;

		if (poll(&p, 1, 5000) <= 0)
			g_error("'%s' has not come, only '%s'", text, seen->str);
		n = read(t->fd, buf, sizeof(buf));
		if (n <= 0)
			g_error("'%s' has not come, only '%s'", text, seen->str);
		g_string_append_len(seen, buf, n);
	}
	g_string_erase(seen, 0, strstr(seen->str, text) + strlen(text) - seen->str);
}

static void type(const struct terminal *t, const char *keys)
{
	g_assert_cmpint(write(t->fd, keys, strlen(keys)), ==, (ssize_t)strlen(keys));
}

/* Until the service was called so; for ten seconds. */
static void expect_call(struct fixture *f, const char *call)
{
	g_autoptr(GString) calls = g_string_new(NULL);

	for (unsigned int i = 0; i < 1000 && !strstr(calls->str, call); i++) {
		g_autofree char *more = mock_take_log(f->mock);

		g_string_append(calls, more);
		g_usleep(10000);
	}
	g_assert_nonnull(strstr(calls->str, call));
}

static void test_terminal_console(void)
{
	const struct winsize larger = { .ws_col = 200, .ws_row = 50 };
	static const char *const arguments[] = { "brumectl", "console", "web1", NULL };
	struct fixture f;
	struct terminal t;

	fixture_init(&f, true);
	terminal_start(&t, arguments);
	expect(&t, "Press Ctrl-] to leave.");
	expect(&t, "boot");
	expect_call(&f, "SetConsoleSize('' 132x43)");
	g_assert_cmpint(ioctl(t.fd, TIOCSWINSZ, &larger), ==, 0);
	expect_call(&f, "SetConsoleSize('' 200x50)");
	type(&t, "abc\x03\x04"); /* Ctrl-C and Ctrl-D are the guest's */
	expect(&t, "ABC\x03\x04");
	type(&t, "\x1d");
	expect(&t, "Left the console of 'web1'; the machine runs on.");
	terminal_end(&t, 0);
	fixture_deinit(&f);
}

static const struct {
	const char *keys, *last_words, *call;
	int status;
} run_keys[] = {
	{ "\x1d"
	  "d",
	  "Detached; 'brumectl console r3' comes back.", NULL, 0 },
	{ "\x1d"
	  "t",
	  "'r3' has ended: stopped, request", "Terminate(r3)", 0 },
	{ "\x1d"
	  "s",
	  "'r3' has ended: stopped, guest-shutdown", "PowerButton(r3)", 0 },
	{ "\x1d"
	  "x",
	  "Ctrl-] d: detach, s: shut down, t: terminate", NULL, -1 },
	{ "\x1d\x1d", "\x1d", NULL, -1 },
};

static void test_terminal_run(void)
{
	static const char *const arguments[] = { "brumectl", "run", "--name", "r3",
						 "--kernel", "/k",  NULL };
	struct fixture f;

	fixture_init(&f, true);
	for (size_t i = 0; i < G_N_ELEMENTS(run_keys); i++) {
		g_autofree char *calls = NULL;
		struct terminal t;

		g_test_message("keys %zu", i);
		terminal_start(&t, arguments);
		expect(&t, "'r3' is running.");
		expect(&t, "boot");
		type(&t, run_keys[i].keys);
		expect(&t, run_keys[i].last_words);
		if (run_keys[i].status < 0)
			type(&t, "\x1d"
				 "d");
		terminal_end(&t, 0);
		calls = mock_take_log(f.mock);
		if (run_keys[i].call)
			g_assert_nonnull(strstr(calls, run_keys[i].call));
		else
			g_assert_null(strstr(calls, "Terminate"));
	}
	fixture_deinit(&f);
}

/* One line that is rewritten; Ctrl-C cancels the job, and how that ended is said. */
static void test_terminal_cancel(void)
{
	static const char *const arguments[] = {
		"brumectl", "device", "remove", "stuck", "d0", NULL
	};
	struct fixture f;
	struct terminal t;

	fixture_init(&f, true);
	terminal_start(&t, arguments);
	expect(&t, "\r\033[Kstuck: removing d0: building 50% 1s");
	expect(&t, "\r\033[Kstuck: removing d0: building 50% 2s");
	type(&t, "\x03");
	expect(&t, "stuck: removing d0: canceling; Ctrl-C again leaves it to itself");
	expect(&t, "brumectl: the removal of device 'd0' was canceled");
	terminal_end(&t, 1);
	expect_call(&f, "Cancel(stuck)");
	fixture_deinit(&f);
}

/* What cannot be canceled is waited for, until the second Ctrl-C. */
static void test_terminal_leave(void)
{
	static const char *const arguments[] = { "brumectl", "cpu", "stubborn", "2", NULL };
	struct terminal t;
	struct fixture f;
	int status;

	fixture_init(&f, true);
	terminal_start(&t, arguments);
	expect(&t, "stubborn: resizing to 2 vCPUs: building 50% 1s");
	type(&t, "\x03");
	expect(&t, "brumectl: the job cannot be canceled now");
	expect(&t, "stubborn: resizing to 2 vCPUs: building 50%");
	type(&t, "\x03");
	status = terminal_wait(&t);
	g_assert_true(WIFSIGNALED(status));
	g_assert_cmpint(WTERMSIG(status), ==, SIGINT);
	fixture_deinit(&f);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	setenv("TZ", "UTC", 1);
	g_assert_nonnull(getenv("BRUMECTL"));
	g_test_add_func("/client/brumectl/command-lines", test_command_lines);
	g_test_add_func("/client/brumectl/definition", test_definition);
	g_test_add_func("/client/brumectl/no-service", test_no_service);
	g_test_add_func("/client/brumectl/events", test_events);
	g_test_add_func("/client/brumectl/terminal/console", test_terminal_console);
	g_test_add_func("/client/brumectl/terminal/run", test_terminal_run);
	g_test_add_func("/client/brumectl/terminal/cancel", test_terminal_cancel);
	g_test_add_func("/client/brumectl/terminal/leave", test_terminal_leave);
	return g_test_run();
}
