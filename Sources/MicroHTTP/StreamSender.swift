import CMicroHTTPD
import Dispatch
import Glibc
import Synchronization

/// One thread that writes live bodies into their sockets, each in its turn, and one epoll for the sockets that are full.
///
/// Threads of its own, so that a request never waits for thousands of viewers to be served, nor the other way round.
final class StreamSender: Sendable {
    private struct Queue {
        var bodies: [LiveBody] = []
        /// The thread has to be woken.
        var isAsleep = false
        var isStarted = false
        var isStopped = false
    }

    private struct Full {
        let body: LiveBody
        let deadline: ContinuousClock.Instant
    }

    private static let wakeToken: UInt64 = 0  // connections count from 1

    private let patience: Duration
    private let epoll: FileDescriptor
    private let event: FileDescriptor
    private let queue = Mutex(Queue())
    private let full = Mutex<[UInt64: Full]>([:])
    private let ended = DispatchSemaphore(value: 0)

    /// - Parameter patience: how long a socket may be full before its connection is given up; zero is for ever.
    init?(patience: Duration) {
        self.patience = patience
        let epoll = epoll_create1(Int32(EPOLL_CLOEXEC))
        guard epoll >= 0 else { return nil }
        self.epoll = FileDescriptor(adopting: epoll)
        let event = eventfd(0, Int32(EFD_CLOEXEC | EFD_NONBLOCK))
        guard event >= 0 else { return nil }
        self.event = FileDescriptor(adopting: event)
        guard control(EPOLL_CTL_ADD, event, EPOLLIN.rawValue, Self.wakeToken) else { return nil }
    }

    /// Starts the thread, which runs until `stop`; what was enqueued before waits for it.
    ///
    /// - Returns: false if the system has no more threads.
    func start() -> Bool {
        let isStarted = Callbacks.startThread {
            self.run()
            self.ended.signal()
        }
        queue.withLock { $0.isStarted = isStarted }
        return isStarted
    }

    /// Blocks until the thread has done what is in its queue and has ended. Bodies that come later are refused. All have to be cut before, so
    /// that none waits any more.
    func stop() {
        let isStarted = queue.withLock { queue in
            queue.isStopped = true
            return queue.isStarted
        }
        guard isStarted else { return run() }
        _ = eventfd_write(event.raw, 1)
        ended.wait()
        ended.signal()
    }

    /// - Returns: false when stopped.
    func enqueue(_ body: LiveBody) -> Bool {
        let (isTaken, wakes) = queue.withLock { queue in
            guard !queue.isStopped else { return (false, false) }
            queue.bodies.append(body)
            defer { queue.isAsleep = false }
            return (true, queue.isAsleep)
        }
        if wakes { _ = eventfd_write(event.raw, 1) }
        return isTaken
    }

    // MARK: Full sockets

    /// The body is told when its socket takes more. In the lock of its state, as `unwatch`, because the descriptor may be another
    /// connection's as soon as its own is resumed.
    ///
    /// - Returns: false if the system refuses.
    func watch(_ body: LiveBody) -> Bool {
        full.withLock { full in
            guard control(EPOLL_CTL_ADD, body.descriptor, EPOLLOUT.rawValue | EPOLLONESHOT.rawValue, body.id) else { return false }
            full[body.id] = Full(body: body, deadline: .now + patience)
            return true
        }
    }

    func unwatch(_ body: LiveBody) {
        full.withLock { full in
            if full.removeValue(forKey: body.id) != nil { _ = control(EPOLL_CTL_DEL, body.descriptor, 0, 0) }
        }
    }

    // MARK: The thread

    private func run() {
        var events = [epoll_event](repeating: epoll_event(), count: 256)
        while var bodies = nextBodies() {
            let watched = full.withLock { $0.count }
            if bodies.isEmpty || watched > 0 {
                let timeout: Int32 = !bodies.isEmpty ? 0 : watched > 0 && patience > .zero ? 1000 : -1
                let count = epoll_wait(epoll.raw, &events, Int32(events.count), timeout)
                bodies += events.prefix(Int(max(0, count))).compactMap { body(after: $0) }
                giveUp()
            }
            let unfinished = bodies.filter { $0.serve() }
            if !unfinished.isEmpty { queue.withLock { $0.bodies += unfinished } }
        }
    }

    /// What is in the queue. Empty if there is nothing but to sleep, nil when stopped.
    private func nextBodies() -> [LiveBody]? {
        queue.withLock { queue in
            queue.isAsleep = queue.bodies.isEmpty
            if queue.isAsleep { return queue.isStopped ? nil : [] }
            defer { queue.bodies.removeAll() }
            return queue.bodies
        }
    }

    private func body(after event: epoll_event) -> LiveBody? {
        guard event.data.u64 != Self.wakeToken else {
            var value: eventfd_t = 0
            eventfd_read(self.event.raw, &value)
            return nil
        }
        guard let body = full.withLock({ $0[event.data.u64]?.body }), body.roomMade() else { return nil }
        return body
    }

    /// Cuts what has been full for too long.
    private func giveUp() {
        guard patience > .zero else { return }
        let now = ContinuousClock.now
        for body in full.withLock({ full in full.values.filter { $0.deadline <= now }.map(\.body) }) { body.cut(.disconnected) }
    }

    private func control(_ operation: Int32, _ descriptor: Int32, _ events: UInt32, _ token: UInt64) -> Bool {
        var event = epoll_event(events: events, data: epoll_data_t(u64: token))
        return epoll_ctl(epoll.raw, operation, descriptor, &event) == 0
    }
}
