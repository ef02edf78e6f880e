/* machine/util.c - errors, log lines, allocation, byte buffers and option lists.
 *
 * Models     The key=value syntax of QEMU's command line: "," separates, ",," is a comma, a bare first word has an implied key.
 * Contract   Used by everybody, knows nobody. err_set() never fails; a struct buf that could not grow says so in `failed`.
 * Theory     All memory goes through the embedder's one allocation function (realloc-like); without one, libc's. In the
 *            EMU_TORTURE build every allocation may fail by a counter, so that tests reach each failure path.
 * Invariants 1. Memory from emu_alloc() is zeroed.
 *            2. An option's text is never changed after parsing; `used` is all that reading sets.
 */
#include "../machine.h"

/* ---- errors and log ---- */

EMU_PRIV int err_set(struct err *err, int code, const char *fmt, ...)
{
    va_list ap;
    if (err) {
        va_start(ap, fmt);
        vsnprintf(err->text, sizeof err->text, fmt, ap);
        va_end(ap);
    }
    return code;
}

EMU_PRIV int err_prefix(struct err *err, int code, const char *fmt, ...)
{
    struct err was;
    const char *named;
    size_t n;
    va_list ap;
    if (!err)
        return code;
    was = *err;
    va_start(ap, fmt);
    vsnprintf(err->text, sizeof err->text, fmt, ap);
    va_end(ap);
    n = strlen(err->text);
    named = strchr(err->text, ' ');
    if (named && !strncmp(was.text, named + 1, strlen(named + 1)) && was.text[strlen(named + 1)] == ':') /* "-serial X" before "X: ...": X once */
        snprintf(err->text + n, sizeof err->text - n, "%s", was.text + strlen(named + 1));
    else
        snprintf(err->text + n, sizeof err->text - n, ": %s", was.text);
    return code;
}

const char *emu_strerror(int error)
{
    switch (error) {
    case EMU_OK: return "success";
    case EMU_EINVAL: return "invalid argument";
    case EMU_ENOMEM: return "out of memory";
    case EMU_EIO: return "input/output error";
    case EMU_ENOENT: return "no such file";
    case EMU_EACCES: return "permission denied";
    case EMU_EBUSY: return "in use by another process";
    case EMU_ENOSPC: return "no space left on the host's disk";
    case EMU_EROFS: return "read-only";
    case EMU_ENOTSUP: return "not supported";
    case EMU_EFORMAT: return "damaged or unknown format";
    case EMU_ERANGE: return "out of range";
    case EMU_EAGAIN: return "not ready";
    case EMU_EPIPE: return "the peer is gone";
    case EMU_EEXIST: return "exists already";
    case EMU_ECONNREFUSED: return "connection refused";
    case EMU_EUNREACH: return "unreachable";
    case EMU_ETIMEDOUT: return "timed out";
    case EMU_ECONNRESET: return "connection reset";
    case EMU_EMSGSIZE: return "message too long";
    case EMU_EFAULT: return "address not mapped";
    case EMU_EADDRINUSE: return "address in use";
    default: return "unknown error";
    }
}

EMU_PRIV void emu_log(struct emu *e, unsigned mask, const char *fmt, ...)
{
    char text[1024];
    va_list ap;
    if (!(mask & (e->log_mask | LOG_NOTICE)))
        return;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    if (e->log_fn)
        e->log_fn(e->hook_opaque, mask, text);
    else
        fprintf(stderr, mask & LOG_NOTICE ? "emu: %s\n" : "%s\n", text);
}

EMU_PRIV void emu_log_once(struct emu *e, bool *said, unsigned mask, const char *fmt, ...)
{
    char text[1024];
    va_list ap;
    if (*said || !(mask & (e->log_mask | LOG_NOTICE)))
        return;
    *said = true;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    emu_log(e, mask, "%s", text);
}

/* ---- allocation ---- */

EMU_PRIV void *emu_realloc(struct emu *e, void *p, size_t size)
{
#ifdef EMU_TORTURE
    if (e && size && e->torture_alloc_countdown && --e->torture_alloc_countdown == 0)
        return NULL;
#endif
    if (e && e->alloc_fn)
        return e->alloc_fn(e->hook_opaque, p, size);
    if (!size) {
        free(p);
        return NULL;
    }
    return realloc(p, size);
}

EMU_PRIV void *emu_alloc(struct emu *e, size_t size)
{
    void *p = emu_realloc(e, NULL, size ? size : 1);
    if (p)
        memset(p, 0, size);
    return p;
}

EMU_PRIV void emu_free(struct emu *e, void *p)
{
    if (p)
        emu_realloc(e, p, 0);
}

EMU_PRIV char *emu_strdup(struct emu *e, const char *s)
{
    size_t n = strlen(s) + 1;
    char *p = emu_alloc(e, n);
    if (p)
        memcpy(p, s, n);
    return p;
}

/* ---- byte buffers ---- */

EMU_PRIV void buf_init(struct buf *b, struct emu *e)
{
    memset(b, 0, sizeof *b);
    b->emu = e;
}

EMU_PRIV void buf_free(struct buf *b)
{
    emu_free(b->emu, b->data);
    buf_init(b, b->emu);
}

