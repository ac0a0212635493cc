import Dispatch
import Foundation
import Glibc
import Logging
import Synchronization
import Testing

@testable import Jobs
@testable import Store

struct BlobStoreTests {
    private static func withStore(_ files: BlobFiles = BlobFiles(), _ body: (FileBlobStore, URL) async throws -> Void) async throws {
        let folder = FileManager.default.temporaryDirectory.appendingPathComponent("blobs-\(UUID())")
        let store = try FileBlobStore(directory: folder.path, files: files, logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
        try await body(store, folder.appendingPathComponent("blobs"))
        try FileManager.default.removeItem(at: folder)
    }

    /// Does something, and waits until the kernel says that there are no files any more in what were the folder and its folders.
    private static func untilRemoved(from folder: URL, _ body: () async throws -> Void) async throws {
        let watch = inotify_init1(Int32(IN_NONBLOCK))
        let folders = try FileManager.default.subpathsOfDirectory(atPath: folder.path).map { folder.path + "/" + $0 } + [folder.path]
        for path in folders { inotify_add_watch(watch, path, UInt32(IN_DELETE | IN_ONLYDIR)) }
        let (deletions, deletion) = AsyncStream.makeStream(of: Void.self, bufferingPolicy: .bufferingNewest(1))
        let source = DispatchSource.makeReadSource(fileDescriptor: watch)
        source.setEventHandler {
            var events = [UInt8](repeating: 0, count: 4096)
            while read(watch, &events, events.count) > 0 {}
            deletion.yield()
        }
        source.setCancelHandler { close(watch) }
        source.activate()
        defer { source.cancel() }
        try await body()
        var noticed = deletions.makeAsyncIterator()
        while try !files(in: folder).isEmpty { try #require(await noticed.next() != nil, "it is not removed") }
    }

    private static func files(in folder: URL) throws -> [String] {
        try FileManager.default.subpathsOfDirectory(atPath: folder.path).filter { $0.count > 2 }
    }

    @Test func keepsEachContentOnce() async throws {
        try await Self.withStore { store, folder in
            let first = try await store.keep(Array("abc".utf8))
            let hash = try #require(first.hash)
            #expect(hash.description == "blake3:6437b3ac38465133ffb63b75273a8db548c558465d79db03fd359c6cd5bd9d85")
            #expect(first.size == 3)
            let writer = try store.makeWriter()
            try await writer.write(Array("ab".utf8))
            try await writer.write(Array("c".utf8))
            let second = try await writer.keep()
            #expect(!second.isNew && second.blob === first)
            let digits = String(hash.digits)
            #expect(try Self.files(in: folder) == ["\(digits.prefix(2))/\(digits)"])
            #expect(try Data(contentsOf: folder.appendingPathComponent("\(digits.prefix(2))/\(digits)")) == Data("abc".utf8))
        }
    }

    @Test func removesTheFileWithItsLastReference() async throws {
        try await Self.withStore { store, folder in
            let blob = try await store.keep([1, 2, 3])
            let hash = try #require(blob.hash)
            let retained = await store.retain(hash)
            #expect(retained === blob)
            await store.release(blob)
            #expect(try Self.files(in: folder).count == 1)
            await store.release(blob)
            #expect(try Self.files(in: folder).isEmpty)
            let gone = await store.retain(hash)
            #expect(gone == nil)
            await store.release(blob)  // once too often changes nothing
            let again = try await store.keep([1, 2, 3])
            #expect(again !== blob)
            #expect(try Self.files(in: folder).count == 1)
        }
    }

    /// A disk that takes its time for one file.
    private final class SlowFile: Sendable {
        private let began = AsyncStream.makeStream(of: Void.self)
        private let gate = DispatchSemaphore(value: 0)
        private let isFirst = Atomic(true)

        /// Blocks at its first call.
        func pass() {
            guard isFirst.exchange(false, ordering: .relaxed) else { return }
            began.continuation.finish()
            gate.wait()
        }

        func waitUntilBegun() async { for await _ in began.stream {} }
        func open() { gate.signal() }
    }

    /// One at a time: each holds one of the threads that wait for the disk, of which two cores have two.
    @Test("A file that is slow to be moved or removed holds up nobody but those who want it", .serialized, .timeLimit(.minutes(5)), arguments: ["move", "remove"])
    func slowFiles(_ operation: String) async throws {
        let slow = SlowFile()
        var files = BlobFiles()
        if operation == "move" {
            files.move = { [move = files.move] path, target in
                slow.pass()
                return move(path, target)
            }
        } else {
            files.remove = { [remove = files.remove] path in
                slow.pass()
                return remove(path)
            }
        }
        try await Self.withStore(files) { store, folder in
            let kept = operation == "remove" ? try await store.keep([1]) : nil
            async let first: Void = {
                if let kept { await store.release(kept) } else { _ = try await store.keep([1]) }
            }()
            await slow.waitUntilBegun()
            // Everything else goes on.
            let other = try await store.keep([2])
            let again = await store.retain(ContentHash(of: [2] as [UInt8]))
            #expect(again === other && store.blob(ContentHash(of: [2] as [UInt8]), size: 1) === other)
            await store.release(other)
            // Who wants this one waits, and then has a file of its own or the one that was moved.
            async let second = store.keep([1])
            async let asked = store.retain(ContentHash(of: [1] as [UInt8]))
            slow.open()
            try await first
            let blob = try await second
            let found = await asked
            #expect(blob !== kept && (found == nil || found === blob))
            #expect(try Self.files(in: folder).count == 2)
        }
    }

    @Test("A content that comes and goes in many places has its file as long as one of them has it", .timeLimit(.minutes(5)), arguments: 1...4)
    func references(_ contents: Int) async throws {
        try await Self.withStore { store, folder in
            try await withThrowingDiscardingTaskGroup { group in
                for number in 0..<8 {
                    group.addTask {
                        for round in 0..<25 {
                            let blob = try await store.keep([UInt8((number + round) % contents)])
                            guard case .stored(let path) = blob.source else { continue }
                            #expect(FileManager.default.fileExists(atPath: path))
                            await store.release(blob)
                        }
                    }
                }
            }
            #expect(try Self.files(in: folder).isEmpty)
        }
    }

    @Test(.timeLimit(.minutes(5))) func aWriterThatIsNotKeptLeavesNothing() async throws {
        try await Self.withStore { store, folder in
            func writeAndForget() async throws {
                let writer = try store.makeWriter()
                try await writer.write([UInt8](repeating: 7, count: 100_000))
                #expect(try Self.files(in: folder).count == 1)
            }
            // The thread that wrote may let go of it a moment later. A file that stays ends in the time limit.
            try await Self.untilRemoved(from: folder) { try await writeAndForget() }
        }
    }

    @Test func aFullDiskIsSaid() {
        #expect(StorageError(ENOSPC) == .full && StorageError(EDQUOT) == .full && StorageError(EACCES) != .full)
    }
}
