import OrderedCollections
import OrderedJSON

/// JSON as Python's `json.dumps` writes it, which is what ComfyUI sends: `", "` and `": "` between things, ASCII only
/// (`\u2013`, surrogate pairs), and bare `NaN` and `Infinity`.
///
/// A client that only meets compact UTF-8 in its tests learns of the other forms in production.
enum PythonJSON {
    static func encode(_ value: JSON) -> [UInt8] {
        var output: [UInt8] = []
        output.reserveCapacity(512)
        append(value, to: &output)
        return output
    }

    static func text(_ value: JSON) -> String { String(decoding: encode(value), as: UTF8.self) }

    private static func append(_ value: JSON, to output: inout [UInt8]) {
        switch value {
        case .null: output.append(contentsOf: "null".utf8)
        case .bool(let flag): output.append(contentsOf: (flag ? "true" : "false").utf8)
        case .number(let number): output.append(contentsOf: number.literal.utf8)
        case .string(let text): append(text, to: &output)
        case .array(let elements):
            output.append(UInt8(ascii: "["))
            var first = true
            for element in elements {
                if !first { output.append(contentsOf: ", ".utf8) }
                first = false
                append(element, to: &output)
            }
            output.append(UInt8(ascii: "]"))
        case .object(let members):
            output.append(UInt8(ascii: "{"))
            var first = true
            for (name, member) in members {
                if !first { output.append(contentsOf: ", ".utf8) }
                first = false
                append(name, to: &output)
                output.append(contentsOf: ": ".utf8)
                append(member, to: &output)
            }
            output.append(UInt8(ascii: "}"))
        }
    }

    private static func append(_ text: String, to output: inout [UInt8]) {
        output.append(UInt8(ascii: "\""))
        if text.utf8.allSatisfy({ $0 >= 0x20 && $0 < 0x7F && $0 != UInt8(ascii: "\"") && $0 != UInt8(ascii: "\\") }) {
            output.append(contentsOf: text.utf8)
        } else {
            for unit in text.utf16 { append(unit, to: &output) }
        }
        output.append(UInt8(ascii: "\""))
    }

    private static func append(_ unit: UInt16, to output: inout [UInt8]) {
        switch unit {
        case 0x22: output.append(contentsOf: #"\""#.utf8)
        case 0x5C: output.append(contentsOf: #"\\"#.utf8)
        case 0x0A: output.append(contentsOf: #"\n"#.utf8)
        case 0x0D: output.append(contentsOf: #"\r"#.utf8)
        case 0x09: output.append(contentsOf: #"\t"#.utf8)
        case 0x08: output.append(contentsOf: #"\b"#.utf8)
        case 0x0C: output.append(contentsOf: #"\f"#.utf8)
        case 0x20..<0x80: output.append(UInt8(unit))
        default:
            let digits = String(unit, radix: 16)
            output.append(contentsOf: #"\u"#.utf8)
            output.append(contentsOf: repeatElement(UInt8(ascii: "0"), count: 4 - digits.utf8.count))
            output.append(contentsOf: digits.utf8)
        }
    }
}
