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
