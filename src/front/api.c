/* front/api.c - the public interface of emu.h: builds, runs and takes apart a machine.
 *
 * Contract   The only definitions of public symbols besides emu_strerror(). main.c uses the same door as every embedding program.
 * Theory     emu_new() gives an empty struct emu; emu_configure() parses the command line, opens backends, builds board, devices
 *            and firmware in the order of front_build[], and resets. emu_destroy() goes the same way back and copes with a
 *            machine that was built half.
 * Invariants 1. After a failed emu_configure() only emu_destroy() makes sense, and it frees everything.
 *            2. No call here blocks, but emu_run() with may_block.
 */
#include "../machine.h"
#include "../cpu/cpu.h"
#include "../net/net.h"
#include "front.h"

/* ---- life ---- */

static void api_log(void *opaque, unsigned mask, const char *text)
{
    struct front *f = opaque;
    if (f->hook_log)
        f->hook_log(f->hook_opaque, text);
    else if (f->log_file && !(mask & LOG_NOTICE))
        fprintf(f->log_file, "%s\n", text);
    else if (f->curses && (mask & LOG_NOTICE))
        curses_note(f->emu, text);
    else
        fprintf(stderr, mask & LOG_NOTICE ? "emu: %s\r\n" : "%s\r\n", text);
}

static void *api_allocate(void *opaque, void *p, size_t size)
{
    struct front *f = opaque;
    return f->hook_allocate(f->hook_opaque, p, size);
}

static bool api_find_disk(struct emu *e, const char *name, struct emu_disk_ops *ops, void **opaque)
{
    struct provided *p = front_provided(e, PROVIDED_DISK, name);
    if (!p)
        return false;
    *ops = p->disk;
    *opaque = p->opaque;
    return true;
}

struct emu *emu_new(const struct emu_hooks *hooks)
{
    struct emu *e;
    struct front *f;
    if (hooks && hooks->allocate) {
        e = hooks->allocate(hooks->opaque, NULL, sizeof *e);
        f = e ? hooks->allocate(hooks->opaque, NULL, sizeof *f) : NULL;
        if (e && !f)
            hooks->allocate(hooks->opaque, e, 0);
    } else {
        e = malloc(sizeof *e);
        f = e ? malloc(sizeof *f) : NULL;
        if (e && !f)
            free(e);
    }
    if (!e || !f)
        return NULL;
    memset(e, 0, sizeof *e);
    memset(f, 0, sizeof *f);
    e->front = f;
    f->emu = e;
    e->wake_read = e->wake_write = HOST_FD_NONE;
    e->hook_opaque = f;
    e->log_fn = api_log;
    e->find_disk = api_find_disk;
    if (hooks) {
        f->hook_log = hooks->log;
        f->hook_allocate = hooks->allocate;
        f->hook_opaque = hooks->opaque;
        if (hooks->allocate)
            e->alloc_fn = api_allocate;
    }
    return e;
}

EMU_PRIV struct provided *front_provided(struct emu *e, int kind, const char *name)
{
    struct provided *p;
    for (p = front_of(e)->provided; p; p = p->next)
        if ((int)p->kind == kind && !strcmp(p->name, name))
            return p;
    return NULL;
}

static struct provided *api_provide(struct emu *e, int kind, const char *name, void *opaque, int *error)
{
    struct provided *p;
    *error = EMU_EINVAL;
    if (!e || !name || !*name || front_of(e)->configured)
        return NULL;
    *error = EMU_EEXIST;
    if (front_provided(e, kind, name))
        return NULL;
    *error = EMU_ENOMEM;
    p = emu_alloc(e, sizeof *p);
    if (!p)
        return NULL;
    p->name = emu_strdup(e, name);
    if (!p->name) {
        emu_free(e, p);
        return NULL;
    }
    if (kind == PROVIDED_DISK)
        p->kind = PROVIDED_DISK;
    else
        p->kind = kind == PROVIDED_SERIAL ? PROVIDED_SERIAL : PROVIDED_NET;
    p->opaque = opaque;
    p->next = front_of(e)->provided;
    front_of(e)->provided = p;
    *error = 0;
    return p;
}

