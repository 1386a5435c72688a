/* Simulates a file system without locks, or without memory that processes share, as some network file systems are: calls for files
   below the folder DBCTL_TEST_FOLDER fail. Loaded by LD_PRELOAD; DBCTL_TEST_CALLS has the names of the calls. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <unistd.h>

static int fails(const char *call, int descriptor) {
    const char *folder = getenv("DBCTL_TEST_FOLDER"), *calls = getenv("DBCTL_TEST_CALLS");
    char link[64], path[PATH_MAX];
    if (!folder || !calls || !strstr(calls, call))
        return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    ssize_t size = readlink(link, path, sizeof path - 1);
    if (size < 0)
        return 0;
    path[size] = 0;
    return strncmp(path, folder, strlen(folder)) == 0;
}

int flock(int descriptor, int operation) {
    static int (*next)(int, int);
    if (!next)
        next = dlsym(RTLD_NEXT, "flock");
    if (fails("flock", descriptor)) {
        errno = ENOLCK;
        return -1;
    }
    return next(descriptor, operation);
}

static int lock_or_pass(const char *name, int descriptor, int command, void *argument) {
    int (*next)(int, int, ...) = dlsym(RTLD_NEXT, name);
    if ((command == F_SETLK || command == F_SETLKW || command == F_GETLK) && fails("fcntl", descriptor)) {
        errno = ENOLCK;
        return -1;
    }
    return next(descriptor, command, argument);
}

int fcntl(int descriptor, int command, ...) {
    va_list arguments;
    va_start(arguments, command);
    void *argument = va_arg(arguments, void *);
    va_end(arguments);
    return lock_or_pass("fcntl", descriptor, command, argument);
}

int fcntl64(int descriptor, int command, ...) {
    va_list arguments;
    va_start(arguments, command);
    void *argument = va_arg(arguments, void *);
    va_end(arguments);
    return lock_or_pass("fcntl64", descriptor, command, argument);
}

static void *map_or_fail(const char *name, void *address, size_t size, int access, int flags, int descriptor, off_t offset) {
    void *(*next)(void *, size_t, int, int, int, off_t) = dlsym(RTLD_NEXT, name);
    if (descriptor >= 0 && (flags & MAP_SHARED) && fails("mmap", descriptor)) {
        errno = ENODEV;
        return MAP_FAILED;
    }
    return next(address, size, access, flags, descriptor, offset);
}

void *mmap(void *address, size_t size, int access, int flags, int descriptor, off_t offset) {
    return map_or_fail("mmap", address, size, access, flags, descriptor, offset);
}

void *mmap64(void *address, size_t size, int access, int flags, int descriptor, off64_t offset) {
    return map_or_fail("mmap64", address, size, access, flags, descriptor, offset);
}
