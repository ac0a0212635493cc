import FoundationEssentials
package import Jobs
package import Logging
import ServiceLifecycle
import Wording

/// Everything that the bridge keeps, and how: on disk, or in memory for as long as it runs.
package final class Storage: Service {
    package let jobs: any JobDirectory
    package let assets: any AssetStore
    package let blobs: FileBlobStore
    /// Nil where keys are forgotten with the process.
    package let keys: (any UsedKeyStore)?
    package let identities: WorkerIdentities
    let disk: Disk?
    private let logger: Logger

    /// What is behind it, where that is not memory.
    struct Disk {
        let directory: DataDirectory
        package let database: SQLiteDatabase
        package let jobs: StoredJobs
        let keys: SQLiteKeyStore
    }

    /// - Parameter directory: where it is kept; nil for memory.
    package init(directory: String?, previewHistory: Int, logger: Logger) throws {
        self.logger = logger
        guard let directory else {
            blobs = try FileBlobStore(directory: nil, logger: logger)
            jobs = MemoryJobs()
            assets = MemoryAssetStore()
            keys = nil
            identities = WorkerIdentities(database: nil)
            disk = nil
            return
        }
        let folder = try DataDirectory(path: directory)
        let database = try folder.openDatabase(logger: logger)
        blobs = try FileBlobStore(directory: directory, known: SQLiteAssetStore.knownContents(database), logger: logger)
        let rows = AssetRows(blobs: blobs)
        var configuration = StoredJobs.Configuration()
        configuration.previewHistory = previewHistory
        let store = StoredJobs(try SQLiteJobStore(database: database, assets: rows, logger: logger), configuration: configuration, logger: logger)
        let keyStore = SQLiteKeyStore(database: database, rows: JobRows(assets: rows))
        jobs = store
        assets = SQLiteAssetStore(database: database, rows: rows, present: store)
        keys = keyStore
        identities = WorkerIdentities(database: database)
        disk = Disk(directory: folder, database: database, jobs: store, keys: keyStore)
    }

    /// Tidies up, and tries again what could not be written, until shut down.
    package func run() async throws {
        guard let disk else {
            do { try await gracefulShutdown() } catch is CancellationError {}
            return
        }
        try await withThrowingDiscardingTaskGroup { group in
            group.addTask {
                do { try await self.blobs.removeOrphans() } catch {
                    self.logger.warning("files that nobody needs could not be removed", metadata: ["error": "\(ErrorWords.of(error))"])
                }
            }
            group.addTask { try await repeating(every: .seconds(1)) { await disk.jobs.retry() } }
            group.addTask { try await repeating(every: .seconds(600)) { try await self.removeOldKeys(disk.keys) } }
        }
    }

    private func removeOldKeys(_ keys: SQLiteKeyStore) async throws {
        // A disk that is full now may not be the next time.
        do { try await keys.remove(before: Date(timeIntervalSinceNow: -IdempotencyKeys.lifetime.seconds)) } catch  where !(error is CancellationError) {
            logger.debug("old keys could not be removed", metadata: ["error": "\(ErrorWords.of(error))"])
        }
    }

    /// Writes what is still to be written and lets go of the folder. Nothing may be kept afterwards.
    package func close() async {
        await disk?.jobs.retry()
        disk?.database.close()
        disk?.directory.release()
        blobs.removeTemporaryDirectory()
    }
}
