/* machine.h - every struct and prototype that crosses files, grouped by file.
 *
 * The way out:   cpu store -> TLB says I/O -> region write -> device doorbell -> dma_read -> net/blk/chr interface -> backend -> host.
 * The way back:  run loop polls host -> backend -> receive() of the interface -> device -> dma_write -> irq_set -> APIC -> CPU.
 * Dependencies point down: front -> fw/board -> dev -> machine -> base; backends (disk, net, chr) know no device; the CPU knows memory,
 * interrupt acknowledge and exit reasons, no device. Calls upward go through the function pointers declared here.
 *
 * Units: _ns virtual nanoseconds unless it says host; _gpa guest physical; _gva guest virtual (linear); _bytes.
 * Ownership: struct emu owns everything; a struct that a device embeds (region, timer, irq) is owned by that device and must be
 * removed in its destroy(). Errors: 0 or a negative EMU_E... (emu.h); the text for a person goes into struct err.
 */
#ifndef EMU_MACHINE_H
#define EMU_MACHINE_H

#include "base.h"
#include "../emu.h"
#include "host/host.h"

struct emu;
struct cpu;
struct device;
struct options;

/* ================= machine/util.c: errors, log, allocation, options ================= */

/* One line for a person: what was asked, what is wrong, what to do. */
struct err {
    char text[480];
};
EMU_PRIV int err_set(struct err *err, int code, const char *fmt, ...) EMU_PRINTF(3, 4);    /* stores, returns code; err may be NULL */
EMU_PRIV int err_prefix(struct err *err, int code, const char *fmt, ...) EMU_PRINTF(3, 4); /* puts "prefix: " before the text */

enum log_mask { /* -d */
    LOG_GUEST_ERROR = 1 << 0,
    LOG_INT = 1 << 1,
    LOG_CPU_RESET = 1 << 2,
    LOG_IN_ASM = 1 << 3,
    LOG_EXEC = 1 << 4,
    LOG_CPU = 1 << 5,
    LOG_UNIMP = 1 << 6,
    LOG_NET = 1 << 7,
    LOG_TRACE = 1 << 8,
    LOG_NOTICE = 1 << 30 /* for the person at the terminal: always shown, on stderr as "emu: ..." */
};
EMU_PRIV void emu_log(struct emu *e, unsigned mask, const char *fmt, ...) EMU_PRINTF(3, 4); /* a line, no newline at the end */
#define EMU_LOG_ENABLED(e, mask) (EMU_UNLIKELY((e)->log_mask & (mask)))
EMU_PRIV void emu_log_once(struct emu *e, bool *said, unsigned mask, const char *fmt, ...) EMU_PRINTF(4, 5);

/* Zeroed memory through the embedder's allocator, or NULL. */
EMU_PRIV void *emu_alloc(struct emu *e, size_t size);
EMU_PRIV void *emu_realloc(struct emu *e, void *p, size_t size); /* new bytes are not zeroed */
EMU_PRIV void emu_free(struct emu *e, void *p);
EMU_PRIV char *emu_strdup(struct emu *e, const char *s);

/* Growing byte buffer, used by monitor replies, packets, tables. A failed growth sets failed and drops further bytes. */
struct buf {
    struct emu *emu;
    uint8_t *data;
    size_t size, capacity;
    bool failed;
};
EMU_PRIV void buf_init(struct buf *b, struct emu *e);
EMU_PRIV void buf_free(struct buf *b);
EMU_PRIV void buf_add(struct buf *b, const void *data, size_t size);
EMU_PRIV void buf_printf(struct buf *b, const char *fmt, ...) EMU_PRINTF(2, 3);

/* key=value,key=value lists of the command line ("," is written ",,"). A bare first word takes the key that the option calls its
 * implied key; other bare words are key=on, and nowait is wait=off. Order and repetition are kept. Each read marks its entry used;
 * options_check_used() makes an error of the first unused one. */
struct option {
    char *key, *value;
    bool used;
};
struct options {
    struct emu *emu;
    char *origin; /* as written, for messages: "-drive file=x,if=ide" */
    struct option *items;
    size_t count;
};
EMU_PRIV int options_parse(struct options *o, struct emu *e, const char *origin, const char *text, const char *implied_key, struct err *err);
EMU_PRIV void options_free(struct options *o);
EMU_PRIV int options_set(struct options *o, const char *key, const char *value);
EMU_PRIV const char *options_get(struct options *o, const char *key);                          /* last value, or NULL */
EMU_PRIV const char *options_get_nth(struct options *o, const char *key, size_t n);            /* n-th repetition, or NULL */
EMU_PRIV int options_bool(struct options *o, const char *key, bool *value, struct err *err);   /* unchanged where absent */
EMU_PRIV int options_u64(struct options *o, const char *key, uint64_t min, uint64_t max, uint64_t *value, struct err *err);
EMU_PRIV int options_size(struct options *o, const char *key, uint64_t *bytes, struct err *err); /* 64K, 1.5G; plain = bytes */
EMU_PRIV int options_check_used(struct options *o, struct err *err);
EMU_PRIV int parse_u64(const char *s, uint64_t min, uint64_t max, uint64_t *value);            /* decimal, 0x, 0 octal; whole string */
EMU_PRIV int parse_size(const char *s, char default_suffix, uint64_t *bytes);                  /* suffix b k M G T P E */

