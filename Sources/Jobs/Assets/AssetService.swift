import FoundationEssentials
package import Logging
import ServiceLifecycle
import Synchronization
import Wording

/// The front door to assets: mint, find, delete; and the clean-up behind them.
package final class AssetService: Service {
    /// What a caller says about bytes that it uploads, or that are here already.
    package struct Description: Sendable {
        /// Checked by `AssetPath`.
        package var filePath: String
        package var contentType: String
        package var tags: [String] = []
        /// Instead of the configured retention.
        package var lifetime: Duration?

        package init(filePath: String, contentType: String, tags: [String] = [], lifetime: Duration? = nil) {
            self.filePath = filePath
            self.contentType = contentType
            self.tags = tags
            self.lifetime = lifetime
        }
    }

    package enum DeletionError: Error {
        case notFound
        case inUse
    }

    package let blobs: any BlobStore
    private let comfyFiles: any ComfyFileReader
    private let store: any AssetStore
    /// How long an upload is kept; nil is for ever.
    private let retention: Duration?
    /// The assets that jobs which are not over read.
    private let inUse: @Sendable () async throws -> Set<String>
    private let logger: Logger
    /// Assets whose hash somebody asked for, one after the other.
    private let unhashed: AsyncStream<Asset>
    private let hashRequests: AsyncStream<Asset>.Continuation
    private let beingHashed = Mutex<Set<String>>([])

    package init(
        store: any AssetStore, blobs: any BlobStore, comfyFiles: any ComfyFileReader, retention: Duration?,
        inUse: @escaping @Sendable () async throws -> Set<String>, logger: Logger
    ) {
        self.store = store
        self.blobs = blobs
        self.comfyFiles = comfyFiles
        self.retention = retention
        self.inUse = inUse
        self.logger = logger
        // Who asks again after a place was lost is served then.
        (unhashed, hashRequests) = AsyncStream.makeStream(bufferingPolicy: .bufferingOldest(1000))
    }

    package func asset(_ id: String) async throws -> Asset? { try await store.asset(id) }
    package func asset(withHash hash: ContentHash) async throws -> Asset? { try await store.asset(withHash: hash) }
    package func upload(at filePath: String) async throws -> Asset? { try await store.upload(at: filePath) }

    // MARK: Making

    /// Keeps an output of a job, so that its id resolves.
    package func record(_ output: Output) async throws { try await store.insert(output.asset) }

    /// Makes an asset of what was written.
    ///
    /// - Returns: also whether the bytes are new here.
    package func mint(_ writer: any BlobWriter, _ description: Description) async throws -> (asset: Asset, isNew: Bool) {
        let (blob, isNew) = try await writer.keep()
        return (try await insert(description, over: blob), isNew)
    }

    /// Makes an asset over bytes that are here already.
    ///
    /// - Returns: the asset, which is not new when the same was there; nil when the bytes are not here.
    package func mint(fromHash hash: ContentHash, filePath: String?, tags: [String], lifetime: Duration?) async throws -> (asset: Asset, isNew: Bool)? {
        guard let known = try await store.asset(withHash: hash) else { return nil }
        let description = Description(filePath: filePath ?? known.filePath, contentType: known.contentType, tags: tags, lifetime: lifetime)
        let wanted = asset(description, over: known.blob)
        if let same = try await store.upload(like: wanted) {
            // Named again: it stays longer, never shorter.
            guard let deadline = same.expiresAt, wanted.expiresAt.map({ $0 > deadline }) ?? true else { return (same, false) }
            var renewed = same
            renewed.expiresAt = wanted.expiresAt
            try await store.insert(renewed)
            return (renewed, false)
        }
        let kept = await blobs.retain(hash)
        guard let blob = kept ?? (known.blob.isStored ? nil : known.blob) else { return nil }
        return (try await insert(description, over: blob), true)
    }

    private func insert(_ description: Description, over blob: Blob) async throws -> Asset {
        let asset = asset(description, over: blob)
        do { try await store.insert(asset) } catch {
            await blobs.release(blob)
            throw error
        }
        return asset
    }

    private func asset(_ description: Description, over blob: Blob) -> Asset {
        let now = Date()
        return Asset(
            blob: blob, filePath: description.filePath, contentType: description.contentType, tags: description.tags, createdAt: now,
            expiresAt: (description.lifetime ?? retention).map { now.addingTimeInterval($0.seconds) })
    }

    // MARK: Hashes

    /// Has the hash of an asset computed, if it is not known; who asks for the asset again will see it.
    package func findHash(of asset: Asset) {
        guard asset.blob.hash == nil, beingHashed.withLock({ $0.insert(asset.id).inserted }) else { return }
        if case .enqueued = hashRequests.yield(asset) { return }
        _ = beingHashed.withLock { $0.remove(asset.id) }
    }

    private func hash(_ asset: Asset) async {
        defer { _ = beingHashed.withLock { $0.remove(asset.id) } }
        guard asset.blob.hash == nil, case .comfyUI(let file) = asset.blob.source else { return }
        do {
            let hashed = Mutex((hasher: BLAKE3(), size: 0))
            try await comfyFiles.read(file) { piece in
                hashed.withLock { hashed in
                    hashed.hasher.update(piece)
                    hashed.size += piece.count
                }
            }
            let (hasher, size) = hashed.withLock { $0 }
            // Somebody may have put another file in its place.
            guard size == asset.blob.size ?? size else { return }
            asset.blob.hash = hasher.contentHash
            try await store.recordHash(of: asset)
            logger.debug("computed the hash of an asset", metadata: ["asset.id": "\(asset.id)"])
        } catch {
            logger.debug("the hash of an asset could not be computed", metadata: ["asset.id": "\(asset.id)", "error": "\(ErrorWords.of(error))"])
        }
    }

    // MARK: Removing

    /// Deletes an upload. Outputs belong to their job and go with it.
    package func delete(_ id: String) async throws {
        guard let asset = try await store.asset(id) else { throw DeletionError.notFound }
        guard asset.job == nil, try await !inUse().contains(id) else { throw DeletionError.inUse }
        guard try await remove(id) else { throw DeletionError.notFound }
    }

    /// Removes the outputs of a job that is forgotten.
    package func remove(outputsOf job: Job) async throws {
        for output in job.outputs {
            // Its row may have gone with the job's.
            _ = try await store.remove(output.asset.id)
            await blobs.release(output.asset.blob)
        }
    }

    @discardableResult
    private func remove(_ id: String) async throws -> Bool {
        guard let asset = try await store.remove(id) else { return false }
        await blobs.release(asset.blob)
        return true
    }

    /// Computes hashes that were asked for and removes what has expired, until shut down.
    package func run() async throws {
        try await withThrowingDiscardingTaskGroup { group in
            group.addTask { for await asset in self.unhashed.cancelOnGracefulShutdown() { await self.hash(asset) } }
            group.addTask {
                // Tried again the next time: a disk that is full now may not be then.
                try await repeating(every: .seconds(30)) {
                    do { try await self.removeExpired() } catch  where !(error is CancellationError) {
                        self.logger.debug("old uploads could not be removed", metadata: ["error": "\(ErrorWords.of(error))"])
                    }
                }
            }
        }
    }

    private func removeExpired() async throws {
        let expired = try await store.expired(before: Date())
        guard !expired.isEmpty else { return }
        let needed = try await inUse()
        for asset in expired where !needed.contains(asset.id) { try await remove(asset.id) }
    }
}

extension Blob {
    fileprivate var isStored: Bool { if case .stored = source { true } else { false } }
}
