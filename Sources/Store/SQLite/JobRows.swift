package import FoundationEssentials
package import GRDB
import Jobs
import Logging
import OrderedCollections
import OrderedJSON
import Wording
import Workflow

/// Jobs as rows.
struct JobRows: Sendable {
    let assets: AssetRows

    // MARK: Writing

    func insert(_ job: NewJob, key: UsedKey?, _ db: GRDB.Database) throws {
        let (submission, unwritten, place) = (job.submission, job.unwritten, Int64(job.place))
        try db.cachedStatement(
            sql: """
                INSERT INTO jobs (place, id, created_at, priority, metadata_json, status, status_changed_at) VALUES (?, ?, ?, ?, ?, ?, ?)
                """
        ).execute(arguments: [
            place, job.id.description, job.createdAt.timeIntervalSinceReferenceDate, submission.options.priority, submission.metadata.map { JSON.object($0).text },
            unwritten.snapshot.status.rawValue, unwritten.snapshot.statusChangedAt.timeIntervalSinceReferenceDate,
        ])
        let inputs = JSON.array(submission.inputs.map { ["place": $0.place.record, "asset": .string($0.asset.id)] })
        // Credentials are never written.
        let extra = submission.extraData.filter { $0.key == "extra_pnginfo" }
        try db.cachedStatement(
            sql: """
                INSERT INTO submissions (job, options_json, output_nodes_json, inputs_json, extra_json, had_credentials, workflow) VALUES (?, ?, ?, ?, ?, ?, ?)
                """
        ).execute(arguments: [
            place, submission.options.record.text, JSON.array(submission.outputNodes.sorted().map { .string($0.text) }).text, inputs.text,
            extra.isEmpty ? nil : JSON.object(extra).text, extra.count < submission.extraData.count, String(decoding: submission.workflow.text, as: UTF8.self),
        ])
        try insert(unwritten.events, place: place, db)
        if let key { try insert(key, made: job.id.description, db) }
    }

    func insert(_ key: UsedKey, made: String?, _ db: GRDB.Database) throws {
        try db.cachedStatement(sql: "INSERT OR REPLACE INTO idempotency_keys (operation, key, digest, made, date) VALUES (?, ?, ?, ?, ?)").execute(arguments: [
            key.operation.rawValue, key.key, Data(key.digest), made, key.date.timeIntervalSinceReferenceDate,
        ])
    }

    /// The job is about to be removed; its key says then what only the job said before.
    func releaseKey(of job: JobID, _ db: GRDB.Database) throws {
        try db.cachedStatement(sql: "UPDATE idempotency_keys SET released = 1 WHERE made = ? AND operation = ?").execute(arguments: [
            job.description, UsedKey.Operation.job.rawValue,
        ])
    }

    func update(_ unwritten: Unwritten, place: Int64, _ db: GRDB.Database) throws {
        let snapshot = unwritten.snapshot
        if unwritten.isChanged {
            let others: StatementArguments = [
                snapshot.error?.record.text, snapshot.otherOutputs.isEmpty ? nil : JSON.object(snapshot.otherOutputs).text,
                snapshot.progress?.record.text, snapshot.hasReusedOutputs, snapshot.attempts.record?.text, snapshot.assignment, snapshot.cancellation?.rawValue,
                place,
            ]
            // Columns that are named have their indices written, also where nothing changes.
            if unwritten.from.status == unwritten.to.status {
                try db.cachedStatement(sql: "UPDATE jobs SET \(Self.columnsWithoutIndex) WHERE place = ?").execute(arguments: others)
            } else {
                let times: StatementArguments = [
                    snapshot.status.rawValue, snapshot.statusChangedAt.timeIntervalSinceReferenceDate, snapshot.startedAt?.timeIntervalSinceReferenceDate,
                    snapshot.completedAt?.timeIntervalSinceReferenceDate,
                ]
                try db.cachedStatement(
                    sql: """
                        UPDATE jobs SET status = ?, status_changed_at = ?, started_at = ?, completed_at = ?, \(Self.columnsWithoutIndex) WHERE place = ?
                        """
                ).execute(arguments: times + others)
            }
        }
        if unwritten.forgetsOutputs { try db.cachedStatement(sql: "DELETE FROM assets WHERE job = ?").execute(arguments: [place]) }
        for position in snapshot.outputs.indices.dropFirst(unwritten.firstNewOutput) {
            try assets.insert(snapshot.outputs[position], job: place, position: position, db)
        }
        try insert(unwritten.events, place: place, db)
    }