/* ================= machine/clock.c: virtual time and events ================= */

typedef void (*timer_fn)(void *opaque);
struct timer {
    int64_t deadline_ns;
    timer_fn fn;
    void *opaque;
    uint64_t order; /* equal deadlines fire in the order they were armed */
    int heap_index; /* -1: not armed */
    struct emu *emu;
};
EMU_PRIV int64_t emu_now_ns(struct emu *e); /* virtual; monotonic; exact instruction count under -icount */
EMU_PRIV void timer_init(struct timer *t, struct emu *e, timer_fn fn, void *opaque);
EMU_PRIV void timer_arm(struct timer *t, int64_t deadline_ns); /* moves it if it is armed; a past deadline fires at the next look */
EMU_PRIV void timer_cancel(struct timer *t);
EMU_PRIV bool timer_armed(const struct timer *t);
EMU_PRIV int64_t clock_next_deadline(struct emu *e); /* INT64_MAX: none */
EMU_PRIV void clock_run_timers(struct emu *e);
EMU_PRIV void clock_freeze(struct emu *e, bool frozen); /* monitor stop / cont */
EMU_PRIV void clock_warp_to(struct emu *e, int64_t ns); /* -icount only: idle time is skipped */
EMU_PRIV int clock_create(struct emu *e);
EMU_PRIV void clock_destroy(struct emu *e);

/* ================= machine/memory.c: guest memory and port space ================= */

typedef uint64_t (*region_read_fn)(void *opaque, uint64_t offset, unsigned size);
typedef void (*region_write_fn)(void *opaque, uint64_t offset, uint64_t value, unsigned size);
/* How a device answers. min/max: sizes the callbacks see (1, 2, 4, 8; 0 = 1 and 4). Wider guest accesses are cut, narrower ones are
 * widened by read (aligned) for reads; narrower writes are passed on as they are where write_any is set, else read-modify-written. */
struct region_ops {
    region_read_fn read;
    region_write_fn write;
    uint8_t min_size, max_size;
    bool write_any;
};

/* A host-backed block of guest bytes. page_flags: one byte per 4 KiB page. */
enum page_flag {
    PAGE_HAS_CODE = 1, /* cached traces were made from it: writers call mem_written() */
    PAGE_TRACKED = 2,  /* clean for a dirty tracker (display): the first write sets PAGE_DIRTY and clears this */
    PAGE_DIRTY = 4,
    PAGE_WATCHED = 8   /* debugger watchpoint: every access takes the slow path */
};
struct ram_block {
    char name[24];
    uint32_t id; /* index in emu->blocks */
    uint8_t *bytes;
    uint64_t size_bytes;
    uint8_t *page_flags;
    bool rom; /* guest stores are dropped */
};
/* size is rounded up to 4 KiB. NULL and err when the host refuses. Freed with the machine. */
EMU_PRIV struct ram_block *ram_block_create(struct emu *e, const char *name, uint64_t size_bytes, bool rom, struct err *err);

enum region_kind { REGION_RAM, REGION_IO };
enum { REGION_READS = 1, REGION_WRITES = 2 }; /* which accesses it answers: PAM sends reads and writes to different places */
struct region {
    const char *name;
    uint64_t base, size; /* base: guest-physical address or port number */
    int priority;        /* of overlapping regions the highest wins; then the one added last */
    uint8_t kind;
    uint8_t access; /* REGION_READS | REGION_WRITES */
    bool enabled;
    bool added;
    const struct region_ops *ops; /* REGION_IO */
    void *opaque;
    struct ram_block *block; /* REGION_RAM */
    uint64_t block_offset;
    uint64_t order;
    struct region *next;
};
/* The flattened map: sorted, gap-free ranges; NULL = nobody there (reads all ones, writes dropped). */
struct map_range {
    uint64_t start, end; /* end is exclusive, 0 = 2^64 */
    struct region *rd, *wr;
};
struct map {
    struct region *regions;
    struct map_range *ranges;
    size_t range_count, range_capacity;
    uint64_t order;
    bool dirty;
    uint16_t *port_index; /* port map only: range of each port */
};
EMU_PRIV void region_init_io(struct region *r, const char *name, const struct region_ops *ops, void *opaque, uint64_t size);
EMU_PRIV void region_init_ram(struct region *r, const char *name, struct ram_block *block, uint64_t block_offset, uint64_t size);
EMU_PRIV int region_add(struct emu *e, struct map *map, struct region *r, uint64_t base, int priority); /* enabled */
EMU_PRIV void region_remove(struct emu *e, struct map *map, struct region *r);
EMU_PRIV void region_set(struct emu *e, struct map *map, struct region *r, uint64_t base, bool enabled);
/* Ports, the short way: maps [port, port+count) to ops. */
EMU_PRIV int port_add(struct emu *e, struct region *r, const char *name, uint16_t port, unsigned count, const struct region_ops *ops, void *opaque);
EMU_PRIV uint64_t port_read(struct emu *e, uint16_t port, unsigned size);
EMU_PRIV void port_write(struct emu *e, uint16_t port, uint64_t value, unsigned size);

