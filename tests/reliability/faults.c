/* Counts the calls by which a process changes files below one folder, and strikes at the K-th.
 *
 * For LD_PRELOAD. The count is of the whole process, over all threads, so the K-th call of a run
 * is one that a pool may make. It knows nothing of what is written, and follows no symbolic links:
 * a path is below the folder as it is spelled. Every function is its system call, so nothing of
 * the C library is called under the feet of its caller.
 *
 *   FAULTS_FOLDER  the folder, an absolute path; without it nothing is counted
 *   FAULTS_KINDS   which calls, of rename,mkdir,open,write,fsync,unlink; all without it
 *   FAULTS_MODE    count; kill (SIGKILL to the process before the K-th call takes effect); group
 *                  (to its process group); fail (the K-th call fails); full (and all after it)
 *   FAULTS_AT      K, from 1
 *   FAULTS_ERRNO   what a failing call says
 *   FAULTS_LOG     a file that gets a line, KIND<tab>PATH[<tab>PATH], for each call counted
 *
 * They are read when the process starts, and again by faults_arm() with the count at 0.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum { LONGEST = 2 * PATH_MAX };

static const char *folder, *kinds, *mode;
static long at, error;
static int journal = -1;
static atomic_long counted;

__attribute__((constructor)) void faults_arm(void) {
    const char *number = getenv("FAULTS_AT"), *code = getenv("FAULTS_ERRNO");
    const char *path = getenv("FAULTS_LOG");
    folder = getenv("FAULTS_FOLDER");
    kinds = getenv("FAULTS_KINDS");
    mode = getenv("FAULTS_MODE");
    at = number ? atol(number) : 0;
    error = code ? atol(code) : EIO;
    journal = -1;
    if (path)
        journal = syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC,
                          0600);
    counted = 0;
}

static bool is(const char *wanted) { return mode && strcmp(mode, wanted) == 0; }

/* The path that a descriptor was opened with, or "". */
static void path_of(int descriptor, char found[LONGEST]) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    long length = syscall(SYS_readlinkat, AT_FDCWD, link, found, LONGEST - 1);
    found[length > 0 ? length : 0] = 0;
}

static void resolve(int directory, const char *path, char found[LONGEST]) {
    if (path[0] == '/') {
        snprintf(found, LONGEST, "%s", path);
        return;
    }
    char start[LONGEST];
    if (directory != AT_FDCWD)
        path_of(directory, start);
    else if (!getcwd(start, sizeof start))
        start[0] = 0;
    snprintf(found, LONGEST, "%.*s/%.*s", PATH_MAX - 1, start, PATH_MAX - 1, path);
}

static bool is_below(const char *path) {
    size_t length = strlen(folder);
    return strncmp(path, folder, length) == 0 && (path[length] == '/' || path[length] == 0);
}

static bool is_wanted(const char *kind) {
    const char *found = kinds ? strstr(kinds, kind) : kind;
    return found != NULL;
}

/* Counts a call that is about to be made; false, with errno, where it shall fail instead. */
static bool allows(const char *kind, const char *path, const char *other) {
    if (!is_wanted(kind) || !(is_below(path) || (other && is_below(other))))
        return true;
    long number = ++counted;
    if (journal >= 0) {
        char line[2 * LONGEST + 32];
        int length = snprintf(line, sizeof line, "%s\t%s%s%s\n", kind, path, other ? "\t" : "",
                              other ? other : "");
        if (syscall(SYS_write, journal, line, length) != length)
            _exit(125); /* a count with holes proves nothing */
    }
    if (number == at && (is("kill") || is("group"))) {
        kill(is("group") ? 0 : getpid(), SIGKILL);
        for (;;)
            pause();
    }
    if ((number == at && is("fail")) || (number >= at && is("full"))) {
        errno = error;
        return false;
    }
    return true;
}

static bool allows_at(const char *kind, int directory, const char *path) {
    char full[LONGEST];
    if (!folder)
        return true;
    resolve(directory, path, full);
    return allows(kind, full, NULL);
}

