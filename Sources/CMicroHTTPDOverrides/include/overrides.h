#pragma once

#include <microhttpd.h>

/// What to send instead of an answer that libmicrohttpd gives by itself.
///
/// @param status of the library's answer, to be replaced as well
/// @return owned by the caller; NULL leaves the library's own
typedef struct MHD_Response *(*cmhd_replacement)(struct MHD_Connection *connection, unsigned int *status);

/// Has the library's own answers replaced. Before the first daemon starts.
void cmhd_replace_answers(cmhd_replacement replacement);

/// `MHD_queue_response`, for our answers.
enum MHD_Result cmhd_queue_response(struct MHD_Connection *connection, unsigned int status, struct MHD_Response *response);

enum cmhd_overrides {
  CMHD_OVERRIDES_WORK,
  CMHD_OVERRIDES_IGNORED,  ///< the library calls its own functions: built with -Bsymbolic, linked statically, or this program's are not exported
  CMHD_OVERRIDES_UNKNOWN,  ///< for want of memory or descriptors
};

/// Has a daemon without a thread read two requests, to see whether the library calls the functions that stand in place of its own.
enum cmhd_overrides cmhd_try_overrides(void);
