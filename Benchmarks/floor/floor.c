// The least that a fan-out over libmicrohttpd can cost, to measure comfy-bridge against: the same library with the same flags, threads and
// memory per connection (Sources/CMicroHTTPD/shim.h, HTTPServer.Configuration), and nothing else.
//
//   GET /events    an endless stream of Server-Sent Events, from the next one on
//   POST /publish  one line of text, which becomes the data of one event to every viewer; answers when all have been woken
//
// An event is held once, however many viewers there are: they walk along one list of events and sleep, suspended, at its end.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <microhttpd.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static const size_t publication_limit = 64u << 20;

/// A piece of the stream. Alive as long as somebody is at it or before it: each holds the next, and every viewer the one it is at.
struct event {
  struct event *next;
  size_t references;
  size_t size;
  char bytes[];
};

struct viewer {
  struct MHD_Connection *connection;
  struct event *event;
  size_t sent;  ///< bytes of `event`; only for the thread of the connection
  bool asleep;
  struct viewer *previous, *next;
};

/// Guards what follows, and of all events and viewers everything but `sent` and the bytes.
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct event *newest;
static struct viewer *viewers;
static bool stopping;

static void *checked(void *allocated) {
  if (allocated == NULL) {
    perror("floor");
    abort();
  }
  return allocated;
}

static void release(struct event *event) {
  while (event != NULL && --event->references == 0) {
    struct event *next = event->next;
    free(event);
    event = next;
  }
}

static void wake_all(void) {
  for (struct viewer *viewer = viewers; viewer != NULL; viewer = viewer->next) {
    if (!viewer->asleep) continue;
    viewer->asleep = false;
    MHD_resume_connection(viewer->connection);
  }
}

/// Takes over the event.
static void publish(struct event *event) {
  event->next = NULL;
  event->references = 2;  // `newest`, and the event before it
  pthread_mutex_lock(&lock);
  struct event *previous = newest;
  previous->next = event;
  newest = event;
  release(previous);
  wake_all();
  pthread_mutex_unlock(&lock);
}

// --- GET /events ------------------------------------------------------------------------------------------------------------------------------------

enum step { NEXT_EVENT, NOTHING_YET, NO_MORE };

/// @param may_sleep whether to suspend the connection if there is nothing yet
static enum step advance(struct viewer *viewer, bool may_sleep) {
  enum step step = NOTHING_YET;
  pthread_mutex_lock(&lock);
  struct event *next = viewer->event->next;
  if (next != NULL) {
    next->references++;
    release(viewer->event);
    viewer->event = next;
    viewer->sent = 0;
    step = NEXT_EVENT;
  } else if (stopping) {
    step = NO_MORE;
  } else if (may_sleep) {
    viewer->asleep = true;
    MHD_suspend_connection(viewer->connection);
  }
  pthread_mutex_unlock(&lock);
  return step;
}

static ssize_t read_stream(void *context, uint64_t position, char *buffer, size_t capacity) {
  (void)position;
  struct viewer *viewer = context;
  size_t filled = 0;
  while (filled < capacity) {
    size_t left = viewer->event->size - viewer->sent;
    if (left == 0) {
      enum step step = advance(viewer, filled == 0);
      if (step == NEXT_EVENT) continue;
      return filled == 0 && step == NO_MORE ? MHD_CONTENT_READER_END_OF_STREAM : (ssize_t)filled;
    }
    size_t count = left < capacity - filled ? left : capacity - filled;
    memcpy(buffer + filled, viewer->event->bytes + viewer->sent, count);
    viewer->sent += count;
    filled += count;
  }
  return (ssize_t)filled;
}

/// Called when the connection has closed, so it is not suspended.
static void leave(void *context) {
  struct viewer *viewer = context;
  pthread_mutex_lock(&lock);
  if (viewer->next != NULL) viewer->next->previous = viewer->previous;
  *(viewer->previous != NULL ? &viewer->previous->next : &viewers) = viewer->next;
  release(viewer->event);
  pthread_mutex_unlock(&lock);
  free(viewer);
}