int emu_provide_disk(struct emu *e, const char *name, const struct emu_disk_ops *ops, void *opaque)
{
    int error;
    struct provided *p;
    if (!ops || !ops->read || (!ops->read_only && !ops->write) || ops->bytes % 512)
        return EMU_EINVAL;
    p = api_provide(e, PROVIDED_DISK, name, opaque, &error);
    if (p)
        p->disk = *ops;
    return error;
}

int emu_provide_serial(struct emu *e, const char *name, void (*output)(void *, const void *, size_t), void *opaque)
{
    int error;
    struct provided *p = output ? api_provide(e, PROVIDED_SERIAL, name, opaque, &error) : NULL;
    if (p)
        p->output = output;
    return output ? error : EMU_EINVAL;
}

int emu_provide_net(struct emu *e, const char *name, void (*frame)(void *, const void *, size_t), void *opaque)
{
    int error;
    struct provided *p = frame ? api_provide(e, PROVIDED_NET, name, opaque, &error) : NULL;
    if (p)
        p->output = frame;
    return frame ? error : EMU_EINVAL;
}

static int api_open_log(struct emu *e, struct err *err)
{
    struct front *f = front_of(e);
    if (!f->log_path)
        return 0;
    f->log_file = fopen(f->log_path, "w");
    if (!f->log_file)
        return err_set(err, EMU_EIO, "-D %s: cannot write there", f->log_path);
    setvbuf(f->log_file, NULL, _IOLBF, 0);
    return 0;
}

/* -chardev lines first, since the others name them. */
static int api_create_chars(struct emu *e, struct err *err)
{
    struct front *f = front_of(e);
    struct config_line *line;
    for (line = f->chardevs; line; line = line->next) {
        const char *id = options_get(&line->opts, "id");
        if (!id)
            return err_set(err, EMU_EINVAL, "%s: needs id=", line->opts.origin);
        if (!chr_create(e, id, &line->opts, err))
            return strncmp(err->text, line->opts.origin, strlen(line->opts.origin)) ? err_prefix(err, EMU_EINVAL, "%s", line->opts.origin) : EMU_EINVAL;
    }
    if (f->debugcon && !chr_open(e, "debugcon", f->debugcon, err))
        return err_prefix(err, EMU_EINVAL, "-debugcon %s", f->debugcon);
    return 0;
}

static int api_create_monitors(struct emu *e, struct err *err)
{
    struct front *f = front_of(e);
    struct config_line *line;
    unsigned i;
    int r;
    for (i = 0; i < f->monitor_count; i++) {
        char id[32];
        struct chr *c;
        snprintf(id, sizeof id, "compat_monitor%u", i);
        c = chr_open(e, id, f->monitor[i], err);
        if (!c)
            return err_prefix(err, EMU_EINVAL, "-monitor %s", f->monitor[i]);
        if ((r = monitor_create(e, c, err)))
            return r;
    }
    for (line = f->mons; line; line = line->next) {
        const char *id = options_get(&line->opts, "chardev"), *mode = options_get(&line->opts, "mode");
        struct chr *c = id ? chr_find(e, id) : NULL;
        options_get(&line->opts, "id"), options_get(&line->opts, "pretty");
        if (mode && strcmp(mode, "readline"))
            return err_set(err, EMU_ENOTSUP, "%s: mode=%s is not supported yet", line->opts.origin, mode);
        if (!c)
            return err_set(err, EMU_EINVAL, "%s: there is no -chardev with that id", line->opts.origin);
        if ((r = options_check_used(&line->opts, err)) || (r = monitor_create(e, c, err)))
            return r;
    }
    return 0;
}

