/* host/windows.c - what emu asks of Windows (7 and later): Win32 files and console, Winsock 2.
 *
 * Contract   Implements host.h. Link with ws2_32. What Windows lacks (pty, tap, ping and unix sockets, child processes on a socket) answers
 *            EMU_ENOTSUP.
 * Theory     A host_fd is a SOCKET, or a HANDLE (console, pipe, file) with bit 0 set, which no handle value uses. WSAPoll() waits for sockets
 *            only, so while handles are watched too it waits in slices of WIN_SLICE_MS and looks at them in between.
 *            Paths are UTF-8. Image locks are byte-range locks far behind any image's end.
 * Invariants 1. win_process is the one mutable object: console modes and signals belong to the process.
 */
#include "../machine.h"

#ifdef EMU_HOST_WINDOWS

#ifndef _WIN32_WINNT
#define _WIN32_WINNT 0x0601
#endif
#define WIN32_LEAN_AND_MEAN 1
#define NOMINMAX 1
#define NOGDI 1
#include <winsock2.h>
#include <ws2tcpip.h>
#include <windows.h>
#include <winioctl.h>
#include <iptypes.h>
#include <time.h>

#define WIN_SLICE_MS 10
#define WIN_POLL_ON_STACK 256
#define WIN_LOCK_OFFSET_HIGH 0x40000000u /* byte 2^62 */
#ifndef ENABLE_VIRTUAL_TERMINAL_INPUT
#define ENABLE_VIRTUAL_TERMINAL_INPUT 0x0200
#endif
#ifndef ENABLE_VIRTUAL_TERMINAL_PROCESSING
#define ENABLE_VIRTUAL_TERMINAL_PROCESSING 0x0004
#endif

static struct {
    DWORD saved_in, saved_out;
    bool saved, raw, exit_hooked, sockets;
    void (*on_signal)(int kind);
} win_process;

static bool win_is_handle(host_fd fd) { return (fd & 1) != 0 && fd != HOST_FD_NONE; }
static HANDLE win_handle(host_fd fd) { return (HANDLE)(fd & ~(host_fd)1); }
static host_fd win_from_handle(HANDLE h) { return (host_fd)h | 1; }
static SOCKET win_socket(host_fd fd) { return (SOCKET)fd; }

static int win_error(DWORD n)
{
    switch (n) {
    case ERROR_SUCCESS: return 0;
    case ERROR_FILE_NOT_FOUND: case ERROR_PATH_NOT_FOUND: case ERROR_INVALID_NAME: case ERROR_BAD_PATHNAME: return EMU_ENOENT;
    case ERROR_ACCESS_DENIED: return EMU_EACCES;
    case ERROR_SHARING_VIOLATION: case ERROR_LOCK_VIOLATION: return EMU_EBUSY;
    case ERROR_NOT_ENOUGH_MEMORY: case ERROR_OUTOFMEMORY: return EMU_ENOMEM;
    case ERROR_DISK_FULL: case ERROR_HANDLE_DISK_FULL: return EMU_ENOSPC;
    case ERROR_WRITE_PROTECT: return EMU_EROFS;
    case ERROR_NOT_SUPPORTED: case ERROR_INVALID_FUNCTION: return EMU_ENOTSUP;
    case ERROR_FILE_EXISTS: case ERROR_ALREADY_EXISTS: return EMU_EEXIST;
    case ERROR_BROKEN_PIPE: case ERROR_NO_DATA: return EMU_EPIPE;
    case ERROR_INVALID_PARAMETER: return EMU_EINVAL;
    default: return EMU_EIO;
    }
}

static int win_socket_error(int n)
{
    switch (n) {
    case 0: return 0;
    case WSAEWOULDBLOCK: case WSAEINPROGRESS: case WSAEALREADY: return EMU_EAGAIN;
    case WSAEINVAL: case WSAEBADF: case WSAENOTSOCK: return EMU_EINVAL;
    case WSAEACCES: return EMU_EACCES;
    case WSAEMFILE: case WSAENOBUFS: return EMU_ENOMEM;
    case WSAEADDRINUSE: return EMU_EADDRINUSE;
    case WSAECONNREFUSED: return EMU_ECONNREFUSED;
    case WSAECONNRESET: case WSAECONNABORTED: case WSAENETRESET: return EMU_ECONNRESET;
    case WSAENOTCONN: case WSAESHUTDOWN: return EMU_EPIPE;
    case WSAEHOSTUNREACH: case WSAENETUNREACH: case WSAENETDOWN: case WSAEADDRNOTAVAIL: case WSAEHOSTDOWN: return EMU_EUNREACH;
    case WSAETIMEDOUT: return EMU_ETIMEDOUT;
    case WSAEMSGSIZE: return EMU_EMSGSIZE;
    case WSAEAFNOSUPPORT: case WSAEPROTONOSUPPORT: case WSAESOCKTNOSUPPORT: case WSAEOPNOTSUPP: case WSAENOPROTOOPT: return EMU_ENOTSUP;
    default: return EMU_EIO;
    }
}

static int win_fail(struct err *err, const char *what)
{
    DWORD n = GetLastError();
    char text[200] = "";
    DWORD length = FormatMessageA(FORMAT_MESSAGE_FROM_SYSTEM | FORMAT_MESSAGE_IGNORE_INSERTS, NULL, n, 0, text, sizeof text - 1, NULL);
    while (length && (text[length - 1] == '\n' || text[length - 1] == '\r' || text[length - 1] == '.'))
        text[--length] = 0;
    return err_set(err, win_error(n), "%s: %s", what, length ? text : "error");
}

static int win_unsupported(struct err *err, const char *what) { return err_set(err, EMU_ENOTSUP, "%s: not supported on Windows", what); }

static wchar_t *win_wide(const char *path)
{
    int n = MultiByteToWideChar(CP_UTF8, 0, path, -1, NULL, 0);
    wchar_t *w = n > 0 ? malloc((size_t)n * sizeof *w) : NULL;
    if (w)
        MultiByteToWideChar(CP_UTF8, 0, path, -1, w, n);
    return w;
}

