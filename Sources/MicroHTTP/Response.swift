/// An answer. The server adds `Date`, `Content-Length` or `Transfer-Encoding`, and `Connection`; whatever `headers` says about
/// the framing is dropped, and control characters in values become spaces. To a HEAD request, and with status 204 and 304, no
/// body is sent, but for HEAD its length is: answer HEAD as if it were GET.
package struct Response: Sendable {
    /// 200...999; anything else is a mistake of the handler and sent as 500.
    package var status: Int
    package var headers: HTTPHeaders
    package var body: Body

    package init(status: Int = 200, headers: HTTPHeaders = [:], body: Body = .empty) {
        self.status = status
        self.headers = headers
        self.body = body
    }

    package enum Body: Sendable {
        case empty
        /// Sent from where it is: an array that many responses share is held once.
        case bytes([UInt8])
        /// A range of an open file, sent by the kernel. The response owns the descriptor.
        case file(FileBody)
        /// Produced while it is sent. With `length`, that many bytes and a `Content-Length` (a source that ends early makes the
        /// server cut the connection); without, chunked, or until the end of the connection for an HTTP/1.0 client.
        case stream(any BodySource, length: Int?)
    }
}
