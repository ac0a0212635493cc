/// A JSON value that survives a round trip: object members keep their order and numbers keep their digits.
///
/// Foundation's coders turn 18446744073709551615 into a `Double` and sort or shuffle keys; a workflow must reach ComfyUI
/// as it was sent (seeds are unsigned 64-bit).
package enum JSON: Sendable {
    case null
    case bool(Bool)
    /// The number as it was written, for example `1.50` or `18446744073709551615`.
    case number(JSONNumber)
    case string(String)
    case array([JSON])
    /// Of members with equal names the last value wins, at the first one's place (as Python reads them).
    case object(JSONObject)
}

extension JSON: Hashable {
    /// Strings are equal when their bytes are (see `Name`).
    package static func == (left: JSON, right: JSON) -> Bool {
        switch (left, right) {
        case (.null, .null): true
        case (.bool(let left), .bool(let right)): left == right
        case (.number(let left), .number(let right)): left == right
        case (.string(let left), .string(let right)): left.hasSameBytes(as: right)
        case (.array(let left), .array(let right)): left == right
        case (.object(let left), .object(let right)): left == right
        case (.null, _), (.bool, _), (.number, _), (.string, _), (.array, _), (.object, _): false
        }
    }

    package func hash(into hasher: inout Hasher) {
        switch self {
        case .null: hasher.combine(0)
        case .bool(let value): hasher.combine(value)
        case .number(let number): hasher.combine(number)
        case .string(let text): hasher.combine(Name(text))
        case .array(let elements): hasher.combine(elements)
        case .object(let members): hasher.combine(members)
        }
    }
}

/// A JSON number by its literal text.
package struct JSONNumber: Sendable, Hashable {
    /// The text as received. `NaN`, `Infinity` and `-Infinity` occur only in values parsed leniently.
    package let literal: String

    /// - Parameter literal: a valid JSON number; not checked again.
    package init(literal: String) { self.literal = literal }
    package init(_ value: some BinaryInteger) { literal = String(value) }
    /// A value that is not finite has no JSON form and encodes as `null`.
    package init(_ value: Double) {
        if let integer = Int64(exactly: value), abs(integer) < 1 << 53 { literal = String(integer) } else { literal = "\(value)" }
    }

    package var double: Double? { Double(literal) }
    /// The value if it is a whole number in range, also when written as `8.0` or `1e3`.
    package var int: Int? { Int(literal) ?? double.flatMap { Int(exactly: $0) } }
    package var isFinite: Bool { double?.isFinite ?? false }
}

extension JSON {
    package var object: JSONObject? { if case .object(let members) = self { members } else { nil } }
    package var array: [JSON]? { if case .array(let elements) = self { elements } else { nil } }
    package var string: String? { if case .string(let text) = self { text } else { nil } }
    package var bool: Bool? { if case .bool(let value) = self { value } else { nil } }
    package var number: JSONNumber? { if case .number(let number) = self { number } else { nil } }
    package var int: Int? { number?.int }
    package var double: Double? { number?.double }
    package var isNull: Bool { self == .null }

    /// The member of an object; nil for a missing member and for anything that is no object.
    package subscript(_ key: String) -> JSON? {
        if case .object(let members) = self { members[key] } else { nil }
    }

    /// The element of an array; nil out of range and for anything that is no array.
    package subscript(_ index: Int) -> JSON? {
        if case .array(let elements) = self, elements.indices.contains(index) { elements[index] } else { nil }
    }

    /// What a message to a person calls this value: `an object`, `a number` …
    package var kindInWords: String {
        switch self {
        case .null: "null"
        case .bool: "a boolean"
        case .number: "a number"
        case .string: "a string"
        case .array: "a list"
        case .object: "an object"
        }
    }

    /// `value`, or null for nil.
    package static func optional(_ value: String?) -> JSON { value.map(JSON.string) ?? .null }
    package static func optional(_ value: Int?) -> JSON { value.map { .number(JSONNumber($0)) } ?? .null }
}

extension JSON: ExpressibleByStringLiteral, ExpressibleByIntegerLiteral, ExpressibleByFloatLiteral, ExpressibleByBooleanLiteral,
    ExpressibleByArrayLiteral, ExpressibleByDictionaryLiteral, ExpressibleByNilLiteral
{
    package init(stringLiteral value: String) { self = .string(value) }
    package init(integerLiteral value: Int) { self = .number(JSONNumber(value)) }
    package init(floatLiteral value: Double) { self = .number(JSONNumber(value)) }
    package init(booleanLiteral value: Bool) { self = .bool(value) }
    package init(arrayLiteral elements: JSON...) { self = .array(elements) }
    package init(dictionaryLiteral elements: (String, JSON)...) {
        self = .object(JSONObject(elements, uniquingKeysWith: { _, last in last }))
    }

    package init(nilLiteral: ()) { self = .null }
}

extension JSON {
    package init(_ value: some BinaryInteger) { self = .number(JSONNumber(value)) }
    package init(_ value: Double) { self = .number(JSONNumber(value)) }
    package init(_ value: String) { self = .string(value) }
    package init(_ value: Bool) { self = .bool(value) }
}
