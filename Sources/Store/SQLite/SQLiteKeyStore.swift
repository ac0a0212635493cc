import FoundationEssentials
import GRDB
import Jobs

/// Used `Idempotency-Key`s on disk. Those of jobs are written together with the job.
struct SQLiteKeyStore: UsedKeyStore {
    let database: SQLiteDatabase
    let rows: JobRows

    func insert(_ key: UsedKey) async throws {
        try await database.write { [rows] db in try rows.insert(key, made: key.made, db) }
    }

    func key(_ key: String, _ operation: UsedKey.Operation, since date: Date) async throws -> (digest: [UInt8], use: IdempotencyKeys.Use)? {
        try await database.read { db in
            let row = try Row.fetchOne(
                db.cachedStatement(sql: "SELECT digest, made, released FROM idempotency_keys WHERE operation = ? AND key = ? AND date > ?"),
                arguments: [operation.rawValue, key, date.timeIntervalSinceReferenceDate])
            return try row.map { (Array(try $0.value("digest") as Data), IdempotencyKeys.Use(made: try $0.optional("made"), isReleased: try $0.value("released"))) }
        }
    }

    func remove(before date: Date) async throws {
        try await database.write { db in
            try db.cachedStatement(sql: "DELETE FROM idempotency_keys WHERE date <= ?").execute(arguments: [date.timeIntervalSinceReferenceDate])
        }
    }
}
