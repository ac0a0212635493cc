/// Text from elsewhere inside of lines that people and programs read: ComfyUI's words, callers' paths. Nothing of it may end a line, move the
/// cursor of a terminal or turn the direction of what follows.
package enum LogText {
    /// With `\n`, `\r`, `\t` and `\u{…}` in place of what is not to be seen.
    package static func visible(_ text: String) -> String {
        guard !isPlain(text.utf8) else { return text }
        var result = ""
        for scalar in text.unicodeScalars {
            switch scalar {
            case "\n": result += "\\n"
            case "\r": result += "\\r"
            case "\t": result += "\\t"
            case _ where isInvisible(scalar): result += "\\u{\(String(scalar.value, radix: 16))}"
            default: result.unicodeScalars.append(scalar)
            }
        }
        return result
    }

    /// A name or value of `name=value name=value`: in quotes where it would not be one.
    package static func word(_ text: String) -> String {
        let visible = visible(text)
        guard visible.isEmpty || visible.utf8.contains(where: { [UInt8(ascii: " "), UInt8(ascii: "\""), UInt8(ascii: "=")].contains($0) }) else { return visible }
        return "\"" + visible.replacing("\"", with: "\\\"") + "\""
    }

    /// JSON text, in which all of this can only stand inside of strings, as JSON text without it.
    package static func visible(json: [UInt8]) -> [UInt8] {
        guard !isPlain(json) else { return json }
        var result: [UInt8] = []
        result.reserveCapacity(json.count)
        for scalar in String(decoding: json, as: UTF8.self).unicodeScalars {
            guard isInvisible(scalar) else {
                result.append(contentsOf: UTF8.encode(scalar)!)
                continue
            }
            for unit in UTF16.encode(scalar)! {
                let digits = String(unit, radix: 16)
                result.append(contentsOf: "\\u\(String(repeating: "0", count: 4 - digits.utf8.count))\(digits)".utf8)
            }
        }
        return result
    }

    private static func isPlain(_ bytes: some Sequence<UInt8>) -> Bool { bytes.allSatisfy { (0x20...0x7E).contains($0) } }

    /// Controls of ASCII and ISO 6429 (with NEL), line and paragraph separators, and marks that only format, such as those of direction.
    private static func isInvisible(_ scalar: Unicode.Scalar) -> Bool {
        switch scalar.properties.generalCategory {
        case .control, .format, .lineSeparator, .paragraphSeparator: true
        default: false
        }
    }
}
