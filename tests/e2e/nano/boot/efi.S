/*
 * A UEFI program that says on the first serial port that it was started, and then stands still: a
 * PE32+ image written out by hand (PE format, "Overview"), because it needs no more than one
 * section.
 */
	.code64
	.section .text
	.globl _start
_start:
image:	.ascii	"MZ"
	.org	0x3c
	.long	pe - image
pe:	.ascii	"PE\0\0"
	.word	0x8664			/* x86-64 */
	.word	1			/* sections */
	.long	0, 0, 0
	.word	sections - optional
	.word	0x0206			/* executable, no line numbers, no debug data */
optional:
	.word	0x020b			/* PE32+ */
	.byte	0, 0
	.long	end - code, 0, 0
	.long	entry - image
	.long	code - image
	.quad	0			/* image base */
	.long	0x1000, 0x200		/* alignment: section, file */
	.word	0, 0, 0, 0, 0, 0
	.long	0
	.long	0x2000			/* size of image */
	.long	0x1000			/* size of headers */
	.long	0
	.word	10			/* EFI application */
	.word	0
	.quad	0, 0, 0, 0
	.long	0, 6
	.quad	0, 0, 0, 0, 0, 0
sections:
	.ascii	".text\0\0\0"
	.long	end - code
	.long	code - image
	.long	end - code
	.long	code - image
	.long	0, 0
	.word	0, 0
	.long	0x60000020		/* code, execute, read */
	.org	0x1000
code:
entry:	lea	text(%rip), %rsi
	mov	$0x3f8, %dx
1:	lodsb
	test	%al, %al
	jz	2f
	out	%al, %dx
	jmp	1b
2:	hlt
	jmp	2b
text:	.asciz	"\r\nEFI-READY\r\n"
	.org	0x2000
end:
