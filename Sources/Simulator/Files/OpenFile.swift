import Synchronization

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#endif

extension Folders {
    /// Creates the file or replaces its content.
    static func write(_ bytes: [UInt8], to path: String) throws {
        let descriptor = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o644)
        guard descriptor >= 0 else { throw FileFailure(path: path, code: errno) }
        defer { close(descriptor) }
        var written = 0
        while written < bytes.count {
            let count = bytes[written...].withUnsafeBytes { writeBytes(descriptor, $0.baseAddress, $0.count) }
            if count >= 0 { written += count } else if errno != EINTR { throw FileFailure(path: path, code: errno) }
        }
    }
}

/// The C function, whose name `Folders.write` hides.
private func writeBytes(_ descriptor: Int32, _ bytes: UnsafeRawPointer?, _ count: Int) -> Int { write(descriptor, bytes, count) }

/// The system refused.
struct FileFailure: Error, CustomStringConvertible {
    let path: String
    let code: Int32

    var description: String { "[Errno \(code)] \(String(cString: strerror(code))): '\(path)'" }
}

/// A regular file opened for reading. Closes its descriptor when it goes away.
final class OpenFile: Sendable {
    private let descriptor: Int32
    let size: Int64
    /// Nanoseconds since 1970.
    let modified: Int64
    /// The part that a reply sends.
    let range: Range<Int64>

    /// Nil for what is not there, is no regular file or may not be read. Symbolic links are followed.
    convenience init?(path: String) {
        let descriptor = open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { return nil }
        var status = stat()
        guard fstat(descriptor, &status) == 0, status.st_mode & S_IFMT == S_IFREG else {
            close(descriptor)
            return nil
        }
        self.init(
            adopting: descriptor, size: Int64(status.st_size),
            modified: Int64(status.st_mtim.tv_sec) * 1_000_000_000 + Int64(status.st_mtim.tv_nsec), range: 0..<Int64(status.st_size))
    }

    private init(adopting descriptor: Int32, size: Int64, modified: Int64, range: Range<Int64>) {
        self.descriptor = descriptor
        self.size = size
        self.modified = modified
        self.range = range
    }

    deinit { close(descriptor) }

    /// Another handle on the same file that sends only this part.
    func part(_ range: Range<Int64>) -> OpenFile? {
        let copy = fcntl(descriptor, F_DUPFD_CLOEXEC, 0)
        guard copy >= 0 else { return nil }
        return OpenFile(adopting: copy, size: size, modified: modified, range: range)
    }

    /// At most `count` bytes at `offset` of the file; empty at its end or when it cannot be read.
    func read(at offset: Int64, count: Int) -> [UInt8] {
        [UInt8](unsafeUninitializedCapacity: count) { buffer, filled in
            filled = 0
            while filled < count {
                let got = pread(descriptor, buffer.baseAddress! + filled, count - filled, off_t(offset) + off_t(filled))
                if got > 0 { filled += got } else if got == 0 || errno != EINTR { return }
            }
        }
    }

    /// The whole file.
    func readAll() -> [UInt8] { read(at: 0, count: Int(size)) }
}
