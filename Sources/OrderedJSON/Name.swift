#if canImport(Glibc)
    import Glibc
#else
    import Musl
#endif
package import OrderedCollections

/// A text from outside that something goes by, such as the name of a member, a node or a class: compared, ordered and hashed as its UTF-8 bytes.
///
/// `String` goes by canonical equivalence. That takes `é` and `e` + U+0301 for the same key, which JSON, ComfyUI and SQLite keep apart, and its
/// cost grows with the square of the length for a letter with many marks.
package struct Name: Sendable, Hashable, Comparable, CustomStringConvertible, ExpressibleByStringInterpolation {
    package let text: String

    package init(_ text: String) { self.text = text }
    package init(stringLiteral text: String) { self.text = text }

    package var description: String { text }

    package static func == (left: Name, right: Name) -> Bool { left.text.hasSameBytes(as: right.text) }

    package static func < (left: Name, right: Name) -> Bool { left.text.utf8.lexicographicallyPrecedes(right.text.utf8) }

    package func hash(into hasher: inout Hasher) {
        var text = text
        text.withUTF8 { hasher.combine(bytes: UnsafeRawBufferPointer($0)) }
        hasher.combine(0xFF as UInt8)  // occurs in no text: what follows is no part of this one
    }
}

extension String {
    /// Equality for texts from outside; see `Name`.
    package func hasSameBytes(as other: String) -> Bool {
        var (left, right) = (self, other)
        return left.withUTF8 { left in
            right.withUTF8 { right in
                left.count == right.count && (left.count == 0 || memcmp(left.baseAddress!, right.baseAddress!, left.count) == 0)
            }
        }
    }
}

extension Dictionary where Key == Name {
    package subscript(_ key: String) -> Value? {
        get { self[Name(key)] }
        set { self[Name(key)] = newValue }
        _modify { yield &self[Name(key)] }
    }
}

extension OrderedDictionary where Key == Name {
    package subscript(_ key: String) -> Value? {
        get { self[Name(key)] }
        set { self[Name(key)] = newValue }
        _modify { yield &self[Name(key)] }
    }
}

extension Set<Name> {
    package func contains(_ member: String) -> Bool { contains(Name(member)) }
}
