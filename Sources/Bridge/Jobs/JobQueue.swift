import DequeModule
import Synchronization

/// The jobs that wait for a ComfyUI: those of a higher priority first, equal ones first come first served.
///
/// Positions are told to the jobs under the queue's lock, so that they never arrive out of order (lock order: queue, job).
final class JobQueue: Sendable {
    /// The queue holds as many jobs as it may.
    struct Full: Error {
        let limit: Int
    }

    fileprivate struct State {
        var waiting: Deque<Job> = []
        /// Called when a job may be there to be taken; one for each worker.
        var workers: [@Sendable () -> Void] = []
        /// Workers whose ComfyUI is connected and has nothing to do.
        var idleWorkers: Set<ObjectIdentifier> = []
    }

    let limit: Int
    private let state = Mutex(State())

    init(limit: Int) {
        self.limit = limit
    }

    var count: Int { state.withLock { $0.waiting.count } }

    func add(_ job: Job) throws(Full) {
        let workers = state.withLock { state -> [@Sendable () -> Void]? in
            guard state.waiting.count < limit else { return nil }
            state.insert(job, at: state.waiting.partitioningIndex { $0.priority < job.priority })
            return state.workers
        }
        guard let workers else { throw Full(limit: limit) }
        for notify in workers { notify() }
    }

    /// Puts a job back that a worker could not hand over; it is the next of its priority, whatever the limit.
    func putBack(_ job: Job) {
        let workers = state.withLock { state in
            state.insert(job, at: state.waiting.partitioningIndex { $0.priority <= job.priority })
            return state.workers
        }
        for notify in workers { notify() }
    }

    /// Takes the next job, if there is one.
    ///
    /// - Parameter isSecond: the worker's ComfyUI is busy already; then a job is left to an idle worker, if there is one.
    func take(isSecond: Bool) -> Job? {
        state.withLock { state -> Job? in
            guard !isSecond || state.idleWorkers.isEmpty, let job = state.waiting.popFirst() else { return nil }
            state.renumber()
            return job
        }
    }

    /// Takes a job out, wherever it stands; false when it is not waiting (any more).
    func remove(_ job: Job) -> Bool {
        state.withLock { state in
            guard let index = state.waiting.firstIndex(where: { $0 === job }) else { return false }
            state.waiting.remove(at: index)
            state.renumber()
            return true
        }
    }

    /// Takes out all jobs that satisfy the predicate.
    func removeAll(where predicate: (Job) -> Bool) -> [Job] {
        state.withLock { state in
            let removed = state.waiting.filter(predicate)
            guard !removed.isEmpty else { return [] }
            state.waiting.removeAll(where: predicate)
            state.renumber()
            return Array(removed)
        }
    }

    func addWorker(notify: @escaping @Sendable () -> Void) {
        state.withLock { $0.workers.append(notify) }
    }

    func setIdle(_ isIdle: Bool, worker: ObjectIdentifier) {
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

    fileprivate func renumber(from index: Int = 0) {
        for position in index..<waiting.count { waiting[position].moved(toQueuePosition: position) }
    }
}