EMU_PRIV int front_configure(struct emu *e, int argc, const char *const *argv, struct err *err)
{
    struct front *f = front_of(e);
    int r = front_parse(e, argc, argv, err);
    if (r)
        return r;
    if ((r = api_open_log(e, err)) || (r = loop_create(e)) || (r = clock_create(e)) || (r = memory_create(e, err)) || (r = api_create_chars(e, err)) ||
        (r = board_create(e, err)) || (r = api_create_monitors(e, err)) || (r = f->gdb ? gdb_create(e, f->gdb, err) : 0) ||
        (r = f->display == DISPLAY_CURSES ? curses_create(e, err) : 0) || (r = f->program ? silence_create(e) : 0))
        return r == EMU_ENOMEM && !err->text[0] ? err_set(err, r, "out of memory") : r;
    f->configured = true;
    board_reset(e);
    if (e->config.start_paused)
        machine_pause(e);
    return 0;
}

int emu_configure(struct emu *e, int argc, const char *const *argv, char *error, size_t error_size)
{
    struct err err;
    int r;
    err.text[0] = 0;
    if (!e || argc < 0 || (argc && !argv) || front_of(e)->configured)
        r = err_set(&err, EMU_EINVAL, "emu_configure: no machine, no arguments, or configured before");
    else
        r = front_configure(e, argc, argv, &err);
    if (r && error && error_size)
        snprintf(error, error_size, "%s", err.text);
    return r > 0 ? 0 : r;
}

void emu_destroy(struct emu *e)
{
    struct front *f;
    void *(*allocate)(void *, void *, size_t);
    void *opaque;
    if (!e)
        return;
    f = front_of(e);
    silence_destroy(e);
    curses_destroy(e);
    gdb_destroy(e);
    monitor_destroy_all(e);
    board_destroy(e);
    blk_close_all(e);
    chr_close_all(e);
    memory_destroy(e);
    clock_destroy(e);
    loop_destroy(e);
    front_free_config(e);
    while (f->provided) {
        struct provided *p = f->provided;
        f->provided = p->next;
        emu_free(e, p->name);
        emu_free(e, p);
    }
    emu_free(e, f->waits);
    if (f->log_file)
        fclose(f->log_file);
    allocate = f->hook_allocate;
    opaque = f->hook_opaque;
    if (allocate) {
        allocate(opaque, f, 0);
        allocate(opaque, e, 0);
    } else {
        free(f);
        free(e);
    }
}

/* ---- running ---- */

static void api_fill_waits(struct emu *e, struct emu_result *result)
{
    struct front *f = front_of(e);
    struct watch *w;
    size_t n = 0;
    if (f->wait_capacity < e->watch_count + 1) {
        size_t capacity = e->watch_count * 2 + 8;
        struct emu_wait *waits = emu_realloc(e, f->waits, capacity * sizeof *waits);
        if (waits) {
            f->waits = waits;
            f->wait_capacity = capacity;
        }
    }
    if (e->wake_read != HOST_FD_NONE && n < f->wait_capacity) {
        f->waits[n].fd = e->wake_read;
        f->waits[n++].events = EMU_WANT_READ;
    }
    for (w = e->watches; w && n < f->wait_capacity; w = w->next)
        if (w->want) {
            f->waits[n].fd = w->fd;
            f->waits[n++].events = (w->want & HOST_READ ? EMU_WANT_READ : 0) | (w->want & HOST_WRITE ? EMU_WANT_WRITE : 0);
        }
    result->waits = f->waits;
    result->wait_count = n;
}

