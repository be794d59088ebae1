/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Names and object paths of the service
 *
 * A VM's name goes into its path by sd_bus_path_encode() ("db-1" is "db_2d1"),
 * a job's number as it is.  The paths are predictable: clients may compute them.
 */
#pragma once

#include <stdint.h>

#define BRUME_BUS_NAME          "org.brume.vm1"
#define BRUME_ROOT_PATH         "/org/brume/vm1"
#define BRUME_VM_PATH_PREFIX    BRUME_ROOT_PATH "/vm"
#define BRUME_JOB_PATH_PREFIX   BRUME_ROOT_PATH "/job"
#define BRUME_MANAGER_INTERFACE BRUME_BUS_NAME ".Manager"
#define BRUME_VM_INTERFACE      BRUME_BUS_NAME ".VirtualMachine"
#define BRUME_JOB_INTERFACE     BRUME_BUS_NAME ".Job"
#define BRUME_DEVICE_INTERFACE  BRUME_BUS_NAME ".Device"

/* Allocated, free(); NULL only without memory. */
char *bus_path_vm(const char *name);
char *bus_path_job(uint32_t id);
char *bus_path_device(const char *vm, const char *id);

/* 0, or -EINVAL for a path that is not exactly one of ours. *ret_name: free(). */
int bus_path_parse_vm(const char *path, char **ret_name);
int bus_path_parse_job(const char *path, uint32_t *ret_id);
int bus_path_parse_device(const char *path, char **ret_vm, char **ret_id);
