import DequeModule
import Foundation
import Synchronization

/// Jobs in memory, gone with the process.
final class MemoryJobStore: JobStore {
    fileprivate struct State {
        var jobs: [JobID: Job] = [:]
        var open: Set<JobID> = []
        /// In the order of their ends.
        var ended: Deque<(job: Job, at: Date)> = []
    }

    private let state = Mutex(State())

    init() {}

    func insert(_ job: Job) {
        state.withLock { state in
            state.jobs[job.id] = job
            state.open.insert(job.id)
        }
    }

    func recordEnd(of job: Job) {
        state.withLock { state in
            state.open.remove(job.id)
            state.ended.append((job, Date()))
        }
    }

    func job(_ id: JobID) -> Job? { state.withLock { $0.jobs[id] } }

    func assetsInUse() -> Set<String> {
        let open = state.withLock { state in state.open.compactMap { state.jobs[$0] } }
        return open.reduce(into: []) { $0.formUnion($1.submission.inputs.map(\.asset.id)) }
    }

    func remove(_ job: Job) {
        state.withLock { $0.forget(job) }
    }

    func removeEnded(before date: Date, keeping limit: Int) -> [Job] {
        state.withLock { state in
            var removed: [Job] = []
            while let oldest = state.ended.first, oldest.at < date || state.ended.count > limit {
                state.ended.removeFirst()
                state.forget(oldest.job)
                removed.append(oldest.job)
            }
            return removed
        }
    }
}

extension MemoryJobStore.State {
    fileprivate mutating func forget(_ job: Job) {
        jobs[job.id] = nil
        open.remove(job.id)
    }
}
