import CMicroHTTPD
import Glibc
import Synchronization

/// Tells when a client leaves, for connections that libmicrohttpd is not looking at because they are suspended: one epoll and one
/// thread for all of them.
///
/// Every connection is watched from accept to close, so that requests on it cost nothing here. The epoll knows a connection by an id that is
/// never used again, and the descriptor leaves it in notify-connection CLOSED, before libmicrohttpd closes it; an event that was
/// already on its way then finds no connection of that id. A client that vanishes without a FIN is found by TCP keep-alive, see
/// `ListeningSocket`.
///
/// The same thread lets sockets linger, see `linger`, and looks from time to time at those that keep the server waiting, see `Patience`.
final class DisconnectWatch: Sendable {
    /// With the descriptor beside it, the token of a socket that lingers; others are ids of connections.
    private static let lingeringMark: UInt64 = 1 << 63

    private struct Lingering {
        struct Socket {
            let descriptor: Int32
            /// When it is looked at again, and closed if nothing came by then.
            var deadline: ContinuousClock.Instant
            /// When it is closed whatever comes.
            let end: ContinuousClock.Instant
            var isMoving = false
        }

        var isStopped = false
        /// In the order of their deadlines, which all lie the same time after they were put here.
        var queue: [Socket] = []
    }

    private static let lingerPatience = Duration.seconds(2)
    private static let lingerTime = Duration.seconds(30)
    private let lingerLimit: Int

    /// A half-closed connection, see `follow`.
    private struct Followed {
        /// When it is looked at next.
        var time: ContinuousClock.Instant
        var pause = Duration.milliseconds(1)
    }

    private let epoll: Epoll
    /// By the ids of the connections.
    private let followed = Mutex<[UInt64: Followed]>([:])
    private let lingering = Mutex(Lingering())

    /// - Parameter connectionLimit: of the server; an eighth of it may linger, since that takes descriptors of its own.
    init?(connectionLimit: Int) {
        lingerLimit = max(8, min(256, connectionLimit / 8))
        guard let epoll = Epoll() else { return nil }
        self.epoll = epoll
    }

    /// Starts the thread, which runs until `stop` and keeps the watch until then.
    ///
    /// - Parameters:
    ///   - interval: between two calls of `onLook`.
    ///   - onDisconnect: called with the id of a connection, once at most, or twice after `expectReset`.
    ///   - onFollow: called with what `follow` was given, at once and then again as long as it returns true.
    ///   - onLook: from time to time. All are called on the same thread and must not block.
    func start(
        interval: Duration,
        onDisconnect: @escaping @Sendable (_ id: UInt64, _ isReset: Bool) -> Void,
        onFollow: @escaping @Sendable (_ id: UInt64) -> Bool,
        onLook: @escaping @Sendable (ContinuousClock.Instant) -> Void
    ) -> Bool {
        Callbacks.startThread { self.run(interval, onDisconnect, onFollow, onLook) }
    }

    func stop() {
        lingering.withLock { $0.isStopped = true }
        epoll.wake()
    }

    /// - Returns: false if the system refuses.
    func add(_ descriptor: Int32, id: UInt64) -> Bool {
        epoll.add(descriptor, EPOLLRDHUP.rawValue | EPOLLONESHOT.rawValue, token: id)
    }

    /// The client has closed its sending side, and may: only a reset means that it left.
    func expectReset(_ descriptor: Int32, id: UInt64) {
        epoll.change(descriptor, EPOLLONESHOT.rawValue, token: id)  // EPOLLERR and EPOLLHUP come unasked
    }

    /// Has the connection looked at until libmicrohttpd has read all that the client sent before it closed its sending side. No event tells of that,
    /// and it takes no longer than the thread of the connection needs to come round: after 1 ms, 2 ms, and so on, up to 64 ms. Any thread.
    func follow(_ id: UInt64) {
        followed.withLock { $0[id] = Followed(time: .now) }
        epoll.wake()
    }

    func remove(_ descriptor: Int32) {
        epoll.remove(descriptor)
    }

