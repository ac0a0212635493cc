import FoundationEssentials
import GRDB
import Jobs

/// Assets on disk.
final class SQLiteAssetStore: AssetStore {
    private let database: SQLiteDatabase
    private let rows: AssetRows
    private let present: any PresentOutputs

    init(database: SQLiteDatabase, rows: AssetRows, present: any PresentOutputs) {
        self.database = database
        self.rows = rows
        self.present = present
    }

    /// The contents that the assets of a former process are over.
    static func knownContents(_ database: SQLiteDatabase) throws -> [FileBlobStore.KnownContent] {
        // A content that is not read here would be taken for one that nobody needs.
        do { return try readContents(database) } catch let error as UnreadableRecord { throw StorageError.damaged(error.description) }
    }

    private static func readContents(_ database: SQLiteDatabase) throws -> [FileBlobStore.KnownContent] {
        try database.readNow { db in
            let rows = try Row.fetchAll(db, sql: "SELECT hash, max(size) AS size, count(*) AS count FROM assets WHERE is_stored AND hash IS NOT NULL GROUP BY hash")
            return try rows.compactMap { row in
                let (size, count) = (try row.optional("size") as Int? ?? 0, try row.value("count") as Int)
                return ContentHash(try row.value("hash") as String).map { FileBlobStore.KnownContent(hash: $0, size: max(0, size), references: count) }
            }
        }
    }

    func insert(_ asset: Asset) async throws {
        // An output is written together with the event that tells of it.
        guard asset.job == nil else { return }
        try await database.write { [rows] db in try rows.insert(asset, db) }
    }

    func remove(_ id: String) async throws -> Asset? {
        try await database.write { [rows] db in
            guard let asset = try rows.asset(id, db) else { return nil }
            try db.cachedStatement(sql: "DELETE FROM assets WHERE id = ?").execute(arguments: [id])
            return asset
        }
    }

    func recordHash(of asset: Asset) async throws {
        try await database.write { db in
            try db.cachedStatement(sql: "UPDATE assets SET hash = ? WHERE id = ?").execute(arguments: [asset.blob.hash?.description, asset.id])
        }
    }

    func asset(_ id: String) async throws -> Asset? {
        guard let asset = try await database.read({ [rows] db in try rows.asset(id, db) }) else { return present.output(id, of: nil) }
        return asset.job.flatMap { present.output(id, of: $0) } ?? asset
    }

    func asset(withHash hash: ContentHash) async throws -> Asset? { try await first("assets.hash = ? LIMIT 1", [hash.description]) }

    func upload(at filePath: String) async throws -> Asset? {
        try await first("assets.job IS NULL AND assets.file_path = ? ORDER BY assets.rowid DESC LIMIT 1", [filePath])
    }

    func upload(like asset: Asset) async throws -> Asset? {
        guard let hash = asset.blob.hash else { return nil }
        let uploads = try await all("assets.job IS NULL AND assets.file_path = ? AND assets.hash = ? ORDER BY assets.rowid", [asset.filePath, hash.description])
        return uploads.first { $0.contentType == asset.contentType && $0.tags == asset.tags }
    }

    func expired(before date: Date) async throws -> [Asset] {
        try await all("assets.expires_at < ? ORDER BY assets.expires_at LIMIT 1000", [date.timeIntervalSinceReferenceDate])
    }

    private func first(_ condition: String, _ arguments: StatementArguments) async throws -> Asset? { try await all(condition, arguments).first }

    private func all(_ condition: String, _ arguments: StatementArguments) async throws -> [Asset] {
        try await database.read { [rows] db in
            try Row.fetchAll(db.cachedStatement(sql: AssetRows.selection(condition)), arguments: arguments).map { row in
                try rows.asset(row, job: (row.optional("job_id") as String?).flatMap(JobID.init))
            }
        }
    }
}
