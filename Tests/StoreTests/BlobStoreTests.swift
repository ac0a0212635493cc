import Dispatch
import Foundation
import Glibc
import Logging
import Testing

@testable import Jobs
@testable import Store

struct BlobStoreTests {
    private static func withStore(_ body: (FileBlobStore, URL) async throws -> Void) async throws {
        let folder = FileManager.default.temporaryDirectory.appendingPathComponent("blobs-\(UUID())")
        let store = try FileBlobStore(directory: folder.path, logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
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
            #expect(store.retain(hash) === blob)
            store.release(blob)
            #expect(try Self.files(in: folder).count == 1)
            store.release(blob)
            #expect(try Self.files(in: folder).isEmpty)
            #expect(store.retain(hash) == nil)
            store.release(blob)  // once too often changes nothing
            let again = try await store.keep([1, 2, 3])
            #expect(again !== blob)
            #expect(try Self.files(in: folder).count == 1)
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
