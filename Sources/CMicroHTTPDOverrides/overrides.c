// Three functions of libmicrohttpd in place of its own, for what its interface has no way to.
//
// The library calls its exported functions through its table of symbols, in which the executable's come before its own (ELF symbol
// interposition, ld.so(8)); every linker exports a symbol of the executable that a library on its command line has as well. If a library was
// built to call its own functions directly, these are never called: then its answers stay HTML, and the tests of MicroHTTP say so.
#define _GNU_SOURCE
#include "overrides.h"

#include <dlfcn.h>
#include <stdbool.h>
#include <stdint.h>
#include <strings.h>

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

/// A line without a name has been found; the library is about to refuse the request for want of memory.
static _Thread_local bool is_nameless;

/// Called by the library alone: with a header field or trailer, when it has found the end of the next line, and has not looked into it.
///
/// If that begins with a colon, 0.9.75 makes a zero of the colon and then takes the line for the empty one: the head, or the trailers, end there,
/// and what follows would be a body or a request. In the memory no trace of it is left, `HeadLayout` cannot see it.
enum MHD_Result MHD_set_connection_value_n(
  struct MHD_Connection *connection, enum MHD_ValueKind kind, const char *key, size_t key_size, const char *value, size_t value_size) {
  enum MHD_Result result = set_value(connection, kind, key, key_size, value, value_size);
  if (result == MHD_NO || value == NULL || (kind != MHD_HEADER_KIND && kind != MHD_FOOTER_KIND)) return result;
  // One zero for an LF, two for a CRLF. All of it lies in front of what was just allocated from the end of the memory.
  const char *next = value + value_size + 1;
  if (*next == '\0') next++;
  if (*next != ':') return MHD_YES;
  is_nameless = true;
  return MHD_NO;
}

/// Called by the library alone: to send an HTML page of its own to a request that it cannot read.
enum MHD_Result MHD_queue_response(struct MHD_Connection *connection, unsigned int status, struct MHD_Response *response) {
  if (is_nameless) status = MHD_HTTP_BAD_REQUEST;
  is_nameless = false;
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
/// heads one after the other; `RequestHead.framing` refuses it.
enum MHD_Result MHD_lookup_connection_value_n(
  struct MHD_Connection *connection, enum MHD_ValueKind kind, const char *key, size_t key_size, const char **value, size_t *value_size) {
  if (kind == MHD_HEADER_KIND && key != NULL) {
    if (is_named(key, key_size, "Cookie", 6)) return MHD_NO;
    if (is_named(key, key_size, "Content-Length", 14)) {
      const char *length = NULL;
      size_t length_size = 0;
      if (lookup(connection, kind, key, key_size, &length, &length_size) == MHD_NO || length == NULL || !is_length(length, length_size))
        return MHD_NO;
    }
  }
  return lookup(connection, kind, key, key_size, value, value_size);
}
