/* tests/guests/expect.c - drives a guest through its serial console, by a script.
 *
 * Usage      expect [-t SECONDS] [-l LOG] SCRIPT COMMAND ARGUMENTS...      (SCRIPT "-" is standard input)
 * Contract   COMMAND runs on a pseudo-terminal of 80 x 24 in raw mode. What it writes goes to LOG as it is; for matching, escape
 *            sequences and bytes 0 are taken out. Exit status 0: the script ran to its end. 1: a step failed; the step, the
 *            reason and the last lines seen go to standard error. 2: wrong usage. -t bounds the whole run (default 600).
 * Script     One step a line; '#' begins a comment line; $NAME and ${NAME} are not expanded (the shell does that).
 *              limit S          seconds each following wait may take (60)
 *              wait REGEX       POSIX extended expression, on what came since the last match; consumes up to its end
 *              send TEXT        types TEXT; \r \n \t \e \\ \xHH are understood
 *              line TEXT        send TEXT and carriage return
 *              run COMMAND      types a shell command, waits for its end, fails unless its status is 0
 *              fails COMMAND    the same, its status must not be 0
 *              host COMMAND     runs a command of the host's shell while the guest runs on; it must end with 0 within the limit
 *              never REGEX      from here on, its appearance fails the script
 *              screen REGEX     waits for a line of the VGA text screen: asks the monitor (Ctrl-A c) for the memory at B8000h
 *              monitor COMMAND  gives the monitor a command and comes back to the console
 *              time NAME        prints NAME and the milliseconds since COMMAND was started
 *              sleep S          lets the guest go on for S seconds
 *              idle NAME P S    lets it go on for S seconds, in which COMMAND may use at most P percent of a host core, up to IDLE_WINDOWS
 *                               times until it did so; prints NAME and the least it used (clock ticks of /proc/PID/stat, all threads;
 *                               nothing is judged on a host without it)
 *              status N         waits for COMMAND's end, its exit status must be N
 *              kill             ends COMMAND with SIGTERM
 * Missing    Nothing is retried: a flaky guest is to be seen as one.
 */
#define _XOPEN_SOURCE 700
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <regex.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

enum { SEEN_MAX = 1 << 20, NEVER_MAX = 16, LINE_MAX_BYTES = 8192, IDLE_WINDOWS = 12 };
enum escape_state { ESCAPE_NONE, ESCAPE_START, ESCAPE_CSI, ESCAPE_STRING };

struct expect {
    int pty;                        /* our end of COMMAND's terminal, -1 once it is closed */
    pid_t pid;                      /* COMMAND, 0 once it has been waited for */
    int status;                     /* as waitpid() gave it */
    FILE *log;
    char *seen;                     /* filtered output, NUL-terminated */
    size_t seen_len, matched;       /* everything before matched has been consumed */
    enum escape_state escape;
    regex_t never[NEVER_MAX];
    char *never_text[NEVER_MAX];
    int nevers;
    double start, end_by, limit;    /* seconds of the monotonic clock; limit in seconds */
    const char *script_name;
    int script_line;
};

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void end_command(struct expect *x)
{
    int i;
    if (x->pid == 0)
        return;
    kill(x->pid, SIGTERM);
    for (i = 0; i < 50; i++) {
        struct timespec t = { 0, 100000000 };
        if (waitpid(x->pid, &x->status, WNOHANG) == x->pid) {
            x->pid = 0;
            return;
        }
        nanosleep(&t, NULL);
    }
    kill(x->pid, SIGKILL);
    waitpid(x->pid, &x->status, 0);
    x->pid = 0;
}

static void fail(struct expect *x, const char *format, ...)
{
    va_list ap;
    const char *tail = x->seen + x->seen_len;
    int lines = 0;

    fflush(stdout);
    fprintf(stderr, "expect: %s:%d: ", x->script_name, x->script_line);
    va_start(ap, format);
    vfprintf(stderr, format, ap);
    va_end(ap);
    while (tail > x->seen && lines < 25)
        if (*--tail == '\n')
            lines++;
    fprintf(stderr, " (%.1f s after the start)\n---- last output ----\n%s\n---------------------\n", now() - x->start, tail);
    end_command(x);
    exit(1);
}

