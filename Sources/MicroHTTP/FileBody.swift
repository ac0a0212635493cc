import Glibc

/// Bytes of an open file. Copies share one descriptor, which is closed with the last of them.
package struct FileBody: Sendable {
    /// Of the whole file, in bytes, at the time of opening.
    package let size: Int64
    /// What is sent of it.
    package let range: Range<Int64>
    let descriptor: FileDescriptor

    /// Opens the regular file at `path`.
    ///
    /// - Parameter range: the bytes to send, the whole file when nil; an end beyond the file is cut to its size.
    /// - Throws: `FileBodyError`; `.outOfRange` when `range` begins before 0 or after the end.
    package init(path: String, range: Range<Int64>? = nil) throws(FileBodyError) {
        let raw = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)  // not to hang on a FIFO
        guard raw >= 0 else { throw FileBodyError(errno: errno, path: path) }
        let descriptor = FileDescriptor(adopting: raw)
        var status = stat()
        guard fstat(raw, &status) == 0 else { throw FileBodyError(errno: errno, path: path) }
        guard status.st_mode & S_IFMT == S_IFREG else { throw .notAFile(path: path) }
        let size = Int64(status.st_size)
        let range = range ?? 0..<size
        guard range.lowerBound >= 0, range.lowerBound <= size else { throw .outOfRange(size: size) }
        self.size = size
        self.range = range.clamped(to: 0..<size)
        self.descriptor = descriptor
    }
}

package enum FileBodyError: Error, Equatable {
    case notFound(path: String)
    /// A directory, a device, a pipe.
    case notAFile(path: String)
    case outOfRange(size: Int64)
    case system(errno: Int32, path: String)

    fileprivate init(errno: Int32, path: String) {
        self = errno == ENOENT || errno == ENOTDIR ? .notFound(path: path) : .system(errno: errno, path: path)
    }
}

/// Owner of a descriptor; closes it when it goes.
final class FileDescriptor: Sendable {
    let raw: Int32

    init(adopting raw: Int32) {
        self.raw = raw
    }

    /// A second descriptor for the same open file, for a new owner; nil when the process has no more.
    func duplicate() -> Int32? {
        let copy = fcntl(raw, F_DUPFD_CLOEXEC, 0)
        return copy >= 0 ? copy : nil
    }

    deinit {
        close(raw)
    }
}
