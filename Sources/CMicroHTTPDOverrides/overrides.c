// Three functions of libmicrohttpd in place of its own, for what its interface has no way to.
//
// The library calls its exported functions through its table of symbols, in which the executable's come before its own (ELF symbol
// interposition, ld.so(8)); every linker exports a symbol of the executable that a library on its command line has as well. If a library was
// built to call its own functions directly, these are never called: `cmhd_try_overrides` finds that out, and the server does not start.
#define _GNU_SOURCE
#include "overrides.h"

#include <dlfcn.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

typedef enum MHD_Result (*queue_function)(struct MHD_Connection *, unsigned int, struct MHD_Response *);
typedef enum MHD_Result (*lookup_function)(struct MHD_Connection *, enum MHD_ValueKind, const char *, size_t, const char **, size_t *);

typedef enum MHD_Result (*set_function)(struct MHD_Connection *, enum MHD_ValueKind, const char *, size_t, const char *, size_t);

static set_function set_value;
static queue_function queue;
static lookup_function lookup;
static cmhd_replacement replacement;

__attribute__((constructor)) static void find_functions(void) {
  queue = (queue_function)dlsym(RTLD_NEXT, "MHD_queue_response");
  set_value = (set_function)dlsym(RTLD_NEXT, "MHD_set_connection_value_n");
  lookup = (lookup_function)dlsym(RTLD_NEXT, "MHD_lookup_connection_value_n");
}

void cmhd_replace_answers(cmhd_replacement function) { replacement = function; }

enum MHD_Result cmhd_queue_response(struct MHD_Connection *connection, unsigned int status, struct MHD_Response *response) {
  return queue(connection, status, response);
}

/// Which of the functions here the library has called on this thread: a bit for each.
static _Thread_local unsigned called;
enum { SET = 1, QUEUE = 2, LOOKUP = 4 };

/// A line has been found that must not be there; the library is about to refuse the request for want of memory.
static _Thread_local bool is_malformed;

static bool is_blank(char byte) { return byte == ' ' || byte == '\t'; }

/// Whether a trailer was sent on more than one line: what `HeadLayout` does for heads. A name that the library has glued together is not where it
/// was, in front of its value; or, with the value untouched, the next line begins with a blank.
static bool is_folded(const char *key, size_t key_size, const char *value, const char *next) {
  if (is_blank(*key) || is_blank(*next)) return true;
  const char *between = key + key_size;
  if ((uintptr_t)value <= (uintptr_t)between || *between != '\0') return true;
  for (between++; between < value; between++)
    if (!is_blank(*between)) return true;
  return false;
}

/// Called by the library alone: with a header field or trailer, when it has found the end of the next line, and has not looked into it.
///
/// If that line begins with a colon, 0.9.75 makes a zero of the colon and then takes the line for the empty one: the head, or the trailers, end there,
/// and what follows would be a body or a request. In the memory no trace of it is left, `HeadLayout` cannot see it.
enum MHD_Result MHD_set_connection_value_n(
  struct MHD_Connection *connection, enum MHD_ValueKind kind, const char *key, size_t key_size, const char *value, size_t value_size) {
  called |= SET;
  enum MHD_Result result = set_value(connection, kind, key, key_size, value, value_size);
  if (result == MHD_NO || value == NULL || (kind != MHD_HEADER_KIND && kind != MHD_FOOTER_KIND)) return result;
  // One zero for an LF, two for a CRLF. All of it lies in front of what was just allocated from the end of the memory.
  const char *next = value + value_size + 1;
  if (*next == '\0') next++;
  if (*next != ':' && (kind == MHD_HEADER_KIND || !is_folded(key, key_size, value, next))) return MHD_YES;
  is_malformed = true;
  return MHD_NO;
}

/// Called by the library alone: to send an HTML page of its own to a request that it cannot read.
enum MHD_Result MHD_queue_response(struct MHD_Connection *connection, unsigned int status, struct MHD_Response *response) {
  called |= QUEUE;
  if (is_malformed) status = MHD_HTTP_BAD_REQUEST;
  is_malformed = false;
  struct MHD_Response *ours = replacement == NULL ? NULL : replacement(connection, &status);
  enum MHD_Result result = queue(connection, status, ours == NULL ? response : ours);
  if (ours != NULL) MHD_destroy_response(ours);
  return result;
}

