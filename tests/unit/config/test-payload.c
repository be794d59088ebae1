/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a machine is booted with, and descriptors in place of paths: what is refused, with
 * which sentence
 */
#include "refused.h"

#define FW_CFG_ITEMS(list)                                                                         \
	"{'payload':{'kernel':'/k','fw_cfg_config':{'items':{'item_list':[" list "]}}}}"

static const struct refused refused[] = {
	{ "payload/both", "{'payload':{'kernel':'/k','firmware':'/f'}}",
	  "/payload/firmware: cannot be had with /payload/kernel, must be one of them" },
	{ "payload/firmware-cmdline", "{'payload':{'firmware':'/f','cmdline':'x'}}",
	  "/payload/cmdline: has no effect with a firmware, needs /payload/kernel" },
	{ "payload/firmware-initramfs", "{'payload':{'firmware':'/f','initramfs':'/i'}}",
	  "/payload/initramfs: has no effect with a firmware, needs /payload/kernel" },
	{ "payload/firmware-bzimage", "{'payload':{'firmware':'/f','boot_protocol':'BzImage'}}",
	  "/payload/boot_protocol: 'BzImage' is for a kernel, a firmware needs 'Auto' or 'Pvh'" },
	{ "payload/protocol", "{'payload':{'kernel':'/k','boot_protocol':'Fast'}}",
	  "/payload/boot_protocol: 'Fast' is unknown, must be Auto, Pvh or BzImage" },
	{ "payload/relative", "{'payload':{'kernel':'vmlinuz'}}",
	  "/payload/kernel: 'vmlinuz' is not an absolute path, must start with '/'" },
	{ "payload/control", "{'payload':{'kernel':'/a\\nb'}}",
	  "/payload/kernel: '/a?b' is not usable as a path, must not hold control characters" },
	{ "payload/path-goes-up", "{'payload':{'kernel':'/a/../b'}}",
	  "/payload/kernel: '/a/../b' goes up by '..', must be the path itself" },
	{ "payload/path-goes-up-at-the-end", "{'payload':{'kernel':'/a/..'}}",
	  "/payload/kernel: '/a/..' goes up by '..', must be the path itself" },
	{ "payload/path-goes-up-first", "{'payload':{'kernel':'/../a'}}",
	  "/payload/kernel: '/../a' goes up by '..', must be the path itself" },
	{ "payload/empty", "{'payload':{'kernel':''}}",
	  "/payload/kernel: '' is not an absolute path, must start with '/'" },
	{ "payload/number", "{'payload':{'kernel':3}}", "/payload/kernel: must be a string, is 3" },
	{ "fw-cfg/no-contents", FW_CFG_ITEMS("{'name':'opt/x'}"),
	  "/payload/fw_cfg_config/items/item_list/0: has no contents, must have one of 'file' and "
	  "'string'" },
	{ "fw-cfg/both", FW_CFG_ITEMS("{'name':'opt/x','file':'/f','string':'s'}"),
	  "/payload/fw_cfg_config/items/item_list/0: has both, must have one of 'file' and "
	  "'string'" },
	{ "fw-cfg/no-name", FW_CFG_ITEMS("{'string':'s'}"),
	  "/payload/fw_cfg_config/items/item_list/0/name: missing, must be given" },
	{ "fw-cfg/etc", FW_CFG_ITEMS("{'name':'etc/e820','string':'s'}"),
	  "/payload/fw_cfg_config/items/item_list/0/name: 'etc/e820' is the machine's own, must not "
	  "begin with etc/" },
	{ "fw-cfg/twice",
	  FW_CFG_ITEMS("{'name':'opt/x','string':'s'},{'name':'opt/x','string':'t'}"),
	  "/payload/fw_cfg_config/items/item_list/1/name: 'opt/x' is item 0's too, must be unique" },
	{ "fw-cfg/space", FW_CFG_ITEMS("{'name':'opt/a b','string':'s'}"),
	  "/payload/fw_cfg_config/items/item_list/0/name: 'opt/a b' has a character that is not "
	  "printable ASCII" },
	{ "fw-cfg/long",
	  FW_CFG_ITEMS("{'name':'opt/3456789012345678901234567890123456789012345678901234567',"
		       "'string':'s'}"),
	  "/payload/fw_cfg_config/items/item_list/0/name: "
	  "'opt/3456789012345678901234567890123456789012345678901234567' is not 1 to 55 characters "
	  "long" },
	{ "fd/empty", "{'payload':{'kernel':{}}}",
	  "/payload/kernel: must be a string or {\"fd\": NAME}, is another object" },
	{ "fd/more", "{'payload':{'kernel':{'fd':'k','x':1}}}",
	  "/payload/kernel: must be a string or {\"fd\": NAME}, is another object" },
	{ "fd/number", "{'payload':{'kernel':{'fd':3}}}",
	  "/payload/kernel/fd: must be a string, is 3" },
	{ "fd/name", "{'payload':{'kernel':{'fd':'a b'}}}",
	  "/payload/kernel/fd: 'a b' is not an id, must consist of letters, digits, '_', '.' and "
	  "'-'" },
	{ "fd/inside", "{'payload':{'kernel':'fd:k'}}",
	  "/payload/kernel: 'fd:k' is no name of a descriptor, must be {\"fd\": NAME}" },
};

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	add_refused(refused, G_N_ELEMENTS(refused));
	return g_test_run();
}
