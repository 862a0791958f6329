/* Preloaded into the virtual phone's adbd and shells. Two things that need no kernel help this way:
   adbd listens on loopback only, and writes below the phone's root fail with ENOSPC while the file "full" exists. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <netinet/in.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

static int is_full(void) {
  char flag[PATH_MAX];
  const char* state = getenv("HILNAS_PHONE_STATE");
  if (state == NULL) return 0;
  snprintf(flag, sizeof flag, "%s/full", state);
  return access(flag, F_OK) == 0;
}

static int is_below_root(const char* path) {
  const char* root = getenv("HILNAS_PHONE_ROOT");
  return root != NULL && *root != '\0' && strncmp(path, root, strlen(root)) == 0;
}

static int descriptor_path(int descriptor, const char* name, char* path, size_t size) {
  char link[64];
  snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
  const char* source = descriptor == AT_FDCWD ? "/proc/self/cwd" : link;
  const ssize_t length = readlink(source, path, size - 1);
  if (length < 0) return -1;
  snprintf(path + length, size - length, name == NULL ? "" : "/%s", name);
  return 0;
}

static int refuses_create(int folder, const char* name, int flags) {
  char path[2 * PATH_MAX];
  if ((flags & (O_CREAT | O_TRUNC)) == 0 || !is_full()) return 0;
  if (name[0] == '/') return is_below_root(name);
  return descriptor_path(folder, name, path, sizeof path) == 0 && is_below_root(path);
}

static int refuses_write(int descriptor) {
  char path[2 * PATH_MAX];
  struct stat found;
  if (!is_full() || fstat(descriptor, &found) != 0 || !S_ISREG(found.st_mode)) return 0;
  return descriptor_path(descriptor, NULL, path, sizeof path) == 0 && is_below_root(path);
}

#define NO_SPACE(condition) \
  if (condition) {          \
    errno = ENOSPC;         \
    return -1;              \
  }

static mode_t mode_of(int flags, va_list arguments) {
  return flags & (O_CREAT | O_TMPFILE) ? va_arg(arguments, mode_t) : 0;
}

#define OPEN(name)                                     \
  int name(const char* path, int flags, ...) {         \
    va_list arguments;                                 \
    va_start(arguments, flags);                        \
    const mode_t mode = mode_of(flags, arguments);     \
    va_end(arguments);                                 \
    NO_SPACE(refuses_create(AT_FDCWD, path, flags))    \
    return NEXT(name)(path, flags, mode);              \
  }

#define OPENAT(name)                                          \
  int name(int folder, const char* path, int flags, ...) {    \
    va_list arguments;                                        \
    va_start(arguments, flags);                               \
    const mode_t mode = mode_of(flags, arguments);            \
    va_end(arguments);                                        \
    NO_SPACE(refuses_create(folder, path, flags))             \
    return NEXT(name)(folder, path, flags, mode);             \
  }

OPEN(open)
OPEN(open64)
OPENAT(openat)
OPENAT(openat64)

int mkdir(const char* path, mode_t mode) {
  NO_SPACE(refuses_create(AT_FDCWD, path, O_CREAT))
  return NEXT(mkdir)(path, mode);
}

ssize_t write(int descriptor, const void* data, size_t size) {
  NO_SPACE(refuses_write(descriptor))
  return NEXT(write)(descriptor, data, size);
}

ssize_t writev(int descriptor, const struct iovec* parts, int count) {
  NO_SPACE(refuses_write(descriptor))
  return NEXT(writev)(descriptor, parts, count);
}

int bind(int descriptor, const struct sockaddr* address, socklen_t length) {
  struct sockaddr_in6 six;
  struct sockaddr_in four;
  if (address->sa_family == AF_VSOCK) {
    errno = EAFNOSUPPORT;
    return -1;
  }
  if (address->sa_family == AF_INET6) {
    memcpy(&six, address, sizeof six);
    inet_pton(AF_INET6, "::ffff:127.0.0.1", &six.sin6_addr);
    return NEXT(bind)(descriptor, (struct sockaddr*)&six, sizeof six);
  }
  if (address->sa_family == AF_INET) {
    memcpy(&four, address, sizeof four);
    four.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return NEXT(bind)(descriptor, (struct sockaddr*)&four, sizeof four);
  }
  return NEXT(bind)(descriptor, address, length);
}