int emu_run(struct emu *e, const struct emu_limits *limits, struct emu_result *result)
{
    struct emu_result ignored;
    int64_t deadline;
    if (!e || !front_of(e)->configured || e->current_cpu)
        return EMU_EINVAL;
    if (!result)
        result = &ignored;
    memset(result, 0, sizeof *result);
    if (limits)
        result->reason = machine_run(e, limits->host_ns, limits->instructions, limits->may_block != 0);
    else
        result->reason = machine_run(e, -1, -1, true);
    result->exit_status = e->exit_status;
    result->instructions = e->insn_total;
    result->now_ns = emu_now_ns(e);
    deadline = clock_next_deadline(e);
    result->next_deadline_ns = deadline == INT64_MAX ? INT64_MAX : EMU_MAX(deadline - result->now_ns, 0);
    api_fill_waits(e, result);
    return 0;
}

void emu_stop(struct emu *e)
{
    if (e)
        emu_request_outside(e, OUTSIDE_EMBEDDER);
}

void emu_reset(struct emu *e)
{
    if (e)
        emu_request(e, REQ_RESET);
}

void emu_power_button(struct emu *e)
{
    if (e)
        emu_request(e, REQ_POWERDOWN);
}

int emu_pause(struct emu *e)
{
    if (!e || !front_of(e)->configured)
        return EMU_EINVAL;
    emu_request(e, REQ_STOP);
    return 0;
}

int emu_resume(struct emu *e) { return e && front_of(e)->configured ? machine_resume(e) : EMU_EINVAL; }

/* ---- memory and registers ---- */

int emu_read_memory(struct emu *e, uint64_t gpa, void *buffer, size_t bytes)
{
    if (!e || !front_of(e)->configured || (!buffer && bytes))
        return EMU_EINVAL;
    mem_read(e, gpa, buffer, bytes);
    return 0;
}

int emu_write_memory(struct emu *e, uint64_t gpa, const void *buffer, size_t bytes)
{
    if (!e || !front_of(e)->configured || (!buffer && bytes))
        return EMU_EINVAL;
    mem_write(e, gpa, buffer, bytes);
    return 0;
}

static struct cpu *api_cpu(struct emu *e, unsigned cpu) { return e && front_of(e)->configured && cpu < e->cpu_count ? e->cpus[cpu] : NULL; }

int emu_read_virtual(struct emu *e, unsigned cpu, uint64_t linear, void *buffer, size_t bytes)
{
    struct cpu *c = api_cpu(e, cpu);
    if (!c || (!buffer && bytes))
        return EMU_EINVAL;
    return cpu_debug_read(c, linear, buffer, bytes) ? 0 : EMU_EFAULT;
}

int emu_write_virtual(struct emu *e, unsigned cpu, uint64_t linear, const void *buffer, size_t bytes)
{
    struct cpu *c = api_cpu(e, cpu);
    if (!c || (!buffer && bytes))
        return EMU_EINVAL;
    return cpu_debug_write(c, linear, buffer, bytes) ? 0 : EMU_EFAULT;
}

unsigned emu_cpu_count(const struct emu *e) { return e ? e->cpu_count : 0; }

static const char *const api_gpr_names[16] = { "rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15" };
static const char *const api_seg_names[8] = { "es", "cs", "ss", "ds", "fs", "gs", "ldtr", "tr" };

/* The register of that name where it is a plain 64-bit field, or NULL. */
static uint64_t *api_plain_register(struct cpu *c, const char *name)
{
    unsigned i;
    for (i = 0; i < 16; i++)
        if (!strcmp(name, api_gpr_names[i]))
            return &c->gpr[i];
    if (!strcmp(name, "rip"))
        return &c->rip;
    if (!strcmp(name, "cr2"))
        return &c->cr2;
    if (name[0] == 'd' && name[1] == 'r' && name[2] >= '0' && name[2] <= '7' && !name[3])
        return &c->dr[name[2] - '0'];
    return NULL;
}

