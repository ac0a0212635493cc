/// The wire form of a Server-Sent Event (WHATWG HTML, section 9.2).
enum ServerSentEvent {
    /// - Parameter data: one line of UTF-8 text.
    static func encode(_ name: String, id: UInt64? = nil, data: [UInt8]) -> [UInt8] {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(data.count + name.utf8.count + 48)
        if let id {
            bytes.append(contentsOf: "id: \(id)\n".utf8)
        }
        bytes.append(contentsOf: "event: \(name)\ndata: ".utf8)
        bytes.append(contentsOf: data)
        bytes.append(contentsOf: "\n\n".utf8)
        return bytes
    }

    /// Tells the browser how long to wait before it comes back.
    static func retry(milliseconds: Int) -> [UInt8] { Array("retry: \(milliseconds)\n\n".utf8) }

    /// A line that clients ignore and that keeps proxies from closing the connection.
    static let heartbeat = Array(": heartbeat\n\n".utf8)
}
