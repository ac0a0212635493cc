import CMicroHTTPD
import CMicroHTTPDOverrides
import Glibc

/// `struct MHD_Connection *`: valid from notify-connection STARTED until notify-connection CLOSED has returned, and while it is
/// suspended (libmicrohttpd does not touch a suspended connection).
///
/// Sendable because it is an address; which thread may do what with it is said at each function.
struct ConnectionHandle: @unchecked Sendable {
    let raw: OpaquePointer

    /// Takes the connection out of the event loop. "The only safe way to call this function is to call it from the
    /// MHD_AccessHandlerCallback or MHD_ContentReaderCallback" (microhttpd.h); at most once before `resume`.
    func suspend() {
        MHD_suspend_connection(raw)
    }

    /// Puts a suspended connection back; its callback is then called again on its thread. From any thread, exactly once for each
    /// `suspend`: "calling this function on a connection that was not previously suspended will result in undefined behavior".
    func resume() {
        MHD_resume_connection(raw)
    }

    /// Only from the access handler.
    ///
    /// - Returns: false if libmicrohttpd refuses (an answer is queued already, or the state does not allow one).
    func queue(status: Int, _ response: borrowing ResponseHandle) -> Bool {
        cmhd_queue_response(raw, UInt32(status), response.raw) == .YES
    }

    /// How much the kernel takes of a body before it was sent: what waits in the socket of a slow reader can neither be superseded nor be
    /// counted here. 0 leaves it to the kernel, which takes megabytes.
    func limitUnsent(to bytes: Int32) {
        var bytes = bytes
        setsockopt(descriptor, Int32(IPPROTO_TCP), TCP_NOTSENT_LOWAT, &bytes, socklen_t(MemoryLayout<Int32>.size))
    }

    /// How long the kernel waits for a client that acknowledges nothing, which to it is also one that lives but reads nothing.
    func allowStall(of duration: Duration) {
        var milliseconds = Int32(clamping: Int((duration.seconds * 1000).rounded()))
        setsockopt(descriptor, Int32(IPPROTO_TCP), TCP_USER_TIMEOUT, &milliseconds, socklen_t(MemoryLayout<Int32>.size))
    }

    /// Has the socket reset when it is closed, rather than its last bytes kept for a client that takes none.
    func resetWhenClosed() {
        var linger = linger(l_onoff: 1, l_linger: 0)
        setsockopt(descriptor, SOL_SOCKET, SO_LINGER, &linger, socklen_t(MemoryLayout<linger>.size))
    }

    var tcpState: cmhd_tcp_state { cmhd_read_tcp_state(descriptor) }

    /// Sends what waits to be sent together with more, and lets nothing wait from now on.
    func sendWithoutDelay() {
        var yes: Int32 = 1
        setsockopt(descriptor, Int32(IPPROTO_TCP), TCP_NODELAY, &yes, socklen_t(MemoryLayout<Int32>.size))
    }

    var descriptor: Int32 { cmhd_connection_descriptor(raw) }

    /// The numeric address of the peer, "" if it has none.
    var remoteAddress: String {
        guard let address = cmhd_client_address(raw) else { return "" }
        return withUnsafeTemporaryAllocation(of: CChar.self, capacity: Int(INET6_ADDRSTRLEN)) { text in
            switch Int32(address.pointee.sa_family) {
            case AF_INET:
                address.withMemoryRebound(to: sockaddr_in.self, capacity: 1) {
                    _ = withUnsafePointer(to: $0.pointee.sin_addr) { inet_ntop(AF_INET, $0, text.baseAddress, socklen_t(text.count)) }
                }
            case AF_INET6:
                address.withMemoryRebound(to: sockaddr_in6.self, capacity: 1) {
                    _ = withUnsafePointer(to: $0.pointee.sin6_addr) { inet_ntop(AF_INET6, $0, text.baseAddress, socklen_t(text.count)) }
                }
            default: return ""
            }
            let numeric = String(cString: text.baseAddress!)
            let mapped = "::ffff:"
            return numeric.hasPrefix(mapped) && numeric.contains(".") ? String(numeric.dropFirst(mapped.count)) : numeric
        }
    }
}