/* What a guest-physical page is, for TLB and trace cache. */
struct phys_page {
    struct region *rd, *wr;       /* NULL: unmapped */
    struct ram_block *block;      /* block that reads (and fetches) come from, or NULL: I/O */
    uint64_t block_offset;        /* of the page's first byte */
    uint8_t *host;                /* block->bytes + block_offset, or NULL */
    bool writable_direct;         /* stores may go to host too (same RAM for both, not rom); page_flags still to be asked */
    bool partial;                 /* the page holds more than one range: every access must go through mem_read/mem_write */
};
EMU_PRIV void mem_resolve(struct emu *e, uint64_t gpa, struct phys_page *out); /* gpa: any address within the page */

/* DMA and every other access by guest-physical address. RAM, ROM and I/O, page crossing and code invalidation are handled.
 * Never fails: unmapped reads give all ones. */
EMU_PRIV void mem_read(struct emu *e, uint64_t gpa, void *buf, size_t size);
EMU_PRIV void mem_write(struct emu *e, uint64_t gpa, const void *buf, size_t size);
EMU_PRIV uint64_t mem_ld(struct emu *e, uint64_t gpa, unsigned size); /* 1, 2, 4, 8; little-endian */
EMU_PRIV void mem_st(struct emu *e, uint64_t gpa, uint64_t value, unsigned size);
EMU_PRIV bool mem_is_ram(struct emu *e, uint64_t gpa, uint64_t size); /* wholly plain RAM: no side effect */
#define dma_read mem_read
#define dma_write mem_write
/* Host pointer to [gpa, gpa+*size) with *size cut at the end of the RAM; NULL if it is no plain RAM. After writing call mem_written. */
EMU_PRIV uint8_t *mem_host(struct emu *e, uint64_t gpa, uint64_t *size, bool write);
/* To be called by everyone who writes to block bytes behind the CPU's back, after the write. */
EMU_PRIV void mem_written(struct emu *e, struct ram_block *block, uint64_t block_offset, uint64_t size);
/* Loader's door: writes into RAM and ROM alike. EMU_EFAULT if something else is there. */
EMU_PRIV int mem_load(struct emu *e, uint64_t gpa, const void *data, size_t size);
EMU_PRIV void mem_track_dirty(struct emu *e, struct ram_block *block, uint64_t offset, uint64_t size); /* marks clean and tracked */
EMU_PRIV int memory_create(struct emu *e, struct err *err);
EMU_PRIV void memory_destroy(struct emu *e);
EMU_PRIV void mem_print_map(struct emu *e, struct buf *out); /* info mtree */

/* ================= interrupt lines ================= */
struct irq {
    void (*set)(void *opaque, int line, int level);
    void *opaque;
    int line;
};
EMU_INLINE void irq_set(const struct irq *irq, int level)
{
    if (irq->set)
        irq->set(irq->opaque, irq->line, level);
}
EMU_INLINE void irq_pulse(const struct irq *irq)
{
    irq_set(irq, 1);
    irq_set(irq, 0);
}

/* ================= machine/loop.c: the run loop, polling, stop and reset requests ================= */

enum run_state { RUN_STATE_RUNNING, RUN_STATE_PAUSED, RUN_STATE_SHUTDOWN, RUN_STATE_SUSPENDED };
enum request { /* bits of emu->requests; set from devices, monitor */
    REQ_RESET = 1,
    REQ_SHUTDOWN = 2,  /* ends the run (or pauses, -no-shutdown) */
    REQ_POWERDOWN = 4, /* ACPI power button */
    REQ_STOP = 8,      /* pause */
    REQ_EXIT = 16,     /* leave emu_run with status emu->exit_status */
    REQ_BREAK = 32,    /* debugger: leave the CPU loop and look */
    REQ_EMBEDDER = 64  /* emu_stop() */
};
EMU_PRIV void emu_request(struct emu *e, unsigned bits); /* from the machine's thread */
/* From a signal handler or another thread: only ever stores a byte of its own, so that nothing is lost against the loop's bits. */
enum outside_request { OUTSIDE_EXIT, OUTSIDE_EMBEDDER, OUTSIDE_COUNT };
EMU_PRIV void emu_request_outside(struct emu *e, enum outside_request which);
EMU_PRIV bool emu_has_requests(const struct emu *e); /* of either kind */
EMU_PRIV void emu_exit_with(struct emu *e, int status);  /* REQ_EXIT and its status (isa-debug-exit, quit) */

