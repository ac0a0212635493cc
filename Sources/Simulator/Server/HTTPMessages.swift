import NIOCore
import NIOHTTP1
import OrderedCollections
import OrderedJSON

/// One request, its body whole.
struct Request: Sendable {
    let method: HTTPMethod
    /// Percent-decoded, without the query.
    let path: String
    /// Decoded pairs in order. `+` is a blank, as in forms.
    let query: [(name: String, value: String)]
    let headers: HTTPHeaders
    let body: [UInt8]

    init(head: HTTPRequestHead, body: [UInt8]) {
        method = head.method
        headers = head.headers
        self.body = body
        let parts = head.uri.split(separator: "?", maxSplits: 1, omittingEmptySubsequences: false)
        path = PercentCoding.decode(parts[0].utf8, plusIsBlank: false)
        query = parts.count > 1 ? PercentCoding.query(parts[1]) : []
    }

    /// The first value of that name.
    func value(_ name: String) -> String? { query.first { $0.name == name }?.value }

    /// The body as Python's parser takes it, nil when it is no JSON.
    var json: JSON? { try? JSON(parsing: body, lenient: true) }
}

/// What a route answers.
struct Reply: Sendable {
    enum Body: Sendable {
        /// `Content-Length: 0`.
        case empty
        /// No length: ends a chunked answer at once (ComfyUI's 404 of its static folder, and 416).
        case emptyChunked
        case bytes([UInt8])
        /// Part of an open file; whoever sends the reply closes it.
        case file(OpenFile)
        /// No answer: the connection ends.
        case hangUp
        /// Chunks of this, until the client has had enough.
        case endless([UInt8])
    }

    /// How the answer gets on its way; anything but the default is a fault.
    struct Delivery: Sendable {
        var delay: TimeAmount?
        /// Of the body.
        var bytesPerSecond: Int?
        /// The connection breaks behind so much of the body.
        var percent: Int?
    }

    var status: HTTPResponseStatus = .ok
    var headers = HTTPHeaders()
    var body: Body = .empty
    var delivery = Delivery()

    static func json(_ value: JSON, status: HTTPResponseStatus = .ok) -> Reply {
        Reply(status: status, headers: ["Content-Type": "application/json; charset=utf-8"], body: .bytes(PythonJSON.encode(value)))
    }

    static func text(_ text: String, status: HTTPResponseStatus = .ok) -> Reply {
        Reply(status: status, headers: ["Content-Type": "text/plain; charset=utf-8"], body: .bytes(Array(text.utf8)))
    }

    static func empty(_ status: HTTPResponseStatus = .ok) -> Reply { Reply(status: status) }

    /// What aiohttp says when a handler raised (protocol section 1).
    static let inTrouble = Reply.text("500 Internal Server Error\n\nServer got itself in trouble", status: .internalServerError)

    /// The static folder's answer for a path that it does not have.
    static let notFound = Reply(status: .notFound, headers: ["Content-Type": "application/octet-stream"], body: .emptyChunked)

    static func methodNotAllowed(_ allowed: String) -> Reply {
        var reply = Reply.text("405: Method Not Allowed", status: .methodNotAllowed)
        reply.headers.add(name: "Allow", value: allowed)
        return reply
    }

    static func tooLarge(limit: Int) -> Reply {
        .text("Maximum request body size \(limit) exceeded.", status: .payloadTooLarge)
    }
}

enum PercentCoding {
    static func decode(_ text: some Collection<UInt8>, plusIsBlank: Bool) -> String {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(text.count)
        var rest = Array(text)[...]
        while let byte = rest.popFirst() {
            if byte == UInt8(ascii: "%"), rest.count >= 2, let value = UInt8(String(decoding: rest.prefix(2), as: UTF8.self), radix: 16) {
                bytes.append(value)
                rest = rest.dropFirst(2)
            } else {
                bytes.append(plusIsBlank && byte == UInt8(ascii: "+") ? UInt8(ascii: " ") : byte)
            }
        }
        return String(decoding: bytes, as: UTF8.self)
    }

    static func query(_ text: some StringProtocol) -> [(name: String, value: String)] {
        text.utf8.split(separator: UInt8(ascii: "&")).map { pair in
            let parts = pair.split(separator: UInt8(ascii: "="), maxSplits: 1, omittingEmptySubsequences: false)
            return (decode(parts[0], plusIsBlank: true), parts.count > 1 ? decode(parts[1], plusIsBlank: true) : "")
        }
    }
}
