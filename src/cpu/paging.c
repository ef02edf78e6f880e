/* cpu/paging.c - the page walk: linear to guest-physical addresses.
 *
 * Models     Intel SDM vol. 3 chapter 4: 32-bit paging (with PSE and PSE-36), PAE, 4-level and 5-level paging; WP, SMEP, SMAP, NX,
 *            protection keys for user pages, reserved bits.
 * Contract   mem.c calls mmu_walk() on a TLB miss; nobody else looks at page tables but cpu_debug_translate(), which shares the
 *            walker and changes nothing. PDPTEs are loaded by system.c (MOV CR3 and the like) through mmu_load_pdptes().
 * Theory     One loop serves all formats: a level has a shift (bit position of its index), an index width and an entry size.
 *            Rights are gathered on the way down; A and D are written only after every check has passed, from the top down,
 *            into entries whose bit is missing.
 * Invariants 1. A walk that faults changes no memory.
 *            2. Every table and page address has passed emu->a20_mask.
 *            3. Table bytes are read through RAM where plain RAM is, else through mem_ld(): no address can escape.
 * Missing    Paging-structure caches are not modelled: each walk starts at CR3 (or at the PDPTE registers).
 */
#include "../machine.h"
#include "cpu.h"

enum {
    PTE_P = 1, PTE_W = 2, PTE_U = 4, PTE_A = 0x20, PTE_D = 0x40, PTE_PS = 0x80, PTE_G = 0x100,
    MMU_PF_P = 1, MMU_PF_W = 2, MMU_PF_U = 4, MMU_PF_RSVD = 8, MMU_PF_I = 16, MMU_PF_PK = 32
};
#define PTE_NX (UINT64_C(1) << 63)

/* Plain RAM below 4 GiB outside of the PAM and VGA window, without asking the map: page tables lie there nearly always. */
static uint8_t *mmu_table_host(struct emu *e, uint64_t gpa)
{
    if (e->ram && gpa >= MIB && gpa < e->ram_below_4g && gpa + 8 <= e->ram->size_bytes)
        return e->ram->bytes + gpa;
    return NULL;
}

static uint64_t mmu_read_entry(struct cpu *c, uint64_t gpa, unsigned size)
{
    uint8_t *p = mmu_table_host(c->emu, gpa);
    if (p)
        return size == 8 ? ld64le(p) : ld32le(p);
    return mem_ld(c->emu, gpa, size);
}

static void mmu_write_entry(struct cpu *c, uint64_t gpa, uint64_t value, unsigned size)
{
    uint8_t *p = mmu_table_host(c->emu, gpa);
    if (p && !(c->emu->ram->page_flags[gpa >> 12] & (PAGE_HAS_CODE | PAGE_TRACKED | PAGE_WATCHED)))
        stn_le(p, value, size);
    else
        mem_st(c->emu, gpa, value, size);
}

/* Address bits that must be 0 in a 64-bit entry, from the physical address width up to bit 51. */
static uint64_t mmu_high_reserved(const struct cpu *c)
{
    return ((UINT64_C(1) << 52) - 1) & ~((UINT64_C(1) << c->phys_bits) - 1);
}

/* PAE without long mode: CR3 loads the four PDPTEs (SDM 3A 4.4.1). 0 or CPU_FAULT with #GP(0). */
EMU_PRIV int mmu_load_pdptes(struct cpu *c, uint64_t cr3)
{
    uint64_t table = cr3 & 0xFFFFFFE0u, v[4];
    int k;
    for (k = 0; k < 4; k++) {
        v[k] = mmu_read_entry(c, (table + (unsigned)k * 8) & c->emu->a20_mask, 8);
        /* Bits 1-2, 5-8 and everything above the physical width are reserved. */
        if ((v[k] & PTE_P) && (v[k] & (mmu_high_reserved(c) | UINT64_C(0x1E6) | UINT64_C(0xFFF0000000000000))))
            return cpu_raise_error(c, EXC_GP, 0);
    }
    memcpy(c->pdpte, v, sizeof v);
    return CPU_OK;
}

