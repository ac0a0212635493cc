import Glibc

/// The disk does not take or give what it should.
package enum StorageError: Error, Equatable, CustomStringConvertible {
    case full
    /// The process has no descriptors left for now.
    case tooManyFiles
    /// The database file is not what it was written as. It stays so until somebody does something about it.
    case damaged(String)
    /// In words of the operating system.
    case failed(String)

    /// It is told once, where it is found.
    package var isDamage: Bool { if case .damaged = self { true } else { false } }

    package var description: String {
        switch self {
        case .full: "the disk is full"
        case .tooManyFiles: "too many files are open"
        case .damaged(let reason): "the database file is damaged (\(reason))"
        case .failed(let reason): reason
        }
    }

    package init(_ code: Int32) {
        switch code {
        case ENOSPC, EDQUOT, EFBIG: self = .full
        case EMFILE, ENFILE: self = .tooManyFiles
        default: self = .failed(String(cString: strerror(code)))
        }
    }
}
