import Wording

/// What bytes are called by their content: `blake3:` and 64 hexadecimal digits, the form of the Comfy API v2.
package struct ContentHash: Sendable, Hashable, CustomStringConvertible {
    package let description: String

    /// - Parameter digest: the 32 bytes that BLAKE3 gives.
    package init(digest: [UInt8]) {
        description = Self.prefix + digest.hexadecimal
    }

    /// Nil for what is no such hash. Digits may be upper case.
    package init?(_ text: String) {
        guard text.utf8.count == Self.prefix.utf8.count + 64 else { return nil }
        let digits = text.dropFirst(Self.prefix.count).lowercased()
        guard text.hasPrefix(Self.prefix), digits.utf8.count == 64, digits.allSatisfy(\.isHexDigit) else { return nil }
        description = Self.prefix + digits
    }

    package init(of bytes: some Sequence<UInt8>) {
        var hasher = BLAKE3()
        hasher.update(Array(bytes))
        self = hasher.contentHash
    }

    /// The digits alone, for names of files.
    package var digits: Substring { description.dropFirst(Self.prefix.count) }

    private static let prefix = "blake3:"
}