/* A descriptor somebody waits for. Embedded in its owner. */
struct watch {
    host_fd fd;
    uint8_t want; /* HOST_READ | HOST_WRITE; 0: dormant */
    void (*ready)(void *opaque, unsigned events);
    void *opaque;
    struct watch *next, **link;
    bool removed;
};
EMU_PRIV void watch_add(struct emu *e, struct watch *w, host_fd fd, unsigned want, void (*ready)(void *, unsigned), void *opaque);
EMU_PRIV void watch_remove(struct emu *e, struct watch *w);
EMU_INLINE void watch_want(struct watch *w, unsigned want) { w->want = (uint8_t)want; }
/* A callback once per poll round (at most every poll interval): backends that batch (NAT). */
struct poll_hook {
    void (*fn)(void *opaque);
    void *opaque;
    struct poll_hook *next;
};
EMU_PRIV void poll_hook_add(struct emu *e, struct poll_hook *h);
EMU_PRIV void poll_hook_remove(struct emu *e, struct poll_hook *h);
EMU_PRIV void emu_poll_now(struct emu *e); /* network activity: look at descriptors soon (within 0.2 ms) */
/* Guests that poll for input (GRUB, DOS programs) instead of halting: the device or service that has nothing to give calls this, and once
 * it has gone on for a while with hardly any work in between, the CPU naps until the next event or for a few milliseconds. */
struct nap_watch {
    uint64_t insns; /* the CPU's count at the last poll */
    unsigned polls; /* close together and in vain; 0 begins anew */
};
EMU_PRIV void machine_polled_in_vain(struct emu *e, struct nap_watch *w);
EMU_PRIV int machine_run(struct emu *e, int64_t max_host_ns, int64_t max_insns, bool may_block); /* enum emu_reason */
EMU_PRIV void machine_pause(struct emu *e);
EMU_PRIV int machine_resume(struct emu *e); /* EMU_EINVAL after a shutdown that -no-shutdown kept: reset first */
EMU_PRIV void machine_reset(struct emu *e); /* at once; outside of cpu_run() only: others use emu_request(REQ_RESET) */
EMU_PRIV bool machine_step(struct emu *e, struct cpu *c); /* one instruction of a paused machine; true: it touched a watchpoint */
EMU_PRIV int loop_create(struct emu *e);
EMU_PRIV void loop_destroy(struct emu *e); /* emu_run's engine; front/api.c */

/* ================= devices ================= */

struct opt_desc { /* a device's option, for help and for checking names */
    const char *name, *type, *help; /* type: "bool", "u32", "size", "str", "mac", "drive", "netdev", "chardev" */
};
struct device_class {
    const char *name, *bus, *help;     /* bus: "pci", "isa", "ide", "system" */
    const struct opt_desc *options;    /* ends with a NULL name */
    size_t instance_size;              /* struct whose first member is struct device (or struct pci_device) */
    int (*create)(struct device *dev, struct options *opts, struct err *err); /* dev is zeroed, cls/emu/id set */
    void (*reset)(struct device *dev); /* power-on and system reset */
    void (*destroy)(struct device *dev);
    bool user_creatable;               /* -device NAME */
};
struct device {
    const struct device_class *cls;
    struct emu *emu;
    char *id; /* -device id=, or NULL */
    struct device *next;
};
/* machine/board.c: the table of all classes, the PC's wiring. */
EMU_PRIV const struct device_class *device_class_find(const char *name);
EMU_PRIV const struct device_class *device_class_at(size_t i); /* NULL at the end */
EMU_PRIV bool board_class_is_nic(const struct device_class *cls);
EMU_PRIV struct device *device_create(struct emu *e, const char *class_name, const char *id, struct options *opts, struct err *err);
EMU_PRIV void device_destroy(struct device *dev);
EMU_PRIV struct device *device_find(struct emu *e, const char *class_name); /* first of that class, or NULL */
EMU_PRIV int board_create(struct emu *e, struct err *err);   /* from emu->config */
EMU_PRIV void board_destroy(struct emu *e);
EMU_PRIV void board_reset(struct emu *e);

