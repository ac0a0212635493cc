import NIOCore

/// Waits until something has happened so many times.
final class Countdown {
    private var left: Int
    private var isHopeless = false
    private var waiting: CheckedContinuation<Bool, Never>?
    private var timer: Scheduled<Void>?

    init(_ count: Int) { left = count }

    var isOver: Bool { left <= 0 }

    func count() {
        left -= 1
        guard isOver else { return }
        end()
    }

    /// False when it took longer, or when it was given up. Call once at a time.
    func wait(_ time: TimeAmount, on loop: any EventLoop) async -> Bool {
        guard !isOver, !isHopeless else { return isOver }
        return await withCheckedContinuation { continuation in
            waiting = continuation
            let bound = NIOLoopBound(self, eventLoop: loop)
            timer = loop.scheduleTask(in: time) { bound.value.giveUp() }
        }
    }

    /// It will not happen any more.
    func giveUp() {
        isHopeless = true
        end()
    }

    private func end() {
        timer?.cancel()
        waiting?.resume(returning: isOver)
        waiting = nil
    }
}