    /// Keeps the socket of a connection that is about to be closed, reads what still comes and throws it away, until the client closes, nothing
    /// has come for 2 s, or 30 s have passed. Without this, closing a socket with unread data makes the kernel reset the connection, and a client that is in
    /// the middle of an upload never gets to read why it was refused. At most `lingerLimit` at a time; further ones are not kept.
    func linger(_ descriptor: Int32) {
        let copy = fcntl(descriptor, F_DUPFD_CLOEXEC, 0)
        guard copy >= 0 else { return }
        let isKept = lingering.withLock {
            guard !$0.isStopped, $0.queue.count < lingerLimit else { return false }
            guard epoll.add(copy, EPOLLIN.rawValue | EPOLLRDHUP.rawValue, token: Self.lingeringMark | UInt64(copy)) else { return false }
            let now = ContinuousClock.now
            $0.queue.append(.init(descriptor: copy, deadline: now + Self.lingerPatience, end: now + Self.lingerTime))
            return true
        }
        if isKept { epoll.wake() } else { close(copy) }
    }

    // MARK: The thread

    private func run(
        _ interval: Duration, _ onDisconnect: (UInt64, Bool) -> Void, _ onFollow: (UInt64) -> Bool, _ onLook: (ContinuousClock.Instant) -> Void
    ) {
        var events = [epoll_event](repeating: epoll_event(), count: 256)
        var nextLook = ContinuousClock.now + interval
        while let timeout = nextTimeout(before: nextLook) {
            epoll.wait(timeout, &events) { token, events in
                if token >= Self.lingeringMark {
                    discard(Int32(truncatingIfNeeded: token & ~Self.lingeringMark))
                } else {
                    onDisconnect(token, events & (EPOLLHUP.rawValue | EPOLLERR.rawValue) != 0)
                }
            }
            let now = ContinuousClock.now
            let due = followed.withLock { followed in
                let due = followed.filter { $0.value.time <= now }
                for id in due.keys { followed[id] = nil }
                return due
            }
            for (id, last) in due where onFollow(id) {
                let next = Followed(time: now + last.pause, pause: min(last.pause * 2, .milliseconds(64)))
                // Somebody may have begun anew meanwhile.
                followed.withLock { $0[id] = $0[id] ?? next }
            }
            guard now >= nextLook else { continue }
            onLook(now)
            nextLook = now + interval
        }
    }

    /// Closes what has lingered long enough; nil when stopped.
    private func nextTimeout(before nextLook: ContinuousClock.Instant) -> Int32? {
        lingering.withLock { lingering in
            let now = ContinuousClock.now
            let expired = lingering.isStopped ? lingering.queue.count : lingering.queue.prefix { $0.deadline <= now }.count
            for var socket in lingering.queue.prefix(expired) {
                if lingering.isStopped || !socket.isMoving || socket.end <= now {
                    release(socket.descriptor)
                } else {
                    socket.isMoving = false
                    socket.deadline = now + Self.lingerPatience
                    lingering.queue.append(socket)
                }
            }
            lingering.queue.removeFirst(expired)
            if lingering.isStopped { return nil }
            let follow = followed.withLock { $0.values.map(\.time).min() }
            let next = [lingering.queue.first?.deadline, follow].compactMap(\.self).reduce(nextLook, min)
            return Int32(max(0, ((next - now).seconds * 1000).rounded(.up)))
        }
    }

    private func discard(_ descriptor: Int32) {
        let isOver = withUnsafeTemporaryAllocation(byteCount: 64 * 1024, alignment: 16) { buffer in
            for _ in 0..<16 {
                let count = recv(descriptor, buffer.baseAddress, buffer.count, Int32(MSG_DONTWAIT))
                if count == 0 { return true }
                if count < 0 { return errno != EAGAIN && errno != EINTR }
            }
            return false
        }
        lingering.withLock { lingering in
            guard let index = lingering.queue.firstIndex(where: { $0.descriptor == descriptor }) else { return }
            lingering.queue[index].isMoving = true
            guard isOver else { return }
            lingering.queue.remove(at: index)
            release(descriptor)
        }
    }

    /// Takes it out of the epoll first: closing does not, as long as libmicrohttpd has not closed the descriptor that this is a copy of,
    /// and an event that comes in between would have `discard` read from the connection that got the number next.
    private func release(_ descriptor: Int32) {
        remove(descriptor)
        close(descriptor)
    }
}
