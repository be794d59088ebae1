/* SPDX-License-Identifier: Apache-2.0 */
/*
 * entry points of the tiny guest
 *
 * PVH hands over in 32-bit protected mode without paging, EBX pointing to hvm_start_info
 * (xen/include/public/arch-x86/hvm/start_info.h). The very first thing done is a write of 0x40 to
 * port 0x80: benchmarks take it as "first guest instruction". The page tables are data made by the
 * assembler (identity map of 8 GiB in 2 MiB pages), so that the way to C is about 30 instructions,
 * which counts where KVM emulates them one by one. Application processors come in through a
 * trampoline copied below 1 MiB and join the same path.
 */

	.set	CODE64, 0x08
	.set	DATA, 0x10
	.set	CODE32, 0x18

	.set	MSR_EFER, 0xc0000080
	.set	EFER_LME, 0x100
	.set	CR4_PAE, 0x20
	.set	CR0_PE, 0x1
	.set	CR0_PG, 0x80000000

/* XEN_ELFNOTE_PHYS32_ENTRY: 64-bit loaders read eight bytes */
	.section .note.pvh, "a", @note
	.balign 4
	.long	4, 8, 18
	.asciz	"Xen"
	.quad	pvh_start

	.section .text.boot, "ax"
	.code32
	.globl	pvh_start
pvh_start:
	movb	$0x40, %al
	outb	%al, $0x80
	cld
	movl	%ebx, %ebp
	lgdt	gdt_pointer
	movl	$start64, %esi
enter_long:
	movl	$pml4, %eax
	movl	%eax, %cr3
	movl	$CR4_PAE, %eax
	movl	%eax, %cr4
	movl	$MSR_EFER, %ecx
	movl	$EFER_LME, %eax
	xorl	%edx, %edx
	wrmsr
	movl	%cr0, %eax
	orl	$(CR0_PG | CR0_PE), %eax
	movl	%eax, %cr0
	ljmp	$CODE64, $in_long

	.code64
in_long:
	movl	$DATA, %eax
	movl	%eax, %ds
	movl	%eax, %es
	movl	%eax, %ss
	xorl	%eax, %eax
	movl	%eax, %fs
	movl	%eax, %gs
	movl	%esi, %esi
	jmp	*%rsi

start64:
	/* a reboot in place finds the previous boot's values here */
	movl	$bss_start, %edi
	movl	$bss_end, %ecx
	subl	%edi, %ecx
	shrl	$3, %ecx
	xorl	%eax, %eax
	rep stosq
	movl	$boot_stack_top, %esp
	movl	%ebp, %edi
	xorl	%ebp, %ebp
	call	guest_main
1:	cli
	hlt
	jmp	1b

ap64:
	movq	ap_stack_top, %rsp
	xorl	%ebp, %ebp
	call	ap_main
1:	cli
	hlt
	jmp	1b

	.code32
ap32:
	movl	$DATA, %eax
	movl	%eax, %ds
	movl	$ap64, %esi
	jmp	enter_long

/* copied to the page whose number the SIPI carries; DS gets the base of CS */
	.section .rodata.trampoline, "a"
	.globl	ap_trampoline, ap_trampoline_end
	.code16
ap_trampoline:
	cli
	movw	%cs, %ax
	movw	%ax, %ds
	lgdtl	ap_gdt_pointer - ap_trampoline
	movl	%cr0, %eax
	orl	$CR0_PE, %eax
	movl	%eax, %cr0
	ljmpl	$CODE32, $ap32
	.balign 4
ap_gdt_pointer:
	.word	gdt_end - gdt - 1
	.long	gdt
ap_trampoline_end:
	.code64

/* one stub per vector, 16 bytes apart; all reach trap_handle(struct trap_frame *) */
	.text
	.globl	trap_stubs
	.balign 16
trap_stubs:
	.set	vector, 0
	.rept	96
	.balign 16
	.if	(vector == 8) || (vector >= 10 && vector <= 14) || (vector == 17) || (vector == 21)
	.else
	pushq	$0
	.endif
	pushq	$vector
	jmp	trap_common
	.set	vector, vector + 1
	.endr

	.balign 16
trap_common:
	pushq	%rax
	pushq	%rcx
	pushq	%rdx
	pushq	%rbx
	pushq	%rbp
	pushq	%rsi
	pushq	%rdi
	pushq	%r8
	pushq	%r9
	pushq	%r10
	pushq	%r11
	pushq	%r12
	pushq	%r13
	pushq	%r14
	pushq	%r15
	cld
	movq	%rsp, %rdi
	call	trap_handle
	popq	%r15
	popq	%r14
	popq	%r13
	popq	%r12
	popq	%r11
	popq	%r10
	popq	%r9
	popq	%r8
	popq	%rdi
	popq	%rsi
	popq	%rbp
	popq	%rbx
	popq	%rdx
	popq	%rcx
	popq	%rax
	addq	$16, %rsp
	iretq

	.data
	.balign 8
gdt:
	.quad	0
	.quad	0x00af9b000000ffff
	.quad	0x00cf93000000ffff
	.quad	0x00cf9b000000ffff
gdt_end:
	.balign 4
	.word	0
gdt_pointer:
	.word	gdt_end - gdt - 1
	.long	gdt

/* present | writable | accessed (| dirty | large page): nothing left for the walker to set */
	.balign 4096
	.globl	pml4
pml4:
	.quad	pdpt + 0x23
	.fill	511, 8, 0
pdpt:
	.quad	pds + 0x0023, pds + 0x1023, pds + 0x2023, pds + 0x3023
	.quad	pds + 0x4023, pds + 0x5023, pds + 0x6023, pds + 0x7023
	.fill	504, 8, 0
pds:
	.set	page, 0
	.rept	8 * 512
	.quad	(page << 21) + 0xe3
	.set	page, page + 1
	.endr

	.section .note.GNU-stack, "", @progbits
