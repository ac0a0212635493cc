/// A header field that goes with every request to a ComfyUI, for a proxy before it that wants to know who asks. The value may be a secret, and is
/// in no description.
package struct ComfyHeader: Sendable, Hashable, CustomStringConvertible {
    package let name: String
    let value: String

    init(name: String, value: String) {
        self.name = name
        self.value = value
    }

    /// - Parameter line: `Name: value`.
    package init(_ line: String) throws(ComfyHeaderError) {
        guard let colon = line.utf8.firstIndex(of: UInt8(ascii: ":")) else { throw ComfyHeaderError("has no colon; write it as in 'X-API-Key: 12345'") }
        name = String(line[..<colon])
        let rest = line[line.utf8.index(after: colon)...].utf8
        let start = rest.firstIndex { !Self.isBlank($0) } ?? rest.endIndex
        let end = rest.lastIndex { !Self.isBlank($0) }.map { rest.index(after: $0) } ?? start
        value = String(line[start..<max(start, end)])
        guard !name.isEmpty, name.utf8.allSatisfy(Self.isTokenByte) else {
            throw ComfyHeaderError("has a name that no header can have; write it as in 'X-API-Key: 12345'")
        }
        if let reason = Self.refused(name.lowercased()) { throw ComfyHeaderError("sets \(name), \(reason)") }
        guard !value.isEmpty else { throw ComfyHeaderError("has nothing after '\(name):'") }
        guard value.utf8.allSatisfy({ (0x20...0x7E).contains($0) || $0 == UInt8(ascii: "\t") }) else {
            throw ComfyHeaderError("has characters in the value of \(name) that cannot be sent; only visible ASCII, blanks and tabs can")
        }
    }

    package var description: String { "\(name): …" }

    func isNamed(like other: ComfyHeader) -> Bool { name.lowercased() == other.name.lowercased() }

    /// Why a name cannot be set: a request with another value would not work, or not be one request.
    private static func refused(_ name: String) -> String? {
        switch name {
        case "host", "content-length", "content-type", "content-encoding", "accept-encoding", "range", "expect", "origin": "which the bridge sets itself, or leaves out on purpose"
        case "connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade": "which is about the connection and not for callers to set"
        case _ where name.hasPrefix("if-") || name.hasPrefix("sec-"): "which the bridge sets itself, or leaves out on purpose"
        default: nil
        }
    }

    private static func isBlank(_ byte: UInt8) -> Bool { byte == UInt8(ascii: " ") || byte == UInt8(ascii: "\t") }

    /// RFC 9110 section 5.6.2.
    private static func isTokenByte(_ byte: UInt8) -> Bool {
        ComfyEndpoint.isHostByte(byte) || "!#$%&'*+^`|~".utf8.contains(byte)
    }
}

/// Why a line is no header to send; goes on after what names the line, and never shows a value.
package struct ComfyHeaderError: Error, CustomStringConvertible {
    package let description: String

    init(_ description: String) { self.description = description }
}
