/* A boot sector that says on the first serial port that it was booted, and then stands still. */
	.code16
	.section .text
	.globl _start
_start:
	ljmp	$0x0, $1f		/* some firmware enters at 07c0:0000 */
1:	xor	%ax, %ax
	mov	%ax, %ds
	mov	$text, %si
	mov	$0x3f8, %dx
2:	lodsb
	test	%al, %al
	jz	3f
	out	%al, %dx
	jmp	2b
3:	hlt
	jmp	3b
text:	.asciz	"\r\n" WHAT "-READY\r\n"
	.org	510
	.word	0xaa55