static bool is_named(const char *key, size_t size, const char *name, size_t name_size) {
  return size == name_size && strncasecmp(key, name, size) == 0;
}

/// A length that the library can follow: digits, and not too many.
static bool is_length(const char *value, size_t size) {
  uint64_t number = 0;
  for (size_t index = 0; index < size; index++) {
    if (value[index] < '0' || value[index] > '9') return false;
    if (__builtin_mul_overflow(number, 10, &number) || __builtin_add_overflow(number, value[index] - '0', &number)) return false;
  }
  return size > 0;
}

/// Called by the library alone, once the head of a request is there. Without `Cookie` it does not copy the cookies into the memory of the
/// connection, where nobody looks for them. Without a `Content-Length` that is wrong it does not refuse the request, which 0.9.75 does with two
/// heads one after the other; `RequestHead.framing` refuses it. Blanks behind a value are no part of it (RFC 9110 section 5.5), but 0.9.75 leaves
/// them there: the value is copied without them. The library reads it before it asks for another.
enum MHD_Result MHD_lookup_connection_value_n(
  struct MHD_Connection *connection, enum MHD_ValueKind kind, const char *key, size_t key_size, const char **value, size_t *value_size) {
  // Longer than any of those that the library understands.
  static _Thread_local char copy[64];
  called |= LOOKUP;
  if (kind != MHD_HEADER_KIND || key == NULL) return lookup(connection, kind, key, key_size, value, value_size);
  if (is_named(key, key_size, "Cookie", 6)) return MHD_NO;
  const char *found = NULL;
  size_t size = 0;
  if (lookup(connection, kind, key, key_size, &found, &size) == MHD_NO) return MHD_NO;
  size_t trimmed = size;
  while (found != NULL && trimmed > 0 && is_blank(found[trimmed - 1])) trimmed--;
  if (is_named(key, key_size, "Content-Length", 14) && (found == NULL || !is_length(found, trimmed))) return MHD_NO;
  if (trimmed < size && trimmed < sizeof(copy)) {
    memcpy(copy, found, trimmed);
    copy[trimmed] = '\0';
    found = copy;
    size = trimmed;
  }
  if (value != NULL) *value = found;
  if (value_size != NULL) *value_size = size;
  return MHD_YES;
}

// What follows is run once, to see whether the functions above are called.

static enum MHD_Result refuse(
  void *context, struct MHD_Connection *connection, const char *path, const char *method, const char *version, const char *data, size_t *size,
  void **slot) {
  (void)context, (void)connection, (void)path, (void)method, (void)version, (void)data, (void)size, (void)slot;
  return MHD_NO;
}

/// - Returns: whether the daemon has got it.
static bool give(struct MHD_Daemon *daemon, const char *request) {
  int sockets[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, sockets) != 0) return false;
  struct sockaddr address = {.sa_family = AF_UNIX};
  bool is_given = write(sockets[1], request, strlen(request)) == (ssize_t)strlen(request);
  // The daemon closes it, also if it refuses it.
  is_given = MHD_add_connection(daemon, sockets[0], &address, sizeof(address)) == MHD_YES && is_given;
  for (int round = 0; is_given && round < 4; round++) MHD_run(daemon);
  close(sockets[1]);
  return is_given;
}

enum cmhd_overrides cmhd_try_overrides(void) {
  struct MHD_Daemon *daemon = MHD_start_daemon(MHD_USE_EPOLL | MHD_USE_NO_LISTEN_SOCKET, 0, NULL, NULL, refuse, NULL, MHD_OPTION_END);
  if (daemon == NULL) return CMHD_OVERRIDES_UNKNOWN;
  called = 0;
  // One head that is right, and one with a line that the library answers by itself.
  bool is_given = give(daemon, "GET / HTTP/1.1\r\nHost: a\r\n\r\n") && give(daemon, "GET / HTTP/1.1\r\nno colon\r\n\r\n");
  MHD_stop_daemon(daemon);
  if (called == (SET | QUEUE | LOOKUP)) return CMHD_OVERRIDES_WORK;
  return is_given ? CMHD_OVERRIDES_IGNORED : CMHD_OVERRIDES_UNKNOWN;
}
