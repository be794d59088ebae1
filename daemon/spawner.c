/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/spawner.h"

#include <stdlib.h>

void spawn_init(struct spawn *sp, struct spawner *spawner, const struct spawn_handlers *handlers,
		void *data)
{
	*sp = (struct spawn){ .spawner = spawner, .handlers = handlers, .data = data };
}

void spawn_deinit(struct spawn *sp)
{
	if (sp->active)
		sp->spawner->ops->release(sp);
	free(sp->unit);
	sp->unit = NULL;
}

void spawn_exited(struct spawn *sp, const struct spawn_exit *how)
{
	if (!sp->active)
		return;
	sp->spawner->ops->release(sp);
	sp->pid = 0;
	sp->pid_start = 0;
	sp->handlers->exited(sp->data, how); /* may free the VM: nothing after this */
}
