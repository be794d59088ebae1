/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/base/list.h"

#include <glib.h>

struct item {
	int n;
	struct list link;
};

static void test_order(void)
{
	struct item items[4], *pos, *tmp;
	/* Inside an item, so that the walk's last step stays inside an object. */
	static struct item anchor;
	struct list *head = &anchor.link;
	int sum = 0, expected = 0;

	list_init(head);
	g_assert_true(list_empty(head));
	LIST_FOREACH(pos, head, link)
		g_assert_not_reached();
	for (int i = 0; i < 4; i++) {
		items[i].n = i;
		list_append(head, &items[i].link);
	}
	LIST_FOREACH(pos, head, link)
		g_assert_cmpint(pos->n, ==, expected++);
	g_assert_cmpint(expected, ==, 4);
	list_remove(&items[1].link);
	list_remove(&items[1].link); /* twice is harmless */
	LIST_FOREACH_SAFE(pos, tmp, head, link) {
		sum = sum * 10 + pos->n;
		list_remove(&pos->link);
	}
	g_assert_cmpint(sum, ==, 23);
	g_assert_true(list_empty(head));
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/base/list/order", test_order);
	return g_test_run();
}