int emu_read_register(struct emu *e, unsigned cpu, const char *name, uint64_t *value)
{
    struct cpu *c = api_cpu(e, cpu);
    uint64_t *plain;
    unsigned i;
    if (!c || !name || !value)
        return EMU_EINVAL;
    plain = api_plain_register(c, name);
    if (plain) {
        *value = *plain;
        return 0;
    }
    for (i = 0; i < 8; i++)
        if (!strcmp(name, api_seg_names[i])) {
            *value = c->seg[i].selector;
            return 0;
        }
    if (!strcmp(name, "rflags"))
        *value = cpu_eflags(c);
    else if (!strcmp(name, "cr0"))
        *value = c->cr0;
    else if (!strcmp(name, "cr3"))
        *value = c->cr3;
    else if (!strcmp(name, "cr4"))
        *value = c->cr4;
    else if (!strcmp(name, "cr8"))
        *value = lapic_get_tpr(c);
    else if (!strcmp(name, "efer"))
        *value = c->efer;
    else if (!strcmp(name, "fs_base"))
        *value = c->seg[SEG_FS].base;
    else if (!strcmp(name, "gs_base"))
        *value = c->seg[SEG_GS].base;
    else
        return EMU_ENOENT;
    return 0;
}

int emu_write_register(struct emu *e, unsigned cpu, const char *name, uint64_t value)
{
    struct cpu *c = api_cpu(e, cpu);
    uint64_t *plain;
    unsigned i;
    if (!c || !name)
        return EMU_EINVAL;
    plain = api_plain_register(c, name);
    if (plain) {
        *plain = value;
        return 0;
    }
    for (i = 0; i < 6; i++)
        if (!strcmp(name, api_seg_names[i])) {
            if (c->mode != MODE_REAL || value > 0xFFFF)
                return EMU_EINVAL;
            cpu_set_segment_real(c, i, (uint16_t)value);
            return 0;
        }
    if (!strcmp(name, "rflags")) {
        cpu_set_eflags(c, (uint32_t)value);
    } else if (!strcmp(name, "fs_base") || !strcmp(name, "gs_base")) {
        c->seg[name[0] == 'f' ? SEG_FS : SEG_GS].base = value;
        cpu_update_mode(c);
    } else if (!strcmp(name, "cr8")) {
        lapic_set_tpr(c, value);
    } else {
        return emu_read_register(e, cpu, name, &value) ? EMU_ENOENT : EMU_EINVAL;
    }
    return 0;
}

uint64_t emu_memory_hash(struct emu *e)
{
    uint64_t hash = UINT64_C(0xCBF29CE484222325), i;
    if (!e || !e->ram)
        return 0;
    for (i = 0; i < e->ram->size_bytes; i += 8)
        hash = (hash ^ ld64le(e->ram->bytes + i)) * UINT64_C(0x100000001B3);
    return hash;
}

/* ---- serial lines, screen, keys, monitor ---- */

int emu_serial_input(struct emu *e, const char *name, const void *bytes, size_t count)
{
    struct provided *p = e && name ? front_provided(e, PROVIDED_SERIAL, name) : NULL;
    size_t room;
    if (!p)
        return EMU_ENOENT;
    if (!p->chr || !p->chr->receive)
        return 0;
    room = p->chr->can_receive ? p->chr->can_receive(p->chr->opaque) : 0;
    room = EMU_MIN(EMU_MIN(room, count), (size_t)INT_MAX);
    if (room)
        p->chr->receive(p->chr->opaque, bytes, room);
    return (int)room;
}

int emu_net_input(struct emu *e, const char *name, const void *frame, size_t bytes)
{
    struct provided *p = e && name ? front_provided(e, PROVIDED_NET, name) : NULL;
    struct host_iov piece;
    struct net_frame f = { 0 };
    if (!p || !p->port)
        return EMU_ENOENT;
    if (!frame || bytes < 14 || bytes > 65549)
        return EMU_EINVAL;
    piece.base = (void *)(uintptr_t)frame;
    piece.size = bytes;
    f.pieces = &piece;
    f.count = 1;
    f.size = bytes;
    return net_send(p->port, &f);
}

/* ---- -netdev embed,name=NAME: the host program's end of a line ---- */

