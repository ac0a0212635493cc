extension JSON {
    /// The compact text, UTF-8, without any line break (so it fits one SSE `data:` line). Numbers that JSON cannot hold
    /// (`NaN` from Python) become `null`.
    ///
    /// - Parameter size: what the text is about to have, if it is known to be long.
    package func encoded(size: Int = 256) -> [UInt8] {
        var output: [UInt8] = []
        output.reserveCapacity(size)
        append(to: &output)
        return output
    }

    /// `encoded()` as a string.
    package var text: String { String(decoding: encoded(), as: UTF8.self) }

    /// Whether the compact text has more than `limit` bytes. Costs no more than that, however long the text is.
    package func isLonger(than limit: Int) -> Bool {
        var rest = limit
        return !fits(into: &rest)
    }

    /// Takes the length of the text off `rest`; false as soon as that is not enough.
    private func fits(into rest: inout Int) -> Bool {
        func take(_ count: Int) -> Bool {
            rest -= count
            return rest >= 0
        }
        switch self {
        case .null: return take(4)
        case .bool(let value): return take(value ? 4 : 5)
        case .number(let number): return take(number.isJSON ? number.literal.utf8.count : 4)
        case .string(let text): return JSON.fits(text, into: &rest)
        case .array(let elements):
            guard take(2 + max(0, elements.count - 1)) else { return false }
            return elements.allSatisfy { $0.fits(into: &rest) }
        case .object(let members):
            guard take(2 + members.count + max(0, members.count - 1)) else { return false }
            return members.allSatisfy { name, value in JSON.fits(name, into: &rest) && value.fits(into: &rest) }
        }
    }

    private static func fits(_ text: String, into rest: inout Int) -> Bool {
        rest -= text.utf8.count + 2
        guard rest >= 0 else { return false }
        for byte in text.utf8 where needsEscape(byte) {
            switch byte {
            case UInt8(ascii: "\""), UInt8(ascii: "\\"), 0x0A, 0x0D, 0x09: rest -= 1
            default: rest -= 5  // as \u0000
            }
        }
        return rest >= 0
    }

    package func append(to output: inout [UInt8]) {
        switch self {
        case .null: output.append(contentsOf: "null".utf8)
        case .bool(let value): output.append(contentsOf: (value ? "true" : "false").utf8)
        case .number(let number):
            output.append(contentsOf: number.isJSON ? number.literal.utf8 : "null".utf8)
        case .string(let text): JSON.append(text, to: &output)
        case .array(let elements):
            output.append(UInt8(ascii: "["))
            var separator = false
            for element in elements {
                if separator { output.append(UInt8(ascii: ",")) }
                separator = true
                element.append(to: &output)
            }
            output.append(UInt8(ascii: "]"))
        case .object(let members):
            output.append(UInt8(ascii: "{"))
            var separator = false
            for (name, value) in members {
                if separator { output.append(UInt8(ascii: ",")) }
                separator = true
                JSON.append(name, to: &output)
                output.append(UInt8(ascii: ":"))
                value.append(to: &output)
            }
            output.append(UInt8(ascii: "}"))
        }
    }

    private static func append(_ text: String, to output: inout [UInt8]) {
        output.append(UInt8(ascii: "\""))
        var text = text
        text.withUTF8 { bytes in
            var start = 0
            for index in bytes.indices where needsEscape(bytes[index]) {
                output.append(contentsOf: UnsafeBufferPointer(rebasing: bytes[start..<index]))
                append(escaped: bytes[index], to: &output)
                start = index + 1
            }
            output.append(contentsOf: UnsafeBufferPointer(rebasing: bytes[start...]))
        }
        output.append(UInt8(ascii: "\""))
    }

    private static func needsEscape(_ byte: UInt8) -> Bool {
        byte < 0x20 || byte == UInt8(ascii: "\"") || byte == UInt8(ascii: "\\")
    }

    private static func append(escaped byte: UInt8, to output: inout [UInt8]) {
        switch byte {
        case UInt8(ascii: "\""): output.append(contentsOf: #"\""#.utf8)
        case UInt8(ascii: "\\"): output.append(contentsOf: #"\\"#.utf8)
        case 0x0A: output.append(contentsOf: #"\n"#.utf8)
        case 0x0D: output.append(contentsOf: #"\r"#.utf8)
        case 0x09: output.append(contentsOf: #"\t"#.utf8)
        default:
            let digits = String(byte, radix: 16)
            output.append(contentsOf: (digits.count == 1 ? #"\u000"# : #"\u00"#).utf8)
            output.append(contentsOf: digits.utf8)
        }
    }
}

extension JSONNumber {
    /// False for NaN, Infinity, nan, inf.
    fileprivate var isJSON: Bool { (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(literal.utf8.last ?? 0) }
}
