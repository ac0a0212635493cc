import Foundation
import NIOCore
import Testing

@testable import Workers

@Suite struct FilePiecesTests {
    @Test func filesAreReadInPieces() async throws {
        let bytes = (0..<700_000).map { UInt8(truncatingIfNeeded: $0 &* 31) }
        let file = FileManager.default.temporaryDirectory.appendingPathComponent("pieces-\(UUID())")
        try Data(bytes).write(to: file)
        var read: [UInt8] = []
        var count = 0
        for try await piece in try #require(FilePieces(path: file.path)) {
            read += piece.readableBytesView
            count += 1
        }
        #expect(read == bytes && count > 1)
        try FileManager.default.removeItem(at: file)
        #expect(FilePieces(path: file.path) == nil)
    }
}