/* Result of the pure part of a walk. */
struct mmu_path {
    uint64_t entry_gpa[5], entry[5];
    unsigned count, entry_size;
    uint64_t gpa, page_size;
    bool writable, user, nx, global;
    uint8_t pkey;
};

/* Follows the tables. 0, or the page-fault code bits P and RSVD plus 0x100 to tell failure. */
static unsigned mmu_follow(struct cpu *c, uint64_t va, struct mmu_path *p)
{
    bool pae = (c->cr4 & CR4_PAE) != 0, lma = (c->efer & EFER_LMA) != 0, nxe = pae && (c->efer & EFER_NXE);
    unsigned shift, bits = pae ? 9 : 10;
    uint64_t table, a20 = c->emu->a20_mask, reserved;
    p->count = 0;
    p->entry_size = pae ? 8 : 4;
    p->writable = p->user = true;
    p->nx = p->global = false;
    p->pkey = 0;
    if (!pae) {
        shift = 22;
        table = c->cr3 & 0xFFFFF000u;
        reserved = 0;
    } else {
        reserved = mmu_high_reserved(c);
        if (!nxe)
            reserved |= PTE_NX;
        if (lma) {
            shift = c->cr4 & CR4_LA57 ? 48 : 39;
            table = c->cr3 & ((UINT64_C(1) << 52) - 1) & ~UINT64_C(0xFFF);
        } else {
            uint64_t pdpte = c->pdpte[(va >> 30) & 3];
            if (!(pdpte & PTE_P))
                return 0x100;
            reserved |= UINT64_C(0x7FF0000000000000);
            shift = 21;
            table = pdpte & ((UINT64_C(1) << 52) - 1) & ~UINT64_C(0xFFF);
        }
    }
    for (;;) {
        uint64_t gpa = (table + ((va >> shift) & ((1u << bits) - 1)) * p->entry_size) & a20;
        uint64_t e = mmu_read_entry(c, gpa, p->entry_size);
        bool leaf = shift == 12;
        if (!(e & PTE_P))
            return 0x100;
        if (e & reserved)
            return 0x100 | MMU_PF_P | MMU_PF_RSVD;
        if (!leaf && (e & PTE_PS)) {
            if (!pae) {
                leaf = (c->cr4 & CR4_PSE) != 0; /* else the bit is ignored */
            } else if (shift == 21 || (shift == 30 && cpu_has(c, CPU_PDPE1GB))) {
                leaf = true;
            } else {
                return 0x100 | MMU_PF_P | MMU_PF_RSVD;
            }
        }
        p->entry_gpa[p->count] = gpa;
        p->entry[p->count++] = e;
        p->writable = p->writable && (e & PTE_W);
        p->user = p->user && (e & PTE_U);
        if (nxe && (e & PTE_NX))
            p->nx = true;
        if (leaf) {
            uint64_t base;
            p->page_size = UINT64_C(1) << shift;
            p->global = (e & PTE_G) && (c->cr4 & CR4_PGE);
            if (pae) {
                base = e & ((UINT64_C(1) << 52) - 1);
                if (shift > 12) {
                    if (base & (p->page_size - 1) & ~UINT64_C(0x1FFF)) /* bit 12 is PAT, the others must be 0 */
                        return 0x100 | MMU_PF_P | MMU_PF_RSVD;
                }
                p->pkey = (uint8_t)((e >> 59) & 15);
            } else if (shift == 22) {
                /* PSE-36: bits 13-20 are address bits 32-39; bit 21 and those above the physical width are reserved. */
                uint64_t high = (e >> 13) & 0xFF, allowed = cpu_has(c, CPU_PSE36) ? (UINT64_C(1) << EMU_MIN(c->phys_bits, 40)) - 1 : 0xFFFFFFFFu;
                base = (e & 0xFFC00000u) | (high << 32);
                if ((e & (1u << 21)) || (base & ~allowed))
                    return 0x100 | MMU_PF_P | MMU_PF_RSVD;
            } else {
                base = e & 0xFFFFF000u;
            }
            p->gpa = ((base & ~(p->page_size - 1)) | (va & (p->page_size - 1))) & a20;
            return 0;
        }
        table = pae ? e & ((UINT64_C(1) << 52) - 1) & ~UINT64_C(0xFFF) : e & 0xFFFFF000u;
        shift -= bits;
    }
}

