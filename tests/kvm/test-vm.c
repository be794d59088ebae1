/* SPDX-License-Identifier: Apache-2.0 */
/*
 * struct vm in this process, with a real vCPU: what the guest asks for at
 * moments that no guest program can be made to hit
 *
 * The guest counts for ever; its requests are made in its place, by the same
 * port writes, from the control thread.  They reach the machine by the mailbox
 * as if a vCPU had made them.
 */
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tests/lib/worker.h"
#include "vmm/api/protocol.h"
#include "vmm/arch/x86/layout.h"
#include "vmm/base/cleanup.h"
#include "vmm/base/thread.h"
#include "vmm/sandbox/sandbox.h"
#include "vmm/vm/vm.h"

struct fixture {
	struct vm *vm;
	GString *edges; /* "running>paused:request " ... */
	unsigned int getting_on;
};

static void on_state(enum vm_state from, enum vm_state to, const char *reason, void *data)
{
	struct fixture *f = data;

	g_string_append_printf(f->edges, "%s>%s:%s ", vm_state_to_string(from),
			       vm_state_to_string(to), reason);
}

static void on_debug_code(uint8_t code G_GNUC_UNUSED, uint64_t usec G_GNUC_UNUSED,
			  void *data G_GNUC_UNUSED)
{
}

static void on_device(const char *id G_GNUC_UNUSED, bool active G_GNUC_UNUSED,
		      void *data G_GNUC_UNUSED)
{
}

static void on_event(const char *source G_GNUC_UNUSED, const char *name G_GNUC_UNUSED,
		     const char *id G_GNUC_UNUSED, void *data G_GNUC_UNUSED)
{
}

static void on_getting_on(void *data)
{
	((struct fixture *)data)->getting_on++;
}

static void add(struct resources *res, const char *name, int fd)
{
	g_assert_cmpint(fd, >=, 0);
	g_assert_cmpint(resources_add(res, name, fd, NULL), ==, 0);
}

/* A machine that runs, with two vCPUs. */
static void setup(struct fixture *f)
{
	g_autoptr(GVariant) value = g_variant_ref_sink(g_variant_new_parsed(
		"{'cpus': <{'boot_vcpus': <uint32 2>}>,"
		" 'memory': <{'size': <uint64 67108864>}>,"
		" 'payload': <{'kernel': <'/payload/kernel'>,"
		"              'cmdline': <'test=count hz=100'>}>,"
		" 'debug_console': <{'mode': <'File'>, 'file': <'/debug_console/file'>}>,"
		" 'rng': <{'src': <'/rng/src'>}>}"));
	const struct vm_listener listener = {
		.state_changed = on_state,
		.debug_code = on_debug_code,
		.device_changed = on_device,
		.event = on_event,
		.getting_on = on_getting_on,
		.data = f,
	};
	struct vm_config *config = NULL;
	struct resources res = { 0 };
	struct err err = { 0 };

	thread_set_role(THREAD_ROLE_CONTROL);
	g_assert_cmpint(sandbox_init(SANDBOX_OFF, NULL), ==, 0);
	*f = (struct fixture){ .edges = g_string_new(NULL) };
	add(&res, PROTOCOL_RESOURCE_KVM, test_open_kvm());
	add(&res, "/payload/kernel", open(g_getenv("BRUME_TINY"), O_RDONLY | O_CLOEXEC));
	add(&res, "/debug_console/file", memfd_create("debug-console", MFD_CLOEXEC));
	add(&res, "/rng/src", open("/dev/urandom", O_RDONLY | O_CLOEXEC));
	if (vm_config_parse(value, &config, &err) < 0 ||
	    vm_new(config, &res, &listener, &f->vm, &err) < 0 || vm_boot(f->vm, false, &err) < 0)
		g_error("%s", err.msg);
	g_string_truncate(f->edges, 0);
}

static void teardown(struct fixture *f)
{
	vm_free(f->vm);
	g_string_free(f->edges, TRUE);
}

static void do_it(struct fixture *f, int (*fn)(struct vm *vm, struct err *err))
{
	struct err err = { 0 };

	if (fn(f->vm, &err) < 0)
		g_error("%s", err.msg);
}

static void guest_asks_for_reset(struct fixture *f)
{
	const uint8_t pulse_reset = 0xfe;

	bus_write(&f->vm->pio, 0x64, &pulse_reset, 1);
}