/* ---- time and randomness ---- */

EMU_PRIV int64_t host_clock_ns(void)
{
    LARGE_INTEGER count, frequency;
    QueryPerformanceCounter(&count);
    QueryPerformanceFrequency(&frequency);
    return (int64_t)muldiv64((uint64_t)count.QuadPart, (uint64_t)NS_PER_SEC, (uint64_t)frequency.QuadPart);
}

EMU_PRIV int64_t host_wall_ns(void)
{
    FILETIME f;
    GetSystemTimeAsFileTime(&f);
    return (int64_t)((((uint64_t)f.dwHighDateTime << 32) | f.dwLowDateTime) - UINT64_C(116444736000000000)) * 100; /* from 1601 to 1970 */
}

EMU_PRIV int64_t host_local_offset_s(int64_t wall_s)
{
    uint64_t t = ((uint64_t)wall_s + UINT64_C(11644473600)) * 10000000, local;
    FILETIME f;
    SYSTEMTIME utc, here;
    f.dwLowDateTime = (DWORD)t;
    f.dwHighDateTime = (DWORD)(t >> 32);
    if (!FileTimeToSystemTime(&f, &utc) || !SystemTimeToTzSpecificLocalTime(NULL, &utc, &here) || !SystemTimeToFileTime(&here, &f))
        return 0;
    local = ((uint64_t)f.dwHighDateTime << 32) | f.dwLowDateTime;
    return ((int64_t)local - (int64_t)(t / 10000000 * 10000000)) / 10000000;
}

EMU_PRIV void host_random(void *buf, size_t size)
{
    typedef BOOLEAN(WINAPI * random_fn)(void *, ULONG); /* RtlGenRandom */
    HMODULE library = LoadLibraryA("advapi32.dll");
    random_fn generate = library ? (random_fn)(void (*)(void))GetProcAddress(library, "SystemFunction036") : NULL;
    uint8_t *p = buf;
    uint64_t x = (uint64_t)host_clock_ns() ^ (uint64_t)host_wall_ns() << 20;
    size_t i;
    if (!generate || !generate(buf, (ULONG)size))
        for (i = 0; i < size; i++) {
            uint64_t z = x += UINT64_C(0x9E3779B97F4A7C15);
            z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
            z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
            p[i] = (uint8_t)(z >> 33);
        }
    if (library)
        FreeLibrary(library);
}

/* ---- memory ---- */

EMU_PRIV void *host_map_memory(size_t size_bytes) { return VirtualAlloc(NULL, size_bytes, MEM_RESERVE | MEM_COMMIT, PAGE_READWRITE); }
EMU_PRIV void host_unmap_memory(void *p, size_t size_bytes)
{
    (void)size_bytes;
    if (p)
        VirtualFree(p, 0, MEM_RELEASE);
}
EMU_PRIV void host_discard_memory(void *p, size_t size_bytes)
{
    uintptr_t mask = 4095, start = (uintptr_t)p, end = start + size_bytes, first = (start + mask) & ~mask, last = end & ~mask;
    if (first >= last) {
        memset(p, 0, size_bytes);
        return;
    }
    memset(p, 0, first - start);
    memset((uint8_t *)p + (last - start), 0, end - last);
    if (!VirtualFree((uint8_t *)p + (first - start), last - first, MEM_DECOMMIT) ||
        !VirtualAlloc((uint8_t *)p + (first - start), last - first, MEM_COMMIT, PAGE_READWRITE))
        memset((uint8_t *)p + (first - start), 0, last - first);
}

/* ---- files ---- */

struct host_file {
    HANDLE handle;
    bool writable, device, sparse_set, no_discard;
};

EMU_PRIV int host_file_open(struct host_file **out, const char *path, int flags, struct err *err)
{
    wchar_t *wide = win_wide(path);
    DWORD how = flags & HOST_OPEN_EXCLUSIVE ? CREATE_NEW : flags & HOST_OPEN_TRUNCATE ? (flags & HOST_OPEN_CREATE ? CREATE_ALWAYS : TRUNCATE_EXISTING)
                                                         : flags & HOST_OPEN_CREATE ? OPEN_ALWAYS : OPEN_EXISTING;
    DWORD attributes;
    struct host_file *f;
    HANDLE h;
    *out = NULL;
    if (!wide)
        return err_set(err, EMU_ENOMEM, "%s: out of memory", path);
    attributes = GetFileAttributesW(wide);
    if (attributes != INVALID_FILE_ATTRIBUTES && (attributes & FILE_ATTRIBUTE_DIRECTORY)) {
        free(wide);
        return err_set(err, EMU_EINVAL, "%s: is a folder, not a file", path);
    }
    h = CreateFileW(wide, GENERIC_READ | (flags & HOST_OPEN_WRITE ? GENERIC_WRITE : 0), FILE_SHARE_READ | FILE_SHARE_WRITE, NULL, how, FILE_ATTRIBUTE_NORMAL, NULL);
    free(wide);
    if (h == INVALID_HANDLE_VALUE)
        return win_fail(err, path);
    f = calloc(1, sizeof *f);
    if (!f) {
        CloseHandle(h);
        return err_set(err, EMU_ENOMEM, "%s: out of memory", path);
    }
    f->handle = h;
    f->writable = (flags & HOST_OPEN_WRITE) != 0;
    f->device = !strncmp(path, "\\\\.\\", 4);
    *out = f;
    return 0;
}

EMU_PRIV int host_file_temp(struct host_file **out, struct err *err)
{
    wchar_t dir[MAX_PATH + 1], name[MAX_PATH + 1];
    struct host_file *f;
    HANDLE h;
    *out = NULL;
    if (!GetTempPathW(MAX_PATH, dir) || !GetTempFileNameW(dir, L"emu", 0, name))
        return win_fail(err, "temporary file");
    h = CreateFileW(name, GENERIC_READ | GENERIC_WRITE, 0, NULL, CREATE_ALWAYS, FILE_ATTRIBUTE_TEMPORARY | FILE_FLAG_DELETE_ON_CLOSE, NULL);
    if (h == INVALID_HANDLE_VALUE)
        return win_fail(err, "temporary file");
    f = calloc(1, sizeof *f);
    if (!f) {
        CloseHandle(h);
        return err_set(err, EMU_ENOMEM, "out of memory");
    }
    f->handle = h;
    f->writable = true;
    *out = f;
    return 0;
}

