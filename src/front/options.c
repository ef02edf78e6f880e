/* front/options.c - the command line.
 *
 * Models     QEMU's spelling and defaults (its invocation manual), for the rows of the table below.
 * Contract   front_parse() fills emu->config and struct front and builds nothing; board.c and api.c build from them.
 * Theory     One table row an option: name, argument, help group and text, and a function or a place to store the value. Rows without
 *            either are known to QEMU but not to us yet: they end with "not supported yet".
 * Invariants 1. Nothing on the command line is ignored silently: each option is obeyed, noted on stderr, or an error.
 *            2. Option strings are copied: argv may go away.
 */
#include "../machine.h"
#include "../cpu/cpu.h"
#include "front.h"

struct cmd_option;
struct cmd_state {
    struct emu *emu;
    struct front *front;
    const struct cmd_option *option;
    bool printed; /* help or version: stop, status 0 */
    unsigned next_disk;
    bool rtc_given;
};
typedef int (*cmd_fn)(struct cmd_state *s, const char *arg, struct err *err);
enum cmd_group { CMD_MACHINE, CMD_BLOCK, CMD_NET, CMD_CHAR, CMD_DISPLAY, CMD_BOOT, CMD_DEBUG, CMD_OLD };
struct cmd_option {
    const char *name, *arg; /* arg NULL: none */
    enum cmd_group group;
    const char *help; /* NULL: not listed */
    cmd_fn fn;        /* NULL: not supported yet */
};

static int cmd_set_string(struct cmd_state *s, char **to, const char *value)
{
    emu_free(s->emu, *to);
    *to = emu_strdup(s->emu, value);
    return *to ? 0 : EMU_ENOMEM;
}

EMU_PRIV struct config_line *front_add_line(struct emu *e, struct config_line **list, const char *origin, const char *text, const char *implied, struct err *err)
{
    struct config_line *line = emu_alloc(e, sizeof *line);
    if (!line) {
        err_set(err, EMU_ENOMEM, "%s %s: out of memory", origin, text);
        return NULL;
    }
    if (options_parse(&line->opts, e, origin, text, implied, err)) {
        emu_free(e, line);
        return NULL;
    }
    while (*list)
        list = &(*list)->next;
    *list = line;
    return line;
}

static int cmd_add(struct cmd_state *s, struct config_line **list, const char *text, const char *implied, struct err *err)
{
    char origin[40];
    snprintf(origin, sizeof origin, "-%s", s->option->name);
    return front_add_line(s->emu, list, origin, text, implied, err) ? 0 : EMU_EINVAL;
}

static int cmd_bad(struct cmd_state *s, const char *arg, const char *why, struct err *err)
{
    return err_set(err, EMU_EINVAL, "-%s %s: %s", s->option->name, arg ? arg : "", why);
}

/* ---- machine ---- */

static int cmd_help(struct cmd_state *s, const char *arg, struct err *err);

static int cmd_version(struct cmd_state *s, const char *arg, struct err *err)
{
    (void)arg, (void)err;
    printf("emu version " EMU_VERSION "\n");
    s->printed = true;
    return 0;
}

static bool cmd_wants_help(const char *arg) { return !strcmp(arg, "help") || !strcmp(arg, "?"); }

static int cmd_accel_name(struct cmd_state *s, const char *name, struct err *err)
{
    size_t n = strcspn(name, ",:");
    if (!strncmp(name, "tcg", n) && n == 3)
        return 0;
    if ((n == 3 && (!strncmp(name, "kvm", n) || !strncmp(name, "hvf", n))) || (n == 4 && !strncmp(name, "whpx", n))) {
        const char *rest = strchr(name, ':');
        if (!rest)
            emu_log(s->emu, LOG_NOTICE, "-%s%s%.*s: this emulator has no %.*s; running on its own core", s->option->name,
                    s->option->arg ? " " : "", s->option->arg ? (int)n : 0, name, (int)n, name);
        return 0;
    }
    return err_set(err, EMU_EINVAL, "-%s: unknown accelerator \"%.*s\"; this emulator has its own core only (tcg is accepted as its name)", s->option->name, (int)n, name);
}

static int cmd_accel(struct cmd_state *s, const char *arg, struct err *err)
{
    if (cmd_wants_help(arg)) {
        printf("Accelerators supported:\ntcg (the emulator's own core; no JIT)\n");
        s->printed = true;
        return 0;
    }
    return cmd_accel_name(s, arg, err);
}

static int cmd_enable_kvm(struct cmd_state *s, const char *arg, struct err *err)
{
    (void)arg, (void)err;
    emu_log(s->emu, LOG_NOTICE, "-%s: this emulator has no KVM; running on its own core", s->option->name);
    return 0;
}

/* A key whose wish changes nothing here is said, unless it asks for what is so anyway. */
static void cmd_note_key(struct cmd_state *s, struct options *o, const char *key, const char *harmless)
{
    const char *v = options_get(o, key);
    if (v && strcmp(v, harmless) && strcmp(v, "auto"))
        emu_log(s->emu, LOG_NOTICE, "-%s %s=%s: changes nothing here", s->option->name, key, v);
}

static int cmd_machine(struct cmd_state *s, const char *arg, struct err *err)
{
    struct options o;
    const char *type, *accel;
    static const struct {
        const char *key;
        bool is; /* how it is here, whatever one asks for */
    } later[] = { { "usb", false }, { "graphics", true }, { "i8042", true }, { "nvdimm", false } };
    bool flag = true;
    size_t i;
    int r;
    if (cmd_wants_help(arg)) {
        printf("Supported machines are:\npc                   i440FX + PIIX3 (default)\n");
        s->printed = true;
        return 0;
    }
    if ((r = options_parse(&o, s->emu, "-machine", arg, "type", err)))
        return r;
    type = options_get(&o, "type");
    accel = options_get(&o, "accel");
    if (type && strcmp(type, "pc") && strncmp(type, "pc-i440fx-", 10)) {
        if (!strcmp(type, "q35") || !strncmp(type, "pc-q35-", 7) || !strcmp(type, "microvm") || !strcmp(type, "isapc"))
            r = err_set(err, EMU_ENOTSUP, "-machine %s: not supported yet; use pc", type);
        else
            r = err_set(err, EMU_EINVAL, "-machine %s: unknown machine; `-machine help` lists them", type);
    }
    if (!r && accel)
        r = cmd_accel_name(s, accel, err);
    if (!r)
        r = options_bool(&o, "acpi", &flag, err);
    if (!r && !flag)
        s->emu->config.no_acpi = true;
    flag = true;
    if (!r)
        r = options_bool(&o, "hpet", &flag, err);
    if (!r && !flag)
        s->emu->config.no_hpet = true;
    for (i = 0; i < EMU_ARRAY_LEN(later) && !r; i++) {
        flag = later[i].is;
        r = options_bool(&o, later[i].key, &flag, err);
        if (!r && flag != later[i].is)
            r = err_set(err, EMU_ENOTSUP, "-machine %s=%s: not supported yet", later[i].key, flag ? "on" : "off");
    }
    options_get(&o, "kernel_irqchip"), options_get(&o, "kernel-irqchip"), options_get(&o, "mem-merge"), options_get(&o, "dump-guest-core"); /* the host's matter */
    cmd_note_key(s, &o, "vmport", "off");
    cmd_note_key(s, &o, "smm", "off");
    if (!r)
        r = options_check_used(&o, err);
    options_free(&o);
    return r;
}

