#if canImport(Glibc)
    import Glibc
#else
    import Musl
#endif

/// Why a text is not JSON, and where.
package struct JSONSyntaxError: Error, Sendable, Equatable, CustomStringConvertible {
    package let reason: String
    /// The text may be JSON; it is more than is taken.
    package var isTooMuch = false
    /// Byte offset of the fault; `line` and `column` count from 1, `column` in bytes.
    package let offset: Int
    package let line: Int
    package let column: Int

    package var description: String { "\(reason) at line \(line), column \(column)" }
}

extension JSON {
    /// The nesting that `init(parsing:)` accepts; deeper texts are an error, so that no input can exhaust the stack.
    package static let maximumDepth = 256

    /// Characters of a number; more digits than this say nothing, and Python refuses integers of 4300.
    package static let numberLimit = 1000

    /// Parses one RFC 8259 text.
    ///
    /// - Parameter limit: of values in the text, those inside of others counted too: one of two bytes takes some fifty in memory.
    /// - Parameter lenient: also takes what Python's `json` module writes and the RFC does not know: `NaN`, `Infinity`,
    ///   `-Infinity` and unpaired surrogates (which become U+FFFD). For texts that come from ComfyUI, not for callers.
    package init(parsing text: some Collection<UInt8>, lenient: Bool = false, limit: Int = .max) throws(JSONSyntaxError) {
        let parsed = text.withContiguousStorageIfAvailable { buffer in
            Result { () throws(JSONSyntaxError) in try JSON.parse(buffer, lenient: lenient, limit: limit) }
        }
        if let parsed {
            self = try parsed.get()
        } else {
            self = try JSON(parsing: Array(text), lenient: lenient, limit: limit)
        }
    }

    package init(parsing text: String, lenient: Bool = false, limit: Int = .max) throws(JSONSyntaxError) {
        self = try JSON(parsing: text.utf8, lenient: lenient, limit: limit)
    }

    private static func parse(_ buffer: UnsafeBufferPointer<UInt8>, lenient: Bool, limit: Int) throws(JSONSyntaxError) -> JSON {
        var parser = Parser(bytes: buffer, lenient: lenient, limit: limit)
        return try parser.parseText()
    }
}

private struct Parser {
    let bytes: UnsafeBufferPointer<UInt8>
    let lenient: Bool
    let limit: Int
    var position = 0
    var depth = 0
    var count = 0

    init(bytes: UnsafeBufferPointer<UInt8>, lenient: Bool, limit: Int) {
        self.bytes = bytes
        self.lenient = lenient
        self.limit = limit
    }

    mutating func parseText() throws(JSONSyntaxError) -> JSON {
        if bytes.starts(with: [0xEF, 0xBB, 0xBF]) { position = 3 }  // a byte order mark, as some editors write it
        skipWhitespace()
        guard position < bytes.count else { throw error("there is no JSON value") }
        let value = try parseValue()
        skipWhitespace()
        guard position == bytes.count else { throw error("there is more text after the JSON value") }
        return value
    }

    private mutating func parseValue() throws(JSONSyntaxError) -> JSON {
        guard position < bytes.count else { throw error("the text ends where a value is expected") }
        count += 1
        guard count <= limit else {
            var failure = error("there are more than \(limit) values")
            failure.isTooMuch = true
            throw failure
        }
        switch bytes[position] {
        case UInt8(ascii: "{"): return try nested { (parser: inout Parser) throws(JSONSyntaxError) in try parser.parseObject() }
        case UInt8(ascii: "["): return try nested { (parser: inout Parser) throws(JSONSyntaxError) in try parser.parseArray() }
        case UInt8(ascii: "\""): return .string(try parseString())
        case UInt8(ascii: "t") where take("true"): return .bool(true)
        case UInt8(ascii: "f") where take("false"): return .bool(false)
        case UInt8(ascii: "n") where take("null"): return .null
        case UInt8(ascii: "N") where lenient && take("NaN"): return .number(JSONNumber(literal: "NaN"))
        case UInt8(ascii: "I") where lenient && take("Infinity"): return .number(JSONNumber(literal: "Infinity"))
        case UInt8(ascii: "-") where lenient && take("-Infinity"): return .number(JSONNumber(literal: "-Infinity"))
        case UInt8(ascii: "-"), UInt8(ascii: "0")...UInt8(ascii: "9"): return .number(try parseNumber())
        default: throw error("unexpected character")
        }
    }