static bool allows_on(const char *kind, int descriptor) {
    char full[LONGEST];
    if (!folder || descriptor == journal)
        return true;
    path_of(descriptor, full);
    return allows(kind, full, NULL);
}

int renameat2(int from, const char *old, int to, const char *new, unsigned flags) {
    if (folder) {
        char source[LONGEST], target[LONGEST];
        resolve(from, old, source);
        resolve(to, new, target);
        if (!allows("rename", source, target))
            return -1;
    }
    return syscall(SYS_renameat2, from, old, to, new, flags);
}

int renameat(int from, const char *old, int to, const char *new) {
    return renameat2(from, old, to, new, 0);
}

int rename(const char *old, const char *new) {
    return renameat2(AT_FDCWD, old, AT_FDCWD, new, 0);
}

int mkdirat(int directory, const char *path, mode_t bits) {
    return allows_at("mkdir", directory, path) ? syscall(SYS_mkdirat, directory, path, bits) : -1;
}

int mkdir(const char *path, mode_t bits) { return mkdirat(AT_FDCWD, path, bits); }

static int open_at(int directory, const char *path, int flags, mode_t bits) {
    bool writes = (flags & O_ACCMODE) != O_RDONLY || (flags & (O_CREAT | O_TRUNC));
    if (writes && !allows_at("open", directory, path))
        return -1;
    return syscall(SYS_openat, directory, path, flags, bits);
}

/* The permissions are there only where a file may be made. */
#define OPEN(name, ...)                                                                            \
    int name(__VA_ARGS__, int flags, ...) {                                                        \
        va_list rest;                                                                              \
        va_start(rest, flags);                                                                     \
        bool makes = (flags & O_CREAT) || (flags & O_TMPFILE) == O_TMPFILE;                        \
        mode_t bits = makes ? va_arg(rest, mode_t) : 0;                                            \
        va_end(rest);                                                                              \
        return open_at(DIRECTORY, path, flags, bits);                                              \
    }
#define DIRECTORY AT_FDCWD
OPEN(open, const char *path)
OPEN(open64, const char *path)
#undef DIRECTORY
#define DIRECTORY directory
OPEN(openat, int directory, const char *path)
OPEN(openat64, int directory, const char *path)

int creat(const char *path, mode_t bits) {
    return open_at(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, bits);
}

int creat64(const char *path, mode_t bits) { return creat(path, bits); }

ssize_t write(int file, const void *bytes, size_t size) {
    return allows_on("write", file) ? syscall(SYS_write, file, bytes, size) : -1;
}

ssize_t pwrite(int file, const void *bytes, size_t size, off_t place) {
    return allows_on("write", file) ? syscall(SYS_pwrite64, file, bytes, size, place) : -1;
}

ssize_t pwrite64(int file, const void *bytes, size_t size, off64_t place) {
    return pwrite(file, bytes, size, place);
}

ssize_t writev(int file, const struct iovec *parts, int count) {
    return allows_on("write", file) ? syscall(SYS_writev, file, parts, count) : -1;
}

int ftruncate(int file, off_t size) {
    return allows_on("write", file) ? syscall(SYS_ftruncate, file, size) : -1;
}

int ftruncate64(int file, off64_t size) { return ftruncate(file, size); }

int fsync(int file) { return allows_on("fsync", file) ? syscall(SYS_fsync, file) : -1; }

int fdatasync(int file) { return allows_on("fsync", file) ? syscall(SYS_fdatasync, file) : -1; }

int unlinkat(int directory, const char *path, int flags) {
    if (!allows_at("unlink", directory, path))
        return -1;
    return syscall(SYS_unlinkat, directory, path, flags);
}

int unlink(const char *path) { return unlinkat(AT_FDCWD, path, 0); }

int rmdir(const char *path) { return unlinkat(AT_FDCWD, path, AT_REMOVEDIR); }
