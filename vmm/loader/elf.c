/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/loader/elf.h"

#include <assert.h>
#include <elf.h>
#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "vmm/arch/x86/layout.h"
#include "vmm/arch/x86/memory-map.h"
#include "vmm/base/bytes.h"
#include "vmm/base/err.h"
#include "vmm/base/fd.h"
#include "vmm/base/math.h"
#include "vmm/loader/file.h"
#include "vmm/memory/guest-memory.h"

#define XEN_ELFNOTE_PHYS32_ENTRY 18
#define PHDRS_MAX                128

/* What both classes' file headers say. */
struct elf_header {
	bool is64;
	uint64_t phoff;
	uint32_t phentsize, phnum;
};

static int header_parse(const uint8_t *head, size_t len, struct elf_header *ret, struct err *err)
{
	struct elf_header h = { 0 };
	uint16_t machine, type;
	uint32_t min_entry;

	if (len < EI_NIDENT || memcmp(head, ELFMAG, SELFMAG) != 0)
		return err_set(err, ENOEXEC, "not an ELF image");
	if (head[EI_DATA] != ELFDATA2LSB)
		return err_set(err, ENOEXEC, "the ELF image is not little-endian");
	if (head[EI_CLASS] == ELFCLASS64 && len >= sizeof(Elf64_Ehdr)) {
		Elf64_Ehdr e;

		memcpy(&e, head, sizeof(e));
		h = (struct elf_header){ true, e.e_phoff, e.e_phentsize, e.e_phnum };
		machine = e.e_machine;
		type = e.e_type;
		min_entry = sizeof(Elf64_Phdr);
	} else if (head[EI_CLASS] == ELFCLASS32 && len >= sizeof(Elf32_Ehdr)) {
		Elf32_Ehdr e;

		memcpy(&e, head, sizeof(e));
		h = (struct elf_header){ false, e.e_phoff, e.e_phentsize, e.e_phnum };
		machine = e.e_machine;
		type = e.e_type;
		min_entry = sizeof(Elf32_Phdr);
	} else {
		return err_set(err, ENOEXEC, "the ELF header is cut off or of unknown class %u",
			       head[EI_CLASS]);
	}
	if (machine != EM_X86_64 && machine != EM_386)
		return err_set(err, ENOEXEC, "the ELF image is for machine %u, not x86", machine);
	if (type != ET_EXEC && type != ET_DYN)
		return err_set(err, ENOEXEC, "the ELF image is of type %u, not executable", type);
	if (h.phentsize < min_entry)
		return err_set(err, ENOEXEC, "the ELF program headers have %u bytes, not %u",
			       h.phentsize, min_entry);
	if (h.phnum == 0 || h.phnum > PHDRS_MAX)
		return err_set(err, ENOEXEC, "the ELF image has %u program headers, not 1 to %u",
			       h.phnum, PHDRS_MAX);
	*ret = h;
	return 0;
}

static Elf64_Phdr phdr_get(const uint8_t *p, bool is64)
{
	Elf64_Phdr p64;
	Elf32_Phdr p32;

	if (is64) {
		memcpy(&p64, p, sizeof(p64));
		return p64;
	}
	memcpy(&p32, p, sizeof(p32));
	return (Elf64_Phdr){
		.p_type = p32.p_type,
		.p_offset = p32.p_offset,
		.p_paddr = p32.p_paddr,
		.p_filesz = p32.p_filesz,
		.p_memsz = p32.p_memsz,
	};
}

