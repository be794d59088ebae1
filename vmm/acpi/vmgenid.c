/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/acpi/vmgenid.h"

#include <errno.h>
#include <sys/random.h>

#include "vmm/acpi/aml.h"
#include "vmm/acpi/ged.h"
#include "vmm/acpi/tables.h"
#include "vmm/arch/x86/layout.h"
#include "vmm/base/err.h"
#include "vmm/memory/guest-memory.h"

#define NOTIFY_CHANGED 0x80 /* "Virtual Machine Generation ID", 3.2 */

static const struct state_field vmgenid_fields[] = {
	STATE_BYTES(struct vmgenid_state, guid),
};
const struct state_desc vmgenid_state_desc = {
	.name = "vmgenid",
	.version = 1,
	STATE_LAYOUT(struct vmgenid_state, vmgenid_fields),
};

int vmgenid_init(struct vmgenid *gen, struct err *err)
{
	ssize_t n = getrandom(gen->st.guid, sizeof(gen->st.guid), 0);

	if (n != (ssize_t)sizeof(gen->st.guid))
		return err_errno(err, n < 0 ? errno : EIO, "cannot make a VM generation ID");
	return 0;
}

int vmgenid_place(const struct vmgenid *gen, struct guest_mem *mem, struct err *err)
{
	if (guest_write(mem, LAYOUT_VMGENID, gen->st.guid, sizeof(gen->st.guid)) < 0)
		return err_set(err, EFAULT, "no guest memory for the VM generation ID at 0x%llx",
			       LAYOUT_VMGENID);
	return 0;
}

int vmgenid_renew(struct vmgenid *gen, struct guest_mem *mem, struct ged *ged, struct err *err)
{
	int r = vmgenid_init(gen, err);

	if (r >= 0)
		r = vmgenid_place(gen, mem, err);
	if (r >= 0)
		ged_raise(ged, GED_GENERATION);
	return r;
}

static void vmgenid_emit(struct aml *a, const struct acpi_params *params _unused_)
{
	aml_open_device(a, "VGEN");
	aml_name(a, "_HID");
	aml_string(a, "BRUM0001"); /* drivers go by the _CID */
	aml_name(a, "_CID");
	/* Microsoft's first name for it, and Hyper-V's second, which ACPI allows */
	aml_open_package(a, 2);
	aml_string(a, "VM_Gen_Counter");
	aml_string(a, "VMGENCTR");
	aml_close(a);
	aml_name(a, "_DDN");
	aml_string(a, "VM_Gen_Counter");
	aml_name(a, "ADDR");
	aml_open_package(a, 2);
	aml_integer(a, LAYOUT_VMGENID & UINT32_MAX);
	aml_integer(a, LAYOUT_VMGENID >> 32);
	aml_close(a);
	aml_close(a);
}

static void vmgenid_on_event(struct aml *a)
{
	aml_op(a, AML_NOTIFY);
	aml_path(a, "\\_SB_.VGEN");
	aml_integer(a, NOTIFY_CHANGED);
}

const struct acpi_part acpi_part_vmgenid = {
	.name = "vmgenid",
	.emit = vmgenid_emit,
	.ged_bit = GED_GENERATION,
	.on_event = vmgenid_on_event,
};
