/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ELF loader: a good image, and every field of it wrong in turn
 */
#include <errno.h>
#include <glib.h>
#include <string.h>

#include "tests/unit/loader/image.h"
#include "vmm/base/cleanup.h"
#include "vmm/base/err.h"
#include "vmm/base/math.h"
#include "vmm/loader/elf.h"

static int load(const void *data, size_t len, struct guest_mem *mem, struct x86_memmap *map,
		struct elf_image *ret, struct err *err)
{
	const struct elf_target target = { .mem = mem, .memmap = map };
	_cleanup_close_ int fd = image_fd(data, len);

	return elf_load_file(fd, 0, len, &target, ret, err);
}

/* Through elf_stream in pieces of at most step bytes. */
static int stream(const uint8_t *data, size_t len, size_t step, bool whole, struct guest_mem *mem,
		  struct x86_memmap *map, struct elf_image *ret, struct err *err)
{
	const struct elf_target target = { .mem = mem, .memmap = map };
	struct elf_stream s;
	int r;

	r = elf_stream_init(&s, &target, len, MAX(step, (size_t)ELF_HEAD_BYTES), err);
	g_assert_cmpint(r, ==, 0);
	while (r >= 0 && !elf_stream_done(&s)) {
		size_t want = MIN(step, len - s.pos), n = 0;
		void *dst = elf_stream_reserve(&s, want, whole, &n);

		g_assert_cmpuint(n, >, 0);
		g_assert_cmpuint(n, <=, want);
		if (whole)
			g_assert_cmpuint(n, ==, want);
		memcpy(dst, data + s.pos, n);
		r = elf_stream_commit(&s, n, err);
	}
	if (r >= 0)
		r = elf_stream_finish(&s, err);
	if (r >= 0)
		*ret = s.image;
	elf_stream_deinit(&s);
	return r;
}

static void test_good(void)
{
	g_autofree struct image *im = image_new();
	struct guest_mem mem;
	struct x86_memmap map;
	struct elf_image ret;
	struct err err = { 0 };

	image_ram(&mem, &map, 16);
	g_assert_cmpint(load(im, sizeof(*im), &mem, &map, &ret, &err), ==, 0);
	g_assert_cmphex(ret.entry_gpa, ==, IMAGE_ENTRY);
	g_assert_cmphex(ret.end_gpa, ==, IMAGE_DATA + sizeof(im->data_bytes) + IMAGE_BSS);
	image_check(&mem, im);
	guest_mem_deinit(&mem);
}

static void test_stream(void)
{
	static const size_t steps[] = { 4096, 65536, 65537, 1 << 20 };
	g_autofree struct image *im = image_new();

	for (size_t i = 0; i < 2 * G_N_ELEMENTS(steps); i++) {
		struct guest_mem mem;
		struct x86_memmap map;
		struct elf_image ret;
		struct err err = { 0 };

		image_ram(&mem, &map, 16);
		g_assert_cmpint(stream((const uint8_t *)im, sizeof(*im), steps[i / 2], i & 1, &mem,
				       &map, &ret, &err),
				==, 0);
		g_assert_cmpstr(err.msg, ==, "");
		g_assert_cmphex(ret.entry_gpa, ==, IMAGE_ENTRY);
		image_check(&mem, im);
		guest_mem_deinit(&mem);
	}
}

/* Segments that share bytes of the file, and notes beyond every segment. */
static void test_overlap(void)
{
	g_autofree struct image *im = image_new();
	struct guest_mem mem;
	struct x86_memmap map;
	struct elf_image ret;

	im->text.p_filesz += 0x1000; /* the first page of data as well */
	im->text.p_memsz += 0x1000;
	image_ram(&mem, &map, 16);
	g_assert_cmpint(stream((const uint8_t *)im, sizeof(*im), 1 << 20, false, &mem, &map, &ret,
			       NULL),
			==, 0);
	image_check(&mem, im);
	g_assert_cmpmem(guest_range(&mem, IMAGE_TEXT + im->text.p_filesz - 0x1000, 0x1000, 1),
			0x1000, im->data_bytes, 0x1000);
	guest_mem_deinit(&mem);
}

