import Glibc
import Logging
import MicroHTTP

/// The system's limit on open descriptors, and who gets them.
enum OpenFiles {
    /// Asks for as many as the system allows without special rights. Nothing here uses `select`, for whose sake the usual limit is 1024.
    static func raiseLimit() {
        var limit = rlimit()
        guard getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0, limit.rlim_cur < limit.rlim_max else { return }
        limit.rlim_cur = limit.rlim_max
        setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
    }

    /// Leaves a quarter of them, at most 1024, to the connections to ComfyUI, files and the database: callers, however many, are not to
    /// take those away.
    static func limit(_ configuration: HTTPServer.Configuration, logger: Logger) -> HTTPServer.Configuration {
        var limit = rlimit()
        guard getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0, limit.rlim_cur < rlim_t(Int.max) else { return configuration }
        let files = Int(limit.rlim_cur)
        let connections = max(1, files - min(files / 4, 1024) - HTTPServer.Configuration.spareConnections)
        guard connections < configuration.connectionLimit else { return configuration }
        logger.warning(
            "fewer connections than --connection-limit: the system allows too few open files (ulimit -n)",
            metadata: [
                "files": .stringConvertible(files), "connections": .stringConvertible(connections), "connection-limit": .stringConvertible(configuration.connectionLimit),
            ])
        var configuration = configuration
        configuration.connectionLimit = connections
        return configuration
    }
}
