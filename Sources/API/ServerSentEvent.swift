import Wording

/// The wire form of a Server-Sent Event (WHATWG HTML, section 9.2), kept to what every client reads alike.
///
/// Many clients take each blank line for the end of an event, also after nothing but a comment or `retry:`, and then hand out an empty one;
/// once there was an id, openai and httpx-sse do so for ever. So a blank line comes after `data:` only: comments and `retry:` are
/// lines before the next event's.
enum ServerSentEvent {
    /// - Parameter data: JSON on one line.
    static func encode(_ name: String, id: UInt64? = nil, data: [UInt8]) -> [UInt8] {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(data.count + name.utf8.count + 48)
        if let id {
            bytes.append(contentsOf: "id: \(id)\n".utf8)
        }
        bytes.append(contentsOf: "event: \(name)\ndata: ".utf8)
        appendOnOneLine(data, to: &bytes)
        bytes.append(contentsOf: "\n\n".utf8)
        return bytes
    }

    /// Tells the browser how long to wait before it comes back. An event may follow, or the end.
    static func retry(milliseconds: Int) -> [UInt8] { Array("retry: \(milliseconds)\n".utf8) }

    /// A line that clients ignore and that keeps proxies from closing the connection.
    static let heartbeat = Array(": heartbeat\n".utf8)

    /// The JSON with U+0085, U+2028 and U+2029 escaped: Python's `splitlines`, with which httpx, openai and sseclient-py find lines, ends one there.
    private static func appendOnOneLine(_ data: [UInt8], to bytes: inout [UInt8]) {
        // Almost everything, base64 above all, is ASCII.
        guard data.contains(where: { $0 >= 0x80 }) else {
            bytes.append(contentsOf: data)
            return
        }
        var rest = data[...]
        while let index = rest.firstIndex(where: { $0 == 0xC2 || $0 == 0xE2 }) {
            bytes.append(contentsOf: rest[..<index])
            rest = rest[index...]
            let (escape, length) =
                rest.starts(with: [0xC2, 0x85])
                ? (#"\u0085"#, 2)
                : rest.starts(with: [0xE2, 0x80, 0xA8]) ? (#"\u2028"#, 3) : rest.starts(with: [0xE2, 0x80, 0xA9]) ? (#"\u2029"#, 3) : ("", 1)
            bytes.append(contentsOf: escape.isEmpty ? Array(rest.prefix(1)) : Array(escape.utf8))
            rest = rest.dropFirst(length)
        }
        bytes.append(contentsOf: rest)
    }
}