static int add_segment(struct elf_image *image, const Elf64_Phdr *p,
		       const struct x86_memmap *memmap, struct err *err)
{
	if (p->p_memsz == 0)
		return 0;
	if (p->p_filesz > p->p_memsz)
		return err_set(
			err, ENOEXEC,
			"an ELF segment has more bytes in the file (%llu) than in memory (%llu)",
			(unsigned long long)p->p_filesz, (unsigned long long)p->p_memsz);
	if (p->p_paddr < LAYOUT_HIGH_RAM)
		return err_set(err, ENOEXEC,
			       "an ELF segment lies at 0x%llx, below 1 MiB, where boot tables are",
			       (unsigned long long)p->p_paddr);
	if (!memmap_has_ram(memmap, p->p_paddr, p->p_memsz))
		return err_set(err, ENOSPC,
			       "an ELF segment of %llu MiB at 0x%llx does not fit into %llu MiB of "
			       "memory",
			       (unsigned long long)(align_up(p->p_memsz, MIB) / MIB),
			       (unsigned long long)p->p_paddr,
			       (unsigned long long)memmap_ram_mib(memmap));
	if (image->n_segments == ELF_SEGMENTS_MAX)
		return err_set(err, ENOEXEC, "the ELF image has more than %d segments to load",
			       ELF_SEGMENTS_MAX);
	image->segments[image->n_segments++] = (struct elf_segment){
		.off = p->p_offset,
		.file_size = p->p_filesz,
		.gpa = p->p_paddr,
		.mem_size = p->p_memsz,
	};
	image->end_gpa = MAX(image->end_gpa, p->p_paddr + p->p_memsz);
	return 0;
}

static int segments_parse(const uint8_t *table, const struct elf_header *h, uint64_t size,
			  const struct x86_memmap *memmap, struct elf_image *image, struct err *err)
{
	for (uint32_t i = 0; i < h->phnum; i++) {
		Elf64_Phdr p = phdr_get(table + (size_t)i * h->phentsize, h->is64);
		int r;

		if (p.p_type != PT_LOAD && p.p_type != PT_NOTE)
			continue;
		if (!range_fits(p.p_offset, p.p_filesz, size))
			return err_set(err, ENOEXEC,
				       "ELF program header %u reaches past the end of the image: "
				       "bytes %llu + %llu of %llu",
				       i, (unsigned long long)p.p_offset,
				       (unsigned long long)p.p_filesz, (unsigned long long)size);
		if (p.p_type == PT_LOAD) {
			r = add_segment(image, &p, memmap, err);
			if (r < 0)
				return r;
		} else if (image->n_notes < ELF_NOTES_MAX) {
			struct elf_note *note = &image->notes[image->n_notes++];

			note->off = p.p_offset;
			note->size = (uint32_t)MIN(p.p_filesz, (uint64_t)ELF_NOTE_BYTES);
		}
	}
	if (image->n_segments == 0)
		return err_set(err, ENOEXEC, "the ELF image has no segment to load");
	return 0;
}

/* Name and descriptor are each padded to 4 bytes (System V ABI, "Note Section"). */
static bool note_find_entry(const struct elf_note *note, uint64_t *ret)
{
	uint32_t pos = 0;

	while (note->size - pos >= sizeof(Elf64_Nhdr)) {
		Elf64_Nhdr n;
		uint64_t name_size, desc_size;
		const uint8_t *name, *desc;

		memcpy(&n, note->bytes + pos, sizeof(n));
		pos += sizeof(n);
		name_size = align_up(n.n_namesz, 4);
		desc_size = align_up(n.n_descsz, 4);
		if (!range_fits(name_size, desc_size, note->size - pos))
			return false;
		name = note->bytes + pos;
		desc = name + name_size;
		pos += (uint32_t)(name_size + desc_size);
		if (n.n_type != XEN_ELFNOTE_PHYS32_ENTRY || n.n_namesz != sizeof("Xen") ||
		    memcmp(name, "Xen", sizeof("Xen")) != 0)
			continue;
		if (n.n_descsz != 4 && n.n_descsz != 8)
			return false;
		*ret = bytes_get_le(desc, n.n_descsz);
		return true;
	}
	return false;
}

