/* dev_ports.c - fuzz: a guest that writes anything to any register of the PC: chipset, disks, floppy, VGA, keyboard, serial line, BIOS services.
 *
 * Input: commands; the first byte modulo 8 is the kind, its bits 3 and 4 the size of an access (1, 2, 4).
 *   0, 1 write a port (place 8 bits, 4 bytes)   2 read one (place)   3 memory at a multiple of 16 below 64 KiB (16 bits, 16 bytes)
 *   4 time passes (8 bits, as a power of two of 128 ns)   5 write a byte many times, or read (place, byte, count)
 *   6 write a chip's memory (place 8 bits, offset 16 bits, 4 bytes)   7 read it (place, offset)
 * A place is five bits of fuzz_ports[] and the register, three bits; bit 3 of a register is the first byte's bit 5.
 */
#include "machine.h"
#include "../../emu.h"
#include "cpu/cpu.h"
#include "fw/fw.h"

enum { FUZZ_DISK = 64 * 512 };
static const uint16_t fuzz_ports[32] = {
    0x00, 0x20, 0x40, 0x60, 0x70, 0x80, 0x92, 0xA0, 0xB0, 0xC0, 0xD0, 0xE8, 0xF0, 0x170, 0x1F0, 0x1F0, 0x278, 0x2F8, 0x1CE, 0x376, 0x378, 0x3B0, 0x3C0, 0x3C8,
    0x3D0, 0x3F0, 0x3F0, 0x3F8, 0x510, 0xCF8, FW_PORT_BASE, 0xC000,
};
static const uint64_t fuzz_memory[8] = { 0xA0000, 0xB8000, 0xC0000, 0xF0000, 0xFEC00000, 0xFED00000, 0xFEE00000, 0xE0000000 };

static int fuzz_disk_read(void *opaque, uint64_t offset, void *buf, size_t size)
{
    memcpy(buf, (uint8_t *)opaque + offset, size);
    return 0;
}
static int fuzz_disk_write(void *opaque, uint64_t offset, const void *buf, size_t size)
{
    memcpy((uint8_t *)opaque + offset, buf, size);
    return 0;
}

static void fuzz_time(struct emu *e, int64_t ns)
{
    int64_t end = emu_now_ns(e) + ns;
    unsigned n;
    for (n = 0; n < 200 && clock_next_deadline(e) <= end; n++) {
        clock_warp_to(e, EMU_MAX(clock_next_deadline(e), emu_now_ns(e)));
        clock_run_timers(e);
    }
    if (end > emu_now_ns(e))
        clock_warp_to(e, end);
}

static void fuzz_pci_write(struct emu *e, unsigned slot, unsigned function, unsigned reg, uint32_t v)
{
    port_write(e, 0xCF8, 0x80000000u | slot << 11 | function << 8 | reg, 4);
    port_write(e, 0xCFC, v, 4);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const line[] = { "-m", "2", "-icount", "shift=0,sleep=off", "-rtc", "base=2000-01-01T00:00:00", "-net", "none", "-serial", "null", "-monitor", "none",
                                        "-drive", "file=embed:a,if=floppy,format=raw", "-hda", "embed:h", "-cdrom", "embed:c", "-device", "isa-debugcon,iobase=0xe9,chardev=n", "-chardev", "null,id=n" };
    static uint8_t disks[3][FUZZ_DISK * 90];
    struct emu_disk_ops ops;
    struct emu *e = emu_new(NULL);
    char error[512];
    size_t at = 0;
    if (!e)
        return 0;
    memset(&ops, 0, sizeof ops);
    ops.read = fuzz_disk_read;
    ops.write = fuzz_disk_write;
    ops.bytes = 1440 * 1024;
    emu_provide_disk(e, "a", &ops, disks[0]);
    ops.bytes = FUZZ_DISK;
    emu_provide_disk(e, "h", &ops, disks[1]);
    emu_provide_disk(e, "c", &ops, disks[2]);
    if (emu_configure(e, (int)EMU_ARRAY_LEN(line), line, error, sizeof error)) {
        printf("%s\n", error);
        abort();
    }
    e->current_cpu = e->cpus[0];
    fuzz_pci_write(e, 1, 1, 0x20, 0xC001); /* IDE bus master */
    fuzz_pci_write(e, 1, 1, 0x04, 7);
    fuzz_pci_write(e, 2, 0, 0x10, 0xE0000000u); /* frame buffer */
    fuzz_pci_write(e, 2, 0, 0x04, 3);
    while (at < size) {
        static const uint8_t wants[8] = { 5, 5, 1, 18, 1, 3, 7, 3 };
        uint8_t c[24] = { 0 }, more = data[at++];
        unsigned kind = more & 7, bytes = 1u << ((more >> 3) & 3), i;
        uint16_t port;
        if (bytes == 8)
            bytes = 1;
        memcpy(c, data + at, EMU_MIN((size_t)wants[kind], size - at));
        at += wants[kind];
        port = (uint16_t)(fuzz_ports[c[0] >> 3] + (c[0] & 7) + (more & 32 ? 8 : 0));
        if (port == FW_PORT_POST || port == FW_PORT_POST + 1) /* takes milliseconds */
            continue;
        switch (kind) {
        case 0:
        case 1: port_write(e, port, ld32le(c + 1) & (UINT32_MAX >> (32 - 8 * bytes)), bytes); break;
        case 2: port_read(e, port, bytes); break;
        case 3: mem_write(e, (ld16le(c) & 0xFFFu) * 16, c + 2, 16); break;
        case 4: fuzz_time(e, INT64_C(128) << (c[0] & 31)); break;
        case 5:
            for (i = 0; i < c[2] * 4u; i++)
                if (more & 64)
                    port_read(e, port, bytes);
                else
                    port_write(e, port, c[1], bytes);
            break;
        case 6: mem_st(e, fuzz_memory[c[0] & 7] + (ld16le(c + 1) & ~(bytes - 1u)), ld32le(c + 3), bytes); break;
        default: mem_ld(e, fuzz_memory[c[0] & 7] + (ld16le(c + 1) & ~(bytes - 1u)), bytes); break;
        }
        e->requests = 0;
        if (!(more & 128) && e->display) {
            struct screen s;
            memset(&s, 0, sizeof s);
            if (more & 64)
                e->display->update(e->display->opaque, &s);
        }
    }
    e->current_cpu = NULL;
    emu_destroy(e);
    return 0;
}