static struct MHD_Response *stream(struct MHD_Connection *connection) {
  struct viewer *viewer = checked(calloc(1, sizeof *viewer));
  viewer->connection = connection;
  pthread_mutex_lock(&lock);
  viewer->event = newest;
  viewer->event->references++;
  viewer->sent = viewer->event->size;
  viewer->next = viewers;
  if (viewers != NULL) viewers->previous = viewer;
  viewers = viewer;
  pthread_mutex_unlock(&lock);
  // A block of 1: the body is chunked, so the reader writes into the buffer of the connection and this one is not used.
  struct MHD_Response *response = checked(MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, 1, read_stream, viewer, leave));
  MHD_add_response_header(response, "Content-Type", "text/event-stream");
  MHD_add_response_header(response, "Cache-Control", "no-cache");
  return response;
}

// --- POST /publish ----------------------------------------------------------------------------------------------------------------------------------

static const char opening[] = "data: ";
static const char closing[] = "\n\n";

struct publication {
  struct event *event;
  size_t capacity;
  bool too_large;
};

/// Whatever a request has to remember; only publications have a body to collect.
static struct publication no_publication;

static struct publication *begin_publication(void) {
  struct publication *publication = checked(calloc(1, sizeof *publication));
  publication->capacity = 4096;
  publication->event = checked(malloc(sizeof(struct event) + publication->capacity));
  publication->event->size = sizeof opening - 1;
  memcpy(publication->event->bytes, opening, sizeof opening - 1);
  return publication;
}

static void append(struct publication *publication, const char *bytes, size_t count) {
  size_t size = publication->event->size + count;
  if (size > publication_limit) publication->too_large = true;
  if (publication->too_large) return;
  if (size > publication->capacity) {
    while (size > publication->capacity) publication->capacity *= 2;
    publication->event = checked(realloc(publication->event, sizeof(struct event) + publication->capacity));
  }
  memcpy(publication->event->bytes + publication->event->size, bytes, count);
  publication->event->size = size;
}

static void forget(void *context, struct MHD_Connection *connection, void **slot, enum MHD_RequestTerminationCode code) {
  (void)context, (void)connection, (void)code;
  struct publication *publication = *slot;
  if (publication == NULL || publication == &no_publication) return;
  free(publication->event);
  free(publication);
}

// --- the daemon -------------------------------------------------------------------------------------------------------------------------------------

static enum MHD_Result answer(struct MHD_Connection *connection, unsigned status, struct MHD_Response *response) {
  enum MHD_Result result = MHD_queue_response(connection, status, response);
  MHD_destroy_response(response);
  return result;
}

static enum MHD_Result answer_text(struct MHD_Connection *connection, unsigned status, const char *text) {
  return answer(connection, status, checked(MHD_create_response_from_buffer(strlen(text), (void *)text, MHD_RESPMEM_PERSISTENT)));
}

static enum MHD_Result access_handler(void *context, struct MHD_Connection *connection, const char *path, const char *method, const char *version,
                                      const char *upload, size_t *upload_size, void **slot) {
  (void)context, (void)version;
  bool publishes = strcmp(path, "/publish") == 0 && strcmp(method, "POST") == 0;
  if (*slot == NULL) {
    *slot = publishes ? begin_publication() : &no_publication;
    return MHD_YES;
  }
  if (*upload_size > 0) {
    if (publishes) append(*slot, upload, *upload_size);
    *upload_size = 0;
    return MHD_YES;
  }
  if (publishes) {
    struct publication *publication = *slot;
    append(publication, closing, sizeof closing - 1);
    if (publication->too_large) return answer_text(connection, MHD_HTTP_CONTENT_TOO_LARGE, "too large\n");
    publish(publication->event);
    publication->event = NULL;
    return answer_text(connection, MHD_HTTP_OK, "published\n");
  }
  if (strcmp(path, "/events") == 0 && strcmp(method, "GET") == 0) return answer(connection, MHD_HTTP_OK, stream(connection));
  return answer_text(connection, MHD_HTTP_NOT_FOUND, "GET /events or POST /publish\n");
}

static void beat(void) {
  static const char comment[] = ": heartbeat\n\n";
  struct event *event = checked(malloc(sizeof *event + sizeof comment - 1));
  event->size = sizeof comment - 1;
  memcpy(event->bytes, comment, event->size);
  publish(event);
}