EMU_PRIV void host_file_close(struct host_file *f)
{
    if (!f)
        return;
    CloseHandle(f->handle);
    free(f);
}

EMU_PRIV int64_t host_file_size(struct host_file *f)
{
    LARGE_INTEGER size;
    GET_LENGTH_INFORMATION length;
    DWORD n;
    if (f->device)
        return DeviceIoControl(f->handle, IOCTL_DISK_GET_LENGTH_INFO, NULL, 0, &length, sizeof length, &n, NULL) ? (int64_t)length.Length.QuadPart : win_error(GetLastError());
    return GetFileSizeEx(f->handle, &size) ? (int64_t)size.QuadPart : win_error(GetLastError());
}

static void win_overlapped(OVERLAPPED *o, uint64_t offset)
{
    memset(o, 0, sizeof *o);
    o->Offset = (DWORD)offset;
    o->OffsetHigh = (DWORD)(offset >> 32);
}

EMU_PRIV int host_file_read(struct host_file *f, uint64_t offset, void *buf, size_t size)
{
    uint8_t *p = buf;
    if (offset > (uint64_t)INT64_MAX - size)
        return EMU_ERANGE;
    while (size) {
        OVERLAPPED o;
        DWORD n = 0;
        win_overlapped(&o, offset);
        if (!ReadFile(f->handle, p, (DWORD)EMU_MIN(size, (size_t)1 << 30), &n, &o) && GetLastError() != ERROR_HANDLE_EOF)
            return win_error(GetLastError());
        if (!n) {
            memset(p, 0, size);
            return 0;
        }
        p += n;
        offset += n;
        size -= n;
    }
    return 0;
}

EMU_PRIV int host_file_write(struct host_file *f, uint64_t offset, const void *buf, size_t size)
{
    const uint8_t *p = buf;
    if (!f->writable)
        return EMU_EROFS;
    if (offset > (uint64_t)INT64_MAX - size)
        return EMU_ENOSPC;
    while (size) {
        OVERLAPPED o;
        DWORD n = 0;
        win_overlapped(&o, offset);
        if (!WriteFile(f->handle, p, (DWORD)EMU_MIN(size, (size_t)1 << 30), &n, &o))
            return win_error(GetLastError());
        if (!n)
            return EMU_ENOSPC;
        p += n;
        offset += n;
        size -= n;
    }
    return 0;
}

EMU_PRIV int host_file_flush(struct host_file *f) { return !f->writable || FlushFileBuffers(f->handle) ? 0 : win_error(GetLastError()); }

EMU_PRIV int host_file_discard(struct host_file *f, uint64_t offset, uint64_t size)
{
    FILE_ZERO_DATA_INFORMATION zero;
    DWORD n;
    if (!f->writable || f->device || f->no_discard || offset > (uint64_t)INT64_MAX - size)
        return EMU_ENOTSUP;
    if (!f->sparse_set) {
        f->sparse_set = true;
        DeviceIoControl(f->handle, FSCTL_SET_SPARSE, NULL, 0, NULL, 0, &n, NULL);
    }
    zero.FileOffset.QuadPart = (LONGLONG)offset;
    zero.BeyondFinalZero.QuadPart = (LONGLONG)(offset + size);
    if (DeviceIoControl(f->handle, FSCTL_SET_ZERO_DATA, &zero, sizeof zero, NULL, 0, &n, NULL))
        return 0;
    f->no_discard = true;
    return EMU_ENOTSUP;
}

EMU_PRIV int host_file_resize(struct host_file *f, uint64_t size)
{
    LARGE_INTEGER at;
    if (f->device)
        return EMU_ENOTSUP;
    at.QuadPart = (LONGLONG)size;
    return SetFilePointerEx(f->handle, at, NULL, FILE_BEGIN) && SetEndOfFile(f->handle) ? 0 : win_error(GetLastError());
}

EMU_PRIV int host_file_next_data(struct host_file *f, uint64_t offset, uint64_t *data_start, uint64_t *data_end)
{
    (void)f, (void)offset, (void)data_start, (void)data_end;
    return EMU_ENOTSUP;
}

EMU_PRIV int host_file_lock(struct host_file *f, bool exclusive)
{
    OVERLAPPED o;
    memset(&o, 0, sizeof o);
    o.OffsetHigh = WIN_LOCK_OFFSET_HIGH;
    if (LockFileEx(f->handle, LOCKFILE_FAIL_IMMEDIATELY | (exclusive ? LOCKFILE_EXCLUSIVE_LOCK : 0), 0, 1, 0, &o))
        return 0;
    return GetLastError() == ERROR_LOCK_VIOLATION || GetLastError() == ERROR_IO_PENDING ? EMU_EBUSY : EMU_ENOTSUP;
}

EMU_PRIV bool host_file_same(struct host_file *a, struct host_file *b)
{
    BY_HANDLE_FILE_INFORMATION x, y;
    return GetFileInformationByHandle(a->handle, &x) && GetFileInformationByHandle(b->handle, &y) && x.dwVolumeSerialNumber == y.dwVolumeSerialNumber &&
           x.nFileIndexHigh == y.nFileIndexHigh && x.nFileIndexLow == y.nFileIndexLow;
}

EMU_PRIV bool host_file_is_device(struct host_file *f) { return f->device; }

