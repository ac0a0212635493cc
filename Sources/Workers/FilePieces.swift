import Glibc
import Jobs
import NIOCore
import NIOPosix

/// A file in pieces, each read when it is asked for, on a thread that may wait for the disk.
final class FilePieces: AsyncSequence, Sendable {
    typealias Element = ByteBuffer

    private let descriptor: Int32

    /// Nil when the file cannot be opened.
    init?(path: String) {
        descriptor = open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { return nil }
    }

    deinit { if descriptor >= 0 { close(descriptor) } }

    func makeAsyncIterator() -> Iterator { Iterator(file: self) }

    struct Iterator: AsyncIteratorProtocol {
        fileprivate let file: FilePieces
        private var offset: Int64 = 0

        fileprivate init(file: FilePieces) { self.file = file }

        mutating func next() async throws -> ByteBuffer? {
            let (file, start) = (file, offset)
            let piece = try await NIOThreadPool.singleton.runIfActive { try file.read(at: start) }
            offset += Int64(piece.readableBytes)
            return piece.readableBytes > 0 ? piece : nil
        }
    }

    private func read(at offset: Int64) throws -> ByteBuffer {
        var piece = ByteBuffer()
        try piece.writeWithUnsafeMutableBytes(minimumWritableBytes: 1 << 18) { target in
            let count = pread(descriptor, target.baseAddress, target.count, Int(offset))
            guard count >= 0 else { throw StorageError(errno) }
            return count
        }
        return piece
    }
}