    private static let columnsWithoutIndex =
        "error_json = ?, other_outputs_json = ?, progress_json = ?, reuses_outputs = ?, attempts_json = ?, assignment = ?, cancellation = ?"

    private func insert(_ events: [LoggedEvent], place: Int64, _ db: GRDB.Database) throws {
        guard !events.isEmpty else { return }
        let statement = try db.cachedStatement(sql: "INSERT OR IGNORE INTO events (job, id, date, event_json) VALUES (?, ?, ?, ?)")
        for event in events {
            guard let id = event.id, let record = event.event.record(output: { $0.record(isComplete: true) }) else { continue }
            try statement.execute(arguments: [place, Int64(id), event.date.timeIntervalSinceReferenceDate, record.text])
            // As many as a job in memory keeps, give or take some.
            if id > EventLog.replayLimit, id.isMultiple(of: 1000) {
                try db.cachedStatement(sql: "DELETE FROM events WHERE job = ? AND id <= ?").execute(arguments: [place, Int64(id) - Int64(EventLog.replayLimit)])
            }
        }
    }

    // MARK: Reading

    static let columns = """
        jobs.*, (SELECT min(id) FROM events WHERE job = jobs.place) AS first_event, (SELECT max(id) FROM events WHERE job = jobs.place) AS last_event
        """

    /// A job as callers see it, without what it takes to run it.
    func record(_ row: Row, _ db: GRDB.Database) throws -> StoredJob {
        let metadata = try json(row.optional("metadata_json"))?.object
        var options = Submission.Options()
        options.priority = try row.value("priority")
        return try stored(row, Submission(workflow: .onDisk, outputNodes: [], metadata: metadata, options: options), db)
    }

    /// The same, or nil and a line in the log: one row that is broken must not hide the others.
    func readable(_ row: Row, _ db: GRDB.Database, _ logger: Logger) throws -> StoredJob? {
        do { return try record(row, db) } catch  where !(error is DatabaseError) {
            logger.error("a job cannot be read", metadata: ["job.place": .stringConvertible(row["place"] as Int64), "error": "\(ErrorWords.of(error))"])
            return nil
        }
    }

    /// A job that is to go on, with everything.
    func openJob(_ row: Row, _ db: GRDB.Database) throws -> StoredJob {
        let place: Int64 = try row.value("place")
        guard let more = try Row.fetchOne(db.cachedStatement(sql: "SELECT * FROM submissions WHERE job = ?"), arguments: [place]) else {
            throw UnreadableRecord(description: "its submission is missing")
        }
        let inputs = try (json(more.optional("inputs_json"))?.array ?? []).map { input -> Submission.Input in
            let id = input["asset"]?.string ?? ""
            guard let asset = try assets.asset(id, db) else { throw UnreadableRecord(description: "the asset \(id), which it reads, is missing") }
            return Submission.Input(place: try AssetPlace(record: input["place"] ?? .null), asset: asset)
        }
        let outputNodes = try (json(more.optional("output_nodes_json"))?.array ?? []).compactMap(\.string).map { Name($0) }
        let submission = Submission(
            workflow: try Workflow(checking: json(more.optional("workflow")) ?? .null),
            outputNodes: Set(outputNodes), inputs: inputs,
            extraData: try json(more.optional("extra_json"))?.object ?? [:], lacksCredentials: try more.value("had_credentials"), metadata: try json(row.optional("metadata_json"))?.object,
            options: Submission.Options(record: try json(more.optional("options_json")) ?? .null, priority: try row.value("priority")))
        var job = try stored(row, submission, db)
        let outputs = Dictionary(job.snapshot.outputs.lazy.map { ($0.asset.id, $0) }, uniquingKeysWith: { first, _ in first })
        job.events = try events(of: place, id: job.id, output: { outputs[$0] }, after: Int64(max(0, Int(job.lastEventID) - EventLog.replayLimit)), limit: EventLog.replayLimit, db)
        return job
    }