    private mutating func nested(_ body: (inout Parser) throws(JSONSyntaxError) -> JSON) throws(JSONSyntaxError) -> JSON {
        depth += 1
        guard depth <= JSON.maximumDepth else { throw error("nested deeper than \(JSON.maximumDepth) levels") }
        let value = try body(&self)
        depth -= 1
        return value
    }

    private mutating func parseObject() throws(JSONSyntaxError) -> JSON {
        position += 1
        var members = JSONObject()
        skipWhitespace()
        if takeByte(UInt8(ascii: "}")) { return .object(members) }
        while true {
            skipWhitespace()
            guard peek() == UInt8(ascii: "\"") else { throw error("expected a member name in double quotes") }
            let name = try parseString()
            skipWhitespace()
            guard takeByte(UInt8(ascii: ":")) else { throw error("expected ':' after a member name") }
            skipWhitespace()
            members[name] = try parseValue()
            skipWhitespace()
            if takeByte(UInt8(ascii: ",")) { continue }
            if takeByte(UInt8(ascii: "}")) { return .object(members) }
            throw error("expected ',' or '}' in an object")
        }
    }

    private mutating func parseArray() throws(JSONSyntaxError) -> JSON {
        position += 1
        var elements: [JSON] = []
        skipWhitespace()
        if takeByte(UInt8(ascii: "]")) { return .array(elements) }
        while true {
            skipWhitespace()
            elements.append(try parseValue())
            skipWhitespace()
            if takeByte(UInt8(ascii: ",")) { continue }
            if takeByte(UInt8(ascii: "]")) { return .array(elements) }
            throw error("expected ',' or ']' in a list")
        }
    }

    /// RFC 8259 section 6: `-? (0 | [1-9][0-9]*) (. [0-9]+)? ([eE] [+-]? [0-9]+)?`
    private mutating func parseNumber() throws(JSONSyntaxError) -> JSONNumber {
        let start = position
        _ = takeByte(UInt8(ascii: "-"))
        if takeByte(UInt8(ascii: "0")) {
            if isDigit(peek()) { throw error("a number may not start with 0") }
        } else {
            try takeDigits()
        }
        if takeByte(UInt8(ascii: ".")) { try takeDigits() }
        if takeByte(UInt8(ascii: "e")) || takeByte(UInt8(ascii: "E")) {
            if !takeByte(UInt8(ascii: "+")) { _ = takeByte(UInt8(ascii: "-")) }
            try takeDigits()
        }
        guard position - start <= JSON.numberLimit else { throw error("a number has more than \(JSON.numberLimit) characters", at: start) }
        return JSONNumber(literal: String(decoding: bytes[start..<position], as: UTF8.self))
    }

    private mutating func parseString() throws(JSONSyntaxError) -> String {
        position += 1
        let start = position
        var seen: UInt8 = 0
        while position < bytes.count {
            seen |= bytes[position]
            switch bytes[position] {
            case UInt8(ascii: "\""):
                let text = UnsafeBufferPointer(rebasing: bytes[start..<position])
                let string = seen < 0x80 ? String(decoding: text, as: UTF8.self) : try validated(text, from: start)
                position += 1
                return string
            case UInt8(ascii: "\\"): return try parseEscapedString(from: start)
            case 0..<0x20: throw error("a control character in a string must be escaped")
            default: position += 1
            }
        }
        throw error("a string is not closed")
    }

    private mutating func parseEscapedString(from start: Int) throws(JSONSyntaxError) -> String {
        var text = Array(bytes[start..<position])
        while position < bytes.count {
            let byte = bytes[position]
            switch byte {
            case UInt8(ascii: "\""):
                let decoded = try text.withUnsafeBufferPointer { text throws(JSONSyntaxError) in try validated(text, from: start) }
                position += 1
                return decoded
            case UInt8(ascii: "\\"):
                position += 1
                try parseEscape(into: &text)
            case 0..<0x20: throw error("a control character in a string must be escaped")
            default:
                text.append(byte)
                position += 1
            }
        }
        throw error("a string is not closed")
    }