static int cmd_cpu(struct cmd_state *s, const char *arg, struct err *err)
{
    if (cmd_wants_help(arg)) {
        struct buf b;
        buf_init(&b, s->emu);
        cpu_print_models(&b);
        if (b.data)
            fputs((char *)b.data, stdout);
        buf_free(&b);
        s->printed = true;
        return 0;
    }
    return *arg && *arg != ',' ? cmd_set_string(s, &s->emu->config.cpu_model, arg) : cmd_bad(s, arg, "names no model; `-cpu help` lists them", err);
}

#define CMD_MAX_CPUS 64
static int cmd_smp(struct cmd_state *s, const char *arg, struct err *err)
{
    struct options o;
    uint64_t cpus = 0, cores = 0, sockets = 0, threads = 0, dies = 1, clusters = 1, maxcpus = 0;
    int r = options_parse(&o, s->emu, "-smp", arg, "cpus", err);
    if (r)
        return r;
    if ((r = options_u64(&o, "cpus", 1, CMD_MAX_CPUS, &cpus, err)) || (r = options_u64(&o, "cores", 1, CMD_MAX_CPUS, &cores, err)) ||
        (r = options_u64(&o, "sockets", 1, CMD_MAX_CPUS, &sockets, err)) || (r = options_u64(&o, "threads", 1, CMD_MAX_CPUS, &threads, err)) ||
        (r = options_u64(&o, "dies", 1, 1, &dies, err)) || (r = options_u64(&o, "clusters", 1, 1, &clusters, err)) ||
        (r = options_u64(&o, "maxcpus", 1, 255, &maxcpus, err)))
        goto done;
    threads = threads ? threads : 1;
    if (!maxcpus)
        maxcpus = cpus ? cpus : (sockets ? sockets : 1) * (cores ? cores : 1) * threads;
    if (!cpus)
        cpus = maxcpus;
    if (!sockets)
        sockets = cores ? EMU_MAX(maxcpus / (cores * threads), (uint64_t)1) : 1;
    if (!cores)
        cores = EMU_MAX(maxcpus / (sockets * threads), (uint64_t)1);
    if (cpus > CMD_MAX_CPUS || maxcpus < cpus)
        r = err_set(err, EMU_EINVAL, "-smp %s: between 1 and %d CPUs, and maxcpus not below them", arg, CMD_MAX_CPUS);
    else if (sockets * cores * threads != maxcpus)
        r = err_set(err, EMU_EINVAL, "-smp %s: sockets=%u times cores=%u times threads=%u is not %u CPUs", arg, (unsigned)sockets, (unsigned)cores, (unsigned)threads, (unsigned)maxcpus);
    else
        r = options_check_used(&o, err);
    if (!r && (sockets > 1 || threads > 1))
        emu_log(s->emu, LOG_NOTICE, "-smp %s: the guest is shown %u cores in one socket", arg, (unsigned)cpus);
    if (!r)
        s->emu->config.cpus = (unsigned)cpus;
done:
    options_free(&o);
    return r;
}

/* 1 TiB: the physical address width that CPUID gives. */
#define CMD_MAX_RAM (UINT64_C(1) << 40)
static int cmd_memory(struct cmd_state *s, const char *arg, struct err *err)
{
    struct options o;
    const char *size;
    uint64_t bytes = 0;
    int r = options_parse(&o, s->emu, "-m", arg, "size", err);
    if (r)
        return r;
    size = options_get(&o, "size");
    cmd_note_key(s, &o, "slots", "0");
    cmd_note_key(s, &o, "maxmem", size ? size : "");
    if (!size || parse_size(size, 'm', &bytes) || bytes == 0 || bytes > CMD_MAX_RAM)
        r = err_set(err, EMU_EINVAL, "-m %s: not a memory size between 1M and 1T (like 512, 512M or 2G)", arg);
    else if (bytes < MIB)
        r = err_set(err, EMU_EINVAL, "-m %s: at least 1M is needed (a plain number is MiB)", arg);
    else
        r = options_check_used(&o, err);
    options_free(&o);
    if (!r)
        s->emu->config.ram_bytes = (bytes + 4095) & ~UINT64_C(4095);
    return r;
}

static int cmd_uuid(struct cmd_state *s, const char *arg, struct err *err)
{
    size_t i;
    for (i = 0; arg[i]; i++) {
        bool dash = i == 8 || i == 13 || i == 18 || i == 23;
        if (dash ? arg[i] != '-' : !strchr("0123456789abcdefABCDEF", arg[i]))
            break;
    }
    if (arg[i] || i != 36)
        return cmd_bad(s, arg, "not a UUID (like 550e8400-e29b-41d4-a716-446655440000)", err);
    return cmd_set_string(s, &s->emu->config.uuid, arg);
}

static int cmd_name(struct cmd_state *s, const char *arg, struct err *err)
{
    struct options o;
    const char *name;
    int r = options_parse(&o, s->emu, "-name", arg, "guest", err);
    if (r)
        return r;
    name = options_get(&o, "guest");
    cmd_note_key(s, &o, "process", "");
    cmd_note_key(s, &o, "debug-threads", "off");
    r = options_check_used(&o, err);
    if (!r && name)
        r = cmd_set_string(s, &s->emu->config.name, name);
    options_free(&o);
    return r;
}