/* ================= dev/pci.c ================= */
struct pci_device;
struct pci_bar {
    struct region region;
    uint64_t size;
    bool io, mem64, prefetch, present;
};
struct pci_device {
    struct device dev;
    struct pci_bus *bus;
    uint8_t devfn;
    uint8_t config[256];
    uint8_t wmask[256]; /* bits a guest may change */
    uint8_t w1c[256];   /* bits a guest clears by writing one */
    struct pci_bar bars[7]; /* 6: expansion ROM */
    uint8_t intx_level;
    uint16_t msi_cap, msix_cap; /* offset in config, 0 = none */
    uint16_t cap_end;           /* first byte behind the capabilities, 0 = there is none */
    struct pci_msix *msix;      /* pci.c: table and pending bits, NULL = none */
    uint32_t (*config_read)(struct pci_device *d, unsigned offset, unsigned size);               /* NULL: pci_config_read */
    void (*config_write)(struct pci_device *d, unsigned offset, uint32_t value, unsigned size);  /* NULL: pci_config_write */
};
struct pci_bus {
    struct emu *emu;
    struct pci_device *devices[256];
    struct irq intx[4];       /* PIRQ A-D of the host bridge's router */
    uint8_t intx_count[4];
    uint32_t address;         /* CF8h */
    struct region cf8, cfc;
};
/* Fills ids and header; devfn < 0: the next free slot. To be called first in a PCI device's create(). */
EMU_PRIV int pci_device_init(struct pci_device *d, int devfn, uint16_t vendor, uint16_t device, uint32_t class_rev, struct err *err);
EMU_PRIV void pci_set_subsystem(struct pci_device *d, uint16_t vendor, uint16_t device);
EMU_PRIV void pci_add_bar_io(struct pci_device *d, unsigned bar, const char *name, uint64_t size, bool port_space, const struct region_ops *ops, void *opaque);
EMU_PRIV void pci_add_bar_ram(struct pci_device *d, unsigned bar, struct ram_block *block, bool prefetch);
EMU_PRIV unsigned pci_add_capability(struct pci_device *d, uint8_t id, unsigned size); /* offset */
EMU_PRIV void pci_set_intx(struct pci_device *d, int level); /* level of its INTA# (per interrupt pin register) */
EMU_PRIV uint32_t pci_config_read(struct pci_device *d, unsigned offset, unsigned size);
EMU_PRIV void pci_config_write(struct pci_device *d, unsigned offset, uint32_t value, unsigned size);
EMU_PRIV void pci_device_reset(struct pci_device *d); /* command, BARs, interrupt line; called by the bus before cls->reset */
EMU_PRIV void pci_device_remove(struct pci_device *d);
EMU_INLINE bool pci_bus_master(const struct pci_device *d) { return (d->config[4] & 4) != 0; }
EMU_PRIV int pci_add_msi(struct pci_device *d, unsigned vectors);
EMU_PRIV bool pci_msi_enabled(const struct pci_device *d);
EMU_PRIV void pci_msi_send(struct pci_device *d, unsigned vector);
EMU_PRIV int pci_bus_create(struct emu *e, struct err *err);
EMU_PRIV void pci_print_info(struct emu *e, struct buf *out);

/* ================= chipset: dev/{i440fx,piix3,pic,ioapic,lapic,pit,hpet,rtc,dma,acpi_pm}.c ================= */
/* Interrupt input n (0-23) of the PC: ISA lines 0-15 go to the 8259 pair and the IO-APIC (line 0 to its pin 2), 16-23 to the IO-APIC. */
EMU_PRIV struct irq board_gsi(struct emu *e, int gsi);
EMU_PRIV void apic_deliver_msi(struct emu *e, uint64_t address, uint32_t data);
/* The interrupt controllers' side of a CPU: which vector it is to take now (-1: none after all), and whether one waits. */
EMU_PRIV int apic_acknowledge(struct emu *e, struct cpu *cpu);
EMU_PRIV uint64_t lapic_msr_read(struct cpu *cpu, uint32_t msr, bool *fault);   /* IA32_APIC_BASE, x2APIC range, TSC_DEADLINE */
EMU_PRIV void lapic_msr_write(struct cpu *cpu, uint32_t msr, uint64_t value, bool *fault);
EMU_PRIV void lapic_tsc_changed(struct cpu *cpu); /* its TSC was written: the deadline moves in virtual time */
EMU_PRIV uint64_t lapic_get_tpr(struct cpu *cpu); /* CR8 */
EMU_PRIV void lapic_set_tpr(struct cpu *cpu, uint64_t value);
EMU_PRIV void rtc_set_cmos(struct emu *e, unsigned index, uint8_t value);
/* 8237: a device on channel n asks for a transfer. read: memory -> device. Returns bytes moved. */
EMU_PRIV size_t dma8237_transfer(struct emu *e, unsigned channel, uint8_t *buf, size_t size, bool to_memory, bool *terminal_count);
EMU_PRIV void acpi_power_button(struct emu *e);

/* ================= dev/fw_cfg.c ================= */
EMU_PRIV int fw_cfg_add_file(struct emu *e, const char *name, const void *data, size_t size); /* copied */
EMU_PRIV int fw_cfg_add_key(struct emu *e, uint16_t key, const void *data, size_t size);

