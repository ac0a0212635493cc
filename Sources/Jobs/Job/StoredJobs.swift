import DequeModule
import FoundationEssentials
package import Logging
import Synchronization
import Workflow

/// Jobs of a store that outlives the process. In memory are those that are not over, and few that were lately; the others are read when somebody asks for
/// them. The store knows rows and no job; this knows that one id is one object, and when what is to be written.
package final class StoredJobs: JobDirectory {
    package struct Configuration: Sendable {
        /// Ended jobs that stay in memory, with their newest previews.
        package var recentJobs = 256
        /// Newest previews that a job keeps.
        package var previewHistory = 16

        package init() {}
    }

    fileprivate struct State {
        var lastPlace: UInt64
        /// Jobs that are not over, or whose end is not written yet.
        var open: [JobID: (place: UInt64, job: Job)] = [:]
        /// Those of them that could not be written when it was tried last.
        var unwritten: Set<JobID> = []
        /// Oldest end first.
        var recent: Deque<Job> = []
        /// Ended jobs that somebody has: the recent ones, those that are watched, those with previews. One id is one object.
        var ended: [JobID: Weak] = [:]
        /// Ended jobs beyond which it is looked for those that nobody has any more.
        var sweepLimit = 1024
    }

    fileprivate struct Weak {
        weak var job: Job?
    }

    private let logger: Logger
    private let store: any JobStore
    private let configuration: Configuration
    private let state: Mutex<State>

    package init(_ store: any JobStore, configuration: Configuration, logger: Logger) {
        self.store = store
        self.logger = logger
        self.configuration = configuration
        state = Mutex(State(lastPlace: store.lastPlace))
    }

    package var journal: (any JobJournal)? { self }
    package var failure: String? { store.failure }

    // MARK: Keeping

    package func insert(_ job: Job, key: UsedKey?) async throws {
        let place = state.withLock { $0.open(job) }
        do {
            let unwritten = job.beginWriting()
            try await store.insert(
                NewJob(id: job.id, place: place, createdAt: job.createdAt, submission: job.submission, unwritten: unwritten), key: key)
            job.endWriting(unwritten)
        } catch {
            state.withLock { _ = $0.open.removeValue(forKey: job.id) }
            throw error
        }
    }

    package func record(_ job: Job) async {
        await withCheckedContinuation { continuation in write(job) { continuation.resume() } }
    }

    package func recordEnd(of job: Job) {
        state.withLock { state in
            state.ended[job.id] = Weak(job: job)
            state.recent.append(job)
            if state.recent.count > configuration.recentJobs { state.recent.removeFirst() }
        }
    }

    package func remove(_ job: Job) async throws {
        _ = state.withLock { $0.open.removeValue(forKey: job.id) }
        try await store.remove(job.id)
    }

    /// Tries again what could not be written, or whether writing works again.
    package func retry() async {
        let jobs = state.withLock { state in state.unwritten.compactMap { state.open[$0]?.job } }
        for job in jobs { await record(job) }
        let isAllWritten = state.withLock { state in jobs.allSatisfy { !state.unwritten.contains($0.id) } }
        if !jobs.isEmpty, isAllWritten { logger.notice("the jobs that could not be written are written", metadata: ["jobs": .stringConvertible(jobs.count)]) }
        if jobs.isEmpty, store.failure != nil { await store.probe() }
    }

    /// - Parameter finish: called when the job is written, or could not be.
    private func write(_ job: any JournaledJob, isAwaited: Bool = true, finish: @escaping @Sendable () -> Void) {
        let begun = Mutex<Unwritten?>(nil)
        let begin = { @Sendable () -> Unwritten in
            begun.withLock { begun in
                if let begun { return begun }
                let unwritten = job.beginWriting()
                begun = unwritten
                return unwritten
            }
        }
        store.write(isAwaited: isAwaited) {
            self.state.withLock { $0.open[job.id]?.place }.map { JobChange(place: $0, unwritten: begin()) }
        } end: { error in
            // Nothing is written to a damaged store; what is new is seen all the same.
            if let unwritten = error == nil ? begun.withLock({ $0 }) : begin() {
                let isWritten = job.endWriting(unwritten, isKept: error == nil)
                self.state.withLock { $0.note(job.id, unwritten.snapshot.status, isWritten: isWritten) }
            }
            finish()
        }
    }

    // MARK: Finding

    /// The object that is in memory; nil when none is.
    func present(_ id: JobID) -> Job? { state.withLock { $0.present(id) } }

    package func job(_ id: JobID) async throws -> Job? {
        if let job = present(id) { return job }
        return try await store.job(id).map(object)
    }

    package func workflow(of job: Job) async throws -> [UInt8] {
        let text = job.submission.workflow.text
        return text.isEmpty ? try await store.workflow(of: job.id) : text
    }

    package func assetsInUse() -> Set<String> {
        let open = state.withLock { state in state.open.values.map(\.job) }
        return open.reduce(into: []) { $0.formUnion($1.submission.inputs.map(\.asset.id)) }
    }

    package func jobs(_ query: JobQuery) async throws -> JobPage {
        var page = JobPage()
        var last = query.before ?? UInt64(Int64.max)
        var end = last
        while true {
            let found = try await store.jobs(query.statuses, before: end, limit: query.metadata.isEmpty ? query.limit + 1 : 256)
            for (place, stored) in found {
                guard let job = stored.map(object), query.matches(job) else { continue }
                guard page.jobs.count < query.limit else {
                    page.next = last
                    return page
                }
                page.jobs.append(job)
                last = place
            }
            guard let oldest = found.last, !Task.isCancelled else { return page }
            end = oldest.place
        }
    }

    private func object(_ stored: StoredJob) -> Job {
        state.withLock { state in
            if let present = state.present(stored.id) { return present }
            let job = Job(stored, previewLimit: configuration.previewHistory, journal: self, archive: store)
            state.keep(job)
            return job
        }
    }

    // MARK: Beginning and ending

    package func restore() async throws -> [Job] {
        try await store.openJobs().map { place, stored in
            let job = Job(stored, previewLimit: configuration.previewHistory, journal: self, archive: nil)
            state.withLock { $0.open[job.id] = (place, job) }
            return job
        }
    }

    package func removeEnded(beyond limit: RetentionLimit) async throws -> [Job] {
        let jobs = try await store.removeEnded(beyond: limit).map(object)
        state.withLock { $0.forget(Set(jobs.map(\.id))) }
        return jobs
    }
}