/* One byte of output: escape sequences (CSI, OSC and the two-byte ones), NUL and CR are left out of what is matched. */
static void see_byte(struct expect *x, unsigned char c)
{
    switch (x->escape) {
    case ESCAPE_START:
        x->escape = c == '[' ? ESCAPE_CSI : c == ']' || c == 'P' || c == '_' ? ESCAPE_STRING : ESCAPE_NONE;
        return;
    case ESCAPE_CSI:
        if (c >= 0x40 && c <= 0x7e)
            x->escape = ESCAPE_NONE;
        return;
    case ESCAPE_STRING:
        if (c == 7 || c == '\\')
            x->escape = ESCAPE_NONE;
        return;
    case ESCAPE_NONE:
        break;
    }
    if (c == 27) {
        x->escape = ESCAPE_START;
        return;
    }
    if (c == 0 || c == '\r')
        return;
    if (x->seen_len == SEEN_MAX - 1) {      /* keep the younger half */
        size_t half = SEEN_MAX / 2;
        memmove(x->seen, x->seen + half, x->seen_len - half);
        x->seen_len -= half;
        x->matched = x->matched > half ? x->matched - half : 0;
    }
    x->seen[x->seen_len++] = (char)c;
    x->seen[x->seen_len] = 0;
}

/* Takes what output there is, waiting at most `seconds` for the first of it. 0: none came, or it is over. */
static int read_output(struct expect *x, double seconds)
{
    struct pollfd p;
    unsigned char buffer[4096];
    ssize_t n, i;
    int k;

    if (x->pty < 0)
        return 0;
    p.fd = x->pty;
    p.events = POLLIN;
    p.revents = 0;
    if (poll(&p, 1, seconds <= 0 ? 0 : (int)(seconds * 1000) + 1) <= 0)
        return 0;
    n = read(x->pty, buffer, sizeof buffer);
    if (n <= 0) {                           /* EIO: the other side has been closed */
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
            return 0;
        close(x->pty);
        x->pty = -1;
        return 0;
    }
    if (x->log) {
        fwrite(buffer, 1, (size_t)n, x->log);
        fflush(x->log);
    }
    for (i = 0; i < n; i++)
        see_byte(x, buffer[i]);
    for (k = 0; k < x->nevers; k++)
        if (regexec(&x->never[k], x->seen + x->matched, 0, NULL, 0) == 0)
            fail(x, "/%s/ must never be seen, and was", x->never_text[k]);
    return 1;
}

static void compile_regex(struct expect *x, regex_t *r, const char *text)
{
    char why[200];
    int e = regcomp(r, text, REG_EXTENDED | REG_NEWLINE);
    if (e) {
        regerror(e, r, why, sizeof why);
        fail(x, "/%s/: %s", text, why);
    }
}

/* Waits for the expression; the text it matched stays in *from..*to until the next output. */
static void wait_for(struct expect *x, const char *text, const char **from, const char **to)
{
    regex_t r;
    regmatch_t m[1];
    double by = now() + x->limit;

    if (by > x->end_by)
        by = x->end_by;
    compile_regex(x, &r, text);
    for (;;) {
        double left = by - now();
        if (regexec(&r, x->seen + x->matched, 1, m, 0) == 0)
            break;
        if (x->pty < 0)
            fail(x, "the emulator ended while /%s/ was waited for", text);
        if (left <= 0)
            fail(x, "waited %.0f s for /%s/, not seen", x->limit, text);
        read_output(x, left);
    }
    regfree(&r);
    if (from)
        *from = x->seen + x->matched + m[0].rm_so;
    x->matched += (size_t)m[0].rm_eo;
    if (to)
        *to = x->seen + x->matched;
}

static void type_bytes(struct expect *x, const char *text, size_t n)
{
    size_t done = 0;
    double by = now() + x->limit;
    while (done < n) {
        /* A serial port has a FIFO of 16 bytes and a guest that may be slow: small pieces, output taken in between. */
        size_t piece = n - done < 16 ? n - done : 16;
        ssize_t k = x->pty < 0 ? -1 : write(x->pty, text + done, piece);
        if (k > 0)
            done += (size_t)k;
        else if (x->pty < 0 || errno != EAGAIN || now() > by)
            fail(x, "could not type \"%.60s\": %s", text, x->pty < 0 ? "the emulator has ended" : strerror(errno));
        read_output(x, 0.005);
    }
}

static int hex_digit(char c)
{
    static const char digits[] = "0123456789abcdef";
    const char *p = c ? strchr(digits, c >= 'A' && c <= 'F' ? c + 32 : c) : NULL;
    return p ? (int)(p - digits) : -1;
}

