import OrderedCollections
import OrderedJSON

/// Values as Python prints them, which is how they get into ComfyUI's messages.
enum PythonText {
    /// `str(value)` of a parsed JSON value.
    static func str(_ value: JSON) -> String {
        if case .string(let text) = value { text } else { repr(value) }
    }

    static func repr(_ value: JSON) -> String {
        switch value {
        case .null: "None"
        case .bool(let flag): flag ? "True" : "False"
        case .number(let number): repr(number)
        case .string(let text): quoted(text)
        case .array(let elements): "[" + elements.map(repr).joined(separator: ", ") + "]"
        case .object(let members): "{" + members.map { "\(quoted($0.key)): \(repr($0.value))" }.joined(separator: ", ") + "}"
        }
    }

    /// The name of the value's Python class.
    static func typeName(_ value: JSON) -> String {
        switch value {
        case .null: "NoneType"
        case .bool: "bool"
        case .number(let number): isInteger(number) ? "int" : "float"
        case .string: "str"
        case .array: "list"
        case .object: "dict"
        }
    }

    /// Whether Python's parser makes an `int` of the literal.
    static func isInteger(_ number: JSONNumber) -> Bool {
        number.literal.utf8.allSatisfy { (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) || $0 == UInt8(ascii: "-") }
    }

    /// `repr` of a float: `8.0`, `1e+22`, `nan`.
    static func float(_ value: Double) -> String {
        if value.isNaN { return "NaN" }
        if value.isInfinite { return value < 0 ? "-Infinity" : "Infinity" }
        let text = "\(value)"
        guard let exponent = text.firstIndex(of: "e") else { return text }
        var mantissa = text[..<exponent]
        if mantissa.hasSuffix(".0") { mantissa = mantissa.dropLast(2) }
        let isSmall = text[text.index(after: exponent)...].hasPrefix("-")
        let digits = text[text.index(after: exponent)...].drop { $0 == "+" || $0 == "-" }
        return "\(mantissa)e\(isSmall ? "-" : "+")\(digits.count == 1 ? "0" : "")\(digits)"
    }

    /// A batch as torch prints a tensor: shape [batch, height, width, channels], the edges of each dimension.
    static func tensor(_ pictures: [Picture]) -> String {
        guard let first = pictures.first else { return "tensor([])" }
        func value(_ picture: Picture, _ row: Int, _ column: Int) -> String {
            let offset = (row * picture.width + column) * picture.channels
            return "[" + picture.pixels[offset..<offset + 3].map { fixed(Double($0) / 255) }.joined(separator: ", ") + "]"
        }
        let rows = edges(first.height), columns = edges(first.width)
        let images = pictures.prefix(3).map { picture in
            "["
                + rows.map { row in
                    guard let row else { return "..." }
                    return "["
                        + columns.map { column in column.map { value(picture, row, $0) } ?? "..." }.joined(separator: ",\n          ") + "]"
                }.joined(separator: ",\n\n         ") + "]"
        }
        return "tensor([" + images.joined(separator: ",\n\n\n        ") + "])"
    }

    private static func edges(_ count: Int) -> [Int?] {
        count <= 6 ? Array(0..<count) : [0, 1, 2, nil, count - 3, count - 2, count - 1]
    }

    private static func fixed(_ value: Double) -> String {
        let scaled = Int((value * 10_000).rounded())
        let fraction = String(scaled % 10_000)
        return "\(scaled / 10_000)." + String(repeating: "0", count: 4 - fraction.count) + fraction
    }

    private static func repr(_ number: JSONNumber) -> String {
        if isInteger(number) { return number.literal }
        switch number.literal {
        case "NaN": return "nan"
        case "Infinity": return "inf"
        case "-Infinity": return "-inf"
        default: return number.double.map(float) ?? number.literal
        }
    }

    private static func quoted(_ text: String) -> String {
        let quote: Character = text.contains("'") && !text.contains("\"") ? "\"" : "'"
        var result = String(quote)
        for character in text {
            switch character {
            case "\\": result += "\\\\"
            case "\n": result += "\\n"
            case "\r": result += "\\r"
            case "\t": result += "\\t"
            case quote: result += "\\\(quote)"
            default: result.append(character)
            }
        }
        return result + String(quote)
    }
}
