import Dispatch
import FoundationEssentials
import GRDB
import Jobs
import Logging
import Synchronization
import Wording

/// The file in which the bridge remembers everything that is not bytes: jobs and their events, assets, keys.
///
/// In WAL mode: one connection writes, through `GroupCommit`, others read meanwhile. With `synchronous = NORMAL` a commit survives the end of
/// the process at any moment, and the file stays whole when the machine loses power, though then the last commits may be gone.
final class SQLiteDatabase: Sendable {
    let pool: DatabasePool
    private let commits: GroupCommit
    private let path: String
    private let logger: Logger
    private let lastFailure = Mutex<String?>(nil)
    /// What is wrong with the file, from when it was noticed on. Only a new start finds out whether it was mended.
    private let damage = Mutex<String?>(nil)
    /// Answers what is not written any more to a damaged file.
    private let refusals = DispatchQueue(label: "comfy-bridge.damaged-database")
    private let isClosed = Atomic(false)

    /// Opens or makes the file, with the tables of this version.
    init(path: String, logger: Logger) throws {
        self.path = path
        var configuration = Configuration()
        configuration.label = "comfy-bridge"
        configuration.busyMode = .timeout(5)
        configuration.maximumReaderCount = 4
        configuration.prepareDatabase { db in
            guard !db.configuration.readonly else { return }
            // Comes first: it counts only before the first table is made.
            try db.execute(sql: "PRAGMA auto_vacuum = INCREMENTAL")
            try db.execute(sql: "PRAGMA synchronous = NORMAL")
            // A checkpoint waits for the disk: every 16 MB rather than every 4.
            try db.execute(sql: "PRAGMA wal_autocheckpoint = 4000")
        }
        pool = try DatabasePool(path: path, configuration: configuration)
        do {
            guard try !pool.read(Schema.migrator.hasBeenSuperseded) else { throw NewerVersion() }
            try Schema.migrator.migrate(pool)
        } catch {
            try pool.close()
            throw error
        }
        commits = GroupCommit(pool)
        self.logger = logger
    }

    /// Writing would lose what this version does not know of.
    private struct NewerVersion: Error, CustomStringConvertible {
        let description = "a newer version of comfy-bridge has made it"
    }

    /// What is wrong with the file, or else why the last write failed; nil when it did not.
    var failure: String? { damage.withLock { $0 } ?? lastFailure.withLock { $0 } }

    /// Returns what `body` returns once it is on disk. Throws `StorageError` when the disk does not take it.
    ///
    /// - Parameter body: may be called twice, of which one call counts.
    func write<Value: Sendable>(_ body: @escaping @Sendable (GRDB.Database) throws -> Value) async throws -> Value {
        let value = Mutex<Value?>(nil)
        return try await withCheckedThrowingContinuation { continuation in
            add(
                perform: { db in
                    let result = try body(db)
                    value.withLock { $0 = result }
                },
                finish: { error in
                    if let error { continuation.resume(throwing: error) } else { continuation.resume(returning: value.withLock { $0! }) }
                })
        }
    }

    /// The same without waiting; the error is a `StorageError` when it is the disk's. A damaged file is not written to: what can still be saved
    /// of it stays as it is.
    ///
    /// - Parameter isAwaited: false when nobody waits for the end of it.
    func add(
        isAwaited: Bool = true, perform: @escaping @Sendable (GRDB.Database) throws -> Void, finish: @escaping @Sendable ((any Error)?) -> Void
    ) {
        // In the order of their coming, as a file that is whole has it.
        if let reason = damage.withLock({ $0 }) { return refusals.async { finish(StorageError.damaged(reason)) } }
        // What had nothing to write says nothing about the disk.
        let hasWritten = Atomic(false)
        commits.add(
            GroupCommit.Operation(
                perform: { db in
                    let changes = db.totalChangesCount
                    try perform(db)
                    hasWritten.store(db.totalChangesCount != changes, ordering: .relaxed)
                },
                finish: { error in
                    if error != nil || hasWritten.load(ordering: .relaxed) { self.note(error) }
                    finish(error.map(self.explained))
                }),
            isAwaited: isAwaited)
    }

    /// Performs what was added and nobody waited for.
    func hurry() { commits.hurry() }

