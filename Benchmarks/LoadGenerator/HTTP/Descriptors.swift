import ArgumentParser
#if canImport(Darwin)
    import Darwin
#else
    import Glibc
#endif

/// How many files and sockets this process may have open.
enum Descriptors {
    /// As many as the system lets it have without asking an administrator.
    ///
    /// - Throws: when these are not enough.
    static func allow(_ count: Int) throws {
        var limit = rlimit()
        getrlimit(Self.openFiles, &limit)
        let most = UInt64(limit.rlim_max), wanted = UInt64(count + 64)
        guard most >= wanted else { throw ValidationError("\(count) connections need \(wanted) open files, and the limit is \(most) (ulimit -Hn)") }
        limit.rlim_cur = limit.rlim_max
        setrlimit(Self.openFiles, &limit)
    }

    #if canImport(Darwin)
        private static let openFiles = RLIMIT_NOFILE
    #else
        private static let openFiles = __rlimit_resource_t(RLIMIT_NOFILE.rawValue)  // Glibc declares an enumeration and takes a number
    #endif
}