extension StoredJobs: JobJournal {
    package func enqueue(_ job: any JournaledJob, isAwaited: Bool) { write(job, isAwaited: isAwaited) {} }
    package func hurry() { store.hurry() }
}

extension StoredJobs: PresentOutputs {
    package func output(_ assetID: String, of id: JobID?) -> Asset? {
        let jobs = state.withLock { state in id.map { [state.present($0)].compactMap(\.self) } ?? state.unwritten.compactMap { state.open[$0]?.job } }
        return jobs.lazy.compactMap { $0.output(assetID) }.first?.asset
    }
}

extension StoredJobs.State {
    /// Gives a new job its place.
    fileprivate mutating func open(_ job: Job) -> UInt64 {
        // By the clock, and rising, whatever the clock does.
        lastPlace = max(lastPlace + 1, UInt64(max(0, job.createdAt.timeIntervalSince1970 * 1e6)))
        open[job.id] = (lastPlace, job)
        return lastPlace
    }

    fileprivate mutating func note(_ id: JobID, _ status: JobStatus, isWritten: Bool) {
        guard isWritten else {
            unwritten.insert(id)
            return
        }
        unwritten.remove(id)
        guard status.isTerminal, let job = open.removeValue(forKey: id)?.job else { return }
        keep(job)
    }

    fileprivate mutating func keep(_ job: Job) {
        ended[job.id] = .init(job: job)
        guard ended.count > sweepLimit else { return }
        ended = ended.filter { $0.value.job != nil }
        sweepLimit = max(1024, ended.count * 2)
    }

    fileprivate mutating func forget(_ ids: Set<JobID>) {
        for id in ids { ended[id] = nil }
        recent.removeAll { ids.contains($0.id) }
    }

    fileprivate func present(_ id: JobID) -> Job? { open[id]?.job ?? ended[id]?.job }
}
