import Dispatch
import Foundation
import GRDB
import Logging
import OrderedCollections
import OrderedJSON
import Testing

@testable import Jobs
@testable import Store

/// What a bridge keeps in this folder, opened as the bridge does, without the bridge.
func withStorage(_ folder: String, _ body: (Storage, Storage.Disk) async throws -> Void) async throws {
    let storage = try Storage(
        directory: folder, previewHistory: 16, logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
    do { try await body(storage, try #require(storage.disk)) } catch {
        await storage.close()
        throw error
    }
    await storage.close()
}

/// The same in a folder of its own.
func withStorage(_ body: (Storage, Storage.Disk) async throws -> Void) async throws {
    try await withTemporaryFolder { folder in try await withStorage(folder, body) }
}

/// Runs the body while nothing is written to the database.
func whileWriterIsHeld(_ database: SQLiteDatabase, _ body: () async throws -> Void) async throws {
    let gate = DispatchSemaphore(value: 0)
    let (held, holds) = AsyncStream.makeStream(of: Void.self)
    database.pool.asyncWriteWithoutTransaction { _ in
        holds.finish()
        gate.wait()
    }
    for await _ in held {}
    defer { gate.signal() }
    try await body()
}

extension Storage.Disk {
    func rows(_ sql: String) async throws -> [[String: String]] {
        try await database.read { db in
            try Row.fetchAll(db, sql: sql).map { row in
                Dictionary(uniqueKeysWithValues: row.map { ($0, $1.isNull ? "NULL" : String.fromDatabaseValue($1) ?? $1.description) })
            }
        }
    }

    func count(_ table: String) async throws -> Int { try await database.read { db in try Int.fetchOne(db, sql: "SELECT count(*) FROM \(table)") ?? -1 } }
    func execute(_ sql: String) async throws { try await database.pool.writeWithoutTransaction { db in try db.execute(sql: sql) } }
}

extension Job {
    /// The next events, wherever they are.
    func read(after cursor: UInt64, limit: Int) async -> [LoggedEvent]? {
        if let events = events(after: cursor, limit: limit) { return events }
        return await withCheckedContinuation { continuation in readArchive(after: cursor, limit: limit) { continuation.resume(returning: $0) } }
    }
}

extension Storage {
    /// Keeps a new job.
    func insert(_ submission: Submission, createdAt: Date = Date(), key: UsedKey? = nil) async throws -> Job {
        let job = Job(submission: submission, createdAt: createdAt, journal: jobs.journal)
        try await jobs.insert(job, key: key)
        return job
    }

    /// A job that is over, with one event more than it needs.
    func insertEnded(createdAt: Date = Date(), outputs: [Output] = []) async throws -> Job {
        let job = try await insert(try .sample(), createdAt: createdAt)
        job.started()
        for output in outputs { job.add(output) }
        job.finish(.succeeded)
        await jobs.record(job)
        await jobs.recordEnd(of: job)
        return job
    }
}

extension JobEvent {
    /// All that is written of it.
    var text: String { record(output: { $0.record(isComplete: true) })?.text ?? "nothing" }
}

/// No file of the folder has the text in it.
func expectNowhere(_ text: String, in folder: String, sourceLocation: SourceLocation = #_sourceLocation) throws {
    let files = FileManager.default.subpaths(atPath: folder) ?? []
    #expect(files.contains { $0.hasSuffix(".sqlite") }, sourceLocation: sourceLocation)
    for file in files {
        guard let bytes = FileManager.default.contents(atPath: "\(folder)/\(file)") else { continue }
        #expect(bytes.firstRange(of: Data(text.utf8)) == nil, "\(file)", sourceLocation: sourceLocation)
    }
}
