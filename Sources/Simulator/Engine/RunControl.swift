import Dispatch
import Synchronization

/// The interrupt flag and the clock of the worker thread.
final class RunControl: Sendable {
    private let interrupted = Atomic<Bool>(false)
    private let stopping = Atomic<Bool>(false)
    private let dying = Atomic<Bool>(false)
    private let changed = DispatchSemaphore(value: 0)

    var isStopping: Bool { stopping.load(ordering: .acquiring) }
    var isWorkerDying: Bool { dying.load(ordering: .acquiring) }

    /// Any thread.
    func interrupt() {
        interrupted.store(true, ordering: .releasing)
        changed.signal()
    }

    /// Any thread: whatever runs is abandoned without a word, as when the process ends.
    func stop() {
        stopping.store(true, ordering: .releasing)
        changed.signal()
    }

    /// Any thread: the worker raises where it next looks.
    func killWorker() {
        dying.store(true, ordering: .releasing)
        changed.signal()
    }

    /// Starting a prompt clears the flag, so an interrupt while idle is lost.
    func clearInterrupt() { interrupted.store(false, ordering: .releasing) }

    /// - Throws: `Interrupted` once per interrupt, `Abandoned` or `WorkerDied`.
    func checkInterrupted() throws {
        try checkEnd()
        if interrupted.exchange(false, ordering: .acquiringAndReleasing) { throw Interrupted() }
    }

    private func checkEnd() throws {
        if isStopping { throw Abandoned() }
        if isWorkerDying { throw WorkerDied() }
    }

    /// Blocks the worker thread.
    ///
    /// - Parameter interruptible: false waits to the end whatever happens, like a node that never polls.
    func pause(_ duration: Duration, interruptible: Bool) throws {
        let (seconds, attoseconds) = duration.components
        let deadline = DispatchTime.now() + .nanoseconds(Int(seconds) * 1_000_000_000 + Int(attoseconds / 1_000_000_000))
        while true {
            try checkEnd()
            if interruptible { try checkInterrupted() }
            guard changed.wait(timeout: deadline) == .success else { break }
        }
        if interruptible { try checkInterrupted() }
    }
}
