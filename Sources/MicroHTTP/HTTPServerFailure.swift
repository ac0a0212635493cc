import Glibc

/// What goes wrong before a request reaches a handler; the server's owner turns it into a response in its own format.
///
/// What libmicrohttpd refuses by itself (a header without colon, a wrong chunk, another version of HTTP) comes here as well, see
/// `Callbacks.replacement`. There is one exception, where it closes the connection without a word and without a call: a request line in which
/// there is no blank, or that begins with one, which is no HTTP at all.
package enum HTTPServerFailure: Sendable, Equatable {
    /// The head has more bytes than half of `Configuration.connectionMemory`, or more fields than fit beside it.
    case headTooLarge(limit: Int)
    /// `Content-Length` above the limit (the body is not read), or a chunked body that crossed it.
    case bodyTooLarge(limit: Int)
    /// The body does not fit into what is left of `Configuration.bodyMemory`.
    case bodiesTooLarge(limit: Int)
    /// The head or the body comes too slowly, see `Configuration.headTimeout` and `Configuration.bodyTimeout`.
    case requestTimeout
    /// More requests wait for a task than `Configuration.requestBacklog`.
    case overloaded
    /// The connection is one more than `Configuration.connectionLimit`.
    case tooManyConnections(limit: Int)
    /// The handler did not answer within the drain timeout of a graceful stop, or the request came after it.
    case shuttingDown
    /// The version of HTTP is none of 1.x.
    case unsupportedVersion
    /// A request that must not be guessed at (conflicting lengths, an unknown transfer coding, a folded line); the text is a sentence for the
    /// client.
    case malformed(String)
}

/// Why the server cannot start.
package enum HTTPServerError: Error, Equatable, CustomStringConvertible {
    /// `host` is neither an address nor a name that resolves to one.
    case unknownHost(String, reason: String)
    /// No address of `host` could be bound; the reason is the system's, for the last address tried.
    case cannotListen(host: String, port: UInt16, reason: String)
    /// The library or the system refused something else; see the log at level `debug`.
    case cannotStart(String)
    /// A server runs once.
    case alreadyStopped

    package var description: String {
        switch self {
        case .unknownHost(let host, let reason): "cannot listen on \(host), which is neither an address nor a name of this machine (\(reason)); see --host"
        case .cannotListen(let host, let port, let reason):
            "cannot listen on \(host) port \(port): \(reason.lowercased())" + (Self.advice[reason].map { "; \($0)" } ?? "")
        case .cannotStart(let what): "cannot start the HTTP server: \(what)"
        case .alreadyStopped: "the HTTP server has been stopped; make a new one"
        }
    }

    private static let advice: [String: String] = [
        EADDRINUSE: "another process has this port: stop it, or choose another with --port, or 0 for any that is free",
        EACCES: "ports below 1024 are for the administrator: choose another with --port",
        EADDRNOTAVAIL: "this machine does not have that address; see --host",
    ].reduce(into: [:]) { $0[String(cString: strerror($1.key))] = $1.value }
}
