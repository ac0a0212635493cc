/// Header fields in the order they came or were added; names are compared without regard to ASCII case.
package struct HTTPHeaders: Sendable, Equatable, ExpressibleByDictionaryLiteral, Sequence {
    private var fields: [(name: String, value: String)] = []

    package init() {}

    package init(dictionaryLiteral elements: (String, String)...) {
        fields = elements.map { (name: $0.0, value: $0.1) }
    }

    /// The first value of `name`. Setting replaces every value of that name (in the place of the first), `nil` removes them.
    package subscript(name: String) -> String? {
        get { fields.first { Self.isSame($0.name, name) }?.value }
        set {
            let place = fields.firstIndex { Self.isSame($0.name, name) } ?? fields.endIndex
            fields.removeAll { Self.isSame($0.name, name) }
            if let newValue { fields.insert((name: name, value: newValue), at: place) }
        }
    }

    /// Every value of `name`, in order. A list in one value (`a, b`) is not taken apart.
    package func values(_ name: String) -> [String] {
        fields.compactMap { Self.isSame($0.name, name) ? $0.value : nil }
    }

    /// Appends, keeping the values that `name` already has.
    package mutating func add(name: String, value: String) {
        fields.append((name: name, value: value))
    }

    mutating func reserveCapacity(_ count: Int) {
        fields.reserveCapacity(count)
    }

    package var count: Int { fields.count }
    package var isEmpty: Bool { fields.isEmpty }

    package func makeIterator() -> IndexingIterator<[(name: String, value: String)]> {
        fields.makeIterator()
    }

    package static func == (left: HTTPHeaders, right: HTTPHeaders) -> Bool {
        left.fields.elementsEqual(right.fields) { isSame($0.name, $1.name) && $0.value == $1.value }
    }

    /// Without regard to ASCII case.
    static func isSame(_ left: String, _ right: String) -> Bool {
        left.utf8.count == right.utf8.count && left.utf8.elementsEqual(right.utf8) { lowered($0) == lowered($1) }
    }

    private static func lowered(_ byte: UInt8) -> UInt8 {
        (UInt8(ascii: "A")...UInt8(ascii: "Z")).contains(byte) ? byte | 0x20 : byte
    }
}

extension HTTPHeaders {
    /// A `token` of RFC 9110 section 5.6.2, the only thing a field name may be.
    package static func isToken(_ name: some Sequence<UInt8>) -> Bool {
        var isEmpty = true
        for byte in name {
            isEmpty = false
            switch byte {
            case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"), UInt8(ascii: "0")...UInt8(ascii: "9"): break
            case UInt8(ascii: "!"), UInt8(ascii: "#"), UInt8(ascii: "$"), UInt8(ascii: "%"), UInt8(ascii: "&"), UInt8(ascii: "'"),
                UInt8(ascii: "*"), UInt8(ascii: "+"), UInt8(ascii: "-"), UInt8(ascii: "."), UInt8(ascii: "^"), UInt8(ascii: "_"),
                UInt8(ascii: "`"), UInt8(ascii: "|"), UInt8(ascii: "~"):
                break
            default: return false
            }
        }
        return !isEmpty
    }

    /// The fields as they may go on the wire: without names that are no token, without the fields that only the server may
    /// write (the framing of the message), and with control characters in values turned into spaces, as RFC 9110 section 5.5
    /// allows. So text from elsewhere (a file name, say) can never start a header line of its own.
    var forTheWire: HTTPHeaders {
        var result = HTTPHeaders()
        result.reserveCapacity(count)
        for (name, value) in self where Self.isToken(name.utf8) && !Self.isFraming(name) {
            guard value.utf8.contains(where: Self.isControl) else {
                result.add(name: name, value: value)
                continue
            }
            let cleaned = value.utf8.map { Self.isControl($0) ? UInt8(ascii: " ") : $0 }
            result.add(name: name, value: String(decoding: cleaned, as: UTF8.self))
        }
        return result
    }

    private static func isFraming(_ name: String) -> Bool {
        isSame(name, "Content-Length") || isSame(name, "Transfer-Encoding")
    }

    /// What may not be in a value: a tabulator may.
    static func isControl(_ byte: UInt8) -> Bool {
        (byte < 0x20 && byte != UInt8(ascii: "\t")) || byte == 0x7F
    }
}