    /// The next events after an id.
    ///
    /// - Parameter output: the job's with this asset, which its events are about.
    func events(of place: Int64, id: JobID, output: (_ assetID: String) -> Output?, after eventID: Int64, limit: Int, _ db: GRDB.Database) throws -> [LoggedEvent] {
        let rows = try Row.fetchAll(
            db.cachedStatement(sql: "SELECT id, date, event_json FROM events WHERE job = ? AND id > ? ORDER BY id LIMIT ?"), arguments: [place, eventID, limit])
        return try rows.map { row in
            let event = try JobEvent(record: try json(row.optional("event_json")) ?? .null) { record in
                try record["id"]?.string.flatMap(output) ?? assets.output(record: record, job: id)
            }
            return LoggedEvent(id: UInt64(clamping: try row.value("id") as Int64), event: event, date: try row.date("date"))
        }
    }

    private func stored(_ row: Row, _ submission: Submission, _ db: GRDB.Database) throws -> StoredJob {
        guard let id = JobID(try row.value("id") as String), let status = JobStatus(rawValue: try row.value("status")) else { throw UnreadableRecord(description: "its id or status is not known") }
        var snapshot = Job.Snapshot(status: status, statusChangedAt: try row.date("status_changed_at"))
        snapshot.startedAt = try row.dateIfAny("started_at")
        snapshot.completedAt = try row.dateIfAny("completed_at")
        snapshot.progress = try json(row.optional("progress_json")).map { try JobProgress(record: $0) }
        snapshot.outputs = OutputList(try assets.outputs(of: row.value("place"), id: id, db))
        snapshot.hasReusedOutputs = try row.value("reuses_outputs")
        snapshot.otherOutputs = try json(row.optional("other_outputs_json"))?.object ?? [:]
        snapshot.error = try json(row.optional("error_json")).map { try JobError(record: $0) }
        snapshot.attempts = try json(row.optional("attempts_json")).map { Attempts(record: $0) } ?? Attempts()
        snapshot.assignment = try row.optional("assignment")
        snapshot.cancellation = (try row.optional("cancellation") as String?).flatMap(Job.Cancellation.init)
        return StoredJob(
            id: id, createdAt: try row.date("created_at"), submission: submission, snapshot: snapshot,
            firstEventID: UInt64(clamping: try row.optional("first_event") as Int64? ?? 1), lastEventID: UInt64(clamping: try row.optional("last_event") as Int64? ?? 0))
    }

    private func json(_ text: String?) throws -> JSON? { try text.map { try JSON(parsing: Array($0.utf8)) } }
}

/// Values of rows that may have been damaged: one that is not of its column's kind is an error. The subscripts of a row end the process then.
extension Row {
    package func value<Value: DatabaseValueConvertible>(_ column: String) throws -> Value {
        do { return try decode(Value.self, forColumn: column) } catch { throw UnreadableRecord(description: "the column \(column) has no value of its kind") }
    }

    func optional<Value: DatabaseValueConvertible>(_ column: String) throws -> Value? {
        // The names come from the file as well.
        guard hasColumn(column) else { throw UnreadableRecord(description: "there is no column \(column)") }
        let value: DatabaseValue = self[column]
        return value.isNull ? nil : try self.value(column) as Value
    }

    package func date(_ column: String) throws -> Date {
        let seconds: Double = try value(column)
        // The years 1 to 9999, about; others could not be written out.
        guard (-6.3e10...2.5e11).contains(seconds) else { throw UnreadableRecord(description: "the column \(column) has no time") }
        return Date(timeIntervalSinceReferenceDate: seconds)
    }

    func dateIfAny(_ column: String) throws -> Date? { try (value(column) as Double?).map { _ in try date(column) } }
}
