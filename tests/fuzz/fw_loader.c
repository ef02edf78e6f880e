/* fw_loader.c - fuzz: -kernel files: Linux, Multiboot, PVH. Input: the file; its last byte: bit 0 an -initrd as well, bit 1 -append. */
#include "machine.h"
#include "../../emu.h"
#include "fw/fw.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char kernel[] = "fuzz-kernel", initrd[] = "fuzz-initrd";
    const char *line[16];
    struct emu *e = emu_new(NULL);
    struct fw *fw;
    struct err err;
    char error[512];
    int n = 0;
    uint8_t how = size ? data[size - 1] : 0;
    FILE *f = fopen(kernel, "wb"), *g = fopen(initrd, "wb");
    if (!e || !f || !g || fwrite(data, 1, size, f) != size || fclose(f) || fputs("a module", g) < 0 || fclose(g))
        abort();
    line[n++] = "-m";
    line[n++] = "2";
    line[n++] = "-net";
    line[n++] = "none";
    line[n++] = "-serial";
    line[n++] = "null";
    line[n++] = "-monitor";
    line[n++] = "none";
    line[n++] = "-kernel";
    line[n++] = kernel;
    if (how & 1) {
        line[n++] = "-initrd";
        line[n++] = initrd;
    }
    if (how & 2) {
        line[n++] = "-append";
        line[n++] = "vga=ask root=/dev/sda";
    }
    if (!emu_configure(e, n, line, error, sizeof error)) {
        fw = e->firmware;
        fw->tables_high = e->config.ram_bytes - 65536;
        fw->e820_count = 4;
        loader_load(e, &err);
    }
    emu_destroy(e);
    return 0;
}
