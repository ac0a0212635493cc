import Foundation
import Glibc
import MicroHTTP

/// One TCP connection to a server under test: blocking, so that a test says exactly which bytes go when. Use it inside `offPool`.
final class Client {
    struct Failure: Error, CustomStringConvertible {
        var description: String
    }

    let descriptor: Int32
    private var buffer: [UInt8] = []
    private var isOpen = true

    /// - Parameter receiveBuffer: the size of the kernel's buffer, for clients that shall not take much without reading.
    init(port: UInt16, receiveBuffer: Int32? = nil) throws {
        descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        var patience = timeval(tv_sec: 30, tv_usec: 0)
        setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &patience, socklen_t(MemoryLayout<timeval>.size))
        setsockopt(descriptor, SOL_SOCKET, SO_SNDTIMEO, &patience, socklen_t(MemoryLayout<timeval>.size))
        var noDelay: Int32 = 1
        setsockopt(descriptor, Int32(IPPROTO_TCP), TCP_NODELAY, &noDelay, 4)
        if var receiveBuffer { setsockopt(descriptor, SOL_SOCKET, SO_RCVBUF, &receiveBuffer, 4) }
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = port.bigEndian
        address.sin_addr.s_addr = inet_addr("127.0.0.1")
        let result = withUnsafePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size)) }
        }
        guard result == 0 else {
            let reason = String(cString: strerror(errno))
            Glibc.close(descriptor)
            isOpen = false
            throw Failure(description: "connect: \(reason)")
        }
    }

    deinit { close() }

    func close() {
        if isOpen { Glibc.close(descriptor) }
        isOpen = false
    }

    /// Closes with a RST.
    func reset() {
        var linger = linger(l_onoff: 1, l_linger: 0)
        setsockopt(descriptor, SOL_SOCKET, SO_LINGER, &linger, socklen_t(MemoryLayout<linger>.size))
        close()
    }

    /// Closes the sending side only.
    func finishSending() {
        shutdown(descriptor, Int32(SHUT_WR))
    }

    func send(_ text: String) throws {
        try send(Array(text.utf8))
    }

    func send(_ bytes: [UInt8]) throws {
        var sent = 0
        while sent < bytes.count {
            let count = bytes.withUnsafeBytes { Glibc.send(descriptor, $0.baseAddress! + sent, bytes.count - sent, Int32(MSG_NOSIGNAL)) }
            guard count > 0 else { throw Failure(description: "send after \(sent) bytes: \(String(cString: strerror(errno)))") }
            sent += count
        }
    }

    // MARK: Reading

    struct Reply {
        var status: Int
        var headers: HTTPHeaders
        var body: [UInt8]
        /// The body ended where the message said it would.
        var isWhole: Bool
        var text: String { String(decoding: body, as: UTF8.self) }
    }

    func get(_ target: String, headers: String = "") throws -> Reply {
        try send("GET \(target) HTTP/1.1\r\nHost: test\r\n\(headers)\r\n")
        return try reply()
    }

    func post(_ target: String, _ body: [UInt8], headers: String = "") throws -> Reply {
        try send("POST \(target) HTTP/1.1\r\nHost: test\r\nContent-Length: \(body.count)\r\n\(headers)\r\n")
        try send(body)
        return try reply()
    }

    /// Reads one response.
    ///
    /// - Parameter withBody: false after HEAD.
    func reply(withBody: Bool = true) throws -> Reply {
        var (status, headers) = try head()
        if status == 100 { (status, headers) = try head() }
        guard withBody, status != 204, status != 304 else { return Reply(status: status, headers: headers, body: [], isWhole: true) }
        var body: [UInt8] = []
        if headers["Transfer-Encoding"] == "chunked" {
            while let chunk = try chunk() {
                if chunk.isEmpty { return Reply(status: status, headers: headers, body: body, isWhole: true) }
                body += chunk
            }
            return Reply(status: status, headers: headers, body: body, isWhole: false)
        }
        guard let length = headers["Content-Length"].flatMap({ Int($0) }) else {
            return Reply(status: status, headers: headers, body: try rest(), isWhole: true)
        }
        while buffer.count < length, try fill() {}
        body = Array(buffer.prefix(length))
        buffer.removeFirst(body.count)
        return Reply(status: status, headers: headers, body: body, isWhole: body.count == length)
    }

    func head() throws -> (status: Int, headers: HTTPHeaders) {
        let words = try line().split(separator: " ", maxSplits: 2)
        guard words.count >= 2, words[0].hasPrefix("HTTP/1."), let status = Int(words[1]) else {
            throw Failure(description: "no status line: \(words)")
        }
        var headers = HTTPHeaders()
        while case let line = try line(), !line.isEmpty {
            guard let colon = line.firstIndex(of: ":") else { throw Failure(description: "no header: \(line)") }
            headers.add(name: String(line[..<colon]), value: line[line.index(after: colon)...].trimmingCharacters(in: .whitespaces))
        }
        return (status, headers)
    }

    /// The next chunk of a chunked body, empty for the last, nil if the connection ended before it.
    func chunk() throws -> [UInt8]? {
        guard let size = try? line(), let count = Int(size, radix: 16) else { return nil }
        while buffer.count < count + 2, (try? fill()) == true {}
        guard buffer.count >= count + 2 else { return nil }
        let chunk = Array(buffer.prefix(count))
        buffer.removeFirst(count + 2)
        return chunk
    }

    /// Everything until the server closes.
    func rest() throws -> [UInt8] {
        while try fill() {}
        defer { buffer = [] }
        return buffer
    }

    /// Whether the server has closed the connection, waiting for it.
    func isClosedByServer() -> Bool {
        guard buffer.isEmpty else { return false }
        return (try? fill()) != true
    }

    private func line() throws -> String {
        var searched = 0
        while true {
            if let end = buffer[searched...].firstIndex(of: UInt8(ascii: "\n")) {
                let line = buffer[..<end]
                let text = String(decoding: line.last == UInt8(ascii: "\r") ? line.dropLast() : line, as: UTF8.self)
                buffer.removeFirst(end + 1)
                return text
            }
            searched = buffer.count
            guard try fill() else { throw Failure(description: "closed after \"\(String(decoding: buffer, as: UTF8.self))\"") }
        }
    }

    private func fill() throws -> Bool {
        try withUnsafeTemporaryAllocation(byteCount: 64 * 1024, alignment: 1) { space in
            let count = recv(descriptor, space.baseAddress, space.count, 0)
            guard count >= 0 else { throw Failure(description: "recv: \(String(cString: strerror(errno)))") }
            buffer.append(contentsOf: space.prefix(count))
            return count > 0
        }
    }
}

/// Runs what blocks on a thread of its own: the pool for tasks has few threads, and the server's handlers need them.
func offPool<T: Sendable>(_ body: @escaping @Sendable () throws -> T) async throws -> T {
    try await withCheckedThrowingContinuation { continuation in
        Thread.detachNewThread { continuation.resume(with: Result { try body() }) }
    }
}

/// Runs the real curl, without progress meter. Blocks: use it inside `offPool`.
///
/// - Parameter arguments: without single quotes.
func curl(_ arguments: [String]) throws -> (status: Int32, output: [UInt8]) {
    // Not Foundation's Process: its run() crashes beside a test that has more than a thousand descriptors open.
    let words = ["curl", "-sS"] + arguments
    guard let output = popen(words.map { "'\($0)'" }.joined(separator: " "), "r") else {
        throw Client.Failure(description: "curl: \(String(cString: strerror(errno)))")
    }
    var data: [UInt8] = []
    var buffer = [UInt8](repeating: 0, count: 4096)
    while case let count = fread(&buffer, 1, buffer.count, output), count > 0 { data += buffer[..<count] }
    return (pclose(output), data)
}