/* Room for `more` bytes and a terminating zero. */
static bool util_buf_grow(struct buf *b, size_t more)
{
    size_t want;
    uint8_t *p;
    if (b->failed)
        return false;
    if (more < b->capacity - b->size && b->capacity)
        return true;
    want = EMU_MAX(b->capacity * 2, b->size + more + 1);
    want = EMU_MAX(want, (size_t)64);
    p = want > b->size ? emu_realloc(b->emu, b->data, want) : NULL;
    if (!p) {
        b->failed = true;
        return false;
    }
    b->data = p;
    b->capacity = want;
    return true;
}

EMU_PRIV void buf_add(struct buf *b, const void *data, size_t size)
{
    if (!util_buf_grow(b, size))
        return;
    if (size)
        memcpy(b->data + b->size, data, size);
    b->size += size;
    b->data[b->size] = 0;
}

EMU_PRIV void buf_printf(struct buf *b, const char *fmt, ...)
{
    char text[512];
    va_list ap, again;
    int n;
    va_start(ap, fmt);
    va_copy(again, ap);
    n = vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    if (n >= 0 && (size_t)n < sizeof text) {
        buf_add(b, text, (size_t)n);
    } else if (n >= 0 && util_buf_grow(b, (size_t)n)) {
        vsnprintf((char *)b->data + b->size, (size_t)n + 1, fmt, again);
        b->size += (size_t)n;
    }
    va_end(again);
}

/* ---- numbers ---- */

EMU_PRIV int parse_u64(const char *s, uint64_t min, uint64_t max, uint64_t *value)
{
    uint64_t v = 0;
    unsigned base = 10;
    const char *p = s;
    if (p[0] == '0' && (p[1] == 'x' || p[1] == 'X')) {
        base = 16;
        p += 2;
    } else if (p[0] == '0' && p[1]) {
        base = 8;
        p++;
    }
    if (!*p)
        return EMU_EINVAL;
    for (; *p; p++) {
        unsigned d;
        if (*p >= '0' && *p <= '9')
            d = (unsigned)(*p - '0');
        else if (*p >= 'a' && *p <= 'f')
            d = (unsigned)(*p - 'a') + 10;
        else if (*p >= 'A' && *p <= 'F')
            d = (unsigned)(*p - 'A') + 10;
        else
            return EMU_EINVAL;
        if (d >= base)
            return EMU_EINVAL;
        if (v > (UINT64_MAX - d) / base)
            return EMU_ERANGE;
        v = v * base + d;
    }
    if (v < min || v > max)
        return EMU_ERANGE;
    *value = v;
    return 0;
}

/* "64", "64K", "1.5G", "0x100000": up to nine decimals after the point are honoured. */
EMU_PRIV int parse_size(const char *s, char default_suffix, uint64_t *bytes)
{
    char number[40];
    static const char suffixes[] = "bkmgtpe";
    uint64_t whole = 0, unit, high;
    uint64_t fraction = 0, fraction_scale = 1;
    size_t n = 0;
    char suffix = default_suffix ? default_suffix : 'b';
    const char *where;
    bool hex = s[0] == '0' && (s[1] == 'x' || s[1] == 'X');
    while (s[n] && n < sizeof number - 1 &&
           ((s[n] >= '0' && s[n] <= '9') || (hex && (n == 1 || (s[n] >= 'a' && s[n] <= 'f') || (s[n] >= 'A' && s[n] <= 'F')))))
        n++;
    if (!n || n == sizeof number - 1)
        return EMU_EINVAL;
    memcpy(number, s, n);
    number[n] = 0;
    if (!hex) { /* a leading zero is no octal here */
        const char *q = number;
        while (*q == '0' && q[1])
            q++;
        memmove(number, q, strlen(q) + 1);
    }
    if (parse_u64(number, 0, UINT64_MAX, &whole))
        return EMU_ERANGE;
    s += n;
    if (*s == '.' && !hex) {
        for (s++; *s >= '0' && *s <= '9'; s++)
            if (fraction_scale < UINT64_C(1000000000)) {
                fraction = fraction * 10 + (uint64_t)(*s - '0');
                fraction_scale *= 10;
            }
    }
    if (*s) {
        suffix = *s >= 'A' && *s <= 'Z' ? (char)(*s - 'A' + 'a') : *s;
        s++;
        if (suffix != 'b' && ((s[0] == 'i' && (s[1] == 'B' || s[1] == 'b')) || s[0] == 'B' || s[0] == 'b'))
            s += s[0] == 'i' ? 2 : 1;
    }
    where = strchr(suffixes, suffix >= 'A' && suffix <= 'Z' ? suffix - 'A' + 'a' : suffix);
    if (*s || !where)
        return EMU_EINVAL;
    unit = UINT64_C(1) << (10 * (unsigned)(where - suffixes));
    *bytes = mul64(whole, unit, &high);
    if (high)
        return EMU_ERANGE;
    *bytes += muldiv64(fraction, unit, fraction_scale);
    return 0;
}

/* ---- option lists ---- */

