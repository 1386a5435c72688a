/* Intercepts file system calls of a process: counts the calls that change files below one folder, and at one of them
   kills the process, fails the call, or records all calls. Loaded by LD_PRELOAD; inactive until armed. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum { COUNT = 1, KILL, KILL_HALF, FAIL_ONCE, FAIL_ON, RECORD };

/* Shared memory, which the fork server reads after the end of the process. */
struct counters { uint64_t calls, fired; };

static struct counters *counters;
static char folder[PATH_MAX];
static size_t folder_size;
static int action, error_number, record = -1;
static uint64_t nth;
static pthread_mutex_t mutex = PTHREAD_RECURSIVE_MUTEX_INITIALIZER_NP;

void faults_arm(const char *below, int what, uint64_t at, int error, const char *into, struct counters *shared) {
    counters = shared;
    snprintf(folder, sizeof folder, "%s", below);
    folder_size = strlen(folder);
    nth = at, error_number = error;
    if (what == RECORD)
        record = syscall(SYS_openat, AT_FDCWD, into, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    action = what;
}

static int is_below(const char *path) {
    return strncmp(path, folder, folder_size) == 0 && (path[folder_size] == '/' || path[folder_size] == 0);
}

/* Write the path of a call into ``path``; return whether it is below the folder. */
static int resolve_path(int at, const char *name, char *path) {
    char link[64];
    ssize_t size = 0;
    if (!action || !name)
        return 0;
    if (name[0] != '/') {
        if (at == AT_FDCWD)
            snprintf(link, sizeof link, "/proc/self/cwd");
        else
            snprintf(link, sizeof link, "/proc/self/fd/%d", at);
        size = readlink(link, path, PATH_MAX - 1);
        if (size < 0)
            return 0;
        path[size++] = '/';
    }
    snprintf(path + size, PATH_MAX - size, "%s", name);
    return is_below(path);
}

static int opened(int fd, char *path) {
    char link[64];
    ssize_t size;
    if (!action)
        return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    size = readlink(link, path, PATH_MAX - 1);
    if (size < 0)
        return 0;
    path[size] = 0;
    return is_below(path);
}

/* Count a call; return whether it must fail. ``half`` writes half of the call's data before a kill. */
static int falls(int fd, const void *half, size_t size, off_t offset) {
    uint64_t mine = __atomic_add_fetch(&counters->calls, 1, __ATOMIC_SEQ_CST);
    if (action == COUNT || action == RECORD || mine < nth || (mine > nth && action != FAIL_ON))
        return 0;
    counters->fired = 1;
    if (action == KILL_HALF && half && size > 1) {
        if (offset < 0)
            syscall(SYS_write, fd, half, size / 2);
        else
            syscall(SYS_pwrite64, fd, half, size / 2, offset);
    }
    if (action == KILL || action == KILL_HALF)
        syscall(SYS_kill, getpid(), SIGKILL);
    errno = error_number;
    return 1;
}

static void note(char what, const char *path, const char *other, int64_t offset, const void *data, uint64_t size) {
    struct { char what; uint32_t path, other; int64_t offset; uint64_t size; } __attribute__((packed)) head = {
        what, strlen(path), strlen(other), offset, size};
    struct iovec parts[] = {{&head, sizeof head}, {(void *)path, head.path}, {(void *)other, head.other},
                            {(void *)data, data ? size : 0}};
    if (syscall(SYS_writev, record, parts, 4) < 0)
        syscall(SYS_kill, getpid(), SIGKILL); /* an incomplete record is useless */
}

#define REAL(name) \
    static __typeof__(name) *real; \
    if (!real) real = (__typeof__(name) *)dlsym(RTLD_NEXT, #name)

/* Run a call without data, and record it if it succeeded. */
#define DO(call, what, path, other, offset) ({ \
    int saved_; long done_; \
    if (action == RECORD) pthread_mutex_lock(&mutex); \
    done_ = (call), saved_ = errno; \
    if (action == RECORD) { \
        if (done_ >= 0) note(what, path, other, offset, NULL, 0); \
        pthread_mutex_unlock(&mutex); \
    } \
    errno = saved_, done_; })

static ssize_t written(int fd, const char *path, const void *data, off_t offset, ssize_t done) {
    int saved = errno;
    if (action == RECORD && done > 0) {
        if (offset < 0)
            offset = syscall(SYS_lseek, fd, 0, SEEK_CUR) - done;
        note('w', path, "", offset, data, done);
    }
    errno = saved;
    return done;
}

#define WRITE(call, data, size, offset) \
    char path[PATH_MAX]; ssize_t done; \
    if (!opened(fd, path)) return call; \
    if (falls(fd, data, size, offset)) return -1; \
    pthread_mutex_lock(&mutex); \
    done = written(fd, path, data, offset, call); \
    pthread_mutex_unlock(&mutex); \
    return done

ssize_t write(int fd, const void *data, size_t size) { REAL(write); WRITE(real(fd, data, size), data, size, -1); }
ssize_t pwrite(int fd, const void *data, size_t size, off_t at) { REAL(pwrite); WRITE(real(fd, data, size, at), data, size, at); }
ssize_t pwrite64(int fd, const void *data, size_t size, off64_t at) { REAL(pwrite64); WRITE(real(fd, data, size, at), data, size, at); }