/* What protection keys forbid on a user page (SDM 3A 4.6.2): bit 0 access, bit 1 write. */
static unsigned mmu_pkey_denies(const struct cpu *c, const struct mmu_path *p, bool user)
{
    unsigned ad, wd;
    if (!(c->cr4 & CR4_PKE) || !(c->efer & EFER_LMA) || !p->user)
        return 0;
    ad = (c->pkru >> (p->pkey * 2)) & 1;
    wd = (c->pkru >> (p->pkey * 2 + 1)) & 1;
    if (wd && !user && !(c->cr0 & CR0_WP))
        wd = 0;
    return ad | (ad || wd ? 2 : 0);
}

EMU_PRIV int mmu_walk(struct cpu *c, uint64_t va, unsigned access, struct walk *out)
{
    struct mmu_path p;
    bool user = c->cpl == 3 && !(access & ACCESS_SYSTEM), write = (access & 3) == ACCESS_WRITE || (access & 3) == ACCESS_RMW;
    bool exec = (access & 3) == ACCESS_EXEC, may_write, smap_blocks;
    unsigned code, denied, k;
    if (!cpu_canonical(c, va) && (c->efer & EFER_LMA))
        return cpu_raise_error(c, EXC_GP, 0); /* only for system structures: others were checked by segment */
    code = mmu_follow(c, va, &p);
    if (code)
        goto fault;
    denied = mmu_pkey_denies(c, &p, user);
    may_write = user ? p.user && p.writable : p.writable || !(c->cr0 & CR0_WP);
    smap_blocks = !user && p.user && (c->cr4 & CR4_SMAP) && ((access & ACCESS_SYSTEM) || !(c->eflags & FLAG_AC));
    code = MMU_PF_P;
    if (!exec && ((denied & 1) || (write && (denied & 2)))) /* said whatever else forbids it (SDM 3A 4.7) */
        code |= MMU_PF_PK;
    if (user && !p.user)
        goto fault;
    if (exec) {
        if (p.nx || (!user && p.user && (c->cr4 & CR4_SMEP)))
            goto fault;
    } else {
        if (smap_blocks || (write && !may_write) || (code & MMU_PF_PK))
            goto fault;
    }
    for (k = 0; k < p.count; k++) {
        uint64_t want = PTE_A | (write && k == p.count - 1 ? PTE_D : 0);
        if ((p.entry[k] & want) != want) {
            p.entry[k] |= want;
            mmu_write_entry(c, p.entry_gpa[k], p.entry[k], p.entry_size);
        }
    }
    out->gpa = p.gpa;
    out->page_size = p.page_size;
    out->writable = may_write && !(denied & 2);
    out->user = p.user;
    out->executable = !p.nx && !(!user && p.user && (c->cr4 & CR4_SMEP));
    out->global = p.global;
    out->dirty = (p.entry[p.count - 1] & PTE_D) != 0;
    out->pkey = p.pkey;
    return CPU_OK;
fault:
    code &= 0xFF;
    if (write)
        code |= MMU_PF_W;
    if (user)
        code |= MMU_PF_U;
    if (exec && (((c->cr4 & CR4_PAE) && (c->efer & EFER_NXE)) || (c->cr4 & CR4_SMEP)))
        code |= MMU_PF_I;
    return cpu_raise_page_fault(c, va, code);
}

EMU_PRIV bool cpu_debug_translate(struct cpu *c, uint64_t va, uint64_t *gpa)
{
    struct mmu_path p;
    if (!(c->cr0 & CR0_PG)) {
        *gpa = va & 0xFFFFFFFFu & c->emu->a20_mask;
        return true;
    }
    if (!(c->efer & EFER_LMA))
        va &= 0xFFFFFFFFu;
    else if (!cpu_canonical(c, va))
        return false;
    if (mmu_follow(c, va, &p))
        return false;
    *gpa = p.gpa;
    return true;
}

#undef PTE_NX
