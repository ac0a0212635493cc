import FoundationEssentials
import Glibc
package import Jobs
package import Logging
import Synchronization
import Wording

/// Bytes on this machine's disk: each content is a file, named by its hash. Files are moved and removed outside the lock, on threads that
/// may wait for a disk; meanwhile the content is marked, and whoever wants it waits for the end of that.
package final class FileBlobStore: BlobStore {
    private let directory: URL
    private let isTemporary: Bool
    private let logger: Logger
    private let contents: Mutex<BlobContents>
    private let files: BlobFiles

    /// - Parameters:
    ///   - directory: where the folder `blobs` is made; nil makes a temporary one, which `removeTemporaryDirectory` removes.
    ///   - known: the contents that assets of a former process are over. Other files of the folder go, with `removeOrphans`.
    ///   - files: how they are moved and removed.
    package init(directory: String?, known: [KnownContent] = [], files: BlobFiles = BlobFiles(), logger: Logger) throws {
        let parent =
            directory.map { URL(fileURLWithPath: $0, isDirectory: true) }
            ?? FileManager.default.temporaryDirectory.appendingPathComponent("comfy-bridge-\(JobID.makeUUID())", isDirectory: true)
        self.directory = parent.appendingPathComponent("blobs", isDirectory: true)
        isTemporary = directory == nil
        self.logger = logger
        try FileManager.default.createDirectory(at: self.directory, withIntermediateDirectories: true)
        self.files = files
        var contents = BlobContents()
        for content in known {
            contents.add(
                Blob(source: .stored(path: Self.path(of: content.hash, in: self.directory)), size: content.size, hash: content.hash), content.hash,
                references: content.references)
        }
        self.contents = Mutex(contents)
        // What was arriving when the former process ended never will.
        for name in try FileManager.default.contentsOfDirectory(atPath: self.directory.path) where name.hasSuffix(".part") {
            unlink(self.directory.appendingPathComponent(name).path)
        }
    }

    /// A content with the number of assets over it.
    package struct KnownContent: Sendable {
        let hash: ContentHash
        let size: Int
        let references: Int
    }

    private func path(of hash: ContentHash) -> String { Self.path(of: hash, in: directory) }

    private static func path(of hash: ContentHash, in directory: URL) -> String {
        directory.appendingPathComponent(String(hash.digits.prefix(2)), isDirectory: true).appendingPathComponent(String(hash.digits)).path
    }

    /// The content with this hash, as an asset of a former process names it; its file may be gone.
    func blob(_ hash: ContentHash, size: Int?) -> Blob {
        contents.withLock { $0.blob(hash) } ?? Blob(source: .stored(path: path(of: hash)), size: size, hash: hash)
    }

    /// Removes files that no asset is over: the former process ended between the two.
    func removeOrphans() async throws(StorageError) {
        for number in 0..<256 {
            let name = [UInt8(number)].hexadecimal
            let folder = directory.appendingPathComponent(name, isDirectory: true)
            try await onFileThread { () throws(StorageError) in
                // Most of the 256 folders are not there.
                for file in (try? FileManager.default.contentsOfDirectory(atPath: folder.path)) ?? [] {
                    guard let hash = ContentHash("blake3:\(file)"), self.contents.withLock({ $0.claimUnknown(hash) }) else { continue }
                    _ = self.files.remove(folder.appendingPathComponent(file).path)
                    self.settle(hash, nil)
                }
            }
        }
    }

    package func makeWriter() throws(StorageError) -> any BlobWriter { try makeFileWriter() }

    private func makeFileWriter() throws(StorageError) -> BlobFileWriter {
        try BlobFileWriter(store: self, path: directory.appendingPathComponent("\(JobID.makeUUID()).part").path)
    }

    /// See `BlobWriter.keep`.
    fileprivate func keep(_ writer: BlobFileWriter) async throws(StorageError) -> (blob: Blob, isNew: Bool) {
        let (hash, size) = writer.summary
        if let blob = await claim(hash) {
            try await onFileThread { () throws(StorageError) in writer.discard() }
            return (blob, false)
        }
        let folder = directory.appendingPathComponent(String(hash.digits.prefix(2)), isDirectory: true)
        let file = path(of: hash)
        do {
            try await onFileThread { () throws(StorageError) in
                guard mkdir(folder.path, 0o755) == 0 || errno == EEXIST else { throw StorageError(errno) }
                try writer.move(to: file, self.files)
            }
        } catch {
            settle(hash, nil)
            throw error
        }
        let blob = Blob(source: .stored(path: file), size: size, hash: hash)
        settle(hash, blob)
        return (blob, true)
    }

    /// One more reference to a content that is here. Else the caller is to put it there and then to `settle` it: nil.
    private func claim(_ hash: ContentHash) async -> Blob? {
        while true {
            switch contents.withLock({ $0.claim(hash) }) {
            case .kept(let blob): return blob
            case .granted: return nil
            case .busy: await waitUntilSettled(hash)
            }
        }
    }

    private func waitUntilSettled(_ hash: ContentHash) async {
        await withCheckedContinuation { continuation in
            if !contents.withLock({ $0.wait(for: hash, continuation) }) { continuation.resume() }
        }
    }

    /// What was done with the file of this content is done.
    ///
    /// - Parameter blob: that has one reference now; nil when the content is not here.
    private func settle(_ hash: ContentHash, _ blob: Blob?) {
        for waiter in contents.withLock({ $0.settle(hash, blob) }) { waiter.resume() }
    }

    package func keep(_ bytes: [UInt8]) async throws(StorageError) -> Blob {
        let writer = try makeFileWriter()
        try await writer.write(bytes)
        return try await keep(writer).blob
    }

    package func retain(_ hash: ContentHash) async -> Blob? {
        while true {
            switch contents.withLock({ $0.retain(hash) }) {
            case .kept(let blob): return blob
            case .granted: return nil
            case .busy: await waitUntilSettled(hash)
            }
        }
    }

    package func release(_ blob: Blob) async {
        guard case .stored(let path) = blob.source, let hash = blob.hash, contents.withLock({ $0.release(hash) }) else { return }
        let failure = await onFileThread { self.files.remove(path) }
        if failure != 0 { logger.warning("a file could not be removed", metadata: ["path": "\(path)", "error": "\(StorageError(failure))"]) }
        settle(hash, nil)
    }

    func removeTemporaryDirectory() {
        guard isTemporary else { return }
        do { try FileManager.default.removeItem(at: directory.deletingLastPathComponent()) } catch {
            logger.warning("the temporary folder could not be removed", metadata: ["path": "\(directory.path)", "error": "\(ErrorWords.of(error))"])
        }
    }
}

