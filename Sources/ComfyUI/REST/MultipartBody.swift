import NIOCore

/// A `multipart/form-data` body of some text fields and one file (RFC 7578), as a sequence of buffers.
struct MultipartBody<Content: AsyncSequence & Sendable>: AsyncSequence, Sendable where Content.Element == ByteBuffer {
    typealias Element = ByteBuffer

    private let before: ByteBuffer
    private let content: Content
    private let after: ByteBuffer
    private let onPiece: @Sendable () async throws -> Void
    let contentType: String
    /// Bytes of the whole body.
    let length: Int64

    /// - Parameter onPiece: called before each buffer that is taken, which waits for it.
    init(
        fields: [(name: String, value: String)], fileField: String, filename: String, content: Content, contentLength: Int64,
        onPiece: @escaping @Sendable () async throws -> Void
    ) {
        let boundary = "comfy-bridge-" + (0..<4).map { _ in String(UInt64.random(in: 0...UInt64.max), radix: 36) }.joined()
        var before = ByteBuffer()
        for (name, value) in fields {
            before.writeString("--\(boundary)\r\nContent-Disposition: form-data; name=\"\(name)\"\r\n\r\n\(value)\r\n")
        }
        before.writeString("--\(boundary)\r\nContent-Disposition: form-data; name=\"\(fileField)\"; filename=\"\(Self.quoted(filename))\"\r\n")
        before.writeString("Content-Type: application/octet-stream\r\n\r\n")
        self.before = before
        self.after = ByteBuffer(string: "\r\n--\(boundary)--\r\n")
        self.content = content
        self.onPiece = onPiece
        contentType = "multipart/form-data; boundary=\(boundary)"
        length = Int64(before.readableBytes) + contentLength + Int64(after.readableBytes)
    }

    /// The WHATWG form of a file name, which escapes what would end the value or the line; a backslash is doubled, since aiohttp takes it for an
    /// escape.
    private static func quoted(_ text: String) -> String {
        text.unicodeScalars.reduce(into: "") { result, scalar in
            switch scalar {
            case "\"": result += "%22"
            case "\\": result += "\\\\"
            case "\r": result += "%0D"
            case "\n": result += "%0A"
            default: result.unicodeScalars.append(scalar)
            }
        }
    }

    func makeAsyncIterator() -> Iterator {
        Iterator(before: before, content: content.makeAsyncIterator(), after: after, onPiece: onPiece)
    }

    struct Iterator: AsyncIteratorProtocol {
        fileprivate var before: ByteBuffer?
        fileprivate var content: Content.AsyncIterator
        fileprivate var after: ByteBuffer?
        fileprivate let onPiece: @Sendable () async throws -> Void

        mutating func next() async throws -> ByteBuffer? {
            try await onPiece()
            if let first = before.take() { return first }
            if after != nil, let piece = try await content.next(isolation: #isolation) { return piece }
            return after.take()
        }
    }
}