static int cmd_rtc(struct cmd_state *s, const char *arg, struct err *err)
{
    struct config *c = &s->emu->config;
    struct options o;
    static const uint8_t month_days[12] = { 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31 };
    const char *base, *clock;
    int year, month, day, hour = 0, minute = 0, second = 0, used = 0;
    bool leap = false;
    int r = options_parse(&o, s->emu, "-rtc", arg, "base", err);
    if (r)
        return r;
    base = options_get(&o, "base");
    clock = options_get(&o, "clock");
    cmd_note_key(s, &o, "driftfix", "none");
    if (base && !strcmp(base, "localtime")) {
        c->rtc_localtime = true;
    } else if (base && strcmp(base, "utc")) {
        int n = sscanf(base, "%4d-%2d-%2d%n", &year, &month, &day, &used);
        if (n == 3 && base[used] == 'T') {
            int more = 0;
            n = sscanf(base + used, "T%2d:%2d:%2d%n", &hour, &minute, &second, &more) == 3 ? 3 : 0;
            used += more;
        }
        if (n == 3)
            leap = year % 4 == 0 && (year % 100 || year % 400 == 0);
        if (n != 3 || base[used] || month < 1 || month > 12 || day < 1 || day > month_days[month - 1] + (month == 2 && leap) || year < 1970 || hour > 23 ||
            minute > 59 || second > 59) {
            r = err_set(err, EMU_EINVAL, "-rtc base=%s: not utc, localtime or a date (like 2026-01-31 or 2026-01-31T12:00:00)", base);
        } else { /* days from civil date: Gregorian, era of 400 years, year starting in March */
            int64_t y = year - (month <= 2), era = y / 400, yoe = y - era * 400;
            int64_t doy = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1, doe = yoe * 365 + yoe / 4 - yoe / 100 + doy;
            c->rtc_base_s = ((era * 146097 + doe - 719468) * 24 + hour) * 3600 + minute * 60 + second;
            c->rtc_base_set = true;
        }
    }
    if (!r && clock) {
        if (!strcmp(clock, "vm"))
            c->rtc_vm_clock = true;
        else if (strcmp(clock, "host") && strcmp(clock, "rt"))
            r = err_set(err, EMU_EINVAL, "-rtc clock=%s: not host, rt or vm", clock);
    }
    if (!r)
        r = options_check_used(&o, err);
    options_free(&o);
    return r;
}

static int cmd_localtime(struct cmd_state *s, const char *arg, struct err *err)
{
    (void)arg, (void)err;
    s->emu->config.rtc_localtime = true;
    return 0;
}

static int cmd_icount(struct cmd_state *s, const char *arg, struct err *err)
{
    struct config *c = &s->emu->config;
    struct options o;
    const char *shift;
    bool align = false;
    uint64_t n = 0;
    int r = options_parse(&o, s->emu, "-icount", arg, "shift", err);
    if (r)
        return r;
    shift = options_get(&o, "shift");
    c->icount = true;
    c->icount_auto_sleep = true;
    c->icount_shift = 1; /* 500 MIPS: about what a host does */
    if (shift && strcmp(shift, "auto")) {
        if (parse_u64(shift, 0, 10, &n))
            r = err_set(err, EMU_EINVAL, "-icount shift=%s: not auto or a number from 0 to 10 (nanoseconds per instruction, as a power of two)", shift);
        else
            c->icount_shift = (unsigned)n;
    }
    if (!r)
        r = options_bool(&o, "sleep", &c->icount_auto_sleep, err);
    if (!r)
        r = options_bool(&o, "align", &align, err);
    if (!r && align)
        r = err_set(err, EMU_ENOTSUP, "-icount align=on: not supported yet");
    if (!r && options_get(&o, "rr"))
        r = err_set(err, EMU_ENOTSUP, "-icount rr=: record and replay is not supported yet");
    if (!r)
        r = options_check_used(&o, err);
    options_free(&o);
    return r;
}

static int cmd_seed(struct cmd_state *s, const char *arg, struct err *err)
{
    if (parse_u64(arg, 0, UINT64_MAX, &s->emu->config.seed))
        return cmd_bad(s, arg, "not a number from 0 to 2^64-1", err);
    s->emu->config.seed_set = true;
    return 0;
}

static int cmd_action(struct cmd_state *s, const char *arg, struct err *err)
{
    struct options o;
    const char *v;
    int r = options_parse(&o, s->emu, "-action", arg, NULL, err);
    if (r)
        return r;
    if ((v = options_get(&o, "reboot"))) {
        if (!strcmp(v, "shutdown"))
            s->emu->config.no_reboot = true;
        else if (strcmp(v, "reset"))
            r = err_set(err, EMU_EINVAL, "-action reboot=%s: not reset or shutdown", v);
    }
    if (!r && (v = options_get(&o, "shutdown"))) {
        if (!strcmp(v, "pause"))
            s->emu->config.no_shutdown = true;
        else if (strcmp(v, "poweroff"))
            r = err_set(err, EMU_EINVAL, "-action shutdown=%s: not poweroff or pause", v);
    }
    options_get(&o, "panic"), options_get(&o, "watchdog");
    if (!r)
        r = options_check_used(&o, err);
    options_free(&o);
    return r;
}

/* A flag of struct config or struct front, by option name. */
static int cmd_flag(struct cmd_state *s, const char *arg, struct err *err)
{
    struct config *c = &s->emu->config;
    const char *n = s->option->name;
    (void)arg, (void)err;
    if (!strcmp(n, "no-reboot"))
        c->no_reboot = true;
    else if (!strcmp(n, "no-shutdown"))
        c->no_shutdown = true;
    else if (!strcmp(n, "S"))
        c->start_paused = true;
    else if (!strcmp(n, "snapshot"))
        c->snapshot = true;
    else if (!strcmp(n, "nodefaults"))
        c->no_defaults = true;
    else if (!strcmp(n, "no-acpi"))
        c->no_acpi = true;
    else if (!strcmp(n, "no-hpet"))
        c->no_hpet = true;
    else if (!strcmp(n, "nographic"))
        s->front->nographic = true;
    else if (!strcmp(n, "daemonize"))
        s->front->daemonize = true;
    return 0;
}

/* Options that ask for what is so anyway. */
static int cmd_accepted(struct cmd_state *s, const char *arg, struct err *err)
{
    (void)s, (void)arg, (void)err;
    return 0;
}

/* Options that scripts give for QEMU's sake and that change nothing here. */
static int cmd_noted(struct cmd_state *s, const char *arg, struct err *err)
{
    (void)err;
    if (!arg || (strcmp(arg, "off") && strcmp(arg, "en-us")))
        emu_log(s->emu, LOG_NOTICE, "-%s%s%s: changes nothing here", s->option->name, arg ? " " : "", arg ? arg : "");
    return 0;
}

/* ---- boot ---- */

static int cmd_boot_letters(const char *arg, const char *order, char out[16], struct err *err)
{
    size_t i;
    for (i = 0; order[i] && strchr("abcdnop", order[i]) && !strchr(order + i + 1, order[i]); i++) {
    }
    if (order[i] || i >= 16)
        return err_set(err, EMU_EINVAL, "-boot %s: the order is made of a, b (floppy), c (disk), d (CD), n to p (network), each once", arg);
    snprintf(out, 16, "%s", order);
    return 0;
}