static void send_text(struct expect *x, const char *text, const char *end)
{
    char out[LINE_MAX_BYTES + 8];
    size_t n = 0;
    for (; *text; text++) {
        if (*text == '\\' && text[1]) {
            text++;
            if (*text == 'x' && hex_digit(text[1]) >= 0 && hex_digit(text[2]) >= 0) {
                out[n++] = (char)(hex_digit(text[1]) * 16 + hex_digit(text[2]));
                text += 2;
            } else {
                out[n++] = *text == 'r' ? '\r' : *text == 'n' ? '\n' : *text == 't' ? '\t' : *text == 'e' ? 27 : *text;
            }
        } else {
            out[n++] = *text;
        }
    }
    while (*end)
        out[n++] = *end++;
    type_bytes(x, out, n);
}

/* The status comes back between marks that the echo of the command itself does not form. */
static void run_in_guest(struct expect *x, const char *command, int want_zero)
{
    static const char suffix[] = "; echo \"s=$?=\"\r";
    const char *from, *to;
    int status;
    type_bytes(x, command, strlen(command));
    type_bytes(x, suffix, strlen(suffix));
    wait_for(x, "s=[0-9]+=", &from, &to);
    status = atoi(from + 2);
    if ((status == 0) != want_zero)
        fail(x, "`%s` ended with status %d in the guest", command, status);
    (void)to;
}

