/*
 * A guest of 5 KB for tests that need a machine but no operating system. QEMU boots it as a PVH
 * kernel (-kernel) in 32-bit protected mode without paging, on q35, pc and microvm.
 *
 * It prints NANO-READY on COM1 and echoes what it reads there, but
 *   q  prints NANO-BYE and powers off by ACPI S5
 *   r  resets by a triple fault
 *   c  prints NANO-HANG and hangs with interrupts off, as after a crash
 *   B  prints NANO-BUSY and keeps the processor busy until it reads something
 *   M  writes to every page of its memory, and prints NANO-TOUCHED
 *   X  prints NANO-ASTRAY and goes on where there is no memory: an internal error under KVM
 *   p  tells the pvpanic device, if there is one, of a panic
 *   N  counts one up in memory and prints NANO-COUNT NNNN
 *   w  arms the i6300esb watchdog, if there is one, and never tends it: it expires after 0.5 s
 * On q35 and pc it powers off when the ACPI power button is pressed. An interrupt 50 times a
 * second wakes it to look at both.
 */

#define COM1		0x3f8
#define COM1_FCR	(COM1 + 2)
#define COM1_LCR	(COM1 + 3)
#define COM1_MCR	(COM1 + 4)
#define COM1_LSR	(COM1 + 5)
#define LSR_DATA_READY	0x01

/* SeaBIOS puts the power management registers of q35 and pc there (ACPI 6.5, 4.8.3). */
#define PM1_STATUS	0x600
#define PM1_ENABLE	0x602
#define PM1_CONTROL	0x604
#define PWRBTN		0x100
#define SLP_EN		0x2000

/* QEMU, docs/specs/pvpanic.rst */
#define PVPANIC		0x505
#define PVPANIC_PANICKED 0x01

#define PCI_ADDRESS	0xcf8
#define PCI_DATA	0xcfc
#define PCI_ENABLE	0x80000000
#define PCI_COMMAND	0x04
#define PCI_BAR0	0x10
#define PCI_MEMORY	0x02

/* The watchdog in its configuration space and in memory (Intel 6300ESB ICH datasheet, 18). */
#define ESB_ID		0x25ab8086
#define ESB_LOCK	0x68
#define ESB_ENABLE	0x02
#define ESB_TIMER1	0x0
#define ESB_TIMER2	0x4
#define ESB_RELOAD	0xc
#define ESB_TICKS	250

#define PIC1		0x20
#define PIC2		0xa0
#define PIC_EOI		0x20
#define VECTORS		48

/* Behind ourselves. */
#define MEMORY		0x200000
#define PAGE		0x1000
/* Of the space for PCI on q35 and pc; no device is put there. */
#define NOWHERE		0xd0000000

	/* XEN_ELFNOTE_PHYS32_ENTRY: where a PVH loader enters. */
	.section .note.Xen, "a", @note
	.long	4, 4, 18
	.ascii	"Xen\0"
	.long	_start

	.text
	.code32
	.globl	_start
_start:
	cli
	mov	$stack, %esp
	lgdt	gdtr
	ljmp	$8, $1f
1:	mov	$16, %ax
	mov	%ax, %ds
	mov	%ax, %es
	mov	%ax, %ss

	/* Every vector gets the same interrupt gate. */
	mov	$idt, %edi
	mov	$VECTORS, %ecx
	mov	$interrupt, %eax
2:	mov	%ax, (%edi)
	movw	$8, 2(%edi)
	movw	$0x8e00, 4(%edi)
	mov	%eax, %edx
	shr	$16, %edx
	mov	%dx, 6(%edi)
	add	$8, %edi
	dec	%ecx
	jnz	2b
	lidt	idtr

	/* The interrupt controllers at vectors 32 and 40, all masked but the timer. */
	mov	$0x11, %al
	out	%al, $PIC1
	out	%al, $PIC2
	mov	$32, %al
	out	%al, $PIC1 + 1
	mov	$40, %al
	out	%al, $PIC2 + 1
	mov	$4, %al
	out	%al, $PIC1 + 1
	mov	$2, %al
	out	%al, $PIC2 + 1
	mov	$1, %al
	out	%al, $PIC1 + 1
	out	%al, $PIC2 + 1
	mov	$0xfe, %al
	out	%al, $PIC1 + 1
	mov	$0xff, %al
	out	%al, $PIC2 + 1

	/* The local APIC on, and its LINT0 open for what the controllers send. */
	movl	$0x1ff, 0xfee000f0
	movl	$0x700, 0xfee00350

	/* Timer channel 0 as a rate generator: 1193182 Hz / 23863 = 50 Hz. */
	mov	$0x34, %al
	out	%al, $0x43
	mov	$0x37, %al
	out	%al, $0x40
	mov	$0x5d, %al
	out	%al, $0x40

	mov	$COM1_LCR, %dx
	mov	$3, %al
	out	%al, %dx
	mov	$COM1_MCR, %dx
	mov	$3, %al
	out	%al, %dx
	mov	$COM1_FCR, %dx
	mov	$1, %al
	out	%al, %dx

	mov	$ready, %esi
	call	print
	mov	$PM1_ENABLE, %dx
	mov	$PWRBTN, %ax
	out	%ax, %dx

idle:
	sti
	hlt
	cli
	/* A machine without these registers (microvm) reads as all ones. */
	mov	$PM1_STATUS, %dx
	in	%dx, %ax
	cmp	$0xffff, %ax
	je	serial
	test	$PWRBTN, %ax
	jnz	poweroff