/* Everything but the bytes of the segments: entry, and zeros behind each of them. */
static int image_finish(struct elf_image *image, const struct elf_target *target, struct err *err)
{
	bool found = false;
	int r;

	for (uint32_t i = 0; i < image->n_notes && !found; i++)
		found = note_find_entry(&image->notes[i], &image->entry_gpa);
	if (!found)
		return err_set(err, ENOEXEC, "the ELF image has no PVH note (Xen, type %d)",
			       XEN_ELFNOTE_PHYS32_ENTRY);

	found = false;
	for (uint32_t i = 0; i < image->n_segments; i++) {
		const struct elf_segment *s = &image->segments[i];

		found = found ||
			(image->entry_gpa >= s->gpa && image->entry_gpa - s->gpa < s->mem_size);
	}
	if (!found || image->entry_gpa > UINT32_MAX)
		return err_set(err, ENOEXEC, "the PVH entry 0x%llx is outside of the ELF image",
			       (unsigned long long)image->entry_gpa);

	for (uint32_t i = 0; i < image->n_segments && !target->fresh_ram; i++) {
		const struct elf_segment *s = &image->segments[i];

		r = guest_fill(target->mem, s->gpa + s->file_size, 0, s->mem_size - s->file_size);
		if (r < 0)
			return err_set(err, -r, "no guest memory at 0x%llx",
				       (unsigned long long)(s->gpa + s->file_size));
	}
	return 0;
}

int elf_load_file(int fd, uint64_t base, uint64_t size, const struct elf_target *target,
		  struct elf_image *ret, struct err *err)
{
	uint8_t head[sizeof(Elf64_Ehdr)];
	_cleanup_free_ uint8_t *table = NULL;
	struct elf_header h;
	size_t table_size;
	int r;

	*ret = (struct elf_image){ 0 };
	r = fd_pread_all(fd, head, MIN(size, (uint64_t)sizeof(head)), base);
	if (r < 0)
		return err_errno(err, -r, "cannot read the ELF header");
	r = header_parse(head, MIN(size, (uint64_t)sizeof(head)), &h, err);
	if (r < 0)
		return r;

	table_size = (size_t)h.phentsize * h.phnum; /* both are 16 bits wide */
	if (!range_fits(h.phoff, table_size, size))
		return err_set(err, ENOEXEC,
			       "the ELF program headers reach past the end of the image");
	table = malloc(table_size);
	if (!table)
		return err_errno(err, ENOMEM, "cannot read %zu bytes", table_size);
	r = fd_pread_all(fd, table, table_size, base + h.phoff);
	if (r < 0)
		return err_errno(err, -r, "cannot read the ELF program headers");
	r = segments_parse(table, &h, size, target->memmap, ret, err);
	if (r < 0)
		return r;

	for (uint32_t i = 0; i < ret->n_notes; i++) {
		r = fd_pread_all(fd, ret->notes[i].bytes, ret->notes[i].size,
				 base + ret->notes[i].off);
		if (r < 0)
			return err_errno(err, -r, "cannot read an ELF note");
	}
	for (uint32_t i = 0; i < ret->n_segments; i++) {
		const struct elf_segment *s = &ret->segments[i];

		r = file_read_guest(fd, base + s->off, target->mem, s->gpa, s->file_size, err);
		if (r < 0)
			return r;
	}
	return image_finish(ret, target, err);
}

int elf_stream_init(struct elf_stream *s, const struct elf_target *target, uint64_t size,
		    size_t scratch_size, struct err *err)
{
	assert(scratch_size >= ELF_HEAD_BYTES);
	memset(s, 0, sizeof(*s));
	s->target = *target;
	s->size = s->last = size;
	s->scratch_size = scratch_size;
	s->scratch = mmap(NULL, scratch_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
			  -1, 0);
	if (s->scratch == MAP_FAILED) {
		s->scratch = NULL;
		return err_errno(err, errno, "cannot get %zu bytes to unpack into", scratch_size);
	}
	return 0;
}

void elf_stream_deinit(struct elf_stream *s)
{
	if (s->scratch)
		munmap(s->scratch, s->scratch_size);
	s->scratch = NULL;
}

/* Guest memory for the bytes from pos on, when they belong to one segment alone; else NULL. */
static void *direct_window(struct elf_stream *s, size_t want, size_t *ret_len)
{
	const struct elf_segment *target = NULL;
	uint64_t end;
	void *p;

	if (!s->parsed)
		return NULL;
	for (uint32_t i = 0; i < s->image.n_segments; i++) {
		const struct elf_segment *seg = &s->image.segments[i];

		if (s->pos < seg->off || s->pos - seg->off >= seg->file_size)
			continue;
		if (target)
			return NULL;
		target = seg;
	}
	if (!target)
		return NULL;
	end = MIN(target->off + target->file_size, s->pos + want);
	for (uint32_t i = 0; i < s->image.n_segments; i++) {
		const struct elf_segment *seg = &s->image.segments[i];

		if (seg->file_size && seg->off > s->pos && seg->off < end)
			end = seg->off;
	}
	p = guest_range(s->target.mem, target->gpa + (s->pos - target->off), end - s->pos, 1);
	if (p)
		*ret_len = end - s->pos;
	return p;
}

