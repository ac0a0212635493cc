import CMicroHTTPD
import Glibc

/// A bound, listening TCP socket.
struct ListeningSocket {
    let descriptor: Int32
    let port: UInt16

    init(_ configuration: HTTPServer.Configuration) throws(HTTPServerError) {
        let (host, port) = (configuration.host, configuration.port)
        var hints = addrinfo()
        hints.ai_flags = AI_PASSIVE | AI_NUMERICSERV
        hints.ai_socktype = Int32(SOCK_STREAM.rawValue)
        var list: UnsafeMutablePointer<addrinfo>?
        let result = getaddrinfo(host, String(port), &hints, &list)
        guard result == 0, let list else {
            throw .unknownHost(host, reason: String(cString: gai_strerror(result)))
        }
        defer { freeaddrinfo(list) }
        var reason = "no address"
        for address in sequence(first: list, next: { $0.pointee.ai_next }) {
            if let descriptor = Self.listen(on: address.pointee, configuration) {
                self.descriptor = descriptor
                self.port = Self.port(of: descriptor)
                return
            }
            reason = String(cString: strerror(errno))
        }
        throw .cannotListen(host: host, port: port, reason: reason)
    }

    /// Sets `errno` on failure.
    private static func listen(on address: addrinfo, _ configuration: HTTPServer.Configuration) -> Int32? {
        let type = Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue | SOCK_NONBLOCK.rawValue)
        let descriptor = socket(address.ai_family, type, address.ai_protocol)
        guard descriptor >= 0 else { return nil }
        set(descriptor, SOL_SOCKET, SO_REUSEADDR, 1)
        // Accepted sockets inherit these. They find a client that vanished without a word. One whose machine was restarted, or whose place a
        // router has given away, is found by the first probe that is answered with a reset: after 10 s without a word from it.
        set(descriptor, SOL_SOCKET, SO_KEEPALIVE, 1)
        set(descriptor, Int32(IPPROTO_TCP), TCP_KEEPIDLE, 10)
        set(descriptor, Int32(IPPROTO_TCP), TCP_KEEPINTVL, 5)
        set(descriptor, Int32(IPPROTO_TCP), TCP_KEEPCNT, 10)  // counts only where the next has no say
        // Nothing answers for a laptop that fell asleep or a cut cable. It gets the idle timeout, to come back from a bad spot of its
        // network without losing its job. While it has an answer to read, `Reception.look` finds it, see `ConnectionHandle.allowStall`.
        if configuration.idleTimeout > .zero {
            set(descriptor, Int32(IPPROTO_TCP), TCP_USER_TIMEOUT, Int32(clamping: Int((configuration.silenceLimit.seconds * 1000).rounded())))
        }
        guard bind(descriptor, address.ai_addr, address.ai_addrlen) == 0, Glibc.listen(descriptor, configuration.listenBacklog) == 0 else {
            let reason = errno
            close(descriptor)
            errno = reason
            return nil
        }
        return descriptor
    }

    private static func set(_ descriptor: Int32, _ level: Int32, _ option: Int32, _ value: Int32) {
        var value = value
        setsockopt(descriptor, level, option, &value, socklen_t(MemoryLayout<Int32>.size))
    }

    private static func port(of descriptor: Int32) -> UInt16 {
        var storage = sockaddr_storage()
        var length = socklen_t(MemoryLayout<sockaddr_storage>.size)
        return withUnsafeMutablePointer(to: &storage) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { _ = getsockname(descriptor, $0, &length) }
            // The port lies at the same place for both families.
            return pointer.withMemoryRebound(to: sockaddr_in.self, capacity: 1) { UInt16(bigEndian: $0.pointee.sin_port) }
        }
    }
}
