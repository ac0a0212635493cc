import CMicroHTTPD
import CMicroHTTPDOverrides
import Glibc
import Synchronization

/// Owner of a running `struct MHD_Daemon *` and of the reception that its threads call.
final class Daemon: Sendable {
    private struct Handle: @unchecked Sendable {  // an address; only touched in `running`'s lock
        let raw: OpaquePointer
    }

    /// Without them folded lines would glue names together, and errors come as HTML.
    private static let overrides = cmhd_try_overrides()

    private let reception: Reception
    private let listeningSocket: Int32
    private let running: Mutex<Handle?>

    /// Starts the threads, which accept from now on. Owns the socket if it succeeds, closes it if not.
    init(_ socket: ListeningSocket, reception: Reception) throws(HTTPServerError) {
        guard Self.overrides == CMHD_OVERRIDES_WORK else {
            close(socket.descriptor)
            throw .cannotStart(
                Self.overrides == CMHD_OVERRIDES_UNKNOWN
                    ? "no descriptors left"
                    : "libmicrohttpd does not call the functions that this program has in place of its own. Link the program with a shared libmicrohttpd such as Debian's, one that was not built with -Bsymbolic, and keep MHD_queue_response among the program's dynamic symbols")
        }
        let configuration = reception.configuration
        let limits = cmhd_limits(
            listen_socket: socket.descriptor,
            threads: UInt32(clamping: configuration.threads),
            connections: UInt32(clamping: configuration.connectionLimit + HTTPServer.Configuration.spareConnections),
            connection_memory: max(1024, configuration.connectionMemory)
        )
        guard let raw = Callbacks.startDaemon(limits, reception: reception) else {
            close(socket.descriptor)
            throw .cannotStart("libmicrohttpd refuses its options")
        }
        self.reception = reception
        listeningSocket = socket.descriptor
        running = Mutex(Handle(raw: raw))
    }

    /// Closes the listening socket: clients that connect from now on are refused by the kernel, connections that are open go on.
    ///
    /// Not with `MHD_quiesce_daemon`: in 0.9.75 it and a polling thread may both take the socket out of the same epoll, and the second one
    /// to do so calls `MHD_PANIC`. Putting something that never becomes readable under the descriptor closes the socket just as
    /// well, takes it out of every epoll, and leaves the daemon's descriptor valid until it is stopped.
    func refuseConnections() {
        running.withLock { handle in
            guard handle != nil else { return }
            let nothing = eventfd(0, Int32(EFD_CLOEXEC | EFD_NONBLOCK))
            guard nothing >= 0 else { return }
            dup2(nothing, listeningSocket)
            _ = fcntl(listeningSocket, F_SETFD, FD_CLOEXEC)
            close(nothing)
        }
    }

    /// Closes all connections and joins the threads: blocks. "It is an API violation to call MHD_stop_daemon while having suspended
    /// connections", so the reception has to have entered `.stopping`.
    func stop() {
        reception.stopSending()
        let handle = running.withLock { $0.take() }
        if let handle { MHD_stop_daemon(handle.raw) }
    }

    deinit {
        reception.enter(.stopping)
        stop()
    }
}