EMU_PRIV int host_file_load(const char *path, uint8_t **data, size_t *size, size_t limit, struct err *err)
{
    struct host_file *f;
    int64_t n;
    int r = host_file_open(&f, path, 0, err);
    *data = NULL;
    *size = 0;
    if (r)
        return r;
    n = host_file_size(f);
    if (n < 0)
        r = err_set(err, (int)n, "%s: can't be read", path);
    else if ((uint64_t)n > limit)
        r = err_set(err, EMU_ERANGE, "%s: is larger than %lu bytes", path, (unsigned long)limit);
    else if (!(*data = malloc((size_t)n + 1)))
        r = err_set(err, EMU_ENOMEM, "%s: out of memory", path);
    else if ((r = host_file_read(f, 0, *data, (size_t)n))) {
        free(*data);
        *data = NULL;
        err_set(err, r, "%s: can't be read", path);
    } else {
        *size = (size_t)n;
    }
    host_file_close(f);
    return r;
}

EMU_PRIV int host_file_save(const char *path, const void *data, size_t size, struct err *err)
{
    struct host_file *f;
    int r = host_file_open(&f, path, HOST_OPEN_WRITE | HOST_OPEN_CREATE | HOST_OPEN_TRUNCATE, err);
    if (r)
        return r;
    r = host_file_write(f, 0, data, size);
    host_file_close(f);
    return r ? err_set(err, r, "%s: can't be written", path) : 0;
}

EMU_PRIV enum host_file_kind host_path_kind(const char *path)
{
    wchar_t *wide;
    DWORD attributes;
    if (!strncmp(path, "\\\\.\\", 4))
        return HOST_KIND_BLOCK;
    wide = win_wide(path);
    if (!wide)
        return HOST_KIND_NONE;
    attributes = GetFileAttributesW(wide);
    free(wide);
    if (attributes == INVALID_FILE_ATTRIBUTES)
        return HOST_KIND_NONE;
    return attributes & FILE_ATTRIBUTE_DIRECTORY ? HOST_KIND_DIR : HOST_KIND_FILE;
}

EMU_PRIV int host_path_remove(const char *path)
{
    wchar_t *wide = win_wide(path);
    int r = wide && DeleteFileW(wide) ? 0 : win_error(GetLastError());
    free(wide);
    return r;
}

/* ---- readiness ---- */

/* Has a console, pipe or file something to read? Console events that are no key are thrown away. */
static bool win_handle_readable(HANDLE h)
{
    DWORD n = 0, mode;
    INPUT_RECORD record;
    if (GetFileType(h) == FILE_TYPE_PIPE)
        return !PeekNamedPipe(h, NULL, 0, NULL, &n, NULL) || n > 0;
    if (!GetConsoleMode(h, &mode))
        return true;
    while (PeekConsoleInputW(h, &record, 1, &n) && n) {
        if (record.EventType == KEY_EVENT && record.Event.KeyEvent.bKeyDown && (record.Event.KeyEvent.uChar.UnicodeChar || (mode & ENABLE_VIRTUAL_TERMINAL_INPUT)))
            return true;
        ReadConsoleInputW(h, &record, 1, &n);
    }
    return false;
}

EMU_PRIV int host_poll(struct host_poll_item *items, size_t count, int64_t timeout_ns)
{
    WSAPOLLFD on_stack[WIN_POLL_ON_STACK], *p = on_stack;
    int64_t end = timeout_ns < 0 ? INT64_MAX : host_clock_ns() + timeout_ns;
    size_t i, n;
    int ready = 0;
    bool handles = false;
    for (i = 0; i < count; i++)
        items[i].ready = 0;
    if (count > WIN_POLL_ON_STACK) {
        p = malloc(count * sizeof *p);
        if (!p) {
            p = on_stack;
            count = WIN_POLL_ON_STACK;
        }
    }
    for (;;) {
        int64_t left, ms;
        for (i = n = 0; i < count; i++) {
            if (!items[i].want)
                continue;
            if (win_is_handle(items[i].fd)) {
                handles = true;
                if ((items[i].want & HOST_READ) && win_handle_readable(win_handle(items[i].fd)))
                    items[i].ready |= HOST_READ;
                items[i].ready |= items[i].want & HOST_WRITE;
                ready += items[i].ready != 0;
            } else {
                p[n].fd = win_socket(items[i].fd);
                p[n].events = (SHORT)((items[i].want & HOST_READ ? POLLRDNORM : 0) | (items[i].want & HOST_WRITE ? POLLWRNORM : 0));
                p[n++].revents = 0;
            }
        }
        left = end == INT64_MAX ? INT64_MAX : EMU_MAX(end - host_clock_ns(), 0);
        ms = ready ? 0 : left == INT64_MAX ? 1000 : EMU_MIN((left + NS_PER_MS - 1) / NS_PER_MS, (int64_t)1000);
        if (handles)
            ms = EMU_MIN(ms, (int64_t)WIN_SLICE_MS);
        if (!n) {
            if (ms)
                Sleep((DWORD)ms);
        } else if (WSAPoll(p, (ULONG)n, (INT)ms) > 0) {
            for (i = n = 0; i < count; i++) {
                SHORT got;
                if (!items[i].want || win_is_handle(items[i].fd))
                    continue;
                got = p[n++].revents;
                if (got & POLLRDNORM)
                    items[i].ready |= HOST_READ;
                if (got & POLLWRNORM)
                    items[i].ready |= HOST_WRITE;
                if (got & (POLLHUP | POLLERR | POLLNVAL))
                    items[i].ready |= items[i].want | (got & POLLHUP ? 0 : HOST_ERROR);
                ready += items[i].ready != 0;
            }
        }
        if (ready || left <= 0)
            break;
    }
    if (p != on_stack)
        free(p);
    return ready;
}

static int win_start_sockets(void)
{
    WSADATA data;
    if (!win_process.sockets && !WSAStartup(MAKEWORD(2, 2), &data))
        win_process.sockets = true;
    return win_process.sockets ? 0 : EMU_ENOTSUP;
}

