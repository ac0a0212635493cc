import DequeModule
import Synchronization

/// The jobs that wait for a ComfyUI: those of a higher priority first, equal ones first come first served.
///
/// Positions are told to the jobs under the queue's lock, so that they never arrive out of order (lock order: queue, job).
package final class JobQueue: Sendable {
    /// The queue holds as many jobs as it may.
    package struct Full: Error {
        package let limit: Int
    }

    /// What the queue knows of a worker. All are called with the lock of the queue, but for `notify`, and must not call back.
    package struct Taker: Sendable {
        package let id: ObjectIdentifier
        /// There may be a job to be taken.
        package let notify: @Sendable () -> Void
        /// Its ComfyUI is there and works.
        package let isAvailable: @Sendable () -> Bool
        /// Its ComfyUI has all of the job's classes, as far as is known.
        package let canRun: @Sendable (Job) -> Bool
        /// The job should rather run elsewhere.
        package let avoids: @Sendable (Job) -> Bool

        package init(
            id: ObjectIdentifier, notify: @escaping @Sendable () -> Void, isAvailable: @escaping @Sendable () -> Bool, canRun: @escaping @Sendable (Job) -> Bool, avoids: @escaping @Sendable (Job) -> Bool
        ) {
            self.id = id
            self.notify = notify
            self.isAvailable = isAvailable
            self.canRun = canRun
            self.avoids = avoids
        }
    }

    fileprivate struct State {
        package var waiting: Deque<Job> = []
        var takers: [Taker] = []
        /// Workers whose ComfyUI is connected and has nothing to do.
        var idleWorkers: Set<ObjectIdentifier> = []
    }

    package let limit: Int
    private let state = Mutex(State())

    package init(limit: Int) {
        self.limit = limit
    }

    package var count: Int { state.withLock { $0.waiting.count } }
    /// Those that wait, in their order.
    package var jobs: [Job] { state.withLock { Array($0.waiting) } }

    package func add(_ job: Job) throws(Full) {
        let takers = state.withLock { state -> [Taker]? in
            guard state.waiting.count < limit else { return nil }
            state.insert(job, at: state.waiting.partitioningIndex { $0.priority < job.priority })
            return state.takers
        }
        guard let takers else { throw Full(limit: limit) }
        for taker in takers { taker.notify() }
    }

    /// Puts in a job that waited before the bridge was restarted, behind those of its priority, whatever the limit.
    package func restore(_ job: Job) {
        let takers = state.withLock { state in
            state.insert(job, at: state.waiting.partitioningIndex { $0.priority < job.priority })
            return state.takers
        }
        for taker in takers { taker.notify() }
    }

    /// Puts a job back that a worker could not hand over; it is the next of its priority, whatever the limit.
    package func putBack(_ job: Job) {
        let takers = state.withLock { state in
            state.insert(job, at: state.waiting.partitioningIndex { $0.priority <= job.priority })
            return state.takers
        }
        for taker in takers { taker.notify() }
    }

    /// Takes the next job that the worker can run, if there is one.
    ///
    /// - Parameters:
    ///   - isSecond: the worker's ComfyUI is busy already; then a job is left to an idle worker that can run it, if there is one.
    ///   - worker: a registered one.
    package func take(isSecond: Bool, by worker: ObjectIdentifier) -> Job? {
        state.withLock { state -> Job? in
            guard !state.waiting.isEmpty, let index = state.indexOfJob(for: worker, isSecond: isSecond) else { return nil }
            let job = state.waiting.remove(at: index)
            state.renumber(from: index)
            return job
        }
    }

    /// Whether another worker is there that can run the job, and would.
    package func hasTaker(for job: Job, beside worker: ObjectIdentifier) -> Bool {
        state.withLock { $0.hasTaker(for: job, beside: worker) }
    }

    /// Takes a job out, wherever it stands; false when it is not waiting (any more).
    package func remove(_ job: Job) -> Bool {
        state.withLock { state in
            guard let index = state.waiting.firstIndex(where: { $0 === job }) else { return false }
            state.waiting.remove(at: index)
            state.renumber()
            return true
        }
    }

    /// Takes out all jobs that satisfy the predicate.
    package func removeAll(where predicate: (Job) -> Bool) -> [Job] {
        state.withLock { state in
            let removed = state.waiting.filter(predicate)
            guard !removed.isEmpty else { return [] }
            state.waiting.removeAll(where: predicate)
            state.renumber()
            return Array(removed)
        }
    }

    package func addWorker(_ taker: Taker) {
        state.withLock { $0.takers.append(taker) }
    }

    package func setIdle(_ isIdle: Bool, worker: ObjectIdentifier) {
        state.withLock { state in
            if isIdle { state.idleWorkers.insert(worker) } else { state.idleWorkers.remove(worker) }
        }
    }
}

extension JobQueue.State {
    fileprivate mutating func insert(_ job: Job, at index: Int) {
        waiting.insert(job, at: index)
        renumber(from: index)
    }

    /// A lone worker takes everything: what it lacks was found when the job was submitted, or ComfyUI says it.
    fileprivate func indexOfJob(for worker: ObjectIdentifier, isSecond: Bool) -> Int? {
        guard takers.count > 1, let taker = takers.first(where: { $0.id == worker }) else { return waiting.startIndex }
        let idle = isSecond ? takers.filter { idleWorkers.contains($0.id) && $0.id != worker } : []
        return waiting.firstIndex { job in
            guard taker.canRun(job), !idle.contains(where: { $0.canRun(job) && !$0.avoids(job) }) else { return false }
            return !taker.avoids(job) || !hasTaker(for: job, beside: worker)
        }
    }

    fileprivate func hasTaker(for job: Job, beside worker: ObjectIdentifier) -> Bool {
        takers.contains { $0.id != worker && $0.isAvailable() && $0.canRun(job) && !$0.avoids(job) }
    }

    fileprivate func renumber(from index: Int = 0) {
        for position in index..<waiting.count { waiting[position].moved(toQueuePosition: position) }
    }
}