/* Report these calls as unsupported, so that callers use plain writes. */
ssize_t sendfile64(int out, int in, off64_t *at, size_t size) { (void)out, (void)in, (void)at, (void)size; errno = EINVAL; return -1; }
ssize_t sendfile(int out, int in, off_t *at, size_t size) { (void)out, (void)in, (void)at, (void)size; errno = EINVAL; return -1; }
ssize_t copy_file_range(int in, off64_t *from, int out, off64_t *to, size_t size, unsigned flags) {
    (void)in, (void)from, (void)out, (void)to, (void)size, (void)flags; errno = ENOSYS; return -1;
}

#define OF_FD(call, what, offset) \
    char path[PATH_MAX]; \
    if (!opened(fd, path)) return call; \
    if (falls(-1, NULL, 0, -1)) return -1; \
    return DO(call, what, path, "", offset)

int fsync(int fd) { REAL(fsync); OF_FD(real(fd), 's', 0); }
int fdatasync(int fd) { REAL(fdatasync); OF_FD(real(fd), 's', 0); }
int ftruncate(int fd, off_t size) { REAL(ftruncate); OF_FD(real(fd, size), 't', size); }
int ftruncate64(int fd, off64_t size) { REAL(ftruncate64); OF_FD(real(fd, size), 't', size); }

#define OF_NAME(at, name, call, what) \
    char path[PATH_MAX]; \
    if (!resolve_path(at, name, path)) return call; \
    if (falls(-1, NULL, 0, -1)) return -1; \
    return DO(call, what, path, "", 0)

/* Files can be deleted on a full disk. */
#define AWAY(at, name, call) \
    if (error_number == ENOSPC) return call; \
    OF_NAME(at, name, call, 'u')

int unlink(const char *name) { REAL(unlink); AWAY(AT_FDCWD, name, real(name)); }
int unlinkat(int at, const char *name, int flags) { REAL(unlinkat); AWAY(at, name, real(at, name, flags)); }
int rmdir(const char *name) { REAL(rmdir); AWAY(AT_FDCWD, name, real(name)); }
int mkdir(const char *name, mode_t mode) { REAL(mkdir); OF_NAME(AT_FDCWD, name, real(name, mode), 'd'); }
int mkdirat(int at, const char *name, mode_t mode) { REAL(mkdirat); OF_NAME(at, name, real(at, name, mode), 'd'); }

#define OF_TWO(old_at, old, new_at, new, call, what) \
    char path[PATH_MAX], other[PATH_MAX]; \
    if (!resolve_path(old_at, old, path) || !resolve_path(new_at, new, other)) return call; \
    if (falls(-1, NULL, 0, -1)) return -1; \
    return DO(call, what, path, other, 0)

int rename(const char *old, const char *new) { REAL(rename); OF_TWO(AT_FDCWD, old, AT_FDCWD, new, real(old, new), 'r'); }
int renameat2(int a, const char *old, int b, const char *new, unsigned flags) {
    REAL(renameat2); OF_TWO(a, old, b, new, real(a, old, b, new, flags), flags & 2 ? 'x' : 'r');
}
int renameat(int a, const char *old, int b, const char *new) { REAL(renameat); OF_TWO(a, old, b, new, real(a, old, b, new), 'r'); }
int link(const char *old, const char *new) { REAL(link); OF_TWO(AT_FDCWD, old, AT_FDCWD, new, real(old, new), 'l'); }
int linkat(int a, const char *old, int b, const char *new, int flags) { REAL(linkat); OF_TWO(a, old, b, new, real(a, old, b, new, flags), 'l'); }

/* Count only calls that create, truncate or open a file for writing. Existing files can be opened on a full disk. */
static int changes(int flags) { return flags & (O_CREAT | O_TRUNC | O_WRONLY | O_RDWR); }

#define OPEN(at, name, call) \
    char path[PATH_MAX]; mode_t mode = 0; va_list more; \
    va_start(more, flags); \
    if (flags & (O_CREAT | __O_TMPFILE)) mode = va_arg(more, mode_t); \
    va_end(more); \
    if (!changes(flags) || !resolve_path(at, name, path)) return call; \
    if (error_number == ENOSPC && syscall(SYS_faccessat, AT_FDCWD, path, F_OK) == 0) return call; \
    if (falls(-1, NULL, 0, -1)) return -1; \
    return DO(call, flags & O_TRUNC ? 'o' : 'c', path, "", 0)

int open(const char *name, int flags, ...) { REAL(open); OPEN(AT_FDCWD, name, real(name, flags, mode)); }
int open64(const char *name, int flags, ...) { REAL(open64); OPEN(AT_FDCWD, name, real(name, flags, mode)); }
int openat(int at, const char *name, int flags, ...) { REAL(openat); OPEN(at, name, real(at, name, flags, mode)); }
int openat64(int at, const char *name, int flags, ...) { REAL(openat64); OPEN(at, name, real(at, name, flags, mode)); }