static int cmd_boot(struct cmd_state *s, const char *arg, struct err *err)
{
    struct config *c = &s->emu->config;
    struct options o;
    const char *order, *v;
    uint64_t ms = 0;
    int r = options_parse(&o, s->emu, "-boot", arg, "order", err);
    if (r)
        return r;
    if ((order = options_get(&o, "order")))
        r = cmd_boot_letters(arg, order, c->boot_order, err);
    if (!r && (order = options_get(&o, "once")))
        r = cmd_boot_letters(arg, order, c->boot_once, err), c->boot_once_left = 2;
    if (!r)
        r = options_bool(&o, "menu", &c->boot_menu, err);
    if (!r)
        r = options_bool(&o, "strict", &c->boot_strict, err);
    if (!r)
        r = options_u64(&o, "splash-time", 0, 65535, &ms, err);
    c->boot_menu_timeout_ms = (unsigned)ms;
    if (!r && (v = options_get(&o, "splash")))
        emu_log(s->emu, LOG_NOTICE, "-boot splash=%s: no picture is shown", v);
    if (!r && (v = options_get(&o, "reboot-timeout")) && strcmp(v, "-1"))
        r = err_set(err, EMU_ENOTSUP, "-boot reboot-timeout=%s: not supported yet", v);
    if (!r)
        r = options_check_used(&o, err);
    options_free(&o);
    return r;
}

static int cmd_string(struct cmd_state *s, const char *arg, struct err *err)
{
    struct config *c = &s->emu->config;
    const char *n = s->option->name;
    (void)err;
    if (!strcmp(n, "kernel"))
        return cmd_set_string(s, &c->kernel, arg);
    if (!strcmp(n, "initrd"))
        return cmd_set_string(s, &c->initrd, arg);
    if (!strcmp(n, "append"))
        return cmd_set_string(s, &c->append, arg);
    if (!strcmp(n, "bios"))
        return cmd_set_string(s, &c->bios, arg);
    if (!strcmp(n, "L"))
        return cmd_set_string(s, &c->firmware_dir, arg);
    if (!strcmp(n, "pidfile"))
        return cmd_set_string(s, &s->front->pidfile, arg);
    if (!strcmp(n, "D"))
        return cmd_set_string(s, &s->front->log_path, arg);
    return cmd_set_string(s, &s->front->gdb, arg); /* -gdb */
}

static int cmd_gdb_default(struct cmd_state *s, const char *arg, struct err *err)
{
    (void)arg, (void)err;
    return cmd_set_string(s, &s->front->gdb, "tcp::1234");
}

/* The keys that fw/smbios.c asks for. */
static int cmd_smbios(struct cmd_state *s, const char *arg, struct err *err)
{
    static const char *const keys[][8] = {
        { "0", "vendor", "version", "date" }, { "1", "manufacturer", "product", "version", "serial", "uuid", "sku", "family" }, { "3", "manufacturer" }
    };
    struct options o;
    const char *type;
    size_t i, k;
    int r = options_parse(&o, s->emu, "-smbios", arg, NULL, err);
    if (r)
        return r;
    type = options_get(&o, "type");
    for (i = 0; type && i < EMU_ARRAY_LEN(keys) && strcmp(type, keys[i][0]); i++) {
    }
    if (!type || i == EMU_ARRAY_LEN(keys)) {
        r = cmd_bad(s, arg, "only type=0, type=1 and type=3 are supported yet", err);
    } else {
        for (k = 1; k < EMU_ARRAY_LEN(keys[i]) && keys[i][k]; k++)
            options_get(&o, keys[i][k]);
        r = options_check_used(&o, err);
    }
    options_free(&o);
    return r ? r : cmd_add(s, &s->emu->config.smbios, arg, NULL, err);
}

static int cmd_debugcon(struct cmd_state *s, const char *arg, struct err *err)
{
    struct front *f = s->front;
    if (f->debugcon)
        return cmd_bad(s, arg, "there is one debug console; -device isa-debugcon makes others", err);
    if (cmd_add(s, &s->emu->config.devices, "isa-debugcon,iobase=0xe9,chardev=debugcon", "driver", err))
        return EMU_EINVAL;
    return cmd_set_string(s, &f->debugcon, arg);
}
static int cmd_fw_cfg(struct cmd_state *s, const char *arg, struct err *err) { return cmd_add(s, &s->emu->config.fw_cfg, arg, "name", err); }

/* ---- disks ---- */

static int cmd_drive_text(struct cmd_state *s, const char *origin, const char *file, const char *rest, struct err *err)
{
    char *text;
    size_t i, n = 0, size = 2 * strlen(file) + strlen(rest) + 16;
    struct config_line *line;
    if (!*file)
        return err_set(err, EMU_EINVAL, "%s%s\"\": an empty file name", origin, *origin ? " " : "");
    text = emu_alloc(s->emu, size);
    if (!text)
        return err_set(err, EMU_ENOMEM, "%s: out of memory", origin);
    n = (size_t)snprintf(text, size, "file=");
    for (i = 0; file[i]; i++) { /* a comma in a plain file name is doubled */
        if (file[i] == ',')
            text[n++] = ',';
        text[n++] = file[i];
    }
    snprintf(text + n, size - n, ",%s", rest);
    line = front_add_line(s->emu, &s->emu->config.drives, origin, text, NULL, err);
    if (line) { /* messages show what was written */
        char *shown = emu_alloc(s->emu, strlen(origin) + strlen(file) + 2);
        if (shown) {
            sprintf(shown, "%s%s%s", origin, *origin ? " " : "", file);
            emu_free(s->emu, line->opts.origin);
            line->opts.origin = shown;
        }
    }
    emu_free(s->emu, text);
    return line ? 0 : EMU_EINVAL;
}

static int cmd_disk(struct cmd_state *s, const char *arg, struct err *err)
{
    const char *n = s->option->name;
    char origin[16], rest[48];
    snprintf(origin, sizeof origin, "-%s", n);
    if (!strncmp(n, "hd", 2))
        snprintf(rest, sizeof rest, "if=ide,index=%d,media=disk", n[2] - 'a');
    else if (!strncmp(n, "fd", 2))
        snprintf(rest, sizeof rest, "if=floppy,index=%d", n[2] - 'a');
    else
        snprintf(rest, sizeof rest, "if=ide,index=2,media=cdrom");
    return cmd_drive_text(s, origin, arg, rest, err);
}

static int cmd_drive(struct cmd_state *s, const char *arg, struct err *err) { return cmd_add(s, &s->emu->config.drives, arg, NULL, err); }

/* ---- devices, network, characters ---- */

static int cmd_device(struct cmd_state *s, const char *arg, struct err *err)
{
    size_t n = strcspn(arg, ",");
    if (cmd_wants_help(arg)) {
        const struct device_class *c;
        size_t i;
        for (i = 0; (c = device_class_at(i)); i++)
            if (c->user_creatable)
                printf("name \"%s\", bus %s, desc \"%s\"\n", c->name, c->bus, c->help);
        s->printed = true;
        return 0;
    }
    if (arg[n] && cmd_wants_help(arg + n + 1)) {
        char name[64];
        const struct device_class *c;
        const struct opt_desc *o;
        snprintf(name, sizeof name, "%.*s", (int)n, arg);
        c = device_class_find(name);
        if (!c || !c->user_creatable)
            return err_set(err, EMU_EINVAL, "-device %s: unknown device; `-device help` lists them", name);
        printf("%s options:\n", name);
        for (o = c->options; o && o->name; o++)
            printf("  %s=<%s>  %s\n", o->name, o->type, o->help);
        s->printed = true;
        return 0;
    }
    return cmd_add(s, &s->emu->config.devices, arg, "driver", err);
}