serial:
	mov	$COM1_LSR, %dx
	in	%dx, %al
	test	$LSR_DATA_READY, %al
	jz	idle
	mov	$COM1, %dx
	in	%dx, %al
	cmp	$'q', %al
	je	poweroff
	cmp	$'r', %al
	je	reset
	cmp	$'c', %al
	je	crash
	cmp	$'B', %al
	je	busy
	cmp	$'M', %al
	je	touch
	cmp	$'X', %al
	je	astray
	cmp	$'w', %al
	je	watchdog
	cmp	$'p', %al
	je	panic
	cmp	$'N', %al
	je	count
	out	%al, %dx
	jmp	serial

poweroff:
	mov	$bye, %esi
	call	print
	/* A machine without the register (microvm): the best it can do is a reset. */
	mov	$PM1_CONTROL, %dx
	in	%dx, %ax
	cmp	$0xffff, %ax
	je	reset
	mov	$SLP_EN, %ax
	out	%ax, %dx
	jmp	hang

reset:
	lidt	no_idt
	int3

crash:
	mov	$hung, %esi
	call	print
	jmp	hang

busy:
	mov	$working, %esi
	call	print
	mov	$COM1_LSR, %dx
1:	mov	$0x100000, %ecx
2:	dec	%ecx
	jnz	2b
	in	%dx, %al
	test	$LSR_DATA_READY, %al
	jz	1b
	jmp	serial

/*
 * Up to where nothing keeps what is written. A page that is read before it is written gets the
 * host's page of zeros first, and no huge page afterwards; emulation reads for a write, too, but
 * not for a locked one.
 */
touch:
	mov	$MEMORY, %edi
1:	add	$PAGE, %edi
	lock notl (%edi)
	mov	(%edi), %eax
	lock notl (%edi)
	cmp	(%edi), %eax
	jne	1b
	mov	$touched, %esi
	call	print
	jmp	serial

astray:
	mov	$strayed, %esi
	call	print
	mov	$NOWHERE, %eax
	jmp	*%eax

panic:
	mov	$panicked, %esi
	call	print
	mov	$PVPANIC, %dx
	mov	$PVPANIC_PANICKED, %al
	out	%al, %dx
	jmp	serial

count:
	mov	$digits + 3, %esi
1:	incb	(%esi)
	cmpb	$'9', (%esi)
	jbe	2f
	movb	$'0', (%esi)
	dec	%esi
	cmp	$digits, %esi
	jae	1b
2:	mov	$counted, %esi
	call	print
	jmp	serial

hang:
	cli
	hlt
	jmp	hang

watchdog:
	mov	$PCI_ENABLE, %ebx
1:	xor	%ecx, %ecx
	call	pci_select
	in	%dx, %eax
	cmp	$ESB_ID, %eax
	je	2f
	add	$0x800, %ebx
	cmp	$PCI_ENABLE + 0x10000, %ebx
	jb	1b
	jmp	serial
2:	mov	$PCI_COMMAND, %ecx
	call	pci_select
	in	%dx, %ax
	or	$PCI_MEMORY, %ax
	out	%ax, %dx
	mov	$PCI_BAR0, %ecx
	call	pci_select
	in	%dx, %eax
	and	$~0xf, %eax
	mov	%eax, %edi
	/* Each write must be unlocked; a tick is 2^15 of 33 MHz, and both stages count. */
	movl	$0x80, ESB_RELOAD(%edi)
	movl	$0x86, ESB_RELOAD(%edi)
	movl	$ESB_TICKS, ESB_TIMER1(%edi)
	movl	$0x80, ESB_RELOAD(%edi)
	movl	$0x86, ESB_RELOAD(%edi)
	movl	$ESB_TICKS, ESB_TIMER2(%edi)
	mov	$ESB_LOCK, %ecx
	call	pci_select
	mov	$ESB_ENABLE, %al
	out	%al, %dx
	jmp	serial

/* Selects register %ecx of the device at %ebx; %dx becomes the data port. */
pci_select:
	mov	%ebx, %eax
	or	%ecx, %eax
	mov	$PCI_ADDRESS, %dx
	out	%eax, %dx
	mov	$PCI_DATA, %dx
	ret

/* Prints the string at %esi on COM1. */
print:
	mov	$COM1, %dx
1:	lodsb
	test	%al, %al
	jz	2f
	out	%al, %dx
	jmp	1b
2:	ret

interrupt:
	push	%eax
	mov	$PIC_EOI, %al
	out	%al, $PIC1
	pop	%eax
	iret

	.data
	.align	8
gdt:	.quad	0, 0x00cf9a000000ffff, 0x00cf92000000ffff
gdtr:	.word	23
	.long	gdt
idtr:	.word	VECTORS * 8 - 1
	.long	idt
no_idt:	.word	0
	.long	0
ready:	.asciz	"NANO-READY\r\n"
panicked: .asciz "NANO-PANIC\r\n"
working: .asciz	"NANO-BUSY\r\n"
touched: .asciz	"NANO-TOUCHED\r\n"
strayed: .asciz	"NANO-ASTRAY\r\n"
counted: .ascii	"NANO-COUNT "
digits:	.asciz	"0000\r\n"
bye:	.asciz	"NANO-BYE\r\n"
hung:	.asciz	"NANO-HANG\r\n"

	.bss
	.align	16
idt:	.skip	VECTORS * 8
	.skip	4096
stack:
