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

    /// Its tokens are the ids of connections.
    private let epoll: Epoll
    private let queue = Mutex(Queue())
    private let full = Mutex<[UInt64: LiveBody]>([:])
    private let ended = DispatchSemaphore(value: 0)

    init?() {
        guard let epoll = Epoll() else { return nil }
        self.epoll = epoll
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
        epoll.wake()
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
        if wakes { epoll.wake() }
        return isTaken
    }

    // MARK: Full sockets

    /// The body is told when its socket takes more. In the lock of its state, as `unwatch`, because the descriptor may be another
    /// connection's as soon as its own is resumed.
    ///
    /// - Returns: false if the system refuses.
    func watch(_ body: LiveBody) -> Bool {
        full.withLock { full in
            guard epoll.add(body.descriptor, EPOLLOUT.rawValue | EPOLLONESHOT.rawValue, token: body.id) else { return false }
            full[body.id] = body
            return true
        }
    }

    func unwatch(_ body: LiveBody) {
        full.withLock { full in
            if full.removeValue(forKey: body.id) != nil { epoll.remove(body.descriptor) }
        }
    }

    // MARK: The thread

    private func run() {
        var events = [epoll_event](repeating: epoll_event(), count: 256)
        while var bodies = nextBodies() {
            let isWatching = full.withLock { !$0.isEmpty }
            if bodies.isEmpty || isWatching {
                epoll.wait(bodies.isEmpty ? -1 : 0, &events) { id, _ in
                    if let body = full.withLock({ $0[id] }), body.roomMade() { bodies.append(body) }
                }
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
}