static int cmd_netdev(struct cmd_state *s, const char *arg, struct err *err) { return cmd_add(s, &s->emu->config.netdevs, arg, "type", err); }
static int cmd_nic(struct cmd_state *s, const char *arg, struct err *err)
{
    const char *model = strstr(arg, "model=");
    const struct device_class *c;
    size_t i;
    if (model && (!strcmp(model + 6, "help") || !strcmp(model + 6, "?"))) {
        printf("Supported NIC models:\n");
        for (i = 0; (c = device_class_at(i)) != NULL; i++)
            if (board_class_is_nic(c))
                printf("%-12s %s\n", c->name, c->help);
        s->printed = true;
        return 0;
    }
    return cmd_add(s, &s->emu->config.nics, arg, "type", err); /* origin tells -net from -nic */
}
static int cmd_object(struct cmd_state *s, const char *arg, struct err *err) { return cmd_add(s, &s->emu->config.objects, arg, "qom-type", err); }

static int cmd_serial(struct cmd_state *s, const char *arg, struct err *err)
{
    struct config *c = &s->emu->config;
    s->front->serial_given = true;
    if (s->front->serial_count == EMU_ARRAY_LEN(c->serial))
        return cmd_bad(s, arg, "a PC has four serial ports", err);
    return cmd_set_string(s, &c->serial[s->front->serial_count++], arg);
}

static int cmd_parallel(struct cmd_state *s, const char *arg, struct err *err)
{
    struct config *c = &s->emu->config;
    if (s->front->parallel_count == EMU_ARRAY_LEN(c->parallel))
        return cmd_bad(s, arg, "a PC has three parallel ports", err);
    return cmd_set_string(s, &c->parallel[s->front->parallel_count++], arg);
}

static int cmd_monitor(struct cmd_state *s, const char *arg, struct err *err)
{
    struct front *f = s->front;
    f->monitor_given = true;
    if (!strcmp(arg, "none"))
        return 0;
    if (f->monitor_count == EMU_ARRAY_LEN(f->monitor))
        return cmd_bad(s, arg, "too many monitors", err);
    return cmd_set_string(s, &f->monitor[f->monitor_count++], arg);
}

static int cmd_chardev(struct cmd_state *s, const char *arg, struct err *err)
{
    if (cmd_wants_help(arg)) {
        printf("Available chardev backend types:\n  null\n  stdio\n  file\n  pipe\n  pty\n  socket\n  udp\n  ringbuf\n");
        s->printed = true;
        return 0;
    }
    return cmd_add(s, &s->front->chardevs, arg, "backend", err);
}
static int cmd_mon(struct cmd_state *s, const char *arg, struct err *err)
{
    s->front->monitor_given = true;
    return cmd_add(s, &s->front->mons, arg, "chardev", err);
}

static int cmd_echr(struct cmd_state *s, const char *arg, struct err *err)
{
    uint64_t n;
    if (parse_u64(arg, 0, 31, &n))
        return cmd_bad(s, arg, "not the number of a control character (0x01 to 0x1f)", err);
    s->front->echr = (int)n;
    return 0;
}

/* ---- display ---- */

static int cmd_display(struct cmd_state *s, const char *arg, struct err *err)
{
    size_t n = strcspn(arg, ",");
    if (cmd_wants_help(arg)) {
        printf("Available display backend types:\nnone\ncurses\n");
        s->printed = true;
        return 0;
    }
    if (n == 4 && !strncmp(arg, "none", n))
        s->front->display = DISPLAY_NONE;
    else if (n == 6 && !strncmp(arg, "curses", n))
        s->front->display = DISPLAY_CURSES;
    else if (!strncmp(arg, "vnc=", 4) || (n == 3 && (!strncmp(arg, "sdl", n) || !strncmp(arg, "gtk", n) || !strncmp(arg, "vnc", n))) || !strncmp(arg, "egl-headless", n) ||
             !strncmp(arg, "cocoa", n) || !strncmp(arg, "dbus", n) || !strncmp(arg, "spice-app", n))
        return err_set(err, EMU_ENOTSUP, "-display %.*s: not supported yet; use none or curses", (int)n, arg);
    else
        return cmd_bad(s, arg, "unknown display; use none or curses", err);
    if (arg[n] && strncmp(arg + n, ",charset=", 9))
        return err_set(err, EMU_EINVAL, "-display %.*s: unknown option \"%s\"", (int)n, arg, arg + n + 1);
    if (arg[n])
        emu_log(s->emu, LOG_NOTICE, "-display %s: changes nothing here; the terminal gets UTF-8", arg);
    return 0;
}

static int cmd_curses(struct cmd_state *s, const char *arg, struct err *err)
{
    (void)arg, (void)err;
    s->front->display = DISPLAY_CURSES;
    return 0;
}

static int cmd_vga(struct cmd_state *s, const char *arg, struct err *err)
{
    if (cmd_wants_help(arg)) {
        printf("none                 no graphic card\nstd                  standard VGA (default)\n");
        s->printed = true;
        return 0;
    }
    if (!strcmp(arg, "virtio") || !strcmp(arg, "cirrus") || !strcmp(arg, "qxl") || !strcmp(arg, "vmware"))
        return err_set(err, EMU_ENOTSUP, "-vga %s: not supported yet; use std or none", arg);
    if (strcmp(arg, "std") && strcmp(arg, "none"))
        return cmd_bad(s, arg, "unknown graphics card; use std or none", err);
    return cmd_set_string(s, &s->emu->config.vga, arg);
}

/* ---- debug ---- */

static int cmd_log(struct cmd_state *s, const char *arg, struct err *err)
{
    static const struct {
        const char *name;
        unsigned mask;
        const char *help;
    } items[] = {
        { "int", LOG_INT, "interrupts and exceptions as they are delivered" },
        { "cpu_reset", LOG_CPU_RESET, "CPU state before a reset" },
        { "guest_errors", LOG_GUEST_ERROR, "what a guest does that no hardware would answer sensibly" },
        { "in_asm", LOG_IN_ASM, "instructions of each trace when it is first built" },
        { "exec", LOG_EXEC, "where each trace is entered" },
        { "cpu", LOG_CPU, "CPU registers before each trace" },
        { "unimp", LOG_UNIMP, "what is not implemented" },
        { "net", LOG_NET, "connections of the socket backends" },
        { "trace", LOG_TRACE, "commands to disks and CD drives" },
    };
    const char *p = arg;
    size_t i;
    if (cmd_wants_help(arg)) {
        printf("Log items (comma separated):\n");
        for (i = 0; i < EMU_ARRAY_LEN(items); i++)
            printf("%-15s %s\n", items[i].name, items[i].help);
        s->printed = true;
        return 0;
    }
    while (*p) {
        size_t n = strcspn(p, ",");
        for (i = 0; i < EMU_ARRAY_LEN(items); i++)
            if (strlen(items[i].name) == n && !strncmp(items[i].name, p, n))
                break;
        if (i < EMU_ARRAY_LEN(items))
            s->emu->log_mask |= items[i].mask;
        else if (n != 7 || strncmp(p, "nochain", n)) /* traces cost no log line: nothing to switch off */
            return err_set(err, EMU_EINVAL, "-d %.*s: unknown log item; `-d help` lists them", (int)n, p);
        p += n + (p[n] == ',');
    }
    return 0;
}