EMU_PRIV int host_wake_create(host_fd *read_end, host_fd *write_end)
{
    struct host_addr a;
    host_fd listener = HOST_FD_NONE;
    struct host_poll_item item;
    int r;
    *read_end = *write_end = HOST_FD_NONE;
    host_addr_parse("127.0.0.1", &a);
    r = host_socket(&listener, HOST_INET, HOST_STREAM);
    if (!r && !(r = host_bind(listener, &a, false)) && !(r = host_listen(listener, 1)) && !(r = host_local_addr(listener, &a)) &&
        !(r = host_socket(write_end, HOST_INET, HOST_STREAM))) {
        r = host_connect(*write_end, &a);
        item.fd = listener;
        item.want = HOST_READ;
        if (r == 0 || r == EMU_EAGAIN)
            r = host_poll(&item, 1, NS_PER_SEC) > 0 ? host_accept(listener, read_end, NULL) : EMU_EIO;
    }
    host_fd_close(listener);
    if (r) {
        host_fd_close(*write_end);
        *write_end = HOST_FD_NONE;
    }
    return r;
}
EMU_PRIV void host_wake(host_fd write_end) { send(win_socket(write_end), "", 1, 0); }
EMU_PRIV void host_wake_drain(host_fd read_end)
{
    char b[64];
    while (recv(win_socket(read_end), b, sizeof b, 0) == (int)sizeof b) {
    }
}

/* ---- byte streams ---- */

EMU_PRIV int host_fd_nonblocking(host_fd fd, bool on)
{
    u_long mode = on;
    if (win_is_handle(fd))
        return 0;
    return ioctlsocket(win_socket(fd), (long)FIONBIO, &mode) ? win_socket_error(WSAGetLastError()) : 0;
}

EMU_PRIV int host_fd_read(host_fd fd, void *buf, size_t size)
{
    int n;
    if (win_is_handle(fd)) {
        DWORD got = 0;
        if (!win_handle_readable(win_handle(fd)))
            return EMU_EAGAIN;
        if (!ReadFile(win_handle(fd), buf, (DWORD)EMU_MIN(size, (size_t)65536), &got, NULL))
            return GetLastError() == ERROR_BROKEN_PIPE || GetLastError() == ERROR_HANDLE_EOF ? 0 : win_error(GetLastError());
        return (int)got;
    }
    n = recv(win_socket(fd), buf, (int)EMU_MIN(size, (size_t)INT_MAX), 0);
    return n < 0 ? win_socket_error(WSAGetLastError()) : n;
}

EMU_PRIV int host_fd_write(host_fd fd, const void *buf, size_t size)
{
    int n;
    if (win_is_handle(fd)) {
        DWORD written = 0;
        if (!WriteFile(win_handle(fd), buf, (DWORD)EMU_MIN(size, (size_t)65536), &written, NULL))
            return win_error(GetLastError());
        return written ? (int)written : EMU_EAGAIN;
    }
    n = send(win_socket(fd), buf, (int)EMU_MIN(size, (size_t)INT_MAX), 0);
    return n < 0 ? win_socket_error(WSAGetLastError()) : n;
}

EMU_PRIV void host_fd_close(host_fd fd)
{
    if (fd == HOST_FD_NONE)
        return;
    if (win_is_handle(fd))
        CloseHandle(win_handle(fd));
    else
        closesocket(win_socket(fd));
}

EMU_PRIV int host_open_stream(host_fd *out, const char *path, bool write, bool append, struct err *err)
{
    wchar_t *wide = win_wide(path);
    HANDLE h;
    *out = HOST_FD_NONE;
    if (!wide)
        return err_set(err, EMU_ENOMEM, "%s: out of memory", path);
    if (!write)
        h = CreateFileW(wide, GENERIC_READ, FILE_SHARE_READ | FILE_SHARE_WRITE, NULL, OPEN_EXISTING, 0, NULL);
    else
        h = CreateFileW(wide, append ? FILE_APPEND_DATA : GENERIC_WRITE, FILE_SHARE_READ | FILE_SHARE_WRITE, NULL, append ? OPEN_ALWAYS : CREATE_ALWAYS, FILE_ATTRIBUTE_NORMAL, NULL);
    free(wide);
    if (h == INVALID_HANDLE_VALUE)
        return win_fail(err, path);
    *out = win_from_handle(h);
    return 0;
}

EMU_PRIV int host_open_pty(host_fd *out, host_fd *keep, char *name, size_t name_size, struct err *err)
{
    (void)name, (void)name_size;
    *out = *keep = HOST_FD_NONE;
    return win_unsupported(err, "pty");
}
EMU_PRIV host_fd host_reopen_nonblocking(host_fd fd, bool write)
{
    (void)fd, (void)write;
    return HOST_FD_NONE;
}
EMU_PRIV int host_spawn(host_fd *out, long *pid, const char *const *argv, struct err *err)
{
    *out = HOST_FD_NONE;
    *pid = -1;
    return win_unsupported(err, argv[0]);
}
EMU_PRIV void host_reap(long pid) { (void)pid; }

/* ---- sockets ---- */

union win_sockaddr {
    struct sockaddr any;
    struct sockaddr_in in;
    struct sockaddr_in6 in6;
    struct sockaddr_storage storage;
};

static int win_to_sockaddr(const struct host_addr *a, union win_sockaddr *s)
{
    memset(s, 0, sizeof *s);
    if (a->family == HOST_INET) {
        s->in.sin_family = AF_INET;
        st16be(&s->in.sin_port, a->port);
        memcpy(&s->in.sin_addr, a->ip, 4);
        return (int)sizeof s->in;
    }
    if (a->family == HOST_INET6) {
        s->in6.sin6_family = AF_INET6;
        st16be(&s->in6.sin6_port, a->port);
        memcpy(&s->in6.sin6_addr, a->ip, 16);
        s->in6.sin6_scope_id = a->scope_id;
        return (int)sizeof s->in6;
    }
    return 0;
}

static void win_from_sockaddr(const union win_sockaddr *s, struct host_addr *a)
{
    memset(a, 0, sizeof *a);
    if (s->any.sa_family == AF_INET) {
        a->family = HOST_INET;
        a->port = ld16be(&s->in.sin_port);
        memcpy(a->ip, &s->in.sin_addr, 4);
    } else if (s->any.sa_family == AF_INET6) {
        a->family = HOST_INET6;
        a->port = ld16be(&s->in6.sin6_port);
        memcpy(a->ip, &s->in6.sin6_addr, 16);
        a->scope_id = s->in6.sin6_scope_id;
    }
}