    private mutating func parseEscape(into text: inout [UInt8]) throws(JSONSyntaxError) {
        guard let byte = peek() else { throw error("a string is not closed") }
        position += 1
        switch byte {
        case UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "/"): text.append(byte)
        case UInt8(ascii: "b"): text.append(0x08)
        case UInt8(ascii: "f"): text.append(0x0C)
        case UInt8(ascii: "n"): text.append(0x0A)
        case UInt8(ascii: "r"): text.append(0x0D)
        case UInt8(ascii: "t"): text.append(0x09)
        case UInt8(ascii: "u"):
            var scalar = try parseHex()
            if (0xD800..<0xDC00).contains(scalar), position + 1 < bytes.count, bytes[position] == UInt8(ascii: "\\"),
                bytes[position + 1] == UInt8(ascii: "u")
            {
                let before = position
                position += 2
                let low = try parseHex()
                if (0xDC00..<0xE000).contains(low) {
                    scalar = 0x10000 + (scalar - 0xD800) << 10 + (low - 0xDC00)
                } else {
                    position = before
                }
            }
            if let valid = Unicode.Scalar(scalar) {
                text.append(contentsOf: UTF8.encode(valid)!)
            } else if lenient {
                text.append(contentsOf: [0xEF, 0xBF, 0xBD])
            } else {
                throw error("an unpaired surrogate in a string")
            }
        default:
            position -= 1
            throw error("an unknown escape in a string")
        }
    }

    private mutating func parseHex() throws(JSONSyntaxError) -> UInt32 {
        guard position + 4 <= bytes.count else { throw error("an incomplete \\u escape") }
        var value: UInt32 = 0
        for _ in 0..<4 {
            let digit: UInt8
            switch bytes[position] {
            case UInt8(ascii: "0")...UInt8(ascii: "9"): digit = bytes[position] - UInt8(ascii: "0")
            case UInt8(ascii: "a")...UInt8(ascii: "f"): digit = bytes[position] - UInt8(ascii: "a") + 10
            case UInt8(ascii: "A")...UInt8(ascii: "F"): digit = bytes[position] - UInt8(ascii: "A") + 10
            default: throw error("a \\u escape needs four hexadecimal digits")
            }
            value = value << 4 | UInt32(digit)
            position += 1
        }
        return value
    }

    /// Decoding repairs what is not valid, which changes bytes. `String(validating:as:)` goes through each byte in a generic function that the
    /// compiler does not specialize: many times the cost.
    private func validated(_ text: UnsafeBufferPointer<UInt8>, from start: Int) throws(JSONSyntaxError) -> String {
        var string = String(decoding: text, as: UTF8.self)
        let isSame = string.withUTF8 { $0.count == text.count && text.count > 0 && memcmp($0.baseAddress!, text.baseAddress!, text.count) == 0 }
        guard lenient || text.isEmpty || isSame else { throw error("a string is not valid UTF-8", at: start) }
        return string
    }

    private mutating func takeDigits() throws(JSONSyntaxError) {
        guard isDigit(peek()) else { throw error("a digit is missing in a number") }
        while isDigit(peek()) { position += 1 }
    }

    private func isDigit(_ byte: UInt8?) -> Bool {
        guard let byte else { return false }
        return (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte)
    }

    private func peek() -> UInt8? { position < bytes.count ? bytes[position] : nil }

    private mutating func takeByte(_ byte: UInt8) -> Bool {
        guard peek() == byte else { return false }
        position += 1
        return true
    }

    private mutating func take(_ word: StaticString) -> Bool {
        let length = word.utf8CodeUnitCount
        guard position + length <= bytes.count else { return false }
        for index in 0..<length where bytes[position + index] != word.utf8Start[index] { return false }
        position += length
        return true
    }

    private mutating func skipWhitespace() {
        while position < bytes.count {
            switch bytes[position] {
            case 0x20, 0x0A, 0x0D, 0x09: position += 1
            default: return
            }
        }
    }

    private func error(_ reason: String, at offset: Int? = nil) -> JSONSyntaxError {
        let offset = min(offset ?? position, bytes.count)
        let before = bytes[..<offset]
        let line = before.count(where: { $0 == 0x0A }) + 1
        let column = offset - ((before.lastIndex(of: 0x0A) ?? -1) + 1) + 1
        return JSONSyntaxError(reason: reason, offset: offset, line: line, column: column)
    }
}