void *elf_stream_reserve(struct elf_stream *s, size_t want, bool whole, size_t *ret_len)
{
	size_t len = 0;
	void *p;

	assert(want > 0 && (!whole || want <= s->scratch_size));
	p = direct_window(s, want, &len);
	s->direct = p && (!whole || len == want);
	if (s->direct) {
		*ret_len = len;
		return p;
	}
	/* Without a parsed head the first piece must hold it. */
	*ret_len = whole ? want : MIN(want, (size_t)ELF_HEAD_BYTES);
	return s->scratch;
}

/* The intersection of [pos, pos + n) with [off, off + len): where in the piece, and how much. */
static bool overlap(uint64_t pos, uint64_t n, uint64_t off, uint64_t len, uint64_t *ret_start,
		    uint64_t *ret_len)
{
	uint64_t start = MAX(pos, off), end = MIN(pos + n, off + len);

	if (start >= end)
		return false;
	*ret_start = start;
	*ret_len = end - start;
	return true;
}

static int stream_parse_head(struct elf_stream *s, size_t n, struct err *err)
{
	struct elf_header h;
	uint64_t last = 0;
	int r;

	r = header_parse(s->scratch, n, &h, err);
	if (r < 0)
		return r;
	if (!range_fits(h.phoff, (uint64_t)h.phentsize * h.phnum, n))
		return err_set(err, ENOEXEC,
			       "the ELF program headers are not in the first %zu bytes", n);
	r = segments_parse(s->scratch + h.phoff, &h, s->size, s->target.memmap, &s->image, err);
	if (r < 0)
		return r;
	for (uint32_t i = 0; i < s->image.n_segments; i++)
		last = MAX(last, s->image.segments[i].off + s->image.segments[i].file_size);
	for (uint32_t i = 0; i < s->image.n_notes; i++)
		last = MAX(last, s->image.notes[i].off + s->image.notes[i].size);
	s->last = last;
	s->parsed = true;
	return 0;
}

int elf_stream_commit(struct elf_stream *s, size_t n, struct err *err)
{
	const uint8_t *piece = s->scratch;
	uint64_t start, len;
	size_t window;
	int r;

	if (!s->parsed) {
		r = stream_parse_head(s, n, err);
		if (r < 0)
			return r;
	}
	if (s->direct)
		piece = direct_window(s, n, &window);
	for (uint32_t i = 0; i < s->image.n_segments && !s->direct; i++) {
		const struct elf_segment *seg = &s->image.segments[i];

		if (!overlap(s->pos, n, seg->off, seg->file_size, &start, &len))
			continue;
		r = guest_write(s->target.mem, seg->gpa + (start - seg->off),
				piece + (start - s->pos), len);
		if (r < 0)
			return err_set(err, -r, "no guest memory at 0x%llx",
				       (unsigned long long)seg->gpa);
	}
	for (uint32_t i = 0; i < s->image.n_notes; i++) {
		struct elf_note *note = &s->image.notes[i];

		if (overlap(s->pos, n, note->off, note->size, &start, &len))
			memcpy(note->bytes + (start - note->off), piece + (start - s->pos), len);
	}
	s->pos += n;
	s->direct = false;
	return 0;
}

bool elf_stream_done(const struct elf_stream *s)
{
	return s->pos >= s->last;
}

int elf_stream_finish(struct elf_stream *s, struct err *err)
{
	if (!s->parsed || !elf_stream_done(s))
		return err_set(err, EBADMSG, "the ELF image ends after %llu of %llu bytes",
			       (unsigned long long)s->pos, (unsigned long long)s->last);
	return image_finish(&s->image, &s->target, err);
}