/* ================= block interface (disk/block.c; images: disk/raw.c, disk/qcow2.c) ================= */
enum blk_op { BLK_READ, BLK_WRITE, BLK_FLUSH, BLK_DISCARD, BLK_WRITE_ZEROES };
struct blk;
struct blk_request { /* owned by the device until done() was called */
    uint8_t op;
    uint64_t offset; /* bytes, multiple of 512 */
    uint64_t size;
    const struct host_iov *iov;
    int iov_count;
    void (*done)(void *opaque, int result); /* 0 or EMU_E...; always from the event queue, never inside blk_submit() */
    void *opaque;
    struct blk_request *next;
    int result;
    struct timer timer;
    struct blk *blk;
    bool again; /* block.c: to be tried once more (werror=stop) */
};
struct blk { /* what a device sees: a drive, with or without medium */
    struct emu *emu;
    char *id;
    struct image *image; /* NULL: empty */
    bool read_only, removable, locked, tray_open;
    uint64_t size_bytes;
    void (*media_changed)(void *opaque); /* set by the device */
    void *opaque;
    struct blk *next;
    unsigned in_flight;
    struct options *opts; /* the -drive line */
    bool in_use; /* a device took it */
    uint8_t ide_place; /* where, if that is an IDE drive: channel * 2 + unit + 1; else 0 */
    uint64_t stat_reads, stat_writes, stat_read_bytes, stat_write_bytes, stat_flushes;
    /* block.c's own: what the -drive line said, and what is under way */
    char *file, *format;
    char *serial; /* serial=, or NULL; for the device's identity */
    bool want_read_only, write_through, snapshot, said_full, said_error;
    uint8_t detect_zeroes, on_read_error, on_write_error;
    unsigned image_flags;
    struct blk_request *requests;
    uint8_t *bounce;
};
EMU_PRIV void blk_submit(struct blk *b, struct blk_request *r);
EMU_PRIV void blk_cancel(struct blk *b, struct blk_request *r); /* done() will not be called */
EMU_PRIV int blk_read_sync(struct blk *b, uint64_t offset, void *buf, size_t size);  /* firmware and polling PIO only */
EMU_PRIV int blk_write_sync(struct blk *b, uint64_t offset, const void *buf, size_t size);
EMU_PRIV int blk_flush_sync(struct blk *b);
EMU_PRIV struct blk *blk_find(struct emu *e, const char *id);
EMU_PRIV struct blk *blk_create(struct emu *e, const char *id, struct err *err); /* an empty drive */
/* opts: file, format, read-only/readonly, snapshot, cache, discard, ... as -drive spells them. */
EMU_PRIV int blk_open(struct blk *b, struct options *opts, struct err *err);
EMU_PRIV int blk_change(struct blk *b, const char *file, const char *format, struct err *err); /* monitor change */
EMU_PRIV int blk_eject(struct blk *b, bool force, struct err *err);
EMU_PRIV void blk_destroy(struct blk *b);
EMU_PRIV void blk_close_all(struct emu *e); /* flushes */
EMU_PRIV void blk_print_info(struct emu *e, struct buf *out);

/* ================= character interface (front/chardev.c) ================= */
enum chr_event { CHR_OPENED, CHR_CLOSED, CHR_BREAK };
struct chr;
struct chr_ops {
    int (*write)(struct chr *c, const void *buf, size_t size); /* bytes taken, 0 = full now */
    void (*accept_input)(struct chr *c);                       /* the front end can receive again */
    void (*close)(struct chr *c);
};
struct chr {
    struct emu *emu;
    char *id;
    const struct chr_ops *ops; /* backend */
    void *backend;
    /* set by the device or the monitor that uses it */
    size_t (*can_receive)(void *opaque);
    void (*receive)(void *opaque, const uint8_t *buf, size_t size);
    void (*event)(void *opaque, enum chr_event ev);
    void (*writable)(void *opaque); /* room again after a short write */
    void *opaque;
    bool in_use, open;
    bool deaf; /* no byte will ever come from it again: the input's end, or it never had one */
    struct chr *next;
    /* chardev.c's own */
    void *mux;       /* set: this line is shared; its users have ports */
    host_fd log_fd;  /* logfile=, or HOST_FD_NONE */
    char where[224]; /* "tcp:127.0.0.1:4444,server=on" */
};
EMU_PRIV struct chr *chr_find(struct emu *e, const char *id); /* of a shared line (mux=on): a new port of it */
EMU_PRIV void chr_print_info(struct emu *e, struct buf *out);
EMU_PRIV size_t chr_ringbuf_read(struct chr *c, void *buf, size_t size); /* takes out what a ringbuf line holds */
/* spec as after -serial/-monitor: stdio, mon:stdio, file:x, pty, null, tcp:..., unix:..., chardev:id; or with -chardev's syntax */
EMU_PRIV struct chr *chr_open(struct emu *e, const char *id, const char *spec, struct err *err);
EMU_PRIV struct chr *chr_create(struct emu *e, const char *id, struct options *opts, struct err *err); /* -chardev backend,... */
EMU_PRIV int chr_write(struct chr *c, const void *buf, size_t size); /* c may be NULL: everything is taken and dropped */
EMU_PRIV void chr_accept_input(struct chr *c);
EMU_PRIV void chr_close(struct chr *c); /* a line of chr_open()'s that nobody else uses; not from inside its receive(), event() or writable() */
EMU_PRIV bool chr_is_deaf(const struct chr *c);
EMU_PRIV void chr_close_all(struct emu *e);

