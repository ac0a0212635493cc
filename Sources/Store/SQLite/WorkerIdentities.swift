import GRDB
import Jobs

/// The ids under which the bridge connects to its ComfyUIs: the same after a restart, so that it hears of the prompts it submitted before.
package struct WorkerIdentities: Sendable {
    /// Nil gives every worker a new one.
    let database: SQLiteDatabase?

    package func clientID(for endpoint: String) throws -> String {
        let id = JobID.makeUUID()
        guard let database else { return id }
        return try database.writeNow { db in
            try db.execute(sql: "INSERT OR IGNORE INTO workers (endpoint, client_id) VALUES (?, ?)", arguments: [endpoint, id])
            return try String.fetchOne(db, sql: "SELECT client_id FROM workers WHERE endpoint = ?", arguments: [endpoint]) ?? id
        }
    }
}
