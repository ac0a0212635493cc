import FoundationEssentials
import GRDB
import Jobs
import OrderedCollections
import OrderedJSON

/// Assets as rows, and where their bytes are found again.
struct AssetRows: Sendable {
    let blobs: FileBlobStore

    static let columns = "assets.id, assets.created_at, assets.expires_at, assets.hash, assets.size, assets.is_stored, assets.asset_json"

    // MARK: Writing

    func insert(_ asset: Asset, _ db: GRDB.Database) throws {
        try insert(asset, job: nil, position: nil, filePath: asset.filePath, json: asset.record(), db)
    }

    func insert(_ output: Output, job: Int64, position: Int, _ db: GRDB.Database) throws {
        try insert(output.asset, job: job, position: position, filePath: nil, json: output.record(isComplete: false), db)
    }

    private func insert(_ asset: Asset, job: Int64?, position: Int?, filePath: String?, json: JSON, _ db: GRDB.Database) throws {
        let isStored = if case .stored = asset.blob.source { true } else { false }
        try db.cachedStatement(
            sql: """
                INSERT INTO assets (id, job, position, file_path, created_at, expires_at, hash, size, is_stored, asset_json) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
                ON CONFLICT (id) DO UPDATE SET expires_at = excluded.expires_at, position = excluded.position
                """
        ).execute(arguments: [
            asset.id, job, position, filePath, asset.createdAt.timeIntervalSinceReferenceDate, asset.expiresAt?.timeIntervalSinceReferenceDate,
            asset.blob.hash?.description, asset.blob.size, isStored, json.text,
        ])
    }

    // MARK: Reading

    /// - Parameters:
    ///   - row: with `columns`.
    ///   - job: that made it.
    func asset(_ row: Row, job: JobID?) throws -> Asset {
        let json = try JSON(parsing: Array((row.value("asset_json") as String).utf8))
        let blob = try blob(json["source"], isStored: row.value("is_stored"), size: row.optional("size"), hash: (row.optional("hash") as String?).flatMap(ContentHash.init))
        return Asset(
            id: try row.value("id"), blob: blob, filePath: json["path"]?.string ?? "", contentType: json["content_type"]?.string ?? "application/octet-stream",
            tags: json["tags"]?.array?.compactMap(\.string) ?? [], createdAt: try row.date("created_at"),
            expiresAt: try row.dateIfAny("expires_at"), job: job)
    }

    func asset(_ id: String, _ db: GRDB.Database) throws -> Asset? {
        try Row.fetchOne(db.cachedStatement(sql: Self.selection("assets.id = ?")), arguments: [id]).map { try asset($0, job: ($0.optional("job_id") as String?).flatMap(JobID.init)) }
    }

    /// Assets with the ids of their jobs.
    static func selection(_ condition: String) -> String {
        "SELECT \(columns), jobs.id AS job_id FROM assets LEFT JOIN jobs ON jobs.place = assets.job WHERE \(condition)"
    }

    func output(_ row: Row, job: JobID) throws -> Output {
        let json = try JSON(parsing: Array((row.value("asset_json") as String).utf8))
        return Output(record: json, asset: try asset(row, job: job))
    }

    /// The outputs of a job, in the order in which they came.
    func outputs(of job: Int64, id: JobID, _ db: GRDB.Database) throws -> [Output] {
        let rows = try Row.fetchAll(
            db.cachedStatement(sql: "SELECT \(Self.columns) FROM assets WHERE job = ? ORDER BY position"), arguments: [job])
        return try rows.map { try output($0, job: id) }
    }

    /// An output as an event has it, which says all: it may be one of a run that was lost, and not the job's any more.
    func output(record json: JSON, job: JobID) throws -> Output {
        guard let id = json["id"]?.string, let created = json["created_at"]?.double, abs(created) < 2.5e11 else { throw UnreadableRecord(description: "an output has no id") }
        let isStored = json["source"]?["stored"]?.bool ?? false
        let blob = try blob(json["source"], isStored: isStored, size: json["size"]?.int, hash: json["hash"]?.string.flatMap(ContentHash.init))
        let asset = Asset(
            id: id, blob: blob, filePath: json["path"]?.string ?? "", contentType: json["content_type"]?.string ?? "application/octet-stream",
            createdAt: Date(timeIntervalSinceReferenceDate: created), job: job)
        return Output(record: json, asset: asset)
    }

    private func blob(_ source: JSON?, isStored: Bool, size: Int?, hash: ContentHash?) throws -> Blob {
        guard size ?? 0 >= 0 else { throw UnreadableRecord(description: "an asset has less than no bytes") }
        if isStored, let hash { return blobs.blob(hash, size: size) }
        if let text = source?["text"]?.string { return Blob(text: text) }
        guard let source, let endpoint = source["comfyui"]?.string, let filename = source["filename"]?.string, !filename.isEmpty else {
            throw UnreadableRecord(description: "where the bytes of an asset are is not known")
        }
        let file = ComfyFile(
            endpoint: endpoint, filename: filename, subfolder: source["subfolder"]?.string ?? "", type: source["type"]?.string ?? "output")
        return Blob(source: .comfyUI(file), size: size, hash: hash)
    }
}

extension Blob {
    fileprivate var record: JSON {
        switch source {
        case .stored: ["stored": true]
        case .text(let text): ["text": .string(text)]
        case .comfyUI(let file):
            [
                "comfyui": .string(file.endpoint), "filename": .string(file.filename), "subfolder": .string(file.subfolder),
                "type": .string(file.type),
            ]
        }
    }
}

extension Asset {
    fileprivate func record() -> JSON {
        ["path": .string(filePath), "content_type": .string(contentType), "tags": .array(tags.map(JSON.string)), "source": blob.record]
    }
}

extension Output {
    /// - Parameter isComplete: with what is in the asset's row otherwise.
    func record(isComplete: Bool) -> JSON {
        var members: JSONObject = [
            "path": .string(name), "content_type": .string(contentType), "node": .string(node), "kind": .string(kind.rawValue),
            "temporary": .bool(isTemporary), "source": asset.blob.record,
        ]
        if let place { members["place"] = [JSON(place.node), .string(place.part), JSON(place.index)] }
        guard isComplete else { return .object(members) }
        members["id"] = .string(asset.id)
        members["created_at"] = .number(JSONNumber(literal: "\(asset.createdAt.timeIntervalSinceReferenceDate)"))
        if let size = asset.blob.size { members["size"] = JSON(size) }
        if let hash = asset.blob.hash { members["hash"] = .string(hash.description) }
        return .object(members)
    }

    fileprivate init(record: JSON, asset: Asset) {
        self.init(
            asset: asset, node: record["node"]?.string ?? "", place: Place(record: record["place"]), kind: record["kind"]?.string.flatMap(Kind.init) ?? .file,
            isTemporary: record["temporary"]?.bool ?? false)
    }
}

extension Output.Place {
    fileprivate init?(record: JSON?) {
        guard let record, let node = record[0]?.int, let part = record[1]?.string, let index = record[2]?.int else { return nil }
        self.init(node: node, part: part, index: index)
    }
}
