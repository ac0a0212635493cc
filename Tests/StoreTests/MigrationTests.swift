import Foundation
import GRDB
import OrderedCollections
import OrderedJSON
import Testing

@testable import Jobs
@testable import Store
@testable import TestSupport

/// Files of every version that was released are opened, with all that is in them.
@Suite(.timeLimit(.minutes(5))) struct MigrationTests {
    @Test func aNewFileHasEverythingAndIsReadableByItsOwnerAlone() async throws {
        try await withTemporaryFolder { folder in
            let path = folder + "/a/b"
            try await withStorage(path) { _, disk in
                let modes = try await disk.database.pool.writeWithoutTransaction { db in
                    try ["journal_mode", "synchronous", "foreign_keys", "auto_vacuum"].map { try String.fetchOne(db, sql: "PRAGMA \($0)") }
                }
                #expect(modes == ["wal", "1", "1", "2"])
                #expect(try FileManager.default.attributesOfItem(atPath: path)[.posixPermissions] as? Int == 0o700)
                for file in ["", "-wal", "-shm"] {
                    #expect(try FileManager.default.attributesOfItem(atPath: disk.directory.databasePath + file)[.posixPermissions] as? Int == 0o600)
                }
            }
        }
    }

    @Test func versionOneIsReadAndBroughtUpToDate() async throws {
        try await withTemporaryFolder { folder in
            let fixture = try DatabaseQueue(path: folder + "/comfy-bridge.sqlite")
            try await fixture.write { db in try db.execute(sql: Self.v1) }
            try fixture.close()
            var upgraded: [[String: String]] = []
            let schema = "SELECT type, name, sql FROM sqlite_schema WHERE name NOT LIKE 'sqlite_%' ORDER BY name"
            try await withStorage(folder) { storage, disk in
                upgraded = try await disk.rows(schema)
                let ended = try #require(try await job("11111111-1111-4111-8111-111111111111", storage))
                let snapshot = ended.snapshot
                #expect(snapshot.status == .succeeded && ended.metadata == ["order": 4711] && ended.priority == 5)
                #expect(snapshot.outputs.map(\.name) == ["ComfyUI_00001_.png", "2-1.txt"] && snapshot.outputs[0].asset.blob.size == 123)
                #expect(snapshot.progress?.nodesTotal == 2 && snapshot.otherOutputs == ["5": ["x": [1]]])
                #expect(await ended.read(after: 0, limit: 10)?.map(\.id) == [1, 2, 3, 4, 5, 6, 7])
                let text = try await storage.jobs.workflow(of: ended)
                #expect(String(decoding: text, as: UTF8.self).contains("18446744073709551615"))
                let failed = try #require(try await job("22222222-2222-4222-8222-222222222222", storage))
                #expect(failed.snapshot.error == JobError(code: .nodeExecutionError, message: "boom", node: "3", classType: "KSampler"))
                #expect(failed.attempts.lost == 1 && failed.attempts.undelivered == 2 && failed.attempts.failedDevices == ["http://127.0.0.1:8188"])
                let open = try await storage.jobs.restore()
                #expect(open.map(\.id.description) == ["33333333-3333-4333-8333-333333333333"])
                #expect(open.first?.snapshot.assignment == "http://127.0.0.1:8188" && open.first?.submission.options.timeout == .milliseconds(1500))
                #expect(open.first?.submission.inputs.map(\.asset.filePath) == ["photo.png"])
                let used = try await disk.keys.key("k", .job, since: .distantPast)
                #expect(used?.use == .init(made: ended.id.description) && used?.digest == [1, 2])
                let upload = try await disk.keys.key("u", .upload, since: .distantPast)
                #expect(upload?.use == .init(made: nil) && upload?.digest == [])
                let lost = try #require(try await job("44444444-4444-4444-8444-444444444444", storage))
                #expect(lost.releasesKey && !failed.releasesKey && !ended.releasesKey)
                let canceled = try #require(try await job("55555555-5555-4555-8555-555555555555", storage))
                #expect(canceled.snapshot.cancellation == nil && !canceled.releasesKey, "why it was canceled was not written then")
                #expect(try storage.identities.clientID(for: "http://127.0.0.1:8188") == "client")
            }
            try await withStorage { _, disk in
                let new = try await disk.rows(schema)
                #expect(upgraded == new, "an old file becomes the same as a new one")
            }
        }
    }

    @Test("A file that cannot be read is left alone, and it is said what to do", arguments: ["no database at all, but long enough to be looked at", "newer"])
    func unreadable(_ content: String) async throws {
        try await withTemporaryFolder { folder in
            let path = folder + "/comfy-bridge.sqlite"
            if content == "newer" {
                try await withStorage(folder) { _, disk in try await disk.execute("INSERT INTO grdb_migrations VALUES ('v999')") }
            } else {
                #expect(FileManager.default.createFile(atPath: path, contents: Data(content.utf8)))
            }
            let before = FileManager.default.contents(atPath: path)
            let error = await #expect(throws: DataDirectoryError.self) { try await withStorage(folder) { _, _ in } }
            #expect(error?.description.contains("--data-dir") == true && error?.description.contains(path) == true)
            #expect(FileManager.default.contents(atPath: path) == before)
        }
    }

    private func job(_ id: String, _ storage: Storage) async throws -> Job? { try await storage.jobs.job(try #require(JobID(id))) }

    /// What version 1 made, as text: its tables as they were released, and one of everything.
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

        CREATE TABLE grdb_migrations (identifier TEXT NOT NULL PRIMARY KEY);
        INSERT INTO grdb_migrations VALUES ('v1');

        INSERT INTO jobs VALUES (1000, '11111111-1111-4111-8111-111111111111', 800000000.25, 5, '{"order":4711}', 'succeeded', 800000002, 800000001, 800000002,
            NULL, '{"5":{"x":[1]}}', '{"value":1,"done":2,"total":2}', 0, NULL, 'http://127.0.0.1:8188');
        INSERT INTO submissions VALUES (1000, '{}', '["9"]', '[]', NULL, 0, '{"3":{"class_type":"A","inputs":{"seed":18446744073709551615}}}');
        INSERT INTO events VALUES
            (1000, 1, 800000000, '{"status":"queued"}'), (1000, 2, 800000001, '{"status":"running"}'),
            (1000, 3, 800000001, '{"node":"3","state":"running","class":"A"}'),
            (1000, 4, 800000001, '{"output":{"path":"ComfyUI_00001_.png","content_type":"image/png","node":"9","kind":"image","temporary":false,"source":{"comfyui":"http://127.0.0.1:8188","filename":"ComfyUI_00001_.png","subfolder":"","type":"output"},"id":"aaaaaaaa-1111-4111-8111-111111111111","created_at":800000001.5,"size":123}}'),
            (1000, 5, 800000001, '{"output":{"path":"2-1.txt","content_type":"text/plain; charset=utf-8","node":"2","kind":"text","temporary":false,"source":{"text":"hi"},"id":"bbbbbbbb-1111-4111-8111-111111111111","created_at":800000001.5,"size":2}}'),
            (1000, 6, 800000001, '{"log":"note","level":"warning"}'), (1000, 7, 800000002, '{"status":"succeeded"}');
        INSERT INTO assets (id, job, position, file_path, created_at, expires_at, hash, size, is_stored, asset_json) VALUES
            ('aaaaaaaa-1111-4111-8111-111111111111', 1000, 0, NULL, 800000001.5, NULL, NULL, 123, 0, '{"path":"ComfyUI_00001_.png","content_type":"image/png","node":"9","kind":"image","temporary":false,"source":{"comfyui":"http://127.0.0.1:8188","filename":"ComfyUI_00001_.png","subfolder":"","type":"output"}}'),
            ('bbbbbbbb-1111-4111-8111-111111111111', 1000, 1, NULL, 800000001.5, NULL, NULL, 2, 0, '{"path":"2-1.txt","content_type":"text/plain; charset=utf-8","node":"2","kind":"text","temporary":false,"source":{"text":"hi"}}'),
            ('cccccccc-1111-4111-8111-111111111111', NULL, NULL, 'photo.png', 800000000, 900000000, 'blake3:6437b3ac38465133ffb63b75273a8db548c558465d79db03fd359c6cd5bd9d85', 3, 1, '{"path":"photo.png","content_type":"image/png","tags":["input"],"source":{"stored":true}}');
        INSERT INTO jobs VALUES (1001, '22222222-2222-4222-8222-222222222222', 800000003, 0, NULL, 'failed', 800000004, NULL, 800000004,
            '{"code":"node_execution_error","message":"boom","node":"3","class":"KSampler"}', NULL, NULL, 0, '{"lost":1,"undelivered":2,"failed_devices":["http://127.0.0.1:8188"]}', NULL);
        INSERT INTO submissions VALUES (1001, '{}', '[]', '[]', NULL, 1, '{"3":{"class_type":"A","inputs":{}}}');
        INSERT INTO jobs VALUES (1002, '33333333-3333-4333-8333-333333333333', 800000005, 0, NULL, 'running', 800000006, 800000006, NULL, NULL, NULL, NULL, 0, NULL,
            'http://127.0.0.1:8188');
        INSERT INTO submissions VALUES (1002, '{"timeout":[1,500000000000000000],"allows_partial":true}', '["9"]',
            '[{"place":{"node":"1","input":"image"},"asset":"cccccccc-1111-4111-8111-111111111111"}]', '{"extra_pnginfo":{"workflow":{}}}', 0,
            '{"1":{"class_type":"LoadImage","inputs":{"image":"photo.png"}}}');
        INSERT INTO events VALUES (1002, 1, 800000005, '{"status":"queued"}'), (1002, 2, 800000006, '{"status":"running"}');
        INSERT INTO jobs VALUES (1003, '44444444-4444-4444-8444-444444444444', 800000007, 0, NULL, 'failed', 800000008, NULL, 800000008,
            '{"code":"upstream_unreachable","message":"away"}', NULL, NULL, 0, NULL, NULL);
        INSERT INTO jobs VALUES (1004, '55555555-5555-4555-8555-555555555555', 800000009, 0, NULL, 'canceled', 800000010, NULL, 800000010,
            '{"code":"canceled","message":"The job was canceled."}', NULL, NULL, 0, NULL, NULL);
        INSERT INTO idempotency_keys VALUES ('job', 'k', X'0102', '11111111-1111-4111-8111-111111111111', 800000000), ('upload', 'u', X'', NULL, 800000000);
        INSERT INTO workers VALUES ('http://127.0.0.1:8188', 'client');
        """
}