EMU_PRIV int host_resolve(const char *name, uint16_t port, struct host_addr *out, size_t max, struct err *err)
{
    struct addrinfo hints, *list = NULL, *a;
    size_t n = 0;
    if (max && host_addr_parse(name, out)) {
        out->port = port;
        return 1;
    }
    if (win_start_sockets())
        return err_set(err, EMU_ENOTSUP, "%s: no sockets on this host", name);
    memset(&hints, 0, sizeof hints);
    hints.ai_socktype = SOCK_STREAM;
    if (getaddrinfo(name, NULL, &hints, &list))
        return err_set(err, EMU_ENOENT, "%s: no such host", name);
    for (a = list; a && n < max; a = a->ai_next) {
        union win_sockaddr s;
        if ((a->ai_family != AF_INET && a->ai_family != AF_INET6) || a->ai_addrlen > sizeof s)
            continue;
        memset(&s, 0, sizeof s);
        memcpy(&s, a->ai_addr, a->ai_addrlen);
        win_from_sockaddr(&s, &out[n]);
        out[n++].port = port;
    }
    freeaddrinfo(list);
    return n ? (int)n : err_set(err, EMU_ENOENT, "%s: has no IP address", name);
}

EMU_PRIV bool host_addr_parse(const char *text, struct host_addr *out)
{
    char t[64], *percent;
    size_t n = strlen(text);
    memset(out, 0, sizeof *out);
    if (n >= 2 && text[0] == '[' && text[n - 1] == ']') {
        text++;
        n -= 2;
    }
    if (n >= sizeof t || win_start_sockets())
        return false;
    memcpy(t, text, n);
    t[n] = 0;
    if (inet_pton(AF_INET, t, out->ip) == 1) {
        out->family = HOST_INET;
        return true;
    }
    percent = strchr(t, '%');
    if (percent) {
        uint64_t number;
        *percent++ = 0;
        if (parse_u64(percent, 1, UINT32_MAX, &number))
            return false;
        out->scope_id = (uint32_t)number;
    }
    if (inet_pton(AF_INET6, t, out->ip) != 1)
        return false;
    out->family = HOST_INET6;
    return true;
}

EMU_PRIV void host_addr_format(const struct host_addr *a, char *buf, size_t size)
{
    char t[64] = "?";
    win_start_sockets();
    if (a->family == HOST_INET) {
        inet_ntop(AF_INET, (void *)(uintptr_t)a->ip, t, sizeof t);
        snprintf(buf, size, "%s:%u", t, a->port);
    } else if (a->family == HOST_INET6) {
        inet_ntop(AF_INET6, (void *)(uintptr_t)a->ip, t, sizeof t);
        snprintf(buf, size, "[%s]:%u", t, a->port);
    } else {
        snprintf(buf, size, "none");
    }
}

EMU_PRIV int host_socket(host_fd *out, int family, int type)
{
    SOCKET s;
    *out = HOST_FD_NONE;
    if (family == HOST_UNIX || type == HOST_PING)
        return EMU_ENOTSUP;
    if (win_start_sockets())
        return EMU_ENOTSUP;
    s = socket(family == HOST_INET6 ? AF_INET6 : AF_INET, type == HOST_STREAM ? SOCK_STREAM : SOCK_DGRAM, 0);
    if (s == INVALID_SOCKET)
        return win_socket_error(WSAGetLastError());
    *out = (host_fd)s;
    host_fd_nonblocking(*out, true);
    return 0;
}

EMU_PRIV int host_bind(host_fd fd, const struct host_addr *a, bool reuse)
{
    union win_sockaddr s;
    int n = win_to_sockaddr(a, &s), one = 1;
    if (!n)
        return EMU_EINVAL;
    if (!reuse) /* SO_REUSEADDR would let two programs share a port here; its absence is what POSIX's reuse means */
        setsockopt(win_socket(fd), SOL_SOCKET, SO_EXCLUSIVEADDRUSE, (const char *)&one, sizeof one);
    return bind(win_socket(fd), &s.any, n) ? win_socket_error(WSAGetLastError()) : 0;
}

EMU_PRIV int host_listen(host_fd fd, int backlog) { return listen(win_socket(fd), backlog) ? win_socket_error(WSAGetLastError()) : 0; }

EMU_PRIV int host_accept(host_fd fd, host_fd *out, struct host_addr *peer)
{
    union win_sockaddr s;
    int n = (int)sizeof s;
    SOCKET got;
    *out = HOST_FD_NONE;
    memset(&s, 0, sizeof s);
    got = accept(win_socket(fd), &s.any, &n);
    if (got == INVALID_SOCKET)
        return win_socket_error(WSAGetLastError());
    *out = (host_fd)got;
    host_fd_nonblocking(*out, true);
    if (peer)
        win_from_sockaddr(&s, peer);
    return 0;
}

EMU_PRIV int host_connect(host_fd fd, const struct host_addr *a)
{
    union win_sockaddr s;
    int n = win_to_sockaddr(a, &s);
    if (!n)
        return EMU_EINVAL;
    return connect(win_socket(fd), &s.any, n) ? win_socket_error(WSAGetLastError()) : 0;
}

EMU_PRIV int host_socket_error(host_fd fd)
{
    int n = 0, size = (int)sizeof n;
    if (getsockopt(win_socket(fd), SOL_SOCKET, SO_ERROR, (char *)&n, &size))
        return win_socket_error(WSAGetLastError());
    return win_socket_error(n);
}

EMU_PRIV int host_local_addr(host_fd fd, struct host_addr *a)
{
    union win_sockaddr s;
    int n = (int)sizeof s;
    memset(&s, 0, sizeof s);
    if (getsockname(win_socket(fd), &s.any, &n))
        return win_socket_error(WSAGetLastError());
    win_from_sockaddr(&s, a);
    return 0;
}

