/// Where callers find the bridge when a proxy stands before it (`--public-url`).
package struct PublicURL: Sendable, Equatable {
    package let origin: Origin
    /// Scheme and authority, as they were written.
    let base: String
    /// The path below which the proxy has put the bridge, such as `/comfy`; empty when it has all of the host.
    package let path: String

    /// From `http://host[:port][/path]`; nil for everything else. What would need escapes is no path here: links and requests are
    /// compared with it as they are.
    package init?(_ text: String) {
        guard let origin = Origin(ofURL: text) else { return nil }
        var rest = text.utf8.drop { $0 != UInt8(ascii: "/") }.dropFirst(2)
        rest = rest.drop { $0 != UInt8(ascii: "/") && $0 != UInt8(ascii: "?") && $0 != UInt8(ascii: "#") }
        base = String(text[..<rest.startIndex])
        while rest.last == UInt8(ascii: "/") { rest.removeLast() }
        let segments = rest.split(separator: UInt8(ascii: "/"), omittingEmptySubsequences: false).dropFirst()
        guard rest.isEmpty || rest.first == UInt8(ascii: "/"), segments.allSatisfy(Self.isSegment) else { return nil }
        path = String(rest) ?? ""
        self.origin = origin
    }

    private static func isSegment(_ text: Substring.UTF8View) -> Bool {
        !text.isEmpty && !text.elementsEqual(".".utf8) && !text.elementsEqual("..".utf8)
            && text.allSatisfy { byte in
                switch byte {
                case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"), UInt8(ascii: "0")...UInt8(ascii: "9"): true
                case UInt8(ascii: "-"), UInt8(ascii: "."), UInt8(ascii: "_"), UInt8(ascii: "~"): true
                default: false
                }
            }
    }
}
