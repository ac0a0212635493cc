import NIOCore

/// Host and port, as in a URL and in the `Host` header (RFC 9110 section 7.2): compared without regard to case, to the dot at the end of an absolute
/// name, and to how an IPv6 address is written.
package struct Authority: Sendable, Hashable {
    /// Why a text is none; the description says it to whoever wrote the text.
    package enum Fault: Error, CustomStringConvertible {
        case noHost, name, port
        case openBracket, bracketed, afterBracket, noBrackets

        package var description: String {
            switch self {
            case .noHost: "the host is missing"
            case .name: "the host may hold only letters, digits, '.', '-' and '_', and no part of it may be empty"
            case .port: "the port must be a number from 1 to 65535"
            case .openBracket: "close the IPv6 address with ']'"
            case .bracketed: "what stands in brackets must be an IPv6 address"
            case .afterBracket: "after the ']' only a port may follow"
            case .noBrackets: "write an IPv6 address in brackets"
            }
        }
    }

    /// A name in lower case without a dot at its end, or an IP address in its normal form and without brackets.
    package let host: String
    /// Nil when none was written, or nothing behind the colon.
    package let port: Int?
    package let isAddress: Bool
    /// The host as it was written, but in lower case and without brackets: with the dot, by which a resolver knows an absolute name.
    package let writtenHost: String

    /// Nil for what is none.
    package init?(_ text: some StringProtocol) {
        guard let authority = try? Authority(checking: text) else { return nil }
        self = authority
    }

    package init(checking text: some StringProtocol) throws(Fault) {
        var name = Substring(text)
        var port: Substring?
        let isBracketed = name.first == "["
        if isBracketed {
            guard let end = name.firstIndex(of: "]") else { throw .openBracket }
            let rest = name[name.index(after: end)...]
            guard rest.isEmpty || rest.first == ":" else { throw .afterBracket }
            port = rest.isEmpty ? nil : rest.dropFirst()
            name = name[..<end].dropFirst()
            guard name.contains(":") else { throw .bracketed }
        } else if let colon = name.firstIndex(of: ":") {
            port = name[name.index(after: colon)...]
            name = name[..<colon]
            if let port, port.contains(":") { throw .noBrackets }
        }
        guard !name.isEmpty else { throw .noHost }
        let address = try? SocketAddress(ipAddress: String(name), port: 0).ipAddress
        writtenHost = name.lowercased()
        isAddress = address != nil
        if let address {
            host = address
        } else {
            guard !isBracketed else { throw .bracketed }
            host = try Self.normalName(name)
        }
        guard let port, !port.isEmpty else {
            self.port = nil
            return
        }
        guard port.utf8.allSatisfy({ UInt8(ascii: "0")...UInt8(ascii: "9") ~= $0 }), let number = UInt16(port) else { throw .port }
        self.port = Int(number)
    }

    private static func normalName(_ text: Substring) throws(Fault) -> String {
        let name = text.last == "." ? text.dropLast() : text
        guard !name.isEmpty, name.utf8.allSatisfy(isPartOfName), !name.hasPrefix("."), !name.contains("..") else { throw .name }
        return name.lowercased()
    }

    private static func isPartOfName(_ byte: UInt8) -> Bool {
        switch byte {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"), UInt8(ascii: "0")...UInt8(ascii: "9"): true
        case UInt8(ascii: "-"), UInt8(ascii: "."), UInt8(ascii: "_"): true
        default: false
        }
    }

    package static func == (left: Authority, right: Authority) -> Bool { left.host == right.host && left.port == right.port }

    package func hash(into hasher: inout Hasher) {
        hasher.combine(host)
        hasher.combine(port)
    }
}
