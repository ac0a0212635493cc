import GRDB

/// The tables, version by version. A version that was released is never changed; what comes after it is a migration of its own.
///
/// Times are seconds since 2001-01-01T00:00:00Z, as Foundation counts them, so that a date survives to its last digit. Columns that end in
/// `_json` hold JSON. What callers name freely (nodes, files, texts) stands only inside of those, since SQLite ends a text at a NUL.
enum Schema {
    static var migrator: DatabaseMigrator {
        var migrator = DatabaseMigrator()
        migrator.registerMigration("v1") { db in try db.execute(sql: v1) }
        migrator.registerMigration("v2") { db in try db.execute(sql: v2) }
        return migrator
    }

    private static let v1 = """
        -- One row for each job. place: the order of submission.
        CREATE TABLE jobs (
            place INTEGER PRIMARY KEY,
            id TEXT NOT NULL UNIQUE,
            created_at REAL NOT NULL,
            priority INTEGER NOT NULL,
            metadata_json TEXT,
            status TEXT NOT NULL,
            status_changed_at REAL NOT NULL,
            started_at REAL,
            completed_at REAL,
            error_json TEXT,
            other_outputs_json TEXT,
            progress_json TEXT,
            reuses_outputs INTEGER NOT NULL DEFAULT 0,
            attempts_json TEXT,
            assignment TEXT
        );
        CREATE INDEX jobs_by_status ON jobs (status, place);
        CREATE INDEX jobs_by_end ON jobs (completed_at, place) WHERE completed_at IS NOT NULL;

        -- What is run, apart from what changes, because a workflow may be large.
        CREATE TABLE submissions (
            job INTEGER PRIMARY KEY REFERENCES jobs ON DELETE CASCADE,
            options_json TEXT NOT NULL,
            output_nodes_json TEXT NOT NULL,
            inputs_json TEXT NOT NULL,
            extra_json TEXT,
            had_credentials INTEGER NOT NULL,
            workflow TEXT NOT NULL
        );

        CREATE TABLE events (
            job INTEGER NOT NULL REFERENCES jobs ON DELETE CASCADE,
            id INTEGER NOT NULL,
            date REAL NOT NULL,
            event_json TEXT NOT NULL,
            PRIMARY KEY (job, id)
        ) WITHOUT ROWID;

        -- Uploads (job is NULL) and outputs.
        CREATE TABLE assets (
            id TEXT NOT NULL UNIQUE,
            job INTEGER REFERENCES jobs ON DELETE CASCADE,
            position INTEGER,
            file_path TEXT,
            created_at REAL NOT NULL,
            expires_at REAL,
            hash TEXT,
            size INTEGER,
            is_stored INTEGER NOT NULL,
            asset_json TEXT NOT NULL
        );
        CREATE INDEX assets_by_job ON assets (job, position) WHERE job IS NOT NULL;
        CREATE INDEX assets_by_hash ON assets (hash) WHERE hash IS NOT NULL;
        CREATE INDEX assets_by_path ON assets (file_path) WHERE job IS NULL;
        CREATE INDEX assets_by_expiry ON assets (expires_at) WHERE expires_at IS NOT NULL;
        CREATE INDEX assets_captured ON assets (is_stored, job, size) WHERE job IS NOT NULL AND is_stored;

        CREATE TABLE idempotency_keys (
            operation TEXT NOT NULL,
            key TEXT NOT NULL,
            digest BLOB NOT NULL,
            job TEXT,
            date REAL NOT NULL,
            PRIMARY KEY (operation, key)
        ) WITHOUT ROWID;
        CREATE INDEX idempotency_keys_by_date ON idempotency_keys (date);

        CREATE TABLE workers (
            endpoint TEXT PRIMARY KEY,
            client_id TEXT NOT NULL
        ) WITHOUT ROWID;
        """

    private static let v2 = """
        -- Why a job is to be canceled, or was.
        ALTER TABLE jobs ADD COLUMN cancellation TEXT;

        -- made: the id of the job or, of an upload, the asset. released: the job is not kept any more, and its end had released the key.
        ALTER TABLE idempotency_keys RENAME COLUMN job TO made;
        ALTER TABLE idempotency_keys ADD COLUMN released INTEGER NOT NULL DEFAULT 0;
        CREATE INDEX idempotency_keys_by_made ON idempotency_keys (made) WHERE made IS NOT NULL;
        """
}
