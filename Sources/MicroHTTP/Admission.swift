/// What becomes of a request of which only the head is there.
package enum Admission: Sendable {
    /// This is the answer, in memory or empty. A body is not read, and the connection ends behind the answer; without a body it goes on.
    case answered(Response)
    /// `respond` gets the request, with its body as `body` says.
    case admitted(body: RequestBody, respond: @Sendable (Request) async -> Response)
}

/// How the body of a request is taken, and how many bytes of it at most; more is `HTTPServerFailure.bodyTooLarge`.
package enum RequestBody: Sendable, Equatable {
    /// Read for the sake of the connection and thrown away.
    case ignored(limit: Int)
    /// The handler gets it whole, as `Request.body`.
    case collected(limit: Int)
    /// The handler runs at once and reads it while it arrives, as `Request.form`; what it answers before is sent before the body is asked for.
    /// A body without a length that turns out too long is `FormUploadError.tooLarge`.
    case streamed(limit: Int)

    package var limit: Int {
        switch self {
        case .ignored(let limit), .collected(let limit), .streamed(let limit): limit
        }
    }

    /// Bytes of memory that are set aside before any of the body is read, and those that must be free then. A body that is collected gets the rest as
    /// it arrives: what a client only announces takes nothing from the others.
    ///
    /// - Parameter rest: what the body will have, if the client said so.
    func share(of rest: Int?) -> (atOnce: Int, inAll: Int) {
        switch self {
        case .ignored: return (0, 0)
        case .collected: return (min(rest ?? 0, 64 << 10), rest ?? 0)
        case .streamed(let limit):
            let share = min(rest ?? limit, FormUpload.limit + FormUpload.chunkSize)
            return (share, share)
        }
    }
}
