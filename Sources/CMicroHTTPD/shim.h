#pragma once

#include <stddef.h>
#include <stdint.h>
// Not in Swift's Glibc module.
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <malloc.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <microhttpd.h>

/// Since glibc 2.0, but shown by <string.h> to _GNU_SOURCE only.
extern void *memmem(const void *haystack, size_t haystack_size, const void *needle, size_t needle_size);

/// The limits that `cmhd_start_daemon` hands to libmicrohttpd.
struct cmhd_limits {
  int listen_socket;              ///< bound and listening; the daemon owns it from here on
  unsigned int threads;           ///< polling threads; below 2 there is one thread and no pool
  unsigned int connections;       ///< over all threads
  size_t connection_memory;       ///< bytes of the memory pool of each connection
};

/// The functions that the daemon calls, all with `context` as their first argument.
struct cmhd_callbacks {
  MHD_AccessHandlerCallback access;
  MHD_RequestCompletedCallback completed;
  MHD_NotifyConnectionCallback connection;
  void *(*target)(void *context, const char *target, struct MHD_Connection *connection);
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
    MHD_OPTION_URI_LOG_CALLBACK, callbacks->target, callbacks->context,
    MHD_OPTION_UNESCAPE_CALLBACK, callbacks->unescape, callbacks->context,
    MHD_OPTION_LISTEN_SOCKET, limits->listen_socket,
    MHD_OPTION_CONNECTION_LIMIT, limits->connections,
    MHD_OPTION_CONNECTION_MEMORY_LIMIT, limits->connection_memory,
    MHD_OPTION_CONNECTION_TIMEOUT, 0U,
    limits->threads > 1 ? MHD_OPTION_THREAD_POOL_SIZE : MHD_OPTION_END, limits->threads,
    MHD_OPTION_END);
}

/// What the kernel knows of a TCP connection: the part of its `struct tcp_info` (Linux 4.6) that is looked at. glibc's ends before it.
struct cmhd_tcp_state {
  uint8_t state, congestion, retransmits, probes, backoff, options, scales, flags;
  uint32_t timeouts_and_sizes[4];
  uint32_t unacknowledged;     ///< segments that were sent
  uint32_t losses[4];
  uint32_t last_data_sent, last_acknowledgement_sent, last_data_received;
  uint32_t last_acknowledgement_received;  ///< milliseconds ago
  uint32_t windows_and_times[11];
  uint64_t rates[2];
  uint64_t bytes_acknowledged;  ///< by the client, of what was sent
  uint64_t bytes_received;
  uint32_t segments[2];
  uint32_t unsent;              ///< bytes
};

/// All zero if the kernel does not tell.
static inline struct cmhd_tcp_state cmhd_read_tcp_state(int descriptor) {
  struct cmhd_tcp_state state;
  socklen_t size = sizeof(state);
  memset(&state, 0, sizeof(state));
  getsockopt(descriptor, IPPROTO_TCP, 11 /* TCP_INFO */, &state, &size);
  return state;
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

/// Bytes of the head of a request, from the method to the empty line.
static inline size_t cmhd_head_size(struct MHD_Connection *connection) {
  const union MHD_ConnectionInfo *info = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_REQUEST_HEADER_SIZE);
  return info == NULL ? 0 : info->header_size;
}