static void test_elf32(void)
{
	struct {
		Elf32_Ehdr ehdr;
		Elf32_Phdr phdr[2];
		struct {
			Elf32_Nhdr nhdr;
			char name[4];
			uint64_t entry;
		} pvh;
		uint8_t bytes[256];
	} im = {
		.ehdr = { .e_ident = { 0x7f, 'E', 'L', 'F', ELFCLASS32, ELFDATA2LSB },
			  .e_type = ET_EXEC,
			  .e_machine = EM_386,
			  .e_phoff = sizeof(Elf32_Ehdr),
			  .e_phentsize = sizeof(Elf32_Phdr),
			  .e_phnum = 2 },
		.pvh = { { .n_namesz = 4, .n_descsz = 8, .n_type = 18 }, "Xen", IMAGE_TEXT },
	};
	struct guest_mem mem;
	struct x86_memmap map;
	struct elf_image ret;
	struct err err = { 0 };

	im.phdr[0] = (Elf32_Phdr){ .p_type = PT_LOAD,
				   .p_offset = 0,
				   .p_paddr = IMAGE_TEXT,
				   .p_filesz = sizeof(im),
				   .p_memsz = sizeof(im) };
	im.phdr[1] = (Elf32_Phdr){ .p_type = PT_NOTE,
				   .p_filesz = sizeof(im.pvh),
				   .p_offset = (uint32_t)((uint8_t *)&im.pvh - (uint8_t *)&im) };
	image_ram(&mem, &map, 16);
	g_assert_cmpint(load(&im, sizeof(im), &mem, &map, &ret, &err), ==, 0);
	g_assert_cmphex(ret.entry_gpa, ==, IMAGE_TEXT);
	guest_mem_deinit(&mem);
}

/*
 * The shape of EDK II's CLOUDHV.fd: 64-bit headers for a 32-bit machine, one segment that is the
 * whole file with its headers, an entry in its last bytes, a note of four bytes.
 */
static void test_firmware(void)
{
	struct {
		Elf64_Ehdr ehdr;
		Elf64_Phdr load, note;
		Elf64_Nhdr nhdr;
		char name[4];
		uint32_t entry;
		uint8_t code[4096];
		uint8_t reset_vector[48];
	} im = {
		.ehdr = { .e_ident = { 0x7f, 'E', 'L', 'F', ELFCLASS64, ELFDATA2LSB },
			  .e_type = ET_EXEC,
			  .e_machine = EM_386,
			  .e_phoff = sizeof(Elf64_Ehdr),
			  .e_phentsize = sizeof(Elf64_Phdr),
			  .e_phnum = 2 },
		.load = { .p_type = PT_LOAD,
			  .p_paddr = MIB,
			  .p_filesz = sizeof(im),
			  .p_memsz = sizeof(im) },
		.note = { .p_type = PT_NOTE,
			  .p_offset = (uint64_t)((uint8_t *)&im.nhdr - (uint8_t *)&im),
			  .p_filesz = sizeof(im.nhdr) + sizeof(im.name) + sizeof(im.entry) },
		.nhdr = { .n_namesz = 4, .n_descsz = 4, .n_type = 18 },
		.name = "Xen",
		.entry = (uint32_t)(MIB + sizeof(im) - sizeof(im.reset_vector)),
	};
	struct guest_mem mem;
	struct x86_memmap map;
	struct elf_image ret;
	struct err err = { 0 };

	memset(im.code, 0xc0, sizeof(im.code));
	memset(im.reset_vector, 0xfa, sizeof(im.reset_vector));
	image_ram(&mem, &map, 16);
	g_assert_cmpint(load(&im, sizeof(im), &mem, &map, &ret, &err), ==, 0);
	g_assert_cmphex(ret.entry_gpa, ==, im.entry);
	g_assert_cmphex(ret.end_gpa, ==, MIB + sizeof(im));
	g_assert_cmpmem(guest_range(&mem, MIB, sizeof(im), 1), sizeof(im), &im, sizeof(im));
	guest_mem_deinit(&mem);
}

/* An unrelated note before ours, a name that is not ours, padding after odd sizes. */
static void test_notes(void)
{
	g_autofree struct image *im = image_new();
	uint8_t *p = im->text_bytes;
	struct guest_mem mem;
	struct x86_memmap map;
	struct elf_image ret;
	const Elf64_Nhdr gnu = { 4, 5, 18 }, xen = { 4, 8, 18 };
	const uint64_t entry = IMAGE_TEXT + 0x100;

	memcpy(p, &gnu, 12);
	memcpy(p + 12, "GNU", 4);
	memcpy(p + 24, &xen, 12); /* 12 + 4 + 5 padded to 8 */
	memcpy(p + 36, "Xen", 4);
	memcpy(p + 40, &entry, 8);
	im->note.p_offset = offsetof(struct image, text_bytes);
	im->note.p_filesz = 48;
	image_ram(&mem, &map, 16);
	g_assert_cmpint(load(im, sizeof(*im), &mem, &map, &ret, NULL), ==, 0);
	g_assert_cmphex(ret.entry_gpa, ==, entry);
	guest_mem_deinit(&mem);
}

