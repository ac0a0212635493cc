import OrderedCollections
import OrderedJSON

/// How widget values become their declared type, as `int()`, `float()`, `str()` and `bool()` do it.
enum Coercion {
    static func coerce(_ value: JSON, to type: String) throws(PythonException) -> JSON {
        switch type {
        case "INT": try integer(value)
        case "FLOAT": try float(value)
        case "STRING": .string(PythonText.str(value))
        case "BOOLEAN": .bool(isTruthy(value))
        default: value
        }
    }

    static func isTruthy(_ value: JSON) -> Bool {
        switch value {
        case .null: false
        case .bool(let flag): flag
        case .number(let number): number.double != 0
        case .string(let text): !text.isEmpty
        case .array(let elements): !elements.isEmpty
        case .object(let members): !members.isEmpty
        }
    }

    /// Whether `left < right`. Integers of any length are compared by their digits.
    static func isLess(_ left: JSON, _ right: JSON) -> Bool {
        guard case .number(let left) = left, case .number(let right) = right else { return false }
        guard PythonText.isInteger(left), PythonText.isInteger(right) else {
            return (left.double ?? .nan) < (right.double ?? .nan)
        }
        let leftIsNegative = left.literal.hasPrefix("-"), rightIsNegative = right.literal.hasPrefix("-")
        if leftIsNegative != rightIsNegative { return leftIsNegative }
        let leftDigits = left.literal.drop { $0 == "-" || $0 == "0" }, rightDigits = right.literal.drop { $0 == "-" || $0 == "0" }
        if leftDigits == rightDigits { return false }
        let isShorter =
            leftDigits.count == rightDigits.count ? leftDigits < rightDigits : leftDigits.count < rightDigits.count
        return isShorter != leftIsNegative
    }

    private static func integer(_ value: JSON) throws(PythonException) -> JSON {
        switch value {
        case .number(let number) where PythonText.isInteger(number): return value
        case .number(let number):
            let double = number.double ?? .nan
            if double.isNaN { throw PythonException(type: "ValueError", message: "cannot convert float NaN to integer") }
            if double.isInfinite { throw PythonException(type: "OverflowError", message: "cannot convert float infinity to integer") }
            return .number(JSONNumber(literal: wholeDigits(double.rounded(.towardZero))))
        case .bool(let flag): return JSON(flag ? 1 : 0)
        case .string(let text):
            let digits = text.trimmed.replacing("_", with: "")
            let unsigned = digits.hasPrefix("-") || digits.hasPrefix("+") ? digits.dropFirst() : digits[...]
            guard !unsigned.isEmpty, unsigned.utf8.allSatisfy({ (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) }) else {
                throw PythonException(type: "ValueError", message: "invalid literal for int() with base 10: \(PythonText.repr(value))")
            }
            let significant = unsigned.drop { $0 == "0" }
            let sign = digits.hasPrefix("-") && !significant.isEmpty ? "-" : ""
            return .number(JSONNumber(literal: sign + (significant.isEmpty ? "0" : significant)))
        case .null, .array, .object:
            throw PythonException(
                type: "TypeError",
                message: "int() argument must be a string, a bytes-like object or a real number, not '\(PythonText.typeName(value))'")
        }
    }

    private static func float(_ value: JSON) throws(PythonException) -> JSON {
        switch value {
        case .number(let number):
            return PythonText.isInteger(number) ? .number(JSONNumber(literal: PythonText.float(number.double ?? .nan))) : value
        case .bool(let flag): return .number(JSONNumber(literal: flag ? "1.0" : "0.0"))
        case .string(let text):
            guard let double = Double(text.trimmed.replacing("_", with: "")) else {
                throw PythonException(type: "ValueError", message: "could not convert string to float: \(PythonText.repr(value))")
            }
            return .number(JSONNumber(literal: PythonText.float(double)))
        case .null, .array, .object:
            throw PythonException(
                type: "TypeError", message: "float() argument must be a string or a real number, not '\(PythonText.typeName(value))'")
        }
    }

    private static func wholeDigits(_ value: Double) -> String {
        if let integer = Int(exactly: value) { return String(integer) }
        if let unsigned = UInt64(exactly: value) { return String(unsigned) }
        return "\(value)"
    }
}

extension String {
    /// Without blanks and line ends at both ends.
    fileprivate var trimmed: String {
        var rest = self[...]
        while let first = rest.first, first.isWhitespace { rest = rest.dropFirst() }
        while let last = rest.last, last.isWhitespace { rest = rest.dropLast() }
        return String(rest)
    }
}