EMU_PRIV int host_peer_addr(host_fd fd, struct host_addr *a)
{
    union win_sockaddr s;
    int n = (int)sizeof s;
    memset(&s, 0, sizeof s);
    if (getpeername(win_socket(fd), &s.any, &n))
        return win_socket_error(WSAGetLastError());
    win_from_sockaddr(&s, a);
    return 0;
}

EMU_PRIV int host_shutdown_write(host_fd fd) { return shutdown(win_socket(fd), SD_SEND) ? win_socket_error(WSAGetLastError()) : 0; }

EMU_PRIV int host_send_to(host_fd fd, const void *buf, size_t size, const struct host_addr *to)
{
    union win_sockaddr s;
    int n = to ? win_to_sockaddr(to, &s) : 0, r;
    if (to && !n)
        return EMU_EINVAL;
    r = sendto(win_socket(fd), buf, (int)EMU_MIN(size, (size_t)INT_MAX), 0, to ? &s.any : NULL, n);
    return r < 0 ? win_socket_error(WSAGetLastError()) : r;
}

EMU_PRIV int host_recv_from(host_fd fd, void *buf, size_t size, struct host_addr *from)
{
    union win_sockaddr s;
    int n = (int)sizeof s, r;
    memset(&s, 0, sizeof s);
    r = recvfrom(win_socket(fd), buf, (int)EMU_MIN(size, (size_t)INT_MAX), 0, &s.any, &n);
    if (r >= 0 && from)
        win_from_sockaddr(&s, from);
    return r < 0 ? win_socket_error(WSAGetLastError()) : r;
}

EMU_PRIV int host_recv_error(host_fd fd, struct host_icmp_error *e)
{
    (void)fd;
    memset(e, 0, sizeof *e);
    return EMU_ENOTSUP;
}

/* TFTP's folder: without handles relative to a folder (and with reparse points) this promise can't be kept by simple means. */
EMU_PRIV int host_file_open_beneath(struct host_file **out, const char *folder, const char *path)
{
    (void)folder, (void)path;
    *out = NULL;
    return EMU_ENOTSUP;
}

#define WIN_IOV_MAX 64
EMU_PRIV int host_readv(host_fd fd, const struct host_iov *iov, int count)
{
    WSABUF b[WIN_IOV_MAX];
    DWORD n = 0, flags = 0;
    int i;
    if (win_is_handle(fd))
        return count ? host_fd_read(fd, iov[0].base, iov[0].size) : 0;
    count = EMU_MIN(count, WIN_IOV_MAX);
    for (i = 0; i < count; i++) {
        b[i].buf = iov[i].base;
        b[i].len = (ULONG)iov[i].size;
    }
    return WSARecv(win_socket(fd), b, (DWORD)count, &n, &flags, NULL, NULL) ? win_socket_error(WSAGetLastError()) : (int)n;
}

EMU_PRIV int host_writev(host_fd fd, const struct host_iov *iov, int count)
{
    WSABUF b[WIN_IOV_MAX];
    DWORD n = 0;
    int i;
    if (win_is_handle(fd))
        return count ? host_fd_write(fd, iov[0].base, iov[0].size) : 0;
    count = EMU_MIN(count, WIN_IOV_MAX);
    for (i = 0; i < count; i++) {
        b[i].buf = iov[i].base;
        b[i].len = (ULONG)iov[i].size;
    }
    return WSASend(win_socket(fd), b, (DWORD)count, &n, 0, NULL, NULL) ? win_socket_error(WSAGetLastError()) : (int)n;
}
#undef WIN_IOV_MAX

EMU_PRIV int host_set_option(host_fd fd, int option, int value)
{
    int level = SOL_SOCKET, name;
    struct host_addr a;
    struct linger linger;
    switch (option) {
    case HOST_OPT_NODELAY: level = IPPROTO_TCP; name = TCP_NODELAY; break;
    case HOST_OPT_KEEPALIVE: name = SO_KEEPALIVE; break;
    case HOST_OPT_SNDBUF: name = SO_SNDBUF; break;
    case HOST_OPT_RCVBUF: name = SO_RCVBUF; break;
    case HOST_OPT_BROADCAST: name = SO_BROADCAST; break;
    case HOST_OPT_OOBINLINE: name = SO_OOBINLINE; break;
    case HOST_OPT_V6ONLY: level = IPPROTO_IPV6; name = IPV6_V6ONLY; break;
    case HOST_OPT_TTL:
        if (host_local_addr(fd, &a))
            return EMU_EINVAL;
        level = a.family == HOST_INET6 ? IPPROTO_IPV6 : IPPROTO_IP;
        name = a.family == HOST_INET6 ? IPV6_UNICAST_HOPS : IP_TTL;
        break;
    case HOST_OPT_LINGER0:
        linger.l_onoff = value != 0;
        linger.l_linger = 0;
        return setsockopt(win_socket(fd), SOL_SOCKET, SO_LINGER, (const char *)&linger, sizeof linger) ? win_socket_error(WSAGetLastError()) : 0;
    default: return EMU_ENOTSUP;
    }
    return setsockopt(win_socket(fd), level, name, (const char *)&value, sizeof value) ? win_socket_error(WSAGetLastError()) : 0;
}

EMU_PRIV int host_join_multicast(host_fd fd, const struct host_addr *group, const struct host_addr *local)
{
    if (group->family == HOST_INET) {
        struct ip_mreq m;
        memset(&m, 0, sizeof m);
        memcpy(&m.imr_multiaddr, group->ip, 4);
        if (local && local->family == HOST_INET)
            memcpy(&m.imr_interface, local->ip, 4);
        return setsockopt(win_socket(fd), IPPROTO_IP, IP_ADD_MEMBERSHIP, (const char *)&m, sizeof m) ? win_socket_error(WSAGetLastError()) : 0;
    }
    if (group->family == HOST_INET6) {
        struct ipv6_mreq m;
        memset(&m, 0, sizeof m);
        memcpy(&m.ipv6mr_multiaddr, group->ip, 16);
        m.ipv6mr_interface = group->scope_id;
        return setsockopt(win_socket(fd), IPPROTO_IPV6, IPV6_ADD_MEMBERSHIP, (const char *)&m, sizeof m) ? win_socket_error(WSAGetLastError()) : 0;
    }
    return EMU_EINVAL;
}