static void test_hostile(void)
{
#define AT(member) offsetof(struct image, member), sizeof(((struct image *)0)->member)
	static const struct {
		const char *name;
		size_t off, size;
		uint64_t value;
		const char *text;
	} cases[] = {
		{ "magic", AT(ehdr.e_ident[0]), 0, "not an ELF image" },
		{ "class 0", AT(ehdr.e_ident[EI_CLASS]), 0,
		  "the ELF header is cut off or of unknown class 0" },
		{ "class 3", AT(ehdr.e_ident[EI_CLASS]), 3,
		  "the ELF header is cut off or of unknown class 3" },
		{ "big endian", AT(ehdr.e_ident[EI_DATA]), ELFDATA2MSB,
		  "the ELF image is not little-endian" },
		{ "relocatable", AT(ehdr.e_type), ET_REL,
		  "the ELF image is of type 1, not executable" },
		{ "core", AT(ehdr.e_type), ET_CORE, "the ELF image is of type 4, not executable" },
		{ "arm", AT(ehdr.e_machine), EM_AARCH64,
		  "the ELF image is for machine 183, not x86" },
		{ "phentsize", AT(ehdr.e_phentsize), 55,
		  "the ELF program headers have 55 bytes, not 56" },
		{ "phentsize huge", AT(ehdr.e_phentsize), 0xffff,
		  "the ELF program headers reach past the end of the image" },
		{ "phnum 0", AT(ehdr.e_phnum), 0,
		  "the ELF image has 0 program headers, not 1 to 128" },
		{ "phnum", AT(ehdr.e_phnum), 0xffff,
		  "the ELF image has 65535 program headers, not 1 to 128" },
		{ "phoff end", AT(ehdr.e_phoff), sizeof(struct image),
		  "the ELF program headers reach past the end of the image" },
		{ "phoff wrap", AT(ehdr.e_phoff), UINT64_MAX - 8,
		  "the ELF program headers reach past the end of the image" },
		{ "no segment", AT(ehdr.e_phoff), offsetof(struct image, data_bytes),
		  "the ELF image has no segment to load" },
		{ "offset", AT(text.p_offset), sizeof(struct image),
		  "ELF program header 0 reaches past the end of the image: bytes 90368 + 69652 of "
		  "90368" },
		{ "offset wrap", AT(text.p_offset), UINT64_MAX,
		  "ELF program header 0 reaches past the end of the image: bytes "
		  "18446744073709551615 + 69652 of 90368" },
		{ "filesz", AT(text.p_filesz), UINT64_MAX,
		  "ELF program header 0 reaches past the end of the image: bytes 232 + "
		  "18446744073709551615 of 90368" },
		{ "memsz smaller", AT(text.p_memsz), 16,
		  "an ELF segment has more bytes in the file (69652) than in memory (16)" },
		{ "memsz huge", AT(text.p_memsz), UINT64_MAX,
		  "an ELF segment of 17592186044415 MiB at 0x200000 does not fit into 16 MiB of "
		  "memory" },
		{ "memsz", AT(text.p_memsz), 15 << 20,
		  "an ELF segment of 15 MiB at 0x200000 does not fit into 16 MiB of memory" },
		{ "paddr 0", AT(text.p_paddr), 0,
		  "an ELF segment lies at 0x0, below 1 MiB, where boot tables are" },
		{ "paddr low", AT(text.p_paddr), 0xff000,
		  "an ELF segment lies at 0xff000, below 1 MiB, where boot tables are" },
		{ "paddr beyond", AT(data.p_paddr), 16 << 20,
		  "an ELF segment of 1 MiB at 0x1000000 does not fit into 16 MiB of memory" },
		{ "paddr wrap", AT(data.p_paddr), UINT64_MAX - 4095,
		  "an ELF segment of 1 MiB at 0xfffffffffffff000 does not fit into 16 MiB of "
		  "memory" },
		{ "note offset", AT(note.p_offset), sizeof(struct image),
		  "ELF program header 2 reaches past the end of the image: bytes 90368 + 20 of "
		  "90368" },
		{ "note type", AT(note.p_type), PT_NULL,
		  "the ELF image has no PVH note (Xen, type 18)" },
		{ "note cut", AT(note.p_filesz), 19,
		  "the ELF image has no PVH note (Xen, type 18)" },
		{ "note empty", AT(note.p_filesz), 0,
		  "the ELF image has no PVH note (Xen, type 18)" },
		{ "namesz", AT(pvh.nhdr.n_namesz), UINT32_MAX,
		  "the ELF image has no PVH note (Xen, type 18)" },
		{ "namesz 3", AT(pvh.nhdr.n_namesz), 3,
		  "the ELF image has no PVH note (Xen, type 18)" },
		{ "descsz", AT(pvh.nhdr.n_descsz), UINT32_MAX,
		  "the ELF image has no PVH note (Xen, type 18)" },
		{ "descsz 2", AT(pvh.nhdr.n_descsz), 2,
		  "the ELF image has no PVH note (Xen, type 18)" },
		{ "type", AT(pvh.nhdr.n_type), 17, "the ELF image has no PVH note (Xen, type 18)" },
		{ "owner", AT(pvh.name[0]), 'x', "the ELF image has no PVH note (Xen, type 18)" },
		{ "entry 0", AT(pvh.entry), 0, "the PVH entry 0x0 is outside of the ELF image" },
		{ "entry", AT(pvh.entry), 0xfffffff0,
		  "the PVH entry 0xfffffff0 is outside of the ELF image" },
	};
#undef AT

	for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
		g_autofree struct image *im = image_new();
		struct err err = { 0 }, err_stream = { 0 };
		struct guest_mem mem;
		struct x86_memmap map;
		struct elf_image ret;

		memcpy((uint8_t *)im + cases[i].off, &cases[i].value, cases[i].size);
		image_ram(&mem, &map, 16);
		g_test_message("%s", cases[i].name);
		g_assert_cmpint(load(im, sizeof(*im), &mem, &map, &ret, &err), <, 0);
		g_assert_cmpstr(err.msg, ==, cases[i].text);
		g_assert_cmpint(stream((const uint8_t *)im, sizeof(*im), 65536, false, &mem, &map,
				       &ret, &err_stream),
				<, 0);
		guest_mem_deinit(&mem);
	}
}