/// Bytes on their way to disk, hashed as they come. What is not kept is removed.
private final class BlobFileWriter: BlobWriter {
    private struct State {
        var path: String?
        var hasher = BLAKE3()
        var size = 0
    }

    private let store: FileBlobStore
    private let descriptor: Int32
    private let state: Mutex<State>

    init(store: FileBlobStore, path: String) throws(StorageError) {
        self.store = store
        descriptor = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o644)
        guard descriptor >= 0 else { throw StorageError(errno) }
        state = Mutex(State(path: path))
    }

    deinit {
        close(descriptor)
        discard()
    }

    /// Removes what was written, unless it is kept.
    fileprivate func discard() {
        if let path = state.withLock({ $0.path.take() }) { unlink(path) }
    }

    package func write(_ bytes: [UInt8]) async throws(StorageError) {
        try await onFileThread { () throws(StorageError) in
            try self.state.withLock { state throws(StorageError) in
                state.hasher.update(bytes)
                state.size += bytes.count
                let failure = bytes.withUnsafeBytes { Self.write($0, to: self.descriptor) }
                if failure != 0 { throw StorageError(failure) }
            }
        }
    }

    /// Returns `errno`, 0 when all is written.
    private static func write(_ bytes: UnsafeRawBufferPointer, to descriptor: Int32) -> Int32 {
        var rest = bytes
        while !rest.isEmpty {
            let count = Glibc.write(descriptor, rest.baseAddress, rest.count)
            if count > 0 { rest = UnsafeRawBufferPointer(rebasing: rest.dropFirst(count)) } else if errno != EINTR { return errno }
        }
        return 0
    }

    fileprivate var summary: (hash: ContentHash, size: Int) {
        state.withLock { ($0.hasher.contentHash, $0.size) }
    }

    package var hash: ContentHash { summary.hash }

    package func keep() async throws(StorageError) -> (blob: Blob, isNew: Bool) { try await store.keep(self) }

    fileprivate func move(to target: String, _ files: BlobFiles) throws(StorageError) {
        guard let path = state.withLock({ $0.path.take() }) else { return }
        let failure = files.move(path, target)
        guard failure != 0 else { return }
        state.withLock { $0.path = path }
        throw StorageError(failure)
    }
}