/* ================= network link layer (net/link.c): ports and super-frames ================= */
enum net_gso { NET_GSO_NONE, NET_GSO_TCP4, NET_GSO_TCP6, NET_GSO_UDP };
#define NET_FRAME_MAX_PIECES 64
struct net_frame { /* a frame, or one that stands for many (gso); valid during the receive() call only */
    const struct host_iov *pieces;
    int count;
    size_t size;
    uint8_t gso;             /* enum net_gso */
    uint16_t gso_size;       /* payload bytes of each cut segment */
    uint16_t header_bytes;   /* ethernet + ip + tcp/udp headers (gso) */
    bool needs_csum;         /* checksum at csum_start + csum_offset is to be filled in over [csum_start, end) by whoever needs it;
                                the field holds the pseudo-header sum */
    bool csum_valid;         /* sender vouches for all checksums */
    uint16_t csum_start, csum_offset;
};
struct net_port {
    struct emu *emu;
    char name[64];
    char model[24];      /* info network */
    struct net_port *peer;
    bool link_down;
    bool takes_gso, takes_csum; /* may receive super-frames / frames with needs_csum */
    uint32_t max_frame;  /* bytes it can take, without gso */
    bool (*can_receive)(struct net_port *p);
    /* 1: taken (or dropped for good), 0: full: the sender keeps it and waits for its own kick() */
    int (*receive)(struct net_port *p, const struct net_frame *f);
    void (*kick)(struct net_port *p); /* the peer can receive again */
    void (*link_changed)(struct net_port *p);
    void (*info)(struct net_port *p, struct buf *out);
    void (*destroy)(struct net_port *p);
    void *opaque;
    struct net_port *next;
    struct net_filter *filters;
    uint64_t frames_in, bytes_in, drops_in;
};
EMU_PRIV int net_send(struct net_port *from, const struct net_frame *f); /* 1 taken, 0 wait for kick() */
EMU_PRIV bool net_can_send(struct net_port *from);
EMU_PRIV void net_kick_peer(struct net_port *p); /* p can receive again */
EMU_PRIV void net_port_register(struct emu *e, struct net_port *p);
EMU_PRIV void net_port_unregister(struct emu *e, struct net_port *p);
EMU_PRIV int net_port_connect(struct net_port *a, struct net_port *b, struct err *err);
EMU_PRIV struct net_port *net_port_find(struct emu *e, const char *name);
EMU_PRIV void net_set_link(struct net_port *p, bool up);
struct net_nic { /* a NIC that the command line asks the board for */
    char model[32], netdev[64], mac[24], id[64], addr[16];
    struct net_nic *next;
};
EMU_PRIV int net_create(struct emu *e, struct err *err); /* backends, hubs, filters; leaves the wanted NICs in emu->nics */
EMU_PRIV int net_create_filters(struct emu *e, struct err *err); /* -object lines; after the devices, whose ports they may name */
EMU_PRIV void net_destroy(struct emu *e);
EMU_PRIV int net_netdev_add(struct emu *e, struct options *opts, struct err *err);
EMU_PRIV void net_print_info(struct emu *e, struct buf *out);
/* For a NIC's create(): its options mac= (or the next of 52:54:00:12:34:56...) and netdev=. */
EMU_PRIV int net_mac_option(struct emu *e, struct options *opts, uint8_t mac[6], struct err *err);
EMU_PRIV int net_nic_attach(struct emu *e, struct net_port *nic, struct options *opts, struct err *err);
EMU_PRIV void net_nic_register(struct emu *e, struct net_port *nic, const char *class_name, const char *id); /* named by id, else e1000.0 and on */

/* ================= display and input ================= */
struct screen { /* XRGB 8888, host order; owned by the VGA device; valid until the next update */
    uint32_t *pixels;
    int width, height, stride_pixels;
};
struct screen_text { /* text mode contents */
    int columns, rows, cursor_x, cursor_y;
    bool cursor_on;
    uint16_t cells[200 * 100]; /* character | attribute << 8 */
};
struct display_source { /* set by the VGA device in emu->display */
    void (*update)(void *opaque, struct screen *out);         /* renders the present picture */
    bool (*text)(void *opaque, struct screen_text *out);      /* false: a graphics mode */
    uint64_t (*change_count)(void *opaque);                   /* grows when the picture may have changed */
    void *opaque;
};
/* Keys by their AT set 1 code: 0x01-0x7F, 0xE0xx for extended ones as 0x80 | code, Pause as 0xC6, PrintScreen 0xB7. */
struct input_sink {
    void (*key)(void *opaque, int keynum, bool down);
    void (*mouse)(void *opaque, int dx, int dy, int dz, unsigned buttons); /* bit 0 left, 1 right, 2 middle */
    void *opaque;
    struct input_sink *next;
};
EMU_PRIV void input_add(struct emu *e, struct input_sink *s);
EMU_PRIV void input_key(struct emu *e, int keynum, bool down);
EMU_PRIV void input_mouse(struct emu *e, int dx, int dy, int dz, unsigned buttons);

/* ================= firmware (fw/) ================= */
EMU_PRIV int firmware_create(struct emu *e, struct err *err); /* built-in BIOS or -bios; after the board */
EMU_PRIV void firmware_reset(struct emu *e);                  /* before the CPU's first instruction */
EMU_PRIV void firmware_destroy(struct emu *e);
EMU_PRIV int loader_load(struct emu *e, struct err *err);     /* -kernel: Linux, multiboot, PVH; at every reset */

