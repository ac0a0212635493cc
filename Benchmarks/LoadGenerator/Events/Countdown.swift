import NIOCore

/// Waits until something has happened so many times.
final class Countdown {
    private var left: Int
    private var waiting: CheckedContinuation<Bool, Never>?

    init(_ count: Int) { left = count }

    var isOver: Bool { left <= 0 }

    func count() {
        left -= 1
        guard isOver else { return }
        waiting?.resume(returning: true)
        waiting = nil
    }

    /// False when it took longer. Call once at a time.
    func wait(_ time: TimeAmount, on loop: any EventLoop) async -> Bool {
        guard !isOver else { return true }
        return await withCheckedContinuation { continuation in
            waiting = continuation
            let bound = NIOLoopBound(self, eventLoop: loop)
            loop.scheduleTask(in: time) { bound.value.giveUp() }
        }
    }

    private func giveUp() {
        waiting?.resume(returning: false)
        waiting = nil
    }
}