/* The host's side of a test (ssh, curl, a server's check). Its output goes to ours, below the log. */
static void run_on_host(struct expect *x, const char *command)
{
    double by = now() + x->limit;
    int status = 0;
    pid_t pid;
    fflush(stdout);
    pid = fork();
    if (pid < 0)
        fail(x, "fork: %s", strerror(errno));
    if (pid == 0) {
        setpgid(0, 0);
        execl("/bin/sh", "sh", "-c", command, (char *)NULL);
        _exit(127);
    }
    while (waitpid(pid, &status, WNOHANG) != pid) {
        if (now() > by || now() > x->end_by) {
            kill(-pid, SIGKILL);
            waitpid(pid, &status, 0);
            fail(x, "`%s` on the host did not end within %.0f s", command, x->limit);
        }
        if (x->pty >= 0) {
            read_output(x, 0.02);
        } else {
            struct timespec t = { 0, 20000000 };
            nanosleep(&t, NULL);
        }
    }
    if (status != 0)
        fail(x, "`%s` on the host ended with status %d", command, WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
}

static void wait_for_end(struct expect *x, int want)
{
    double by = now() + x->limit;
    int got;
    if (by > x->end_by)
        by = x->end_by;
    while (x->pid) {
        if (waitpid(x->pid, &x->status, WNOHANG) == x->pid)
            x->pid = 0;
        else if (now() > by)
            fail(x, "waited %.0f s for the emulator to end", x->limit);
        else if (x->pty >= 0)
            read_output(x, 0.05);
        else {
            struct timespec t = { 0, 20000000 };
            nanosleep(&t, NULL);
        }
    }
    while (read_output(x, 0.05))
        ;
    got = WIFEXITED(x->status) ? WEXITSTATUS(x->status) : 128 + WTERMSIG(x->status);
    if (got != want)
        fail(x, "the emulator ended with status %d, not %d", got, want);
}

/* The monitor shares the terminal (-nographic). Its answer stays in *from..*to until the next output. */
static void ask_monitor(struct expect *x, const char *command, const char **from, const char **to)
{
    static const char prompt[] = "\\((qemu|emu)\\) ";
    size_t begin;
    type_bytes(x, "\1c", 2);
    wait_for(x, prompt, NULL, NULL);
    begin = x->matched;
    type_bytes(x, command, strlen(command));
    type_bytes(x, "\r", 1);
    wait_for(x, prompt, NULL, to);
    *from = x->seen + (begin <= x->matched ? begin : 0);
    type_bytes(x, "\1c", 2);
}

/* 25 rows of 80 cells as `xp` shows them, one 16-bit cell after another, turned into lines. */
static void wait_for_screen(struct expect *x, const char *text)
{
    static char rows[25 * 81 + 1];
    regex_t r;
    double by = now() + x->limit;
    compile_regex(x, &r, text);
    for (;;) {
        const char *from, *to, *p;
        int n = 0;
        ask_monitor(x, "xp/2000xh 0xb8000", &from, &to);
        for (p = from; p + 6 <= x->seen + x->matched && n < 25 * 81; p++) {
            int c;
            /* a cell: 0xAACC after a blank; an address has more digits or no 0x */
            if (p == from || p[-1] != ' ' || p[0] != '0' || p[1] != 'x' || hex_digit(p[5]) < 0 || hex_digit(p[6]) >= 0)
                continue;
            c = hex_digit(p[4]) * 16 + hex_digit(p[5]);
            rows[n++] = (char)(c >= 32 && c < 127 ? c : ' ');
            if (n % 81 == 80)
                rows[n++] = '\n';
        }
        rows[n] = 0;
        if (regexec(&r, rows, 0, NULL, 0) == 0)
            break;
        if (now() > by) {
            fprintf(stderr, "---- screen ----\n%s\n", rows);
            fail(x, "waited %.0f s for /%s/ on the screen", x->limit, text);
        }
        by = by < x->end_by ? by : x->end_by;
        while (read_output(x, 0.5))
            ;
    }
    regfree(&r);
}

/* Processor time of COMMAND so far in seconds, all threads; negative: this host does not tell. */
static double processor_seconds(struct expect *x)
{
    char path[64], text[1024], *p;
    unsigned long user, system;
    size_t n;
    FILE *f;
    snprintf(path, sizeof path, "/proc/%ld/stat", (long)x->pid);
    if (!x->pid || (f = fopen(path, "r")) == NULL)
        return -1;
    n = fread(text, 1, sizeof text - 1, f);
    fclose(f);
    text[n] = 0;
    p = strrchr(text, ')');     /* the name before it may hold blanks; utime and stime are fields 14 and 15, this is the end of 2 */
    if (!p || sscanf(p + 1, " %*c %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %lu %lu", &user, &system) != 2)
        return -1;
    return (double)(user + system) / (double)sysconf(_SC_CLK_TCK);
}

/* What the emulator costs at rest is in every window; a guest's own housekeeping (a daemon's timer, what a boot left to do) and a host whose
 * other work makes each wakeup dearer are in some. So the least window is the measure, and the first one within the bound ends it. */
static void be_idle(struct expect *x, const char *arguments)
{
    char name[64];
    double percent, seconds, used, start, by, least = -1;
    int window;
    if (sscanf(arguments, "%63s %lf %lf", name, &percent, &seconds) != 3)
        fail(x, "idle NAME PERCENT SECONDS");
    for (window = 0; window < IDLE_WINDOWS && (least < 0 || least > percent); window++) {
        used = processor_seconds(x);
        start = now();
        by = start + seconds;
        while (now() < by && x->pty >= 0)
            read_output(x, by - now());
        if (x->pty < 0)
            fail(x, "the emulator ended while it should have been idle");
        if (used < 0) {
            printf("%s unknown\n", name);
            return;
        }
        used = (processor_seconds(x) - used) / (now() - start) * 100;
        if (least < 0 || used < least)
            least = used;
    }
    printf("%s %.2f %%\n", name, least);
    fflush(stdout);
    if (least > percent)
        fail(x, "%s: %.2f %% of a core while idle in the best of %d times %.0f s, at most %.2f wanted", name, least, window, seconds, percent);
}

static void step(struct expect *x, char *line)
{
    char *word = line + strspn(line, " \t"), *rest;
    size_t n;
    word[strcspn(word, "\r\n")] = 0;
    if (*word == 0 || *word == '#')
        return;
    n = strcspn(word, " \t");
    rest = word + n;
    if (*rest)
        *rest++ = 0;
    if (strcmp(word, "limit") == 0) {
        x->limit = atof(rest);
    } else if (strcmp(word, "wait") == 0) {
        wait_for(x, rest, NULL, NULL);
    } else if (strcmp(word, "send") == 0) {
        send_text(x, rest, "");
    } else if (strcmp(word, "line") == 0) {
        send_text(x, rest, "\r");
    } else if (strcmp(word, "run") == 0) {
        run_in_guest(x, rest, 1);
    } else if (strcmp(word, "fails") == 0) {
        run_in_guest(x, rest, 0);
    } else if (strcmp(word, "host") == 0) {
        run_on_host(x, rest);
    } else if (strcmp(word, "screen") == 0) {
        wait_for_screen(x, rest);
    } else if (strcmp(word, "monitor") == 0) {
        const char *from, *to;
        ask_monitor(x, rest, &from, &to);
    } else if (strcmp(word, "never") == 0) {
        if (x->nevers == NEVER_MAX)
            fail(x, "more than %d never lines", NEVER_MAX);
        compile_regex(x, &x->never[x->nevers], rest);
        x->never_text[x->nevers] = malloc(strlen(rest) + 1);
        if (x->never_text[x->nevers])
            strcpy(x->never_text[x->nevers++], rest);
    } else if (strcmp(word, "time") == 0) {
        printf("%s %.0f ms\n", rest, (now() - x->start) * 1000);
        fflush(stdout);
    } else if (strcmp(word, "sleep") == 0) {
        double by = now() + atof(rest);
        while (now() < by && x->pty >= 0)
            read_output(x, by - now());
    } else if (strcmp(word, "idle") == 0) {
        be_idle(x, rest);
    } else if (strcmp(word, "status") == 0) {
        wait_for_end(x, atoi(rest));
    } else if (strcmp(word, "kill") == 0) {
        end_command(x);
    } else {
        fail(x, "no such step: %s", word);
    }
}

static void start_command(struct expect *x, char **argv)
{
    struct winsize size;
    struct termios mode;
    int side;
    memset(&size, 0, sizeof size);
    size.ws_row = 24;
    size.ws_col = 80;
    x->pty = posix_openpt(O_RDWR | O_NOCTTY);
    if (x->pty < 0 || grantpt(x->pty) || unlockpt(x->pty) || (side = open(ptsname(x->pty), O_RDWR | O_NOCTTY)) < 0) {
        fprintf(stderr, "expect: no pseudo-terminal: %s\n", strerror(errno));
        exit(1);
    }
    ioctl(x->pty, TIOCSWINSZ, &size);
    if (tcgetattr(side, &mode) == 0) {      /* the guest echoes, the terminal must not */
        mode.c_lflag &= ~(tcflag_t)(ECHO | ICANON | ISIG | IEXTEN);
        mode.c_iflag &= ~(tcflag_t)(ICRNL | IXON);
        mode.c_oflag &= ~(tcflag_t)OPOST;
        tcsetattr(side, TCSANOW, &mode);
    }
    x->pid = fork();
    if (x->pid < 0) {
        fprintf(stderr, "expect: fork: %s\n", strerror(errno));
        exit(1);
    }
    if (x->pid == 0) {
        setsid();
        ioctl(side, TIOCSCTTY, 0);
        dup2(side, 0);
        dup2(side, 1);
        dup2(side, 2);
        if (side > 2)
            close(side);
        close(x->pty);
        execvp(argv[0], argv);
        fprintf(stderr, "expect: %s: %s\n", argv[0], strerror(errno));
        _exit(127);
    }
    close(side);
    fcntl(x->pty, F_SETFL, O_NONBLOCK);
    fcntl(x->pty, F_SETFD, FD_CLOEXEC);
}

static int usage(void)
{
    fprintf(stderr, "usage: expect [-t SECONDS] [-l LOG] SCRIPT COMMAND ARGUMENTS...\n");
    return 2;
}

int main(int argc, char **argv)
{
    static struct expect x;         /* a test tool: one guest a process */
    static char line[LINE_MAX_BYTES];
    double total = 600;
    FILE *script;
    int i = 1;

    for (; i + 1 < argc && argv[i][0] == '-' && argv[i][1]; i += 2) {
        if (strcmp(argv[i], "-t") == 0)
            total = atof(argv[i + 1]);
        else if (strcmp(argv[i], "-l") == 0) {
            if ((x.log = fopen(argv[i + 1], "wb")) == NULL) {
                fprintf(stderr, "expect: %s: %s\n", argv[i + 1], strerror(errno));
                return 2;
            }
        } else
            return usage();
    }
    if (argc - i < 2)
        return usage();
    x.script_name = argv[i];
    script = strcmp(argv[i], "-") == 0 ? stdin : fopen(argv[i], "r");
    if (!script || (x.seen = calloc(1, SEEN_MAX)) == NULL) {
        fprintf(stderr, "expect: %s: %s\n", argv[i], strerror(errno));
        return 2;
    }
    signal(SIGPIPE, SIG_IGN);
    x.start = now();
    x.end_by = x.start + total;
    x.limit = 60;
    start_command(&x, argv + i + 1);
    while (fgets(line, sizeof line, script)) {
        x.script_line++;
        step(&x, line);
    }
    end_command(&x);
    if (x.log)
        fclose(x.log);
    return 0;
}
