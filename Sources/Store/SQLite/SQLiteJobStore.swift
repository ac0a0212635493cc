import DequeModule
import FoundationEssentials
import GRDB
import Jobs
import Logging
import Synchronization
import Wording
import Workflow

/// Jobs on disk. In memory are those that are not over, and few that were lately; the others are read when somebody asks for them.
final class SQLiteJobStore: JobStore {
    struct Configuration: Sendable {
        /// Ended jobs that stay in memory, with their newest previews.
        var recentJobs = 256
        /// Newest previews that a job keeps.
        var previewHistory = 16

        init() {}
    }

    fileprivate struct State {
        var lastPlace: UInt64
        /// Jobs that are not over, or whose end is not on disk yet.
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

    private let database: SQLiteDatabase
    private let rows: JobRows
    private let configuration: Configuration
    private let logger: Logger
    private let state: Mutex<State>

    init(database: SQLiteDatabase, assets: AssetRows, configuration: Configuration, logger: Logger) throws {
        self.database = database
        rows = JobRows(assets: assets)
        self.configuration = configuration
        self.logger = logger
        let lastPlace = try database.readNow { db in try Int64.fetchOne(db, sql: "SELECT max(place) FROM jobs") ?? 0 }
        // Places go by the clock.
        guard lastPlace < 1 << 60 else { throw StorageError.damaged("a job has the place \(lastPlace)") }
        state = Mutex(State(lastPlace: UInt64(clamping: lastPlace)))
    }

    var journal: (any JobJournal)? { self }
    var failure: String? { database.failure }

    // MARK: Keeping

    func insert(_ job: Job, key: UsedKey?) async throws {
        let place = state.withLock { $0.open(job) }
        do {
            let unwritten = job.takeUnwritten()
            try await database.write { [rows] db in
                try rows.insert(job, unwritten, place: Int64(place), key: key, db)
            }
            job.wrote(unwritten)
        } catch {
            state.withLock { _ = $0.open.removeValue(forKey: job.id) }
            throw error
        }
    }

    func record(_ job: Job) async {
        await withCheckedContinuation { continuation in add(job) { continuation.resume() } }
    }

    func recordEnd(of job: Job) {
        state.withLock { state in
            state.ended[job.id] = Weak(job: job)
            state.recent.append(job)
            if state.recent.count > configuration.recentJobs { state.recent.removeFirst() }
        }
    }

    func remove(_ job: Job) async throws {
        _ = state.withLock { $0.open.removeValue(forKey: job.id) }
        try await database.write { db in
            try db.cachedStatement(sql: "DELETE FROM idempotency_keys WHERE made = ? AND operation = ?").execute(arguments: [job.id.description, UsedKey.Operation.job.rawValue])
            try db.cachedStatement(sql: "DELETE FROM jobs WHERE id = ?").execute(arguments: [job.id.description])
        }
    }

    /// Tries again what could not be written, or whether writing works again.
    func retry() async {
        let jobs = state.withLock { state in state.unwritten.compactMap { state.open[$0]?.job } }
        for job in jobs { await record(job) }
        let isAllWritten = state.withLock { state in jobs.allSatisfy { !state.unwritten.contains($0.id) } }
        if !jobs.isEmpty, isAllWritten { logger.notice("the jobs that could not be written are written", metadata: ["jobs": .stringConvertible(jobs.count)]) }
        if jobs.isEmpty, database.failure != nil { await database.probe() }
    }

    /// - Parameter finish: called when the job is written, or could not be.
    private func add(_ job: Job, isAwaited: Bool = true, finish: @escaping @Sendable () -> Void) {
        let taken = Mutex<Job.Unwritten?>(nil)
        database.add(
            isAwaited: isAwaited,
            perform: { [rows] db in
                guard let place = self.state.withLock({ $0.open[job.id]?.place }) else { return }
                let unwritten = taken.withLock { taken in
                    if taken == nil { taken = job.takeUnwritten() }
                    return taken!
                }
                if unwritten.from != unwritten.to { try rows.update(unwritten, place: Int64(place), db) }
            },
            finish: { error in
                // Nothing is performed on a damaged file; what is new is seen all the same.
                let unwritten = taken.withLock { taken in
                    if taken == nil, error != nil { taken = job.takeUnwritten() }
                    return taken
                }
                if let unwritten {
                    let isWritten = job.wrote(unwritten, isKept: error == nil)
                    self.state.withLock { $0.note(job, unwritten.snapshot.status, isWritten: isWritten) }
                }
                finish()
            })
    }

    // MARK: Finding

    /// The object that is in memory; nil when none is.
    func present(_ id: JobID) -> Job? { state.withLock { $0.present(id) } }

    func job(_ id: JobID) async throws -> Job? {
        if let job = present(id) { return job }
        let stored = try await database.read { [rows] db in
            try Row.fetchOne(db.cachedStatement(sql: "SELECT \(JobRows.columns) FROM jobs WHERE id = ?"), arguments: [id.description]).map { try rows.record($0, db) }
        }
        return stored.map(object)
    }

    func workflow(of job: Job) async throws -> [UInt8] {
        let text = job.submission.workflow.text
        guard text.isEmpty else { return text }
        return try await database.read { db in
            let text = try String.fetchOne(
                db.cachedStatement(sql: "SELECT workflow FROM submissions WHERE job = (SELECT place FROM jobs WHERE id = ?)"), arguments: [job.id.description])
            return Array((text ?? "{}").utf8)
        }
    }

    func assetsInUse() -> Set<String> {
        let open = state.withLock { state in state.open.values.map(\.job) }
        return open.reduce(into: []) { $0.formUnion($1.submission.inputs.map(\.asset.id)) }
    }

    /// An output that is in memory: the object whose hash becomes known, and one whose row could not be written yet.
    func output(_ assetID: String, of id: JobID?) -> Asset? {
        let jobs = state.withLock { state in id.map { [state.present($0)].compactMap(\.self) } ?? state.unwritten.compactMap { state.open[$0]?.job } }
        return jobs.lazy.compactMap { $0.output(assetID) }.first?.asset
    }

    func jobs(_ query: JobQuery) async throws -> JobPage {
        var page = JobPage()
        var last = query.before ?? UInt64(Int64.max)
        var end = last
        while true {
            let found = try await entries(query, before: end, limit: query.metadata.isEmpty ? query.limit + 1 : 256)
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

    /// The newest jobs with these statuses. Each status has its own way into the index, so that rare ones are found at once.
    private func entries(_ query: JobQuery, before place: UInt64, limit: Int) async throws -> [(place: UInt64, job: StoredJob?)] {
        try await database.read { [rows, logger] db in
            let bound = Int64(clamping: place)
            var found: [Row]
            if let statuses = query.statuses {
                let statement = try db.cachedStatement(
                    sql: "SELECT \(JobRows.columns) FROM jobs WHERE status = ? AND place < ? AND place > 0 ORDER BY place DESC LIMIT ?")
                found = try statuses.flatMap { try Row.fetchAll(statement, arguments: [$0.rawValue, bound, limit]) }
                found.sort { ($0["place"] as Int64) > $1["place"] }
                found = Array(found.prefix(limit))
            } else {
                found = try Row.fetchAll(
                    db.cachedStatement(sql: "SELECT \(JobRows.columns) FROM jobs WHERE place < ? AND place > 0 ORDER BY place DESC LIMIT ?"), arguments: [bound, limit])
            }
            return try found.map { (UInt64(clamping: $0["place"] as Int64), try rows.readable($0, db, logger)) }
        }
    }

    private func object(_ stored: StoredJob) -> Job {
        state.withLock { state in
            if let present = state.present(stored.id) { return present }
            let job = Job(stored, previewLimit: configuration.previewHistory, journal: self, archive: self)
            state.keep(job)
            return job
        }
    }

    // MARK: Beginning and ending

    func restore() async throws -> [Job] {
        let found = try await database.read { [rows, logger] db -> [(UInt64, StoredJob)] in
            let open = JobStatus.allCases.filter { !$0.isTerminal }.map { "'\($0.rawValue)'" }.joined(separator: ", ")
            return try Row.fetchAll(db, sql: "SELECT \(JobRows.columns) FROM jobs WHERE status IN (\(open)) AND place > 0 ORDER BY place").compactMap { row in
                let place = UInt64(clamping: row["place"] as Int64)
                do { return (place, try rows.openJob(row, db)) } catch {
                    if case .damaged? = StorageError(error) { throw error }
                    logger.error("a job cannot be taken up again", metadata: ["job.place": .stringConvertible(place), "error": "\(ErrorWords.of(error))"])
                    return try rows.readable(row, db, logger).map { (place, $0) }
                }
            }
        }
        return found.map { place, stored in
            let job = Job(stored, previewLimit: configuration.previewHistory, journal: self, archive: nil)
            state.withLock { $0.open[job.id] = (place, job) }
            return job
        }
    }

    func removeEnded(beyond limit: RetentionLimit) async throws -> [Job] {
        let batch = 100
        let removed = try await database.write { [database, rows, logger] db -> [StoredJob] in
            let count = try Int.fetchOne(db.cachedStatement(sql: "SELECT count(*) FROM jobs WHERE completed_at IS NOT NULL")) ?? 0
            var excess = count - limit.count
            if limit.bytes < Int.max {
                let captured = try Int.fetchOne(db.cachedStatement(sql: "SELECT total(size) FROM assets WHERE job IS NOT NULL AND is_stored")) ?? 0
                // One after the other is looked at again; some at a time suffice to come down.
                if try captured + database.size(db) > limit.bytes { excess = max(excess, min(count, 10)) }
            }
            let oldest = try Row.fetchAll(
                db.cachedStatement(sql: "SELECT \(JobRows.columns) FROM jobs WHERE completed_at IS NOT NULL ORDER BY completed_at, place LIMIT ?"), arguments: [batch])
            var removed: [StoredJob] = []
            for (number, row) in oldest.enumerated() {
                guard number < excess || (row["completed_at"] as DatabaseValue).isBefore(limit.date) else { break }
                if let job = try rows.readable(row, db, logger) {
                    removed.append(job)
                    if job.snapshot.releasesKey { try rows.releaseKey(of: job.id, db) }
                }
                try db.cachedStatement(sql: "DELETE FROM jobs WHERE place = ?").execute(arguments: [row["place"] as Int64])
            }
            return removed
        }
        if removed.isEmpty { try await database.shrink() }
        let jobs = removed.map(object)
        state.withLock { $0.forget(Set(jobs.map(\.id))) }
        return jobs
    }
}

extension SQLiteJobStore: JobJournal {
    func enqueue(_ job: Job, isAwaited: Bool) { add(job, isAwaited: isAwaited) {} }
    func hurry() { database.hurry() }
}

extension SQLiteJobStore: EventArchive {
    func events(of job: Job, after id: UInt64, limit: Int) -> [LoggedEvent]? {
        do {
            let events = try database.readNow { db in
                let place = try Int64.fetchOne(db.cachedStatement(sql: "SELECT place FROM jobs WHERE id = ?"), arguments: [job.id.description])
                return try place.map { try rows.events(of: $0, id: job.id, output: job.output, after: Int64(clamping: id), limit: limit, db) } ?? []
            }
            return events.isEmpty ? nil : events
        } catch {
            logger.error("the events of a job cannot be read", metadata: .of(job.id, ["error": "\(ErrorWords.of(error))"]))
            return nil
        }
    }
}

extension SQLiteJobStore.State {
    /// Gives a new job its place.
    fileprivate mutating func open(_ job: Job) -> UInt64 {
        // By the clock, and rising, whatever the clock does.
        lastPlace = max(lastPlace + 1, UInt64(max(0, job.createdAt.timeIntervalSince1970 * 1e6)))
        open[job.id] = (lastPlace, job)
        return lastPlace
    }

    fileprivate mutating func note(_ job: Job, _ status: JobStatus, isWritten: Bool) {
        guard isWritten else {
            unwritten.insert(job.id)
            return
        }
        unwritten.remove(job.id)
        guard status.isTerminal else { return }
        open[job.id] = nil
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

extension DatabaseValue {
    /// A time that is none is long past.
    fileprivate func isBefore(_ date: Date) -> Bool { Double.fromDatabaseValue(self).map { $0 < date.timeIntervalSinceReferenceDate } ?? true }
}