/* ================= configuration (front/options.c fills it, board.c and fw/ read it) ================= */
struct config_line { /* one -device, -drive, -netdev ... in the order given */
    struct options opts;
    struct config_line *next;
};
struct config {
    uint64_t ram_bytes;
    unsigned cpus;
    char *cpu_model; /* NAME,+f,-f */
    char *machine;   /* "pc" */
    char *kernel, *initrd, *append, *dtb, *bios, *name, *uuid;
    char *firmware_dir; /* -L */
    char boot_order[16]; /* letters c d a n; "" = default "cad" */
    char boot_once[16];  /* changes places with boot_order at the next boot_once_left resets: 2, so for the first boot */
    unsigned boot_once_left;
    bool boot_menu, boot_strict;
    unsigned boot_menu_timeout_ms;
    char *vga; /* std, none */
    struct config_line *drives, *devices, *smbios, *fw_cfg, *netdevs, *nics, *objects;
    char *serial[4];   /* chr_open spec; NULL = none */
    char *parallel[3];
    bool no_defaults, no_reboot, no_shutdown, start_paused, snapshot, no_acpi, no_hpet;
    bool icount;
    unsigned icount_shift; /* virtual ns per instruction = 1 << shift */
    bool icount_auto_sleep;
    int64_t rtc_base_s;    /* wall clock at start, seconds since 1970 */
    bool rtc_localtime, rtc_vm_clock, rtc_base_set;
    uint64_t seed;
    bool seed_set;
};

/* ================= the machine ================= */
struct emu {
    struct config config;

    /* embedder */
    void *(*alloc_fn)(void *opaque, void *p, size_t size); /* size 0: free; not zeroing */
    void (*log_fn)(void *opaque, unsigned mask, const char *text);
    void *hook_opaque;
    unsigned log_mask;
#ifdef EMU_TORTURE
    unsigned torture_alloc_countdown; /* 1: the next allocation fails; 0: none does */
#endif
    void *api;   /* front/api.c */
    void *front; /* front/: monitor, terminal, gdb stub */

    /* clock.c */
    struct timer **timer_heap;
    size_t timer_count, timer_capacity;
    uint64_t timer_order;
    int64_t clock_base_ns, clock_last_ns, clock_host_origin_ns;
    bool clock_frozen;
    int64_t icount_bias_ns; /* -icount: virtual time warped while idle */

    /* memory.c */
    struct map memory, ports;
    struct ram_block *blocks[64];
    unsigned block_count;
    struct ram_block *ram;
    uint64_t ram_below_4g;
    struct region ram_low, ram_high;
    uint64_t a20_mask; /* ~0, or ~(1 << 20) */
    /* the CPU's ears (cpu/): set when CPUs are created */
    void (*on_map_change)(struct emu *e);
    void (*on_code_write)(struct emu *e, struct ram_block *b, uint64_t offset, uint64_t size);

    /* CPUs */
    struct cpu **cpus;
    unsigned cpu_count;
    struct cpu *current_cpu;  /* the one whose instruction is running, or NULL */
    struct trace_cache *traces;
    struct decode_index *decode; /* cpu/decode.c */
    uint32_t last_generation; /* cpu/mem.c: of address mappings */
    uint64_t insn_total;      /* retired by all CPUs, up to the last CPU exit */
    uint64_t insn_at_entry;   /* current_cpu's count when it was entered */

    /* loop.c */
    unsigned requests;                              /* enum request */
    volatile unsigned char outside[OUTSIDE_COUNT];  /* emu_request_outside(): set there, cleared by the loop */
    enum run_state run_state;
    int exit_status;
    struct watch *watches;
    struct poll_hook *poll_hooks;
    struct host_poll_item *poll_items;
    struct watch **poll_watches;
    size_t poll_capacity, poll_count, watch_count;
    uint64_t insns_per_us;  /* measured */
    unsigned next_cpu, break_cpu;
    struct timer nap_timer; /* no CPU naps longer than this */
    bool napping;          /* some CPU does (cpu->napping) */
    bool on_break_pending; /* the pause under way is a breakpoint's: on_break tells more */
    unsigned gdb_count;
    void (*on_run_state)(struct emu *e, enum run_state state);               /* front: gdb stub, QMP */
    void (*on_break)(struct emu *e, struct cpu *c, int why /* enum cpu_exit */); /* front: gdb stub; the machine is paused */
    int64_t next_poll_host_ns;
    int64_t poll_interval_ns;
    host_fd wake_read, wake_write;

    /* devices */
    struct device *devices;
    struct pci_bus *pci;
    struct irq gsi[24];
    struct display_source *display;
    struct input_sink *inputs;
    unsigned mouse_buttons; /* as the monitor last set them */
    void *chipset; /* board.c: pointers to pic, ioapic, lapics, rtc ... */
    struct lapic **lapics;
    struct fw_cfg *fw_cfg;
    void *firmware;

    /* backends */
    struct blk *drives;
    /* file=embed:NAME: the embedding program's disk of that name; front/api.c sets it */
    bool (*find_disk)(struct emu *e, const char *name, struct emu_disk_ops *ops, void **opaque);
    bool (*can_be_resumed)(struct emu *e); /* somebody is there who could type cont; front/monitor.c sets it with the first monitor */
    struct chr *chars;
    uint64_t serial_bytes; /* sent by the guest's UARTs */
    struct net_port *net_ports;
    struct net_nic *nics;
    unsigned nic_count;
    struct nat *nats;
};

#endif
