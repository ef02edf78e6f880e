/* dev/ide.h - what the IDE controller (ide.c) and its drives (ata.c, atapi.c) share.
 *
 * Contract   A drive is a device of class ide-hd or ide-cd that begins with struct ide_drive and has called ide_attach(). The
 *            controller hands it each command; the drive answers with the transfer helpers below, which end in ide_finish(),
 *            ide_idle() or ide_fail(). Drives never touch ports, interrupt lines or guest memory themselves.
 * Invariants 1. At most one of these is under way per drive: a block request, a DRQ window, a DMA window, a gap. Each helper
 *               starts one, and its continuation starts the next.
 *            2. Windows lie inside buf[0, IDE_BUF_BYTES).
 */
#ifndef EMU_DEV_IDE_H
#define EMU_DEV_IDE_H

#define IDE_SECTOR_BYTES 512u
#ifdef EMU_TORTURE
#define IDE_BUF_BYTES (8u * 1024) /* commands are cut into many pieces */
#else
#define IDE_BUF_BYTES (128u * 1024) /* 256 sectors: what one 28-bit command moves at most */
#endif

enum ide_status { /* ATA/ATAPI-6 §7.15 */
    IDE_BSY = 0x80,
    IDE_DRDY = 0x40,
    IDE_DF = 0x20,
    IDE_DSC = 0x10, /* seek complete; obsolete since ATA-4, but old drivers test for 50h */
    IDE_DRQ = 0x08,
    IDE_ERR = 0x01 /* CHK for packet devices */
};
enum ide_error { /* ATA/ATAPI-6 §7.9 */
    IDE_ERROR_UNC = 0x40,
    IDE_ERROR_IDNF = 0x10,
    IDE_ERROR_ABRT = 0x04
};
enum ide_phase { IDE_PHASE_NONE, IDE_PHASE_PIO_IN, IDE_PHASE_PIO_OUT, IDE_PHASE_DMA_IN, IDE_PHASE_DMA_OUT };

struct ide_drive;
typedef void (*ide_fn)(struct ide_drive *d);
typedef void (*ide_result_fn)(struct ide_drive *d, int result);

struct ide_drive_ops {
    void (*command)(struct ide_drive *d, uint8_t command); /* status is DRDY|DSC, error 0 when called */
    ide_fn signature;   /* task file and status as after a reset; transfers are already stopped */
    bool packet;        /* ATAPI: takes DEVICE RESET */
};

struct ide_drive {
    struct device dev;
    const struct ide_drive_ops *ops;
    struct ide_channel *channel;
    unsigned unit; /* 0 master, 1 slave */
    struct blk *blk;

    /* task file; the hob_ ones are the previous contents (48-bit commands) */
    uint8_t feature, count, lba[3], device, status, error;
    uint8_t hob_feature, hob_count, hob_lba[3];
    bool intrq;

    /* transfer engine */
    uint8_t *buf;
    uint32_t pos, end; /* the window: next byte, first byte behind it */
    uint8_t phase;     /* enum ide_phase */
    ide_fn window_done;
    struct timer gap_timer;
    ide_fn gap_done;
    struct blk_request request;
    struct host_iov iov;
    ide_result_fn io_done;
    bool io_pending;
};

/* Takes drive=, bus=ide.N, unit=N; places the drive on its channel. blk may stay empty only for packet devices. */
EMU_PRIV int ide_attach(struct ide_drive *d, const struct ide_drive_ops *ops, struct options *opts, struct err *err);
EMU_PRIV void ide_detach(struct ide_drive *d);
EMU_PRIV void ide_stop(struct ide_drive *d); /* cancels whatever is under way */

EMU_PRIV void ide_pio_in(struct ide_drive *d, uint32_t offset, uint32_t size, ide_fn taken);                /* DRQ, INTRQ */
EMU_PRIV void ide_pio_out(struct ide_drive *d, uint32_t offset, uint32_t size, bool interrupt, ide_fn filled);
EMU_PRIV void ide_dma(struct ide_drive *d, bool to_memory, uint32_t offset, uint32_t size, ide_fn moved);    /* waits for the bus master */
EMU_PRIV void ide_gap(struct ide_drive *d, ide_fn next);                                                    /* a moment of BSY */
EMU_PRIV void ide_io(struct ide_drive *d, enum blk_op op, uint64_t offset, uint32_t buf_offset, uint64_t size, ide_result_fn done); /* BSY */
EMU_PRIV void ide_finish(struct ide_drive *d);                /* command done: DRDY|DSC, INTRQ */
EMU_PRIV void ide_idle(struct ide_drive *d);                  /* the same without an interrupt */
EMU_PRIV void ide_fail(struct ide_drive *d, uint8_t error);   /* ERR with these error bits, INTRQ */
EMU_PRIV void ide_put_string(uint8_t *words, unsigned bytes, const char *text); /* IDENTIFY strings: swapped pairs, blanks behind */

#endif