    func read<Value: Sendable>(_ body: @escaping @Sendable (GRDB.Database) throws -> Value) async throws -> Value {
        do { return try await pool.read(body) } catch { throw explained(error) }
    }

    /// The same without waiting: `completion` is called from a thread of the database.
    func readLater<Value>(_ body: @escaping @Sendable (GRDB.Database) throws -> Value, completion: @escaping @Sendable (Result<Value, any Error>) -> Void) {
        pool.asyncRead { db in
            completion(Result { try body(db.get()) }.mapError(self.explained))
        }
    }

    /// The same for a thread that may wait.
    func readNow<Value>(_ body: (GRDB.Database) throws -> Value) throws -> Value {
        do { return try pool.read(body) } catch { throw explained(error) }
    }

    /// Writes before anybody waits for it: at the start.
    func writeNow<Value>(_ body: (GRDB.Database) throws -> Value) throws -> Value {
        do { return try pool.write(body) } catch { throw explained(error) }
    }

    /// The error as one of the storage, when it is the disk's. That the file is damaged is told, once.
    private func explained(_ error: any Error) -> any Error {
        guard let error = StorageError(error) else { return error }
        guard case .damaged(let reason) = error else { return error }
        let isNews = damage.withLock { damage in
            defer { damage = damage ?? "\(path): \(reason)" }
            return damage == nil
        }
        if isNews {
            logger.critical(
                "the database file is damaged: jobs that run go on, new ones are refused, and nothing is written to the file any more; restore it, or mend it with .recover of sqlite3, or move it away, and start the bridge anew",
                metadata: ["path": "\(path)", "error": "\(reason)"])
        }
        return StorageError.damaged("\(path): \(reason)")
    }

    /// Whether writing works (again).
    func probe() async {
        do {
            try await write { db in
                // Two changes whatever the tables hold; an update might find no row, and nothing would be written.
                try db.execute(sql: "INSERT INTO workers (endpoint, client_id) VALUES ('probe', '')")
                try db.execute(sql: "DELETE FROM workers WHERE endpoint = 'probe'")
            }
        } catch {}  // noted by `add`
    }

    /// Bytes that are in use, of the file and of what is on its way into it.
    func size(_ db: GRDB.Database) throws -> Int {
        let pages = try (Int.fetchOne(db, sql: "PRAGMA page_count") ?? 0) - (Int.fetchOne(db, sql: "PRAGMA freelist_count") ?? 0)
        return try pages * (Int.fetchOne(db, sql: "PRAGMA page_size") ?? 0)
    }

    /// Gives pages that are free back to the file system, some at a time.
    func shrink() async throws {
        let steps = 1000
        var free = Int.max
        repeat {
            let before = free
            free = try await write { db in
                try db.execute(sql: "PRAGMA incremental_vacuum(\(steps))")
                return try Int.fetchOne(db, sql: "PRAGMA freelist_count") ?? 0
            }
            guard free < before else { return }
        } while free > 0
    }

    /// Waits for what is being written, then closes the file. Nothing can be read or written afterwards.
    func close() {
        // The writer performs them in order.
        commits.hurry()
        pool.writeWithoutTransaction { _ in }
        isClosed.store(true, ordering: .relaxed)
        do { try pool.close() } catch { logger.warning("the database could not be closed", metadata: ["error": "\(ErrorWords.of(error))"]) }
    }

    private func note(_ error: (any Error)?) {
        guard !isClosed.load(ordering: .relaxed) else { return }
        if let error, StorageError(error)?.isDamage == true { return }
        let text = error.map { ErrorWords.of($0) }
        let previous = lastFailure.withLock { failure in
            defer { failure = text }
            return failure
        }
        if let text, previous == nil {
            logger.error("the database cannot be written; jobs go on, and what they do is written as soon as possible", metadata: ["error": "\(text)"])
        } else if text == nil, previous != nil {
            logger.notice("the database can be written again")
        }
    }
}

extension StorageError {
    /// Nil for an error that is not the disk's.
    init?(_ error: any Error) {
        guard let error = error as? DatabaseError else { return nil }
        switch error.resultCode.primaryResultCode {
        case .SQLITE_FULL: self = .full
        case .SQLITE_CORRUPT, .SQLITE_NOTADB: self = .damaged(error.message ?? "it is no database")
        default: self = .failed(error.message ?? "SQLite error \(error.resultCode.rawValue)")
        }
    }
}