EMU_PRIV int options_set(struct options *o, const char *key, const char *value)
{
    struct option *items = emu_realloc(o->emu, o->items, (o->count + 1) * sizeof *items);
    if (!items)
        return EMU_ENOMEM;
    o->items = items;
    items[o->count].key = emu_strdup(o->emu, key);
    items[o->count].value = emu_strdup(o->emu, value);
    items[o->count].used = false;
    if (!items[o->count].key || !items[o->count].value) {
        emu_free(o->emu, items[o->count].key);
        emu_free(o->emu, items[o->count].value);
        return EMU_ENOMEM;
    }
    o->count++;
    return 0;
}

/* One element up to a single comma; ",," becomes ",". Returns the text after it, or NULL at the end. */
static const char *util_option_element(const char *text, char *out)
{
    while (*text) {
        if (*text == ',') {
            if (text[1] != ',') {
                *out = 0;
                return text + 1;
            }
            text++;
        }
        *out++ = *text++;
    }
    *out = 0;
    return NULL;
}

EMU_PRIV int options_parse(struct options *o, struct emu *e, const char *origin, const char *text, const char *implied_key, struct err *err)
{
    size_t room = strlen(text) + 1, origin_size = strlen(origin) + room + 2;
    char *element = emu_alloc(e, room);
    const char *next = text;
    bool first = true;
    int r = 0;
    memset(o, 0, sizeof *o);
    o->emu = e;
    o->origin = emu_alloc(e, origin_size);
    if (!element || !o->origin)
        r = EMU_ENOMEM;
    else
        snprintf(o->origin, origin_size, "%s %s", origin, text);
    while (!r && next && *text) {
        char *equals;
        const char *path;
        next = util_option_element(next, element);
        equals = strchr(element, '=');
        path = strpbrk(element, "/:");
        if (first && implied_key && (!equals || (path && path < equals))) {
            r = options_set(o, implied_key, element);
        } else if (equals) {
            *equals = 0;
            r = options_set(o, element, equals + 1);
        } else if (!strcmp(element, "nowait") || !strcmp(element, "noserver")) { /* the old spelling of wait=off */
            r = options_set(o, element + 2, "off");
        } else if (*element) {
            r = options_set(o, element, "on");
        }
        first = false;
    }
    emu_free(e, element);
    if (r) {
        options_free(o);
        return err_set(err, r, "%s %s: out of memory", origin, text);
    }
    return 0;
}

EMU_PRIV void options_free(struct options *o)
{
    size_t i;
    for (i = 0; i < o->count; i++) {
        emu_free(o->emu, o->items[i].key);
        emu_free(o->emu, o->items[i].value);
    }
    emu_free(o->emu, o->items);
    emu_free(o->emu, o->origin);
    o->items = NULL;
    o->origin = NULL;
    o->count = 0;
}

EMU_PRIV const char *options_get(struct options *o, const char *key)
{
    const char *value = NULL;
    size_t i;
    for (i = 0; i < o->count; i++)
        if (!strcmp(o->items[i].key, key)) {
            o->items[i].used = true;
            value = o->items[i].value;
        }
    return value;
}

EMU_PRIV const char *options_get_nth(struct options *o, const char *key, size_t n)
{
    size_t i;
    for (i = 0; i < o->count; i++)
        if (!strcmp(o->items[i].key, key) && n-- == 0) {
            o->items[i].used = true;
            return o->items[i].value;
        }
    return NULL;
}

EMU_PRIV int options_bool(struct options *o, const char *key, bool *value, struct err *err)
{
    const char *s = options_get(o, key);
    if (!s)
        return 0;
    if (!strcmp(s, "on") || !strcmp(s, "yes") || !strcmp(s, "true") || !strcmp(s, "y"))
        *value = true;
    else if (!strcmp(s, "off") || !strcmp(s, "no") || !strcmp(s, "false") || !strcmp(s, "n"))
        *value = false;
    else
        return err_set(err, EMU_EINVAL, "%s: %s=%s is not on or off", o->origin, key, s);
    return 0;
}

EMU_PRIV int options_u64(struct options *o, const char *key, uint64_t min, uint64_t max, uint64_t *value, struct err *err)
{
    const char *s = options_get(o, key);
    if (!s)
        return 0;
    if (parse_u64(s, min, max, value))
        return err_set(err, EMU_EINVAL, "%s: %s=%s is not a number between %" PRIu64 " and %" PRIu64, o->origin, key, s, min, max);
    return 0;
}

EMU_PRIV int options_size(struct options *o, const char *key, uint64_t *bytes, struct err *err)
{
    const char *s = options_get(o, key);
    if (!s)
        return 0;
    if (parse_size(s, 'b', bytes))
        return err_set(err, EMU_EINVAL, "%s: %s=%s is not a size (like 512, 64K, 1.5G)", o->origin, key, s);
    return 0;
}

EMU_PRIV int options_check_used(struct options *o, struct err *err)
{
    size_t i;
    for (i = 0; i < o->count; i++)
        if (!o->items[i].used)
            return err_set(err, EMU_EINVAL, "%s: unknown option \"%s\"", o->origin, o->items[i].key);
    return 0;
}