EMU_PRIV int host_resolvers(struct host_addr *out, size_t max, int64_t *changed)
{
    typedef DWORD(WINAPI * params_fn)(FIXED_INFO *, ULONG *);
    HMODULE library = LoadLibraryA("iphlpapi.dll");
    params_fn get = library ? (params_fn)(void (*)(void))GetProcAddress(library, "GetNetworkParams") : NULL;
    ULONG size = 0;
    FIXED_INFO *info = NULL;
    size_t n = 0;
    uint64_t stamp = 0;
    if (get && get(NULL, &size) == ERROR_BUFFER_OVERFLOW && (info = malloc(size)) != NULL && get(info, &size) == ERROR_SUCCESS) {
        IP_ADDR_STRING *s;
        for (s = &info->DnsServerList; s && n < max; s = s->Next)
            if (host_addr_parse(s->IpAddress.String, &out[n])) {
                stamp = stamp * 31 + ld32be(out[n].ip);
                out[n++].port = 53;
            }
    }
    free(info);
    if (library)
        FreeLibrary(library);
    if (changed)
        *changed = (int64_t)(stamp >> 1);
    return (int)n;
}

/* ---- the console ---- */

EMU_PRIV bool host_is_terminal(host_fd fd)
{
    DWORD mode;
    return win_is_handle(fd) && GetConsoleMode(win_handle(fd), &mode);
}
EMU_PRIV host_fd host_stdin(void) { return win_from_handle(GetStdHandle(STD_INPUT_HANDLE)); }
EMU_PRIV host_fd host_stdout(void) { return win_from_handle(GetStdHandle(STD_OUTPUT_HANDLE)); }

static void win_console_restore(void)
{
    if (win_process.saved && win_process.raw) {
        win_process.raw = false;
        SetConsoleMode(GetStdHandle(STD_INPUT_HANDLE), win_process.saved_in);
        SetConsoleMode(GetStdHandle(STD_OUTPUT_HANDLE), win_process.saved_out);
    }
}

EMU_PRIV int host_terminal_raw(bool raw, bool signals)
{
    HANDLE in = GetStdHandle(STD_INPUT_HANDLE), out = GetStdHandle(STD_OUTPUT_HANDLE);
    if (!raw) {
        win_console_restore();
        return 0;
    }
    if (!win_process.saved) {
        if (!GetConsoleMode(in, &win_process.saved_in))
            return EMU_ENOTSUP;
        GetConsoleMode(out, &win_process.saved_out);
        win_process.saved = true;
    }
    if (!win_process.exit_hooked) {
        win_process.exit_hooked = true;
        atexit(win_console_restore);
    }
    win_process.raw = true;
    SetConsoleMode(out, win_process.saved_out | ENABLE_VIRTUAL_TERMINAL_PROCESSING);
    return SetConsoleMode(in, ENABLE_VIRTUAL_TERMINAL_INPUT | (signals ? ENABLE_PROCESSED_INPUT : 0)) || SetConsoleMode(in, signals ? ENABLE_PROCESSED_INPUT : 0)
               ? 0
               : EMU_ENOTSUP;
}

EMU_PRIV unsigned host_terminal_returns(void) { return 0; }
EMU_PRIV void host_terminal_size(int *columns, int *rows)
{
    CONSOLE_SCREEN_BUFFER_INFO info;
    *columns = 80;
    *rows = 24;
    if (GetConsoleScreenBufferInfo(GetStdHandle(STD_OUTPUT_HANDLE), &info)) {
        *columns = info.srWindow.Right - info.srWindow.Left + 1;
        *rows = info.srWindow.Bottom - info.srWindow.Top + 1;
    }
}

/* ---- process ---- */

EMU_PRIV int host_daemonize(struct err *err) { return win_unsupported(err, "-daemonize"); }
EMU_PRIV int host_daemonize_done(struct err *err) { return win_unsupported(err, "-daemonize"); }
EMU_PRIV long host_pid(void) { return (long)GetCurrentProcessId(); }

static BOOL WINAPI win_control(DWORD kind)
{
    void (*handler)(int) = win_process.on_signal;
    (void)kind;
    if (!handler)
        return FALSE;
    handler(1);
    return TRUE;
}
EMU_PRIV void host_on_signals(void (*handler)(int kind))
{
    win_process.on_signal = handler;
    SetConsoleCtrlHandler(win_control, handler != NULL);
}
EMU_PRIV int host_tap_open(host_fd *out, char *ifname, size_t ifname_size, bool *vnet_hdr, struct err *err)
{
    (void)ifname, (void)ifname_size, (void)vnet_hdr;
    *out = HOST_FD_NONE;
    return win_unsupported(err, "tap");
}
EMU_PRIV bool host_tap_has_vnet(host_fd fd)
{
    (void)fd;
    return false;
}

EMU_PRIV int host_spawn_for_fd(const char *helper, const char *bridge, host_fd *out, struct err *err)
{
    (void)bridge;
    *out = HOST_FD_NONE;
    return err_set(err, EMU_ENOTSUP, "%s: this host has no bridge helpers", helper);
}

EMU_PRIV int host_tap_offload(host_fd fd, bool csum, bool tso4, bool tso6)
{
    (void)fd, (void)csum, (void)tso4, (void)tso6;
    return EMU_ENOTSUP;
}

#undef WIN_SLICE_MS
#undef WIN_POLL_ON_STACK
#undef WIN_LOCK_OFFSET_HIGH
/* Short words that the Windows headers define as macros. */
#undef near
#undef far
#undef small
#undef interface
#undef IN
#undef OUT
#undef OPTIONAL
#undef ERROR
#undef DELETE
#undef CONST
#undef PAGE_READWRITE

#endif /* EMU_HOST_WINDOWS */
