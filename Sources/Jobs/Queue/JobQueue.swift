import DequeModule
import Synchronization

/// The jobs that wait for a ComfyUI: those of a higher priority first, equal ones first come first served.
///
/// A job that is watched is told when it moves, once the queue is unlocked; the others are found where they are when somebody asks.
package final class JobQueue: Sendable {
    /// The queue holds as many jobs as it may.
    package struct Full: Error {
        package let limit: Int
    }

    /// What the queue knows of a worker. All are called with the lock of the queue, but for `notify`, and must not call back.
    package struct Taker: Sendable {
        let id: ObjectIdentifier
        /// There may be a job to be taken.
        let notify: @Sendable () -> Void
        /// Its ComfyUI is there and works.
        let isAvailable: @Sendable () -> Bool
        /// Its ComfyUI has all of the job's classes, as far as is known.
        let canRun: @Sendable (Job) -> Bool
        /// The job should rather run elsewhere.
        let avoids: @Sendable (Job) -> Bool

        package init(
            id: ObjectIdentifier, notify: @escaping @Sendable () -> Void, isAvailable: @escaping @Sendable () -> Bool,
            canRun: @escaping @Sendable (Job) -> Bool, avoids: @escaping @Sendable (Job) -> Bool
        ) {
            self.id = id
            self.notify = notify
            self.isAvailable = isAvailable
            self.canRun = canRun
            self.avoids = avoids
        }
    }

    fileprivate struct State {
        var line = WaitingLine()
        var takers: [Taker] = []
        /// Workers whose ComfyUI is connected and has nothing to do.
        var idleWorkers: Set<ObjectIdentifier> = []
    }

    package let limit: Int
    private let state = Mutex(State())

    package init(limit: Int) {
        self.limit = limit
    }

    package var count: Int { state.withLock { $0.line.count } }
    /// Those that wait, in their order.
    package var jobs: [Job] { state.withLock { $0.line.jobs } }

    package func add(_ job: Job) throws(Full) {
        job.setQueue(self)
        let insertion = state.withLock { state in
            state.line.count < limit ? state.insert(job, isNext: false) : nil
        }
        guard let insertion else { throw Full(limit: limit) }
        tell(insertion)
    }

    /// Puts in a job that waited before the bridge was restarted, behind those of its priority, whatever the limit.
    package func restore(_ job: Job) {
        job.setQueue(self)
        tell(state.withLock { $0.insert(job, isNext: false) })
    }

    /// Puts a job back that a worker could not hand over; it is the next of its priority, whatever the limit.
    package func putBack(_ job: Job) {
        job.setQueue(self)
        tell(state.withLock { $0.insert(job, isNext: true) })
    }

    /// Takes the next job that the worker can run, if there is one.
    ///
    /// - Parameters:
    ///   - isSecond: the worker's ComfyUI is busy already; then a job is left to an idle worker that can run it, if there is one.
    ///   - worker: a registered one.
    package func take(isSecond: Bool, by worker: ObjectIdentifier) -> Job? {
        let found = state.withLock { state -> (job: Job, place: QueuePlace, WaitingLine.Moves)? in
            guard state.line.count > 0, let index = state.indexOfJob(for: worker, isSecond: isSecond) else { return nil }
            return state.line.remove(at: index)
        }
        guard let (job, place, moves) = found else { return nil }
        // Until it runs that is where it stands.
        job.moved(to: place)
        tell(moves)
        return job
    }

    /// Whether another worker is there that can run the job, and would.
    package func hasTaker(for job: Job, beside worker: ObjectIdentifier) -> Bool {
        state.withLock { $0.hasTaker(for: job, beside: worker) }
    }

    /// Takes a job out, wherever it stands; false when it is not waiting (any more).
    package func remove(_ job: Job) -> Bool {
        guard let moves = state.withLock({ $0.line.remove(job) }) else { return false }
        tell(moves)
        return true
    }

    /// Takes out all jobs that satisfy the predicate.
    package func removeAll(where predicate: (Job) -> Bool) -> [Job] {
        let (removed, moves) = state.withLock { $0.line.removeAll(where: predicate) }
        tell(moves)
        return removed
    }

    /// Where the job stands now; nil when it does not wait.
    func place(of job: Job) -> QueuePlace? { state.withLock { $0.line.place(of: job) } }

    /// The job has one viewer more: it is told when it moves from its present place, which is returned.
    func watch(_ job: Job) -> QueuePlace? { state.withLock { $0.line.watch(job) } }
    func unwatch(_ job: Job) { state.withLock { $0.line.unwatch(job) } }

    package func addWorker(_ taker: Taker) {
        state.withLock { $0.takers.append(taker) }
    }

    package func setIdle(_ isIdle: Bool, worker: ObjectIdentifier) {
        state.withLock { state in
            if isIdle { state.idleWorkers.insert(worker) } else { state.idleWorkers.remove(worker) }
        }
    }

    private func tell(_ insertion: (moves: WaitingLine.Moves, takers: [Taker])) {
        tell(insertion.moves)
        for taker in insertion.takers { taker.notify() }
    }

    private func tell(_ moves: WaitingLine.Moves) {
        for move in moves { move.job.moved(to: move.place) }
    }
}

extension JobQueue.State {
    fileprivate mutating func insert(_ job: Job, isNext: Bool) -> (moves: WaitingLine.Moves, takers: [JobQueue.Taker]) {
        (line.insert(job, isNext: isNext), takers)
    }

    /// A lone worker takes everything: what it lacks was found when the job was submitted, or ComfyUI says it.
    fileprivate func indexOfJob(for worker: ObjectIdentifier, isSecond: Bool) -> Int? {
        guard takers.count > 1, let taker = takers.first(where: { $0.id == worker }) else { return 0 }
        let idle = isSecond ? takers.filter { idleWorkers.contains($0.id) && $0.id != worker } : []
        return line.firstIndex { job in
            guard taker.canRun(job), !idle.contains(where: { $0.canRun(job) && !$0.avoids(job) }) else { return false }
            return !taker.avoids(job) || !hasTaker(for: job, beside: worker)
        }
    }

    fileprivate func hasTaker(for job: Job, beside worker: ObjectIdentifier) -> Bool {
        takers.contains { $0.id != worker && $0.isAvailable() && $0.canRun(job) && !$0.avoids(job) }
    }
}