static const struct cmd_option cmd_options[] = {
    { "help", NULL, CMD_MACHINE, "show this", cmd_help },
    { "h", NULL, CMD_MACHINE, NULL, cmd_help },
    { "version", NULL, CMD_MACHINE, "show the version", cmd_version },
    { "machine", "pc[,accel=tcg][,acpi=on|off][,hpet=on|off]", CMD_MACHINE, "the machine: pc (i440FX + PIIX3)", cmd_machine },
    { "M", "pc", CMD_MACHINE, NULL, cmd_machine },
    { "cpu", "MODEL[,+f][,-f]", CMD_MACHINE, "CPU model (default max; help lists them)", cmd_cpu },
    { "accel", "tcg", CMD_MACHINE, "accepted for QEMU's sake", cmd_accel },
    { "enable-kvm", NULL, CMD_MACHINE, "noted: there is no KVM here", cmd_enable_kvm },
    { "smp", "N", CMD_MACHINE, "number of CPUs (default 1)", cmd_smp },
    { "m", "SIZE", CMD_MACHINE, "guest memory in MiB, or with suffix M, G (default 1G)", cmd_memory },
    { "name", "TEXT", CMD_MACHINE, "name of the guest", cmd_name },
    { "uuid", "UUID", CMD_MACHINE, "system UUID (SMBIOS)", cmd_uuid },
    { "rtc", "base=utc|localtime|DATE[,clock=host|vm]", CMD_MACHINE, "real-time clock", cmd_rtc },
    { "icount", "shift=N|auto[,sleep=on|off]", CMD_MACHINE, "virtual time from the instruction count: repeatable runs", cmd_icount },
    { "seed", "N", CMD_MACHINE, "seed of all guest-visible randomness", cmd_seed },
    { "action", "reboot=reset|shutdown,shutdown=poweroff|pause", CMD_MACHINE, "what reset and power-off do", cmd_action },
    { "nodefaults", NULL, CMD_MACHINE, "no default devices", cmd_flag },
    { "no-acpi", NULL, CMD_MACHINE, "no ACPI tables", cmd_flag },
    { "no-hpet", NULL, CMD_MACHINE, "no HPET", cmd_flag },
    { "device", "NAME[,key=value...]", CMD_MACHINE, "add a device (help lists them; NAME,help its options)", cmd_device },
    { "smbios", "type=N[,key=value...]", CMD_MACHINE, "SMBIOS fields", cmd_smbios },
    { "fw_cfg", "[name=]NAME,file=FILE|string=TEXT", CMD_MACHINE, "a file in the firmware configuration device", cmd_fw_cfg },

    { "hda", "FILE", CMD_BLOCK, "first hard disk (a bare FILE means the same); -hdb, -hdc, -hdd", cmd_disk },
    { "hdb", "FILE", CMD_BLOCK, NULL, cmd_disk },
    { "hdc", "FILE", CMD_BLOCK, NULL, cmd_disk },
    { "hdd", "FILE", CMD_BLOCK, NULL, cmd_disk },
    { "cdrom", "FILE", CMD_BLOCK, "CD-ROM image", cmd_disk },
    { "fda", "FILE", CMD_BLOCK, "floppy image; -fdb", cmd_disk },
    { "fdb", "FILE", CMD_BLOCK, NULL, cmd_disk },
    { "drive", "file=FILE[,format=F][,if=ide|floppy|none][,index=N][,media=disk|cdrom][,snapshot=on|off]", CMD_BLOCK, "a drive (more keys in the manual)", cmd_drive },
    { "snapshot", NULL, CMD_BLOCK, "write to temporary files, not to the images", cmd_flag },

    { "netdev", "user|tap|bridge|socket|stream|dgram|hubport,id=ID[,...]", CMD_NET, "a network backend", cmd_netdev },
    { "nic", "user|tap|...|none[,model=M][,mac=A]", CMD_NET, "a network card with its backend", cmd_nic },
    { "net", "nic|user|tap|socket|none[,...]", CMD_NET, "a member of hub 0", cmd_nic },
    { "object", "filter-dump|filter-impair,id=ID,...", CMD_NET, "a filter on a backend", cmd_object },

    { "serial", "DEV", CMD_CHAR, "serial port: stdio, mon:stdio, file:F, pty, null, none, tcp:..., unix:..., telnet:..., pipe:F, chardev:ID", cmd_serial },
    { "parallel", "DEV", CMD_CHAR, "parallel port", cmd_parallel },
    { "monitor", "DEV", CMD_CHAR, "the monitor", cmd_monitor },
    { "mon", "[chardev=]ID", CMD_CHAR, "the monitor on a -chardev", cmd_mon },
    { "chardev", "BACKEND,id=ID[,...]", CMD_CHAR, "a character backend", cmd_chardev },
    { "debugcon", "DEV", CMD_CHAR, "bytes written to port 0xe9", cmd_debugcon },
    { "echr", "N", CMD_CHAR, "escape character of the terminal instead of Ctrl-A (1)", cmd_echr },

    { "display", "none|curses", CMD_DISPLAY, "the screen: nowhere, or text in the terminal", cmd_display },
    { "curses", NULL, CMD_DISPLAY, NULL, cmd_curses },
    { "nographic", NULL, CMD_DISPLAY, "no screen; serial port and monitor on the terminal", cmd_flag },
    { "vga", "std|none", CMD_DISPLAY, "graphics card", cmd_vga },

    { "boot", "[order=]abcdnop[,menu=on|off][,strict=on|off]", CMD_BOOT, "boot order: a, b floppy, c disk, d CD", cmd_boot },
    { "kernel", "FILE", CMD_BOOT, "Linux, multiboot or PVH kernel to start", cmd_string },
    { "initrd", "FILE", CMD_BOOT, "initial RAM disk (multiboot: modules)", cmd_string },
    { "append", "TEXT", CMD_BOOT, "kernel command line", cmd_string },
    { "bios", "FILE", CMD_BOOT, "firmware instead of the built-in BIOS", cmd_string },
    { "L", "DIR", CMD_BOOT, "where firmware files are looked for", cmd_string },
    { "no-reboot", NULL, CMD_BOOT, "exit instead of resetting", cmd_flag },
    { "no-shutdown", NULL, CMD_BOOT, "stop instead of exiting", cmd_flag },

    { "S", NULL, CMD_DEBUG, "start paused", cmd_flag },
    { "s", NULL, CMD_DEBUG, "same as -gdb tcp::1234", cmd_gdb_default },
    { "gdb", "tcp::PORT|unix:PATH|stdio", CMD_DEBUG, "wait for a debugger there", cmd_string },
    { "d", "ITEM[,ITEM...]", CMD_DEBUG, "log items (help lists them)", cmd_log },
    { "D", "FILE", CMD_DEBUG, "log to a file instead of stderr", cmd_string },
    { "pidfile", "FILE", CMD_DEBUG, "write the process id there", cmd_string },
    { "daemonize", NULL, CMD_DEBUG, "go to the background once started", cmd_flag },

    { "localtime", NULL, CMD_OLD, NULL, cmd_localtime },
    { "no-user-config", NULL, CMD_OLD, NULL, cmd_accepted },
    { "no-fd-bootchk", NULL, CMD_OLD, NULL, cmd_accepted },
    { "msg", "timestamp=on|off", CMD_OLD, NULL, cmd_noted },
    { "overcommit", "...", CMD_OLD, NULL, cmd_noted },
    { "sandbox", "...", CMD_OLD, NULL, cmd_noted },
    { "k", "LAYOUT", CMD_OLD, NULL, cmd_noted },
    { "mem-prealloc", NULL, CMD_OLD, NULL, cmd_noted },
#define CMD_LATER(name, arg) { name, arg, CMD_OLD, NULL, NULL }
    CMD_LATER("usb", NULL), CMD_LATER("usbdevice", "NAME"), CMD_LATER("vnc", "DISPLAY"), CMD_LATER("qmp", "DEV"), CMD_LATER("qmp-pretty", "DEV"),
    CMD_LATER("loadvm", "NAME"), CMD_LATER("incoming", "URI"), CMD_LATER("audiodev", "..."), CMD_LATER("audio", "..."), CMD_LATER("soundhw", "..."),
    CMD_LATER("sdl", NULL), CMD_LATER("spice", "..."), CMD_LATER("virtfs", "..."), CMD_LATER("fsdev", "..."), CMD_LATER("tpmdev", "..."),
    CMD_LATER("numa", "..."), CMD_LATER("readconfig", "FILE"), CMD_LATER("writeconfig", "FILE"), CMD_LATER("trace", "..."), CMD_LATER("blockdev", "..."),
    CMD_LATER("set", "..."), CMD_LATER("global", "..."), CMD_LATER("plugin", "..."), CMD_LATER("runas", "USER"), CMD_LATER("chroot", "DIR"),
    CMD_LATER("dtb", "FILE"), CMD_LATER("acpitable", "..."), CMD_LATER("option-rom", "FILE"), CMD_LATER("mtdblock", "FILE"), CMD_LATER("sd", "FILE"),
    CMD_LATER("pflash", "FILE"), CMD_LATER("full-screen", NULL), CMD_LATER("add-fd", "..."), CMD_LATER("iscsi", "..."), CMD_LATER("preconfig", NULL),
    CMD_LATER("redir", "..."), CMD_LATER("tftp", "DIR"), CMD_LATER("smb", "DIR"), CMD_LATER("watchdog", "NAME"), CMD_LATER("watchdog-action", "ACTION"),
    CMD_LATER("mem-path", "FILE"), CMD_LATER("singlestep", NULL), CMD_LATER("one-insn-per-tb", NULL), CMD_LATER("dfilter", "..."),
    CMD_LATER("semihosting", NULL), CMD_LATER("semihosting-config", "..."), CMD_LATER("prom-env", "..."), CMD_LATER("jitdump", NULL), CMD_LATER("perfmap", NULL),
    CMD_LATER("enable-fips", NULL), CMD_LATER("xen-domid", "ID"), CMD_LATER("nouserconfig", NULL), CMD_LATER("async-teardown", NULL), CMD_LATER("g", "WxH[xD]"),
    CMD_LATER("win2k-hack", NULL), CMD_LATER("bt", "..."), CMD_LATER("portrait", NULL), CMD_LATER("rotate", "N"), CMD_LATER("only-migratable", NULL),
    CMD_LATER("set-compat", "..."), CMD_LATER("xen-attach", NULL), CMD_LATER("xen-domid-restrict", NULL), CMD_LATER("audio-help", NULL),
    CMD_LATER("compat", "..."), CMD_LATER("dump-vmstate", "FILE"), CMD_LATER("enable-sync-profile", NULL), CMD_LATER("run-with", "..."),
#undef CMD_LATER
};

