/// What a request line asks for, taken apart before anything in it is decoded (RFC 9112 section 3.2).
struct RequestTarget: Equatable {
    /// Percent-decoded once, but for `%2F`, so that only what was a slash on the wire is one, and `%00`.
    var path: String
    var query: [(name: String, value: String)]
    /// Host and port of an absolute target (`http://host/path`), which count instead of the Host field (section 3.2.2).
    var authority: String?

    /// - Throws: a sentence for the client.
    init(_ target: some Collection<UInt8>) throws(Malformed) {
        guard target.allSatisfy({ $0 > 0x20 && $0 != 0x7F }) else {
            throw Malformed(reason: "There is a blank or a control character in the request target; it is written %20.")
        }
        var rest = target[...]
        if let scheme = ["http://", "https://"].first(where: { Self.isSame(rest.prefix($0.utf8.count), $0) }) {
            rest = rest.dropFirst(scheme.utf8.count)
            let name = rest.prefix { !Self.isOne($0, of: "/?#") }
            guard !name.isEmpty, name.allSatisfy({ $0 < 0x80 && $0 != UInt8(ascii: "@") }) else { throw Malformed(reason: "The request target has no usable host.") }
            authority = String(decoding: name, as: UTF8.self)
            rest = rest[name.endIndex...]
        } else if rest.first != UInt8(ascii: "/"), !rest.elementsEqual("*".utf8) {
            throw Malformed(reason: "The request target must be a path that begins with a slash, or an absolute http URL.")
        }
        let path = rest.prefix { !Self.isOne($0, of: "?#") }
        self.path = path.isEmpty ? "/" : Self.decoded(path) { $0 != 0 && $0 != UInt8(ascii: "/") }
        query = []
        rest = rest[path.endIndex...]
        guard rest.first == UInt8(ascii: "?") else { return }
        for pair in rest.dropFirst().split(separator: UInt8(ascii: "&")) {
            let name = pair.prefix { $0 != UInt8(ascii: "=") }
            let value = pair[name.endIndex...].dropFirst()
            query.append((Self.decodedForm(name), Self.decodedForm(value)))
        }
    }

    struct Malformed: Error, Equatable {
        var reason: String
    }

    private static func decodedForm(_ text: some Collection<UInt8>) -> String {
        decoded(text.lazy.map { $0 == UInt8(ascii: "+") ? UInt8(ascii: " ") : $0 }) { $0 != 0 }
    }

    /// Decodes `%HH` once. Broken escapes stay as they are, as well as those of bytes that `isDecoded` does not want.
    private static func decoded(_ text: some Collection<UInt8>, _ isDecoded: (UInt8) -> Bool) -> String {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(text.count)
        var rest = text[...]
        while let byte = rest.popFirst() {
            if byte == UInt8(ascii: "%"), let high = digit(rest.first), let low = digit(rest.dropFirst().first), isDecoded(high << 4 | low) {
                bytes.append(high << 4 | low)
                rest = rest.dropFirst(2)
            } else {
                bytes.append(byte)
            }
        }
        return String(decoding: bytes, as: UTF8.self)
    }

    private static func digit(_ byte: UInt8?) -> UInt8? {
        switch byte {
        case let byte? where (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte): byte - UInt8(ascii: "0")
        case let byte? where (UInt8(ascii: "a")...UInt8(ascii: "f")).contains(byte | 0x20): (byte | 0x20) - UInt8(ascii: "a") + 10
        default: nil
        }
    }

    private static func isOne(_ byte: UInt8, of characters: StaticString) -> Bool {
        characters.withUTF8Buffer { $0.contains(byte) }
    }

    /// In any case: schemes are.
    private static func isSame(_ bytes: some Collection<UInt8>, _ text: String) -> Bool {
        bytes.count == text.utf8.count && zip(bytes, text.utf8).allSatisfy { $0 == $1 || ($0 | 0x20 == $1 && $1 >= UInt8(ascii: "a")) }
    }

    static func == (left: RequestTarget, right: RequestTarget) -> Bool {
        left.path == right.path && left.authority == right.authority && left.query.elementsEqual(right.query) { $0 == $1 }
    }
}