/* Cut off at any point: an error, never a read beyond. */
static void test_truncated(void)
{
	g_autofree struct image *im = image_new();
	struct guest_mem mem;
	struct x86_memmap map;

	image_ram(&mem, &map, 16);
	for (size_t len = 0; len < sizeof(*im); len += len < 300 ? 1 : 4099) {
		struct elf_image ret;
		struct err err = { 0 };

		g_assert_cmpint(load(im, len, &mem, &map, &ret, &err), <, 0);
		g_assert_cmpstr(err.msg, !=, "");
	}
	guest_mem_deinit(&mem);
}

/* The file shrinks between its size being taken and its being read. */
static void test_shrinking(void)
{
	g_autofree struct image *im = image_new();
	_cleanup_close_ int fd = image_fd(im, offsetof(struct image, data_bytes) + 100);
	struct guest_mem mem;
	struct x86_memmap map;
	const struct elf_target target = { .mem = &mem, .memmap = &map };
	struct elf_image ret;
	struct err err = { 0 };

	image_ram(&mem, &map, 16);
	g_assert_cmpint(elf_load_file(fd, 0, sizeof(*im), &target, &ret, &err), ==, -EIO);
	g_assert_cmpstr(err.msg, ==, "ends at byte 69984 while being read");
	guest_mem_deinit(&mem);
}

static void test_too_many_segments(void)
{
	struct {
		Elf64_Ehdr ehdr;
		Elf64_Phdr phdr[ELF_SEGMENTS_MAX + 1];
	} im;
	g_autofree struct image *good = image_new();
	struct guest_mem mem;
	struct x86_memmap map;
	struct elf_image ret;
	struct err err = { 0 };

	memset(&im, 0, sizeof(im));
	im.ehdr = good->ehdr;
	im.ehdr.e_phoff = sizeof(im.ehdr);
	im.ehdr.e_phnum = ELF_SEGMENTS_MAX + 1;
	for (size_t i = 0; i < ELF_SEGMENTS_MAX + 1; i++)
		im.phdr[i] = (Elf64_Phdr){ .p_type = PT_LOAD, .p_paddr = IMAGE_TEXT, .p_memsz = 1 };
	image_ram(&mem, &map, 16);
	g_assert_cmpint(load(&im, sizeof(im), &mem, &map, &ret, &err), ==, -ENOEXEC);
	g_assert_cmpstr(err.msg, ==, "the ELF image has more than 16 segments to load");
	guest_mem_deinit(&mem);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/loader/elf/good", test_good);
	g_test_add_func("/loader/elf/stream", test_stream);
	g_test_add_func("/loader/elf/overlap", test_overlap);
	g_test_add_func("/loader/elf/elf32", test_elf32);
	g_test_add_func("/loader/elf/firmware", test_firmware);
	g_test_add_func("/loader/elf/notes", test_notes);
	g_test_add_func("/loader/elf/hostile", test_hostile);
	g_test_add_func("/loader/elf/truncated", test_truncated);
	g_test_add_func("/loader/elf/shrinking", test_shrinking);
	g_test_add_func("/loader/elf/too-many-segments", test_too_many_segments);
	return g_test_run();
}
