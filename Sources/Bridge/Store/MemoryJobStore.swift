import DequeModule
import Foundation
import Synchronization

/// Jobs in memory, gone with the process.
final class MemoryJobStore: JobStore {
    fileprivate struct State {
        var jobs: [JobID: Job] = [:]
        var outputs: [String: Output] = [:]
        /// In the order of their ends.
        var ended: Deque<(job: Job, at: Date)> = []
    }

    private let state = Mutex(State())

    init() {}

    func insert(_ job: Job) { state.withLock { $0.jobs[job.id] = job } }
    func record(_ output: Output) { state.withLock { $0.outputs[output.id] = output } }
    func recordEnd(of job: Job) { state.withLock { $0.ended.append((job, Date())) } }
    func job(_ id: JobID) -> Job? { state.withLock { $0.jobs[id] } }
    func output(_ id: String) -> Output? { state.withLock { $0.outputs[id] } }

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
        for output in job.snapshot.outputs { outputs[output.id] = nil }
    }
}
