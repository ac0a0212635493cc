/// A header value with parameters: `form-data; name="a"`.
struct ParameterizedValue {
    /// In lower case.
    let value: String
    private var parameters: [(name: String, value: String)] = []

    /// Nil if it cannot be read. An unquoted value need not be a token, it goes on to the next semicolon. In a quoted one `\"` and `\\` are
    /// escapes, and any other backslash is itself: browsers write a backslash as it is, other clients double it. A quote ends the value only
    /// before a semicolon or the end: there are clients, the official SDK among them, that escape none in names of files.
    init?(_ text: String) {
        var rest = text.utf8[...]
        func upTo(_ end: UInt8) -> String {
            let found = rest.prefix { $0 != end }
            rest = rest[found.endIndex...]
            return Self.trimmed(found)
        }
        func quoted() -> String? {
            rest = rest.dropFirst()
            var content: [UInt8] = []
            while let byte = rest.popFirst() {
                switch (byte, rest.first) {
                case (UInt8(ascii: "\""), _) where (rest.first { !Self.isBlank($0) } ?? UInt8(ascii: ";")) == UInt8(ascii: ";"):
                    return String(decoding: content, as: UTF8.self)
                case (UInt8(ascii: "\\"), UInt8(ascii: "\"")?), (UInt8(ascii: "\\"), UInt8(ascii: "\\")?): content.append(rest.removeFirst())
                default: content.append(byte)
                }
            }
            return nil
        }
        value = upTo(UInt8(ascii: ";")).lowercased()
        while rest.popFirst() != nil {
            rest = rest.drop(while: Self.isBlank)
            if rest.isEmpty || rest.first == UInt8(ascii: ";") { continue }
            let name = upTo(UInt8(ascii: "=")).lowercased()
            guard HTTPHeaders.isToken(name.utf8), rest.popFirst() != nil else { return nil }
            guard rest.first == UInt8(ascii: "\"") else {
                parameters.append((name, upTo(UInt8(ascii: ";"))))
                continue
            }
            guard let content = quoted(), upTo(UInt8(ascii: ";")).isEmpty else { return nil }
            parameters.append((name, content))
        }
    }

    /// The first parameter of that name (in lower case).
    subscript(name: String) -> String? {
        parameters.first { $0.name == name }?.value
    }

    /// Without the blanks around.
    static func trimmed(_ text: Substring.UTF8View) -> String {
        var text = text.drop(while: isBlank)
        while let last = text.last, isBlank(last) { text.removeLast() }
        return String(Substring(text))
    }

    private static func isBlank(_ byte: UInt8) -> Bool { byte == UInt8(ascii: " ") || byte == UInt8(ascii: "\t") }
}
