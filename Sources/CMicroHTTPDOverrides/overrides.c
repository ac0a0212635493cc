// Two functions of libmicrohttpd in place of its own, for what its interface has no way to.
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

static queue_function queue;
static lookup_function lookup;
static cmhd_replacement replacement;

__attribute__((constructor)) static void find_functions(void) {
  queue = (queue_function)dlsym(RTLD_NEXT, "MHD_queue_response");
  lookup = (lookup_function)dlsym(RTLD_NEXT, "MHD_lookup_connection_value_n");
}

void cmhd_replace_answers(cmhd_replacement function) { replacement = function; }

enum MHD_Result cmhd_queue_response(struct MHD_Connection *connection, unsigned int status, struct MHD_Response *response) {
  return queue(connection, status, response);
}

/// Called by the library alone: to send an HTML page of its own to a request that it cannot read.
enum MHD_Result MHD_queue_response(struct MHD_Connection *connection, unsigned int status, struct MHD_Response *response) {
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