static int cmd_help(struct cmd_state *s, const char *arg, struct err *err)
{
    static const char *const titles[] = { "Machine", "Disks", "Network", "Serial lines and monitor", "Screen", "Boot", "Debugging" };
    unsigned g;
    size_t i;
    (void)arg, (void)err;
    printf("emu " EMU_VERSION ", a PC in one C file\nusage: emu [options] [disk image]\n");
    for (g = 0; g < EMU_ARRAY_LEN(titles); g++) {
        printf("\n%s:\n", titles[g]);
        for (i = 0; i < EMU_ARRAY_LEN(cmd_options); i++)
            if (cmd_options[i].group == g && cmd_options[i].help)
                printf("-%s%s%s\n                %s\n", cmd_options[i].name, cmd_options[i].arg ? " " : "", cmd_options[i].arg ? cmd_options[i].arg : "",
                       cmd_options[i].help);
    }
    printf("\nIn the terminal: Ctrl-A x ends emu, Ctrl-A c goes to the monitor and back, Ctrl-A h shows more.\n");
    s->printed = true;
    return 0;
}

static const struct cmd_option *cmd_find(const char *name)
{
    size_t i;
    for (i = 0; i < EMU_ARRAY_LEN(cmd_options); i++)
        if (!strcmp(cmd_options[i].name, name))
            return &cmd_options[i];
    return NULL;
}

/* The option that takes the terminal for itself, or NULL. */
static const char *cmd_terminal_owner(struct cmd_state *s)
{
    struct front *f = s->front;
    struct config_line *line;
    unsigned i;
    for (i = 0; i < f->monitor_count; i++)
        if (!strcmp(f->monitor[i], "stdio") || !strcmp(f->monitor[i], "/dev/stdin"))
            return "-monitor";
    for (i = 0; i < EMU_ARRAY_LEN(s->emu->config.serial); i++)
        if (s->emu->config.serial[i] && strstr(s->emu->config.serial[i], "stdio"))
            return "-serial";
    for (i = 0; i < EMU_ARRAY_LEN(s->emu->config.parallel); i++)
        if (s->emu->config.parallel[i] && strstr(s->emu->config.parallel[i], "stdio"))
            return "-parallel";
    if (f->debugcon && strstr(f->debugcon, "stdio"))
        return "-debugcon";
    if (f->gdb && !strcmp(f->gdb, "stdio"))
        return "-gdb";
    for (line = f->chardevs; line; line = line->next) {
        const char *backend = options_get(&line->opts, "backend");
        if (backend && !strcmp(backend, "stdio"))
            return "-chardev";
    }
    return NULL;
}