static void guest_asks_for_shutdown(struct fixture *f)
{
	const uint8_t s5 = 0x34; /* ACPI 6.5, 4.8.3.7: SLP_EN, and type 5 */

	bus_write(&f->vm->pio, PORT_ACPI_RESET, &s5, 1);
}

/* Its vCPUs run: a reset takes them back into their program, which is not to be seen from here. */
static void expect(const struct fixture *f, enum vm_state state, uint32_t boots, const char *edges)
{
	g_assert_cmpstr(f->edges->str, ==, edges);
	g_assert_cmpstr(vm_state_to_string(f->vm->state), ==, vm_state_to_string(state));
	g_assert_cmpuint(f->vm->boots, ==, boots);
	g_assert_true(f->vm->vcpus.hold == (state != VM_STATE_RUNNING));
}

/* Asked just before a pause: the mail is found while the vCPUs are being parked. */
static void test_reset_while_pausing(void)
{
	struct fixture f;

	setup(&f);
	guest_asks_for_reset(&f);
	do_it(&f, vm_pause);
	expect(&f, VM_STATE_PAUSED, 1, "running>paused:request ");
	vm_dispatch(f.vm);
	expect(&f, VM_STATE_PAUSED, 1, "running>paused:request ");
	do_it(&f, vm_resume);
	expect(&f, VM_STATE_RUNNING, 2,
	       "running>paused:request paused>running:request running>running:guest-reboot ");
	/* once, not again */
	vm_dispatch(f.vm);
	do_it(&f, vm_pause);
	do_it(&f, vm_resume);
	g_assert_cmpuint(f.vm->boots, ==, 2);
	teardown(&f);
}

/* The mail comes when the machine stands already. */
static void test_reset_while_paused(void)
{
	struct fixture f;

	setup(&f);
	do_it(&f, vm_pause);
	guest_asks_for_reset(&f);
	vm_dispatch(f.vm);
	expect(&f, VM_STATE_PAUSED, 1, "running>paused:request ");
	do_it(&f, vm_pause); /* again, which changes nothing */
	do_it(&f, vm_resume);
	expect(&f, VM_STATE_RUNNING, 2,
	       "running>paused:request paused>running:request running>running:guest-reboot ");
	teardown(&f);
}

/* The management's own reset makes the guest's superfluous. */
static void test_reset_twice_while_paused(void)
{
	struct fixture f;

	setup(&f);
	guest_asks_for_reset(&f);
	do_it(&f, vm_pause);
	do_it(&f, vm_reset);
	expect(&f, VM_STATE_RUNNING, 2, "running>paused:request paused>running:reset ");
	g_assert_cmpuint(f.getting_on, ==, 1); /* for each GiB that was emptied */
	vm_dispatch(f.vm);
	expect(&f, VM_STATE_RUNNING, 2, "running>paused:request paused>running:reset ");
	teardown(&f);
}

static void test_shutdown_while_pausing(void)
{
	struct fixture f;

	setup(&f);
	guest_asks_for_shutdown(&f);
	do_it(&f, vm_pause);
	expect(&f, VM_STATE_PAUSED, 1, "running>paused:request ");
	do_it(&f, vm_resume);
	expect(&f, VM_STATE_SHUTDOWN, 1,
	       "running>paused:request paused>running:request running>shutdown:guest-shutdown ");
	teardown(&f);
}

/* An NMI parks the vCPUs for a moment: what they asked for then is done at its end. */
static void test_reset_while_nmi(void)
{
	struct fixture f;

	setup(&f);
	guest_asks_for_reset(&f);
	do_it(&f, vm_inject_nmi);
	expect(&f, VM_STATE_RUNNING, 2, "running>running:guest-reboot ");
	teardown(&f);
}

static void test_no_kvm(void)
{
	g_test_skip("no access to /dev/kvm");
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	if (access("/dev/kvm", R_OK | W_OK) < 0) {
		g_test_add_func("/vm", test_no_kvm);
		return g_test_run();
	}
	g_test_add_func("/vm/reset/while-pausing", test_reset_while_pausing);
	g_test_add_func("/vm/reset/while-paused", test_reset_while_paused);
	g_test_add_func("/vm/reset/twice-while-paused", test_reset_twice_while_paused);
	g_test_add_func("/vm/reset/while-nmi", test_reset_while_nmi);
	g_test_add_func("/vm/shutdown/while-pausing", test_shutdown_while_pausing);
	return g_test_run();
}