struct api_net {
    struct net_port port;
    struct provided *provided;
    uint8_t *flat; /* a frame in one piece */
};

static int api_net_frame(void *opaque, const struct net_frame *f)
{
    struct api_net *n = opaque;
    const void *bytes = f->pieces[0].base;
    if (f->count > 1) {
        if (f->size > 65550) {
            n->port.drops_in++;
            return 1;
        }
        net_frame_copy(f, 0, n->flat, f->size);
        bytes = n->flat;
    }
    n->provided->output(n->provided->opaque, bytes, f->size);
    return 1;
}

static int api_net_receive(struct net_port *p, const struct net_frame *f)
{
    if (f->gso != NET_GSO_NONE || f->needs_csum)
        net_frame_cut(p->emu, f, api_net_frame, p->opaque);
    else
        api_net_frame(p->opaque, f);
    return 1;
}

static void api_net_destroy(struct net_port *p)
{
    struct api_net *n = p->opaque;
    struct emu *e = p->emu;
    n->provided->port = NULL;
    net_port_unregister(e, p);
    emu_free(e, n->flat);
    emu_free(e, n);
}

EMU_PRIV int netdev_embed_create(struct emu *e, const char *id, struct options *opts, struct net_port **out, struct err *err)
{
    const char *name = options_get(opts, "name");
    struct provided *p = name ? front_provided(e, PROVIDED_NET, name) : NULL;
    struct api_net *n;
    if (!p)
        return err_set(err, EMU_ENOENT, "%s: name=%s: the program provided no such network", opts->origin, name ? name : "");
    if (p->port)
        return err_set(err, EMU_EBUSY, "%s: name=%s: in use by %s", opts->origin, name, p->port->name);
    n = emu_alloc(e, sizeof *n);
    if (!n || !(n->flat = emu_alloc(e, 65550))) {
        emu_free(e, n);
        return err_set(err, EMU_ENOMEM, "%s: out of memory", opts->origin);
    }
    n->provided = p;
    snprintf(n->port.name, sizeof n->port.name, "%s", id);
    snprintf(n->port.model, sizeof n->port.model, "embed");
    n->port.opaque = n;
    n->port.takes_gso = n->port.takes_csum = true;
    n->port.max_frame = 65550;
    n->port.receive = api_net_receive;
    n->port.destroy = api_net_destroy;
    net_port_register(e, &n->port);
    p->port = &n->port;
    *out = &n->port;
    return 0;
}

int emu_get_screen(struct emu *e, struct emu_screen *screen)
{
    struct screen s = { 0 };
    if (!e || !screen)
        return EMU_EINVAL;
    if (!e->display)
        return EMU_ENOENT;
    e->display->update(e->display->opaque, &s);
    screen->pixels = s.pixels;
    screen->width = s.width;
    screen->height = s.height;
    screen->stride_pixels = s.stride_pixels;
    return 0;
}

uint64_t emu_screen_changes(struct emu *e) { return e && e->display ? e->display->change_count(e->display->opaque) : 0; }

int emu_send_key(struct emu *e, const char *name, int down)
{
    int key = e && name ? front_key_number(name) : -1;
    if (key < 0)
        return EMU_ENOENT;
    input_key(e, key, down != 0);
    return 0;
}

void emu_send_mouse(struct emu *e, int dx, int dy, int wheel, unsigned buttons)
{
    if (e)
        input_mouse(e, dx, dy, wheel, buttons);
}

int emu_monitor(struct emu *e, const char *line, char *reply, size_t reply_size)
{
    struct buf out;
    int r = 0;
    if (!e || !line || !front_of(e)->configured)
        return EMU_EINVAL;
    buf_init(&out, e);
    monitor_command(e, line, &out);
    if (reply && reply_size)
        snprintf(reply, reply_size, "%s", out.data ? (char *)out.data : "");
    if (out.failed)
        r = EMU_ENOMEM;
    buf_free(&out);
    return r;
}