/// Returns a socket that listens on 127.0.0.1, with the backlog and the probes of comfy-bridge's.
static int listening_socket(unsigned short *port) {
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(*port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  socklen_t length = sizeof address;
  int descriptor = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (descriptor < 0) return -1;
  setsockopt(descriptor, SOL_SOCKET, SO_REUSEADDR, &(int){1}, sizeof(int));
  setsockopt(descriptor, SOL_SOCKET, SO_KEEPALIVE, &(int){1}, sizeof(int));
  if (bind(descriptor, (struct sockaddr *)&address, length) != 0 || listen(descriptor, 1024) != 0 ||
      getsockname(descriptor, (struct sockaddr *)&address, &length) != 0) {
    close(descriptor);
    return -1;
  }
  *port = ntohs(address.sin_port);
  return descriptor;
}

struct options {
  unsigned short port;            ///< 0: the system chooses
  unsigned threads;
  unsigned connection_limit;
  size_t connection_memory;       ///< bytes
  unsigned heartbeat;             ///< seconds; 0: none
};

static long number(const char *name, const char *text, long least, long most) {
  char *end;
  errno = 0;
  long value = strtol(text, &end, 10);
  if (errno != 0 || end == text || *end != '\0' || value < least || value > most) {
    fprintf(stderr, "floor: --%s takes a whole number from %ld to %ld, not \"%s\"\n", name, least, most, text);
    exit(2);
  }
  return value;
}

static struct options parse(int count, char *arguments[]) {
  static const struct option names[] = {
      {"port", required_argument, NULL, 'p'},
      {"threads", required_argument, NULL, 't'},
      {"connection-limit", required_argument, NULL, 'l'},
      {"connection-memory", required_argument, NULL, 'm'},
      {"heartbeat", required_argument, NULL, 'b'},
      {0},
  };
  // The defaults of comfy-bridge.
  struct options options = {.threads = (unsigned)sysconf(_SC_NPROCESSORS_ONLN), .connection_limit = 10000, .connection_memory = 8 << 10, .heartbeat = 15};
  int name, index;
  while ((name = getopt_long(count, arguments, "", names, &index)) != -1) {
    switch (name) {
      case 'p': options.port = (unsigned short)number(names[index].name, optarg, 0, 65535); break;
      case 't': options.threads = (unsigned)number(names[index].name, optarg, 1, 256); break;
      case 'l': options.connection_limit = (unsigned)number(names[index].name, optarg, 1, 1000000); break;
      case 'm': options.connection_memory = (size_t)number(names[index].name, optarg, 2, 4096) << 10; break;
      case 'b': options.heartbeat = (unsigned)number(names[index].name, optarg, 0, 3600); break;
      default:
        fprintf(stderr, "usage: floor [--port N] [--threads N] [--connection-limit N] [--connection-memory KB] [--heartbeat SECONDS]\n");
        exit(2);
    }
  }
  return options;
}

int main(int count, char *arguments[]) {
  struct options options = parse(count, arguments);
  newest = checked(calloc(1, sizeof *newest));
  newest->references = 1;

  // Blocked before there are threads, so that the signals wait for the main thread.
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGINT);
  sigaddset(&signals, SIGTERM);
  pthread_sigmask(SIG_BLOCK, &signals, NULL);
  signal(SIGPIPE, SIG_IGN);

  int descriptor = listening_socket(&options.port);
  if (descriptor < 0) {
    perror("floor: cannot listen");
    return 1;
  }
  struct MHD_Daemon *daemon = MHD_start_daemon(
      MHD_USE_EPOLL_INTERNAL_THREAD | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ERROR_LOG, 0, NULL, NULL, access_handler, NULL,
      MHD_OPTION_NOTIFY_COMPLETED, forget, NULL, MHD_OPTION_LISTEN_SOCKET, descriptor, MHD_OPTION_CONNECTION_LIMIT, options.connection_limit,
      MHD_OPTION_CONNECTION_MEMORY_LIMIT, options.connection_memory, MHD_OPTION_CONNECTION_TIMEOUT, 60u,
      options.threads > 1 ? MHD_OPTION_THREAD_POOL_SIZE : MHD_OPTION_END, options.threads, MHD_OPTION_END);
  if (daemon == NULL) {
    fprintf(stderr, "floor: libmicrohttpd does not start\n");
    return 1;
  }
  printf("listening on http://127.0.0.1:%u\n", options.port);
  fflush(stdout);

  const struct timespec interval = {.tv_sec = options.heartbeat};
  while (sigtimedwait(&signals, NULL, options.heartbeat > 0 ? &interval : NULL) < 0) {
    if (errno == EAGAIN) beat();
  }

  // "It is an API violation to call MHD_stop_daemon while having suspended connections."
  pthread_mutex_lock(&lock);
  stopping = true;
  wake_all();
  pthread_mutex_unlock(&lock);
  MHD_stop_daemon(daemon);
  release(newest);
  return 0;
}
