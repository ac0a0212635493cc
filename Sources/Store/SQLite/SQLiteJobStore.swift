import FoundationEssentials
import GRDB
import Jobs
import Logging
import Wording
import Workflow

/// Jobs on disk, as rows.
final class SQLiteJobStore: JobStore {
    private let database: SQLiteDatabase
    private let rows: JobRows
    private let logger: Logger
    package let lastPlace: UInt64

    init(database: SQLiteDatabase, assets: AssetRows, logger: Logger) throws {
        self.database = database
        rows = JobRows(assets: assets)
        self.logger = logger
        let lastPlace = try database.readNow { db in try Int64.fetchOne(db, sql: "SELECT max(place) FROM jobs") ?? 0 }
        // Places go by the clock.
        guard lastPlace < 1 << 60 else { throw StorageError.damaged("a job has the place \(lastPlace)") }
        self.lastPlace = UInt64(clamping: lastPlace)
    }

    package var failure: String? { database.failure }

    // MARK: Keeping

    package func insert(_ job: NewJob, key: UsedKey?) async throws {
        try await database.write { [rows] db in try rows.insert(job, key: key, db) }
    }

    package func write(
        isAwaited: Bool, _ change: @escaping @Sendable () -> JobChange?, end: @escaping @Sendable ((any Error)?) -> Void
    ) {
        database.add(
            isAwaited: isAwaited,
            perform: { [rows] db in
                guard let change = change(), change.unwritten.from != change.unwritten.to else { return }
                try rows.update(change.unwritten, place: Int64(change.place), db)
            },
            finish: end)
    }

    package func hurry() { database.hurry() }
    package func probe() async { await database.probe() }

    package func remove(_ id: JobID) async throws {
        try await database.write { db in
            try db.cachedStatement(sql: "DELETE FROM idempotency_keys WHERE made = ? AND operation = ?").execute(arguments: [id.description, UsedKey.Operation.job.rawValue])
            try db.cachedStatement(sql: "DELETE FROM jobs WHERE id = ?").execute(arguments: [id.description])
        }
    }

    package func removeEnded(beyond limit: RetentionLimit) async throws -> [StoredJob] {
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
        return removed
    }

    // MARK: Finding

    package func job(_ id: JobID) async throws -> StoredJob? {
        try await database.read { [rows] db in
            try Row.fetchOne(db.cachedStatement(sql: "SELECT \(JobRows.columns) FROM jobs WHERE id = ?"), arguments: [id.description]).map { try rows.record($0, db) }
        }
    }

    package func workflow(of id: JobID) async throws -> [UInt8] {
        try await database.read { db in
            let text = try String.fetchOne(
                db.cachedStatement(sql: "SELECT workflow FROM submissions WHERE job = (SELECT place FROM jobs WHERE id = ?)"), arguments: [id.description])
            return Array((text ?? "{}").utf8)
        }
    }

    /// Each status has its own way into the index, so that rare ones are found at once.
    package func jobs(_ statuses: Set<JobStatus>?, before place: UInt64, limit: Int) async throws -> [(place: UInt64, job: StoredJob?)] {
        try await database.read { [rows, logger] db in
            let bound = Int64(clamping: place)
            var found: [Row]
            if let statuses {
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

    package func openJobs() async throws -> [(place: UInt64, job: StoredJob)] {
        try await database.read { [rows, logger] db in
            let open = JobStatus.allCases.filter { !$0.isTerminal }.map { "'\($0.rawValue)'" }.joined(separator: ", ")
            return try Row.fetchAll(db, sql: "SELECT \(JobRows.columns) FROM jobs WHERE status IN (\(open)) AND place > 0 ORDER BY place").compactMap { row in
                let place = UInt64(clamping: row["place"] as Int64)
                do { return (place, try rows.openJob(row, db)) } catch {
                    if StorageError(error)?.isDamage == true { throw error }
                    logger.error("a job cannot be taken up again", metadata: ["job.place": .stringConvertible(place), "error": "\(ErrorWords.of(error))"])
                    return try rows.readable(row, db, logger).map { (place, $0) }
                }
            }
        }
    }
}

extension SQLiteJobStore: EventArchive {
    package func read(eventsOf job: JobID, after id: UInt64, limit: Int, _ completion: @escaping @Sendable ([LoggedEvent]?) -> Void) {
        database.readLater { [rows] db in
            let place = try Int64.fetchOne(db.cachedStatement(sql: "SELECT place FROM jobs WHERE id = ?"), arguments: [job.description])
            return try place.map { try rows.events(of: $0, id: job, output: { _ in nil }, after: Int64(clamping: id), limit: limit, db) } ?? []
        } completion: { [logger] result in
            do {
                let events = try result.get()
                completion(events.isEmpty ? nil : events)
            } catch {
                logger.error("the events of a job cannot be read", metadata: .of(job, ["error": "\(ErrorWords.of(error))"]))
                completion(nil)
            }
        }
    }
}

extension DatabaseValue {
    /// A time that is none is long past.
    fileprivate func isBefore(_ date: Date) -> Bool { Double.fromDatabaseValue(self).map { $0 < date.timeIntervalSinceReferenceDate } ?? true }
}
