/* cpu/desc.h - what segment.c, exception.c, control.c and system.c share: descriptors, stacks under construction, task switches.
 *
 * Contract   Private to those four files. Every function that returns int gives CPU_OK or CPU_FAULT with cpu->fault filled in.
 */
#ifndef EMU_CPU_DESC_H
#define EMU_CPU_DESC_H

enum { /* types of system descriptors (SDM 3A table 3-2) */
    DESC_TSS16 = 1, DESC_LDT = 2, DESC_TSS16_BUSY = 3, DESC_CALL16 = 4, DESC_TASK_GATE = 5, DESC_INT16 = 6, DESC_TRAP16 = 7,
    DESC_TSS32 = 9, DESC_TSS32_BUSY = 11, DESC_CALL32 = 12, DESC_INT32 = 14, DESC_TRAP32 = 15
};
struct desc {
    uint16_t selector;
    uint64_t va;     /* linear address of the descriptor */
    uint32_t low, high;
    uint64_t upper;  /* second half of 16-byte system descriptors in long mode */
};
EMU_INLINE unsigned desc_type(const struct desc *d) { return (d->high >> 8) & 15; }
EMU_INLINE bool desc_is_segment(const struct desc *d) { return (d->high >> 12) & 1; } /* S: code or data */
EMU_INLINE unsigned desc_dpl(const struct desc *d) { return (d->high >> 13) & 3; }
EMU_INLINE bool desc_present(const struct desc *d) { return (d->high >> 15) & 1; }
EMU_INLINE bool desc_is_code(const struct desc *d) { return desc_is_segment(d) && (desc_type(d) & SEG_CODE); }
EMU_INLINE bool desc_conforming(const struct desc *d) { return (desc_type(d) & SEG_DOWN_CONFORM) != 0; }
EMU_INLINE bool desc_long(const struct desc *d) { return (d->high >> 21) & 1; }
EMU_INLINE bool desc_db(const struct desc *d) { return (d->high >> 22) & 1; }
EMU_INLINE bool sel_is_null(uint16_t s) { return (s & 0xFFFC) == 0; }

/* Reads the descriptor of a selector. 0; 1: outside of its table (nothing raised); -1: the read itself faulted (cpu->fault). */
EMU_PRIV int desc_find(struct cpu *c, uint16_t selector, struct desc *d);
/* The same, raising `vector` with the selector as error code where it lies outside. */
EMU_PRIV int desc_fetch(struct cpu *c, uint16_t selector, unsigned vector, unsigned ext, struct desc *d);
EMU_PRIV void desc_to_seg(const struct desc *d, uint16_t selector, struct seg *s);
EMU_PRIV int desc_set_type_bits(struct cpu *c, struct desc *d, unsigned set, unsigned clear); /* accessed, busy; in memory too */
EMU_PRIV int desc_load_upper(struct cpu *c, struct desc *d, unsigned ext); /* 16-byte descriptor: #GP(selector) if it is cut off */
EMU_PRIV int desc_error(struct cpu *c, unsigned vector, uint16_t selector, unsigned ext); /* raises */
EMU_PRIV int desc_load_ldtr(struct cpu *c, uint16_t selector, unsigned vector); /* LLDT (GP), task switch (TS) */
EMU_PRIV int desc_load_tr(struct cpu *c, uint16_t selector);
EMU_PRIV void seg_set_null(struct cpu *c, unsigned seg, uint16_t selector);
EMU_PRIV void seg_drop_inner(struct cpu *c, unsigned new_cpl); /* after a return outward: segments that CPL may not keep */
/* SS for a stack switch to `cpl` (interrupt, gate: vector TS, GP where the manual says so). */
EMU_PRIV int seg_fetch_stack(struct cpu *c, uint16_t selector, unsigned cpl, unsigned vector, unsigned np_vector, unsigned ext, struct seg *out);
EMU_PRIV uint64_t seg_stack_mask(const struct cpu *c, const struct seg *ss);

/* A stack that is being filled before anything is committed. */
struct stack {
    struct seg ss;
    uint64_t rsp;
    bool wide;         /* 64-bit: no segment, canonical addresses */
    unsigned access;   /* ACCESS_SYSTEM when the stack belongs to another privilege level than the present one */
    uint32_t error;    /* of #SS */
};
EMU_PRIV int stack_push(struct cpu *c, struct stack *s, uint64_t value, unsigned size);
EMU_PRIV void stack_set_rsp(struct cpu *c, const struct seg *ss, uint64_t rsp); /* by SS size */

/* TSS: stack for a level. Raises #TS. */
EMU_PRIV int tss_stack(struct cpu *c, unsigned cpl, unsigned ext, uint16_t *ss, uint64_t *rsp);

enum task_source { TASK_JMP, TASK_CALL, TASK_IRET, TASK_INT };
/* Hardware task switch to the TSS of d. return_ip: EIP to be saved in the old TSS. On success and on faults within the new task
 * cpu->rip and next_rip are the new task's. */
EMU_PRIV int task_switch(struct cpu *c, struct desc *d, enum task_source source, bool has_error, uint32_t error, uint64_t return_ip, unsigned ext);
/* One delivery, without nesting; sets cpu->rip. ext: EXT bit for error codes. */
EMU_PRIV int exc_deliver_once(struct cpu *c, const struct fault *f, uint64_t return_rip);


/* msr.c: RDMSR, WRMSR after the privilege check; CPU_FAULT is #GP(0). */
EMU_PRIV int msr_read(struct cpu *c, uint32_t msr, uint64_t *value);
EMU_PRIV int msr_write(struct cpu *c, uint32_t msr, uint64_t value);

/* xsave.c: instruction bodies, and the layout that CPUID leaf 0xD tells. */
EMU_PRIV int xsave_fxsave(struct cpu *c, const struct insn *i);
EMU_PRIV int xsave_fxrstor(struct cpu *c, const struct insn *i);
EMU_PRIV int xsave_xsave(struct cpu *c, const struct insn *i);
EMU_PRIV int xsave_xsaveopt(struct cpu *c, const struct insn *i);
EMU_PRIV int xsave_xsavec(struct cpu *c, const struct insn *i);
EMU_PRIV int xsave_xrstor(struct cpu *c, const struct insn *i);
EMU_PRIV int xsave_xgetbv(struct cpu *c, const struct insn *i);
EMU_PRIV int xsave_xsetbv(struct cpu *c, const struct insn *i);
EMU_PRIV uint64_t xsave_components(const struct cpu *c); /* bits that XCR0 may hold */
EMU_PRIV void xsave_component(unsigned n, uint32_t *offset, uint32_t *size); /* standard form; size 0: not known */

#endif
