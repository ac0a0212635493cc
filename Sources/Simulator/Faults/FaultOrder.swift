import OrderedCollections
import OrderedJSON

/// A fault, and when it is to strike.
package struct FaultOrder: Sendable, Hashable {
    /// What is wrong with an order, for a person.
    package struct SyntaxError: Error, CustomStringConvertible {
        package let description: String

        init(_ description: String) { self.description = description }
    }

    package var fault: Fault
    /// Only what contains this text: for faults of answers `METHOD /path` (without `/api`), for the others the prompt's id, its client's id
    /// and its graph as JSON. Nil: everything, or what the kind's default says.
    package var only: String?
    /// How often; nil is always.
    package var times: Int?
    /// From 0 to 1, of each opportunity.
    package var probability: Double

    package init(_ fault: Fault, only: String? = nil, times: Int? = nil, probability: Double = 1) {
        self.fault = fault
        self.only = only
        self.times = times
        self.probability = probability
    }

    /// `NAME[=VALUE][~TEXT][*TIMES][@PROBABILITY]`, e.g. `cut=end*3@0.5` or `error=502~/history`.
    ///
    /// - Throws: for an unknown name and for values that its kind does not take.
    package init(_ text: String) throws(SyntaxError) {
        var rest = Substring(text)
        func cutOff(_ separator: Character) -> String? {
            guard let index = rest.lastIndex(of: separator) else { return nil }
            defer { rest = rest[..<index] }
            return String(rest[rest.index(after: index)...])
        }

        let probability = cutOff("@"), times = cutOff("*")
        var only: String?
        if let index = rest.firstIndex(of: "~") {
            only = String(rest[rest.index(after: index)...])
            rest = rest[..<index]
        }
        let parts = rest.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
        try self.init(
            name: String(parts[0]), value: parts.count > 1 ? String(parts[1]) : nil, only: only, times: times, probability: probability)
    }

    /// `{"fault": "NAME", "value"?, "only"?, "times"?, "probability"?}`; `fault` may also be the whole text form.
    init(_ json: JSON) throws(SyntaxError) {
        guard let name = json["fault"]?.string else { throw SyntaxError("'fault' must be the name of a fault, like \"cut\".") }
        if let unknown = json.object?.keys.first(where: { !["fault", "value", "only", "times", "probability"].contains($0) }) {
            throw SyntaxError("'\(unknown)' is not understood; an order has fault, value, only, times and probability.")
        }
        guard json.object?.count != 1 else {
            try self.init(name)
            return
        }
        func text(_ member: String) -> String? {
            switch json[member] {
            case nil, .null?: nil
            case .string(let text)?: text
            case .number(let number)?: number.literal
            case let other?: other.text
            }
        }
        try self.init(name: name, value: text("value"), only: text("only"), times: text("times"), probability: text("probability"))
    }

    private init(name: String, value: String?, only: String?, times: String?, probability: String?) throws(SyntaxError) {
        guard let kind = Fault.Kind(rawValue: name) else {
            throw SyntaxError("'\(name)' is no fault; there are \(Fault.Kind.allCases.map(\.rawValue).joined(separator: ", ")).")
        }
        self.init(try kind.fault(value), only: only.flatMap { $0.isEmpty ? nil : $0 })
        if let times {
            guard let count = Int(times), count > 0 else {
                throw SyntaxError("'\(times)' is no number of times for the fault \(name); give 1 or more.")
            }
            self.times = count
        }
        if let probability {
            guard let value = Double(probability), (0...1).contains(value) else {
                throw SyntaxError("'\(probability)' is no probability for the fault \(name); give a number from 0 to 1.")
            }
            self.probability = value
        }
    }
}
