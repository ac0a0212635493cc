import ArgumentParser
import Foundation
import NIOCore

/// Whom requests go to: an `http` URL, its name already looked up.
struct Target: Sendable {
    let address: SocketAddress
    /// For the `Host` field.
    let authority: String
    /// The path of the URL, without a slash at the end.
    let path: String

    init(_ text: String) throws {
        guard let url = URLComponents(string: text), url.scheme == "http", let host = url.host, !host.isEmpty else {
            throw ValidationError("'\(text)' is no http URL")
        }
        let name = host.trimmingCharacters(in: CharacterSet(charactersIn: "[]"))
        address = try SocketAddress.makeAddressResolvingHost(name, port: url.port ?? 80)
        authority = url.port.map { "\(host):\($0)" } ?? host
        path = (url.path.hasSuffix("/") ? String(url.path.dropLast()) : url.path) + (url.query.map { "?" + $0 } ?? "")
    }

    /// The path of a link, which may be a whole URL: the servers here are reached by the address that was given, whatever they call themselves.
    static func path(of link: String) -> String {
        guard let scheme = link.firstRange(of: "://") else { return link }
        return link[scheme.upperBound...].firstIndex(of: "/").map { String(link[$0...]) } ?? "/"
    }

    func request(_ method: String, _ path: String, _ fields: [(String, String)] = [], body: [UInt8]? = nil) -> ByteBuffer {
        var text = "\(method) \(path) HTTP/1.1\r\nHost: \(authority)\r\n"
        for (name, value) in fields { text += "\(name): \(value)\r\n" }
        if let body { text += "Content-Length: \(body.count)\r\n" }
        text += "\r\n"
        var buffer = ByteBuffer()
        buffer.reserveCapacity(text.utf8.count + (body?.count ?? 0))
        buffer.writeString(text)
        if let body { buffer.writeBytes(body) }
        return buffer
    }
}
