/* tests/bench/start.S - from the multiboot 1 loader's 32-bit protected mode to 64-bit long mode, then bench_main().
 *
 * Models     Multiboot Specification 0.6.96 §3.1 (header) and §3.2 (machine state: EAX magic, EBX information, flat segments,
 *            paging off); Intel SDM vol. 3A §9.8.5 (entering IA-32e mode).
 * Theory     The first GiB is mapped to itself with 2 MiB pages. bench_main() may replace the first 64 MiB by 4 KiB pages.
 *            Every exception vector leads to one stub that names the vector and ends the run: a wrong emulator is to say so.
 */
        .set    MULTIBOOT_MAGIC, 0x1badb002
        .set    MULTIBOOT_FLAGS, 0
        .set    STACK_BYTES, 65536

        .section .multiboot, "a"
        .balign 4
        .long   MULTIBOOT_MAGIC
        .long   MULTIBOOT_FLAGS
        .long   -(MULTIBOOT_MAGIC + MULTIBOOT_FLAGS)

        .section .text
        .code32
        .globl  _start
_start:
        cli
        cld
        movl    $stack_end, %esp
        movl    %ebx, %esi                      /* kept over the table building, handed to bench_main */

        /* The tables lie in .bss, which the loader cleared. */
        movl    $page_pdpt + 3, page_pml4
        movl    $page_pd + 3, page_pdpt
        movl    $0x83, %eax                     /* present, writable, 2 MiB */
        movl    $page_pd, %edi
        movl    $512, %ecx
1:      movl    %eax, (%edi)
        movl    $0, 4(%edi)
        addl    $0x200000, %eax
        addl    $8, %edi
        decl    %ecx
        jnz     1b

        movl    %cr4, %eax
        orl     $0x20, %eax                     /* CR4.PAE */
        movl    %eax, %cr4
        movl    $page_pml4, %eax
        movl    %eax, %cr3
        movl    $0xc0000080, %ecx               /* EFER */
        rdmsr
        orl     $0x100, %eax                    /* EFER.LME */
        wrmsr
        movl    %cr0, %eax
        orl     $0x80000001, %eax               /* CR0.PG, CR0.PE */
        movl    %eax, %cr0
        lgdt    gdt_pointer
        ljmp    $8, $long_mode

        .code64
long_mode:
        movw    $16, %ax
        movw    %ax, %ds
        movw    %ax, %es
        movw    %ax, %ss
        xorl    %eax, %eax
        movw    %ax, %fs
        movw    %ax, %gs
        movl    $stack_end, %esp
        movl    %esi, %ebx

        /* 32 interrupt gates, each to its own entry below. */
        leaq    vectors(%rip), %rdx
        leaq    idt(%rip), %rdi
        movl    $32, %ecx
2:      movq    %rdx, %rax
        movw    %ax, (%rdi)
        movw    $8, 2(%rdi)
        movw    $0x8e00, 4(%rdi)
        shrq    $16, %rax
        movw    %ax, 6(%rdi)
        shrq    $16, %rax
        movl    %eax, 8(%rdi)
        movl    $0, 12(%rdi)
        addq    $16, %rdi
        addq    $16, %rdx
        decl    %ecx
        jnz     2b
        lidt    idt_pointer(%rip)

        movl    %ebx, %edi
        call    bench_main
3:      hlt
        jmp     3b

        .balign 16
vectors:
        .set    i, 0
        .rept   32
        .balign 16
        pushq   $i
        jmp     exception
        .set    i, i + 1
        .endr
        .balign 16
exception:
        movq    (%rsp), %rdi                    /* vector */
        movq    8(%rsp), %rsi                   /* error code or RIP */
        movq    16(%rsp), %rdx                  /* RIP or CS */
        andq    $-16, %rsp
        call    bench_exception
4:      hlt
        jmp     4b

        .section .rodata
        .balign 8
gdt:    .quad   0
        .quad   0x00af9b000000ffff              /* 64-bit code */
        .quad   0x00cf93000000ffff              /* data */
gdt_pointer:
        .word   . - gdt - 1
        .long   gdt
        .long   0
        .balign 8
idt_pointer:
        .word   32 * 16 - 1
        .quad   idt

        .section .bss
        .balign 4096
        .globl  page_pd
page_pml4:      .skip 4096
page_pdpt:      .skip 4096
page_pd:        .skip 4096
idt:            .skip 512
        .balign 16
        .skip   STACK_BYTES
stack_end:
        .section .note.GNU-stack, "", @progbits