/* What the main job's line leaves open. */
static int cmd_defaults(struct cmd_state *s, struct err *err)
{
    struct config *c = &s->emu->config;
    struct front *f = s->front;
    struct config_line *line;
    const char *owner;
    bool serial = f->serial_given;
    if (!c->cpu_model && cmd_set_string(s, &c->cpu_model, "max"))
        return err_set(err, EMU_ENOMEM, "out of memory");
    if (!c->vga && cmd_set_string(s, &c->vga, c->no_defaults ? "none" : "std"))
        return err_set(err, EMU_ENOMEM, "out of memory");
    if (!c->rtc_base_set) {
        int64_t now = host_wall_ns() / NS_PER_SEC;
        c->rtc_base_s = now + (c->rtc_localtime ? host_local_offset_s(now) : 0);
    }
    if (f->daemonize && (f->nographic || f->display == DISPLAY_CURSES || cmd_terminal_owner(s)))
        return err_set(err, EMU_EINVAL, "-daemonize: gives up the terminal that %s needs; use -display none, and sockets or files in place of stdio",
                       f->display == DISPLAY_CURSES ? "-display curses" : f->nographic ? "-nographic" : cmd_terminal_owner(s));
    if (f->display == DISPLAY_CURSES && f->nographic)
        return err_set(err, EMU_EINVAL, "-nographic and -display curses: both want the terminal; give one of them");
    if (f->nographic)
        f->display = DISPLAY_NONE;
    if (!c->bios && (strpbrk(c->boot_order, "nop") || strpbrk(c->boot_once, "nop")))
        emu_log(s->emu, LOG_NOTICE, "-boot %s: no card boots from the network; a CD image of iPXE does it with -cdrom", *c->boot_once ? c->boot_once : c->boot_order);
    if ((c->initrd || c->append) && !c->kernel)
        return err_set(err, EMU_EINVAL, "-%s: needs -kernel", c->initrd ? "initrd" : "append");
    if (f->display == DISPLAY_CURSES || f->daemonize || !f->program)
        return 0;
    owner = cmd_terminal_owner(s);
    for (line = c->devices; line; line = line->next) /* such a port takes the place of the default one */
        serial |= !strcmp(options_get(&line->opts, "driver") ? options_get(&line->opts, "driver") : "", "isa-serial");
    if (!serial && (!c->no_defaults || f->nographic)) {
        if (owner)
            emu_log(s->emu, LOG_NOTICE, "%s has the terminal; the guest's serial port is not shown%s", owner, strcmp(owner, "-monitor") ? "" : " (-serial mon:stdio shows both)");
        else if (cmd_set_string(s, &c->serial[0], f->monitor_given ? "stdio" : "mon:stdio"))
            return err_set(err, EMU_ENOMEM, "out of memory");
    } else if (!f->monitor_given && f->nographic && !owner && cmd_set_string(s, &f->monitor[f->monitor_count++], "stdio")) {
        return err_set(err, EMU_ENOMEM, "out of memory");
    }
    return 0;
}

EMU_PRIV int front_parse(struct emu *e, int argc, const char *const *argv, struct err *err)
{
    struct cmd_state s = { 0 };
    int i, r;
    s.emu = e;
    s.front = front_of(e);
    e->config.ram_bytes = GIB;
    e->config.cpus = 1;
    s.front->echr = 1;
    for (i = 0; i < argc; i++) {
        const char *a = argv[i], *value = NULL;
        if (a[0] != '-' || !a[1]) {
            if ((r = cmd_drive_text(&s, "", a, "if=ide,index=0,media=disk", err)))
                return r;
            continue;
        }
        s.option = cmd_find(a + (a[1] == '-' ? 2 : 1));
        if (!s.option)
            return err_set(err, EMU_EINVAL, "%s: unknown option; -help lists them", a);
        if (s.option->arg && ++i == argc)
            return err_set(err, EMU_EINVAL, "%s: needs an argument: %s %s", a, a, s.option->arg);
        if (s.option->arg)
            value = argv[i];
        if (!s.option->fn)
            return err_set(err, EMU_ENOTSUP, "%s%s%s: not supported yet", a, value ? " " : "", value ? value : "");
        if ((r = s.option->fn(&s, value, err)))
            return r;
        if (s.printed)
            return 1;
    }
    return cmd_defaults(&s, err);
}

static void cmd_free_lines(struct emu *e, struct config_line **list)
{
    while (*list) {
        struct config_line *line = *list;
        *list = line->next;
        options_free(&line->opts);
        emu_free(e, line);
    }
}

EMU_PRIV void front_free_config(struct emu *e)
{
    struct config *c = &e->config;
    struct front *f = front_of(e);
    unsigned i;
    struct config_line **lists[9];
    char **strings[18];
    unsigned n = 0;
    lists[0] = &c->drives, lists[1] = &c->devices, lists[2] = &c->smbios, lists[3] = &c->fw_cfg, lists[4] = &c->netdevs, lists[5] = &c->nics,
    lists[6] = &c->objects, lists[7] = &f->chardevs, lists[8] = &f->mons;
    for (i = 0; i < EMU_ARRAY_LEN(lists); i++)
        cmd_free_lines(e, lists[i]);
    for (i = 0; i < EMU_ARRAY_LEN(c->serial); i++)
        emu_free(e, c->serial[i]);
    for (i = 0; i < EMU_ARRAY_LEN(c->parallel); i++)
        emu_free(e, c->parallel[i]);
    for (i = 0; i < EMU_ARRAY_LEN(f->monitor); i++)
        emu_free(e, f->monitor[i]);
    strings[n++] = &c->cpu_model, strings[n++] = &c->machine, strings[n++] = &c->kernel, strings[n++] = &c->initrd, strings[n++] = &c->append,
    strings[n++] = &c->dtb, strings[n++] = &c->bios, strings[n++] = &c->name, strings[n++] = &c->uuid, strings[n++] = &c->vga, strings[n++] = &f->gdb,
    strings[n++] = &f->debugcon, strings[n++] = &f->pidfile, strings[n++] = &f->log_path, strings[n++] = &c->firmware_dir;
    for (i = 0; i < n; i++) {
        emu_free(e, *strings[i]);
        *strings[i] = NULL;
    }
    memset(c->serial, 0, sizeof c->serial);
    memset(c->parallel, 0, sizeof c->parallel);
    memset(f->monitor, 0, sizeof f->monitor);
}
#undef CMD_MAX_CPUS
#undef CMD_MAX_RAM
