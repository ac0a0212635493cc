import DequeModule
import FoundationEssentials
import Synchronization
import Workflow

/// Jobs in memory, gone with the process.
package final class MemoryJobs: JobDirectory {
    fileprivate struct Entry {
        let place: UInt64
        let job: Job
    }

    fileprivate struct State {
        var jobs: [JobID: Entry] = [:]
        var open: Set<JobID> = []
        /// In the order of their submission.
        var submitted: Deque<Entry> = []
        var lastPlace: UInt64 = 0
        /// In the order of their ends.
        var ended: Deque<(job: Job, at: Date)> = []
    }

    /// Jobs that are looked at in one go while others wait for the store.
    private static let batch = 256

    private let state = Mutex(State())

    package init() {}

    package var journal: (any JobJournal)? { nil }
    package var failure: String? { nil }

    package func insert(_ job: Job, key: UsedKey? = nil) { state.withLock { $0.insert(job) } }

    package func recordEnd(of job: Job) {
        state.withLock { state in
            state.open.remove(job.id)
            state.ended.append((job, Date()))
        }
    }

    package func record(_ job: Job) {}
    package func restore() -> [Job] { [] }

    package func workflow(of job: Job) -> [UInt8] { job.submission.workflow.text }

    package func job(_ id: JobID) -> Job? { state.withLock { $0.jobs[id]?.job } }

    package func assetsInUse() -> Set<String> {
        let open = state.withLock { state in state.open.compactMap { state.jobs[$0]?.job } }
        return open.reduce(into: []) { $0.formUnion($1.submission.inputs.map(\.asset.id)) }
    }

    package func remove(_ job: Job) {
        state.withLock { $0.forget(job) }
    }

    package func removeEnded(beyond limit: RetentionLimit) -> [Job] {
        state.withLock { state in
            var removed: [Job] = []
            while let oldest = state.ended.first, oldest.at < limit.date || state.ended.count > limit.count {
                state.ended.removeFirst()
                state.forget(oldest.job)
                removed.append(oldest.job)
            }
            return removed
        }
    }

    package func jobs(_ query: JobQuery) -> JobPage {
        var page = JobPage()
        var last = query.before ?? .max
        var end = last
        while true {
            let entries = state.withLock { $0.entries(before: end, limit: Self.batch) }
            for entry in entries where query.matches(entry.job) {
                guard page.jobs.count < query.limit else {
                    page.next = last
                    return page
                }
                page.jobs.append(entry.job)
                last = entry.place
            }
            guard let oldest = entries.last else { return page }
            end = oldest.place
        }
    }
}

extension MemoryJobs.State {
    fileprivate mutating func insert(_ job: Job) {
        // By the clock, so that places of a former process lie before all of this one's; and rising, whatever the clock does.
        lastPlace = max(lastPlace + 1, UInt64(max(0, job.createdAt.timeIntervalSince1970 * 1e6)))
        let entry = MemoryJobs.Entry(place: lastPlace, job: job)
        jobs[job.id] = entry
        submitted.append(entry)
        open.insert(job.id)
    }

    /// The newest first.
    fileprivate func entries(before place: UInt64, limit: Int) -> [MemoryJobs.Entry] {
        let end = submitted.partitioningIndex { $0.place >= place }
        return submitted[max(0, end - limit)..<end].reversed()
    }

    fileprivate mutating func forget(_ job: Job) {
        guard let entry = jobs.removeValue(forKey: job.id) else { return }
        // Near one of the ends: the newest is taken back, or one of the oldest has expired.
        submitted.remove(at: submitted.partitioningIndex { $0.place >= entry.place })
        open.remove(job.id)
    }
}
