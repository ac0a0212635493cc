package import OrderedCollections

/// The members of a JSON object in their order. Their names are told apart by their bytes (`Name`).
package struct JSONObject: Sendable, Hashable {
    private var members: OrderedDictionary<Name, JSON>

    package init() { members = [:] }
    package init(minimumCapacity: Int) { members = OrderedDictionary(minimumCapacity: minimumCapacity) }

    package init(uniqueKeysWithValues members: some Sequence<(String, JSON)>) {
        self.members = OrderedDictionary(uniqueKeysWithValues: members.lazy.map { (Name($0), $1) })
    }

    package init(_ members: some Sequence<(String, JSON)>, uniquingKeysWith combine: (JSON, JSON) throws -> JSON) rethrows {
        self.members = try OrderedDictionary(members.lazy.map { (Name($0), $1) }, uniquingKeysWith: combine)
    }

    package subscript(_ name: String) -> JSON? {
        get { members[Name(name)] }
        set { members[Name(name)] = newValue }
        _modify { yield &members[Name(name)] }
    }

    package subscript(_ name: String, default value: @autoclosure () -> JSON) -> JSON {
        get { members[Name(name), default: value()] }
        set { members[Name(name)] = newValue }
        _modify { yield &members[Name(name), default: value()] }
    }

    package var keys: [String] { members.keys.map(\.text) }
    package var names: OrderedSet<Name> { members.keys }
    package var values: OrderedDictionary<Name, JSON>.Values { members.values }

    @discardableResult
    package mutating func removeValue(forKey name: String) -> JSON? { members.removeValue(forKey: Name(name)) }
    package mutating func removeAll() { members.removeAll() }

    package mutating func merge(_ others: JSONObject, uniquingKeysWith combine: (JSON, JSON) throws -> JSON) rethrows {
        try members.merge(others.members.elements.lazy.map { ($0.key, $0.value) }, uniquingKeysWith: combine)
    }

    package func merging(_ others: JSONObject, uniquingKeysWith combine: (JSON, JSON) throws -> JSON) rethrows -> JSONObject {
        var merged = self
        try merged.merge(others, uniquingKeysWith: combine)
        return merged
    }

    package func mapValues(_ transform: (JSON) throws -> JSON) rethrows -> JSONObject {
        var mapped = self
        for index in members.values.indices { mapped.members.values[index] = try transform(members.values[index]) }
        return mapped
    }

    package func filter(_ isIncluded: (Element) throws -> Bool) rethrows -> JSONObject {
        var filtered = self
        filtered.members = try members.filter { try isIncluded(($0.key.text, $0.value)) }
        return filtered
    }
}

extension JSONObject: RandomAccessCollection, ExpressibleByDictionaryLiteral {
    package typealias Element = (key: String, value: JSON)

    package var startIndex: Int { 0 }
    package var endIndex: Int { members.count }
    package subscript(position: Int) -> Element {
        let member = members.elements[position]
        return (member.key.text, member.value)
    }

    package init(dictionaryLiteral members: (String, JSON)...) {
        self.init(members, uniquingKeysWith: { _, last in last })
    }
}
