#pragma once

#include <stddef.h>
#include <stdint.h>
// Not in Swift's Glibc module.
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <malloc.h>
#include <microhttpd.h>

/// Since glibc 2.0, but shown by <string.h> to _GNU_SOURCE only.
extern void *memmem(const void *haystack, size_t haystack_size, const void *needle, size_t needle_size);

/// The limits that `cmhd_start_daemon` hands to libmicrohttpd.
struct cmhd_limits {
  int listen_socket;              ///< bound and listening; the daemon owns it from here on
  unsigned int threads;           ///< polling threads; below 2 there is one thread and no pool
  unsigned int connections;       ///< over all threads
  size_t connection_memory;       ///< bytes of the memory pool of each connection
  unsigned int idle_seconds;      ///< 0: no timeout
};

/// The functions that the daemon calls, all with `context` as their first argument.
struct cmhd_callbacks {
  MHD_AccessHandlerCallback access;
  MHD_RequestCompletedCallback completed;
  MHD_NotifyConnectionCallback connection;
  size_t (*unescape)(void *context, struct MHD_Connection *connection, char *text);
  MHD_LogCallback log;
  void *context;
};

/// `MHD_start_daemon` is variadic, which Swift cannot call. The logger has to be the first option, or the messages about
/// the other options go to stderr. `MHD_OPTION_THREAD_POOL_SIZE` 1 is refused by the library with a warning.
static inline struct MHD_Daemon *cmhd_start_daemon(const struct cmhd_limits *limits, const struct cmhd_callbacks *callbacks) {
  return MHD_start_daemon(
    MHD_USE_EPOLL_INTERNAL_THREAD | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ERROR_LOG, 0, NULL, NULL,
    callbacks->access, callbacks->context,
    MHD_OPTION_EXTERNAL_LOGGER, callbacks->log, callbacks->context,
    MHD_OPTION_NOTIFY_COMPLETED, callbacks->completed, callbacks->context,
    MHD_OPTION_NOTIFY_CONNECTION, callbacks->connection, callbacks->context,
    MHD_OPTION_UNESCAPE_CALLBACK, callbacks->unescape, callbacks->context,
    MHD_OPTION_LISTEN_SOCKET, limits->listen_socket,
    MHD_OPTION_CONNECTION_LIMIT, limits->connections,
    MHD_OPTION_CONNECTION_MEMORY_LIMIT, limits->connection_memory,
    MHD_OPTION_CONNECTION_TIMEOUT, limits->idle_seconds,
    limits->threads > 1 ? MHD_OPTION_THREAD_POOL_SIZE : MHD_OPTION_END, limits->threads,
    MHD_OPTION_END);
}

/// Macros with casts do not import.
static inline uint64_t cmhd_size_unknown(void) { return MHD_SIZE_UNKNOWN; }
static inline ssize_t cmhd_end_of_stream(void) { return MHD_CONTENT_READER_END_OF_STREAM; }
static inline ssize_t cmhd_end_with_error(void) { return MHD_CONTENT_READER_END_WITH_ERROR; }

/// `MHD_set_response_options` is variadic.
static inline void cmhd_never_chunk(struct MHD_Response *response) {
  MHD_set_response_options(response, MHD_RF_HTTP_1_0_COMPATIBLE_STRICT, MHD_RO_END);
}

/// `MHD_get_connection_info` is variadic. The results are copied out of the union; NULL is a connection without that information.
static inline int cmhd_connection_descriptor(struct MHD_Connection *connection) {
  const union MHD_ConnectionInfo *info = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
  return info == NULL ? -1 : info->connect_fd;
}
static inline const struct sockaddr *cmhd_client_address(struct MHD_Connection *connection) {
  const union MHD_ConnectionInfo *info = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
  return info == NULL ? NULL : info->client_addr;
}
static inline void *cmhd_socket_context(struct MHD_Connection *connection) {
  const union MHD_ConnectionInfo *info = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
  return info == NULL ? NULL : info->socket_context;
}
